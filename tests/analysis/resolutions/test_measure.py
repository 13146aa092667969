"""One model at other image sizes: which sizes, what changes, whose weights are whose, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from deitkit.analysis.draw.page import page_drawing
from deitkit.analysis.report import Curves, Points, Report
from deitkit.analysis.resolutions.measure import (
    Finetuned,
    Hits,
    Resolution,
    are_upscaled,
    at_size,
    choose_sizes,
    differing_shapes,
    finetuned_size,
    is_start,
    published_at,
    shape_of,
)
from deitkit.analysis.resolutions.report import resolutions_report
from deitkit.catalog import TABLE10
from deitkit.data.open import LabelSets
from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered
from deitkit.models.load import LoadedModel, ModelInfo, save_model
from deitkit.models.student import architecture_of, build_student, rebuild_student
from deitkit.models.throughput import Protocol, Speed
from deitkit.recipe.schema import Data, Model
from tests.predictions.conftest import MakePredictions

NAMES = numbered(10)
OPTIONS = {"embed_dim": 32, "depth": 1, "num_heads": 2}
CONDITIONS = Protocol(torch.device("cpu")).conditions()


def nano(*, size: int = 16, distilled: bool = True, names: tuple[str, ...] = NAMES, seed: int = 0) -> LoadedModel:
    spec = Model(name="deit_nano", image_size=size, distilled=distilled, options=OPTIONS)
    info = ModelInfo.of(Data(dataset="digits"), (size, size), names)
    return LoadedModel(build_student(spec, len(names), seed=seed).eval(), info, "nano")


def on_meta(model: Model, names: tuple[str, ...], size: tuple[int, int] = (224, 224)) -> LoadedModel:
    """A model of any size that takes no memory."""
    with torch.device("meta"):
        student = rebuild_student(*architecture_of(model, len(names)))
    return LoadedModel(student, ModelInfo.of(Data(dataset="imagenet"), size, names), model.name)


def convnet(names: tuple[str, ...] = NAMES) -> LoadedModel:
    info = ModelInfo.of(Data(dataset="digits"), (32, 32), names)
    return LoadedModel(rebuild_student("resnet10t", {"num_classes": len(names)}).eval(), info, "net")


# Sizes


def test_default_sizes_are_table_10s_relative_to_the_models_own() -> None:
    base = on_meta(Model(name="deit_base"), imagenet_names())
    assert [size[0] for size in choose_sizes(base)] == [row.image_size for row in TABLE10]
    assert choose_sizes(nano()) == [(12, 12), (16, 16), (24, 24), (28, 28)]
    assert choose_sizes(convnet()) == [(23, 23), (32, 32), (46, 46), (55, 55)], "a convnet has no patches"


def test_the_models_own_size_is_always_there() -> None:
    assert choose_sizes(nano(), [(24, 16), (8, 8)]) == [(8, 8), (16, 16), (24, 16)]


def test_a_size_between_patches_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(DeitkitError, match="17, 20x23 px: no multiple of the patch, 4x4 px") as caught:
        choose_sizes(nano(), [(17, 17), (24, 24), (20, 23)])
    assert caught.value.remedy == "--sizes 16,24,20x24"


def test_a_network_of_one_size_only_is_refused() -> None:
    swin = LoadedModel(
        rebuild_student("swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 1)}),
        ModelInfo.of(Data(), (224, 224), NAMES), "swin",
    )  # fmt: skip
    with pytest.raises(DeitkitError, match="runs at its own size only, 224 px"):
        choose_sizes(swin)


def test_only_the_position_embedding_changes_and_as_timm_resamples_it() -> None:
    model = nano()
    larger = at_size(model, (24, 20), mode="bicubic")
    before, after = model.student.network.state_dict(), larger.student.network.state_dict()
    assert [key for key in before if before[key].shape != after[key].shape] == ["pos_embed"]
    assert all(torch.equal(before[key], after[key]) for key in before if key != "pos_embed")
    wanted = resample_abs_pos_embed(before["pos_embed"], [6, 5], [4, 4], num_prefix_tokens=2, antialias=False)
    assert torch.allclose(after["pos_embed"], wanted, atol=1e-6)
    assert larger.info.size == (24, 20) and shape_of(larger) == ((6, 5), 32)
    assert at_size(model, (16, 16)) is model


def test_a_convnet_is_the_same_at_every_size() -> None:
    net = convnet()
    larger = at_size(net, (48, 48))
    assert larger.student is net.student and larger.info.size == (48, 48)
    assert shape_of(larger) == (None, None)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Model(name="deit_base"), ((14, 14), 197)), (Model(name="deit_tiny", distilled=True), ((14, 14), 198))],
)
def test_tokens_are_patches_and_prefix_tokens(model: Model, shape: Any) -> None:
    assert shape_of(on_meta(model, NAMES)) == shape


def test_published_numbers_are_for_imagenets_undistilled_deit_b() -> None:
    base = on_meta(Model(name="deit_base"), imagenet_names())
    found = published_at(base, (384, 384))
    assert found is not None and (found.images_per_s, found.imagenet) == (85.87, 83.1)
    assert published_at(on_meta(Model(name="timm:vit_base_patch16_224"), numbered(1000)), (160, 160)) == TABLE10[0]
    assert published_at(base, (256, 256)) is None
    for other in (
        on_meta(Model(name="deit_base", distilled=True), imagenet_names()), on_meta(Model(name="deit_base"), NAMES),
        on_meta(Model(name="deit_small"), imagenet_names()), on_meta(Model(name="timm:resnet10t"), numbered(1000)),
    ):  # fmt: skip
        assert published_at(other, (224, 224)) is None, other.origin


# Whose weights are whose


def test_an_upscaled_model_is_known_by_its_weights() -> None:
    model = nano()
    own = model.student.network.state_dict()
    assert are_upscaled(own, at_size(model, (32, 32)).student.network.state_dict())
    other = {key: value.clone() for key, value in own.items()}
    other["head.bias"][0] += 1e-4
    assert not are_upscaled(own, other)
    assert not are_upscaled(own, nano(distilled=False).student.network.state_dict())


def test_other_architectures_are_known_by_their_shapes() -> None:
    own = nano().student.network.state_dict()
    assert differing_shapes(own, nano(size=32, seed=5).student.network.state_dict()) == []
    assert differing_shapes(own, nano(distilled=False).student.network.state_dict()) == [], "it may lose its token"
    assert "blocks.0.attn.qkv.weight" in differing_shapes(own, convnet().student.network.state_dict())
    assert differing_shapes({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(3), "b": torch.ones(2)}) == ["a"]


def test_a_start_is_found_by_its_place_or_its_weights(tmp_path: Path) -> None:
    model, folder = nano(), tmp_path / "runs" / "student"
    save_model(folder, model.student, model.info)
    larger = at_size(model, (32, 32))
    save_model(folder.with_name("student_32"), larger.student, larger.info)
    save_model(folder.with_name("stranger"), nano(seed=3).student, model.info)

    def starts(weights: Path | str) -> bool:
        return is_start(str(weights), folder.parent, "timm:x", folder, model)

    assert starts(folder) and starts(folder / "model.safetensors") and starts("timm:x")
    assert starts(folder.with_name("student_32"))
    assert starts("/gone/runs/student_32"), "the folder of runs was moved"
    assert not starts(folder.with_name("stranger")) and not starts("/gone/other") and not starts("timm:y")


@pytest.mark.parametrize(
    "make", [lambda: nano(size=32, seed=1), lambda: nano(seed=1, distilled=False, names=tuple("abcdefghij"))]
)
def test_a_model_of_the_same_architecture_and_classes_may_be_fine_tuned(
    tmp_path: Path, make: Callable[[], LoadedModel]
) -> None:
    other = make()  # classes that are numbers alone may be called anything
    save_model(tmp_path / "other", other.student, other.info)
    assert finetuned_size(str(tmp_path / "other"), nano()) == other.info.size


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: at_size(nano(), (32, 32)), "is nano itself"), (lambda: nano(names=numbered(9)), "other classes"),
        (convnet, "another architecture"),
    ],
)  # fmt: skip
def test_what_was_not_fine_tuned_from_it_is_refused(
    tmp_path: Path, make: Callable[[], LoadedModel], words: str
) -> None:
    other = make()
    save_model(tmp_path / "other", other.student, other.info)
    with pytest.raises(DeitkitError, match=words):
        finetuned_size(str(tmp_path / "other"), nano())


def test_classes_of_other_names_are_other_classes(tmp_path: Path) -> None:
    pets, cars = nano(names=tuple("abcdefghij")), nano(names=tuple("klmnopqrst"), seed=1)
    save_model(tmp_path / "cars", cars.student, cars.info)
    with pytest.raises(DeitkitError, match="other classes") as caught:
        finetuned_size(str(tmp_path / "cars"), pets)
    assert caught.value.problems == ("10: k, l, m, n, o", "10: a, b, c, d, e")


# Counts


def test_right_decisions_are_counted_by_head_and_by_accepted_labels(decided: MakePredictions) -> None:
    accepted = LabelSets([[0, 1], [], [2], [0]])
    table = decided("x", {"class": [0, 1, 1, 0], "fused": [1, 1, 2, 2]}, [0, 1, 2, 2], accepted=accepted)
    hits = Hits.of(table)
    assert (dict(hits.right), hits.images, hits.head) == ({"class": 2, "fused": 3}, 4, "fused")
    assert hits.top1() == 0.75 and hits.top1("class") == 0.5
    assert (dict(hits.real), hits.judged) == ({"class": 2, "fused": 2}, 3)
    assert hits.real_top1() == pytest.approx(2 / 3)


def test_only_the_images_named_are_counted(decided: MakePredictions) -> None:
    table = decided("x", {"class": [0, 1, 1, 0]}, [0, 1, 2, 2])
    hits = Hits.of(table, ["image 3", "image 0", "elsewhere"])
    assert (dict(hits.right), hits.images, hits.real_top1()) == ({"class": 1}, 2, None)
    with pytest.raises(DeitkitError, match="none of the images"):
        Hits.of(table, ["elsewhere"])


# The report


def hits(right: int, images: int = 200, *, real: int = 0, judged: int = 0) -> Hits:
    return Hits({"class": right - 10, "fused": right}, images, {"class": 0, "fused": real}, judged)


def speed(images_per_s: float, memory_mb: float | None = 10.0) -> Speed:
    return Speed(images_per_s, images_per_s - 5, images_per_s + 2, 10, 32, memory_mb)


ROWS = [
    Resolution((160, 160), (10, 10), 101, 8_000_000_000, speed(600), hits(150), published=TABLE10[0]),
    Resolution((224, 224), (14, 14), 197, 17_000_000_000, speed(300), hits(180), published=TABLE10[1]),
    Resolution((384, 384), (24, 24), 577, 55_000_000_000, speed(80), hits(170), published=TABLE10[3]),
]
TUNED = Finetuned("run_384", (384, 384), hits(190))


def report_of(rows: list[Resolution] = ROWS, *tuned: Finetuned, **more: Any) -> Report:
    named = {"classifier": "base", "own": (224, 224), "images": "imagenet/val", "mode": "bicubic", "is_imagenet": True}
    return resolutions_report(rows, tuned, **named | {"conditions": CONDITIONS} | more)


def rows_of(report: Report, name: str) -> list[dict[str, Any]]:
    found = next(each for each in report.tables if each.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_the_table_has_a_row_for_each_size_with_the_papers_beside_it() -> None:
    small, own, large = rows_of(report_of(ROWS, TUNED), "resolutions")
    assert small == {
        "size": "160", "patches": "10x10", "tokens": 101, "GMACs": 8.0, "images/s": 600, "MiB": 10.0, "as it is": 0.75,
        "fine-tuned": None, "paper images/s": 609.31, "paper top1": pytest.approx(0.799), "paper real": 0.848,
        "paper v2": pytest.approx(0.676),
    }  # fmt: skip
    assert "paper top1" not in rows_of(report_of(ROWS, is_imagenet=False), "resolutions")[0], "other images"
    assert own["fine-tuned"] is None and large["fine-tuned"] == 0.95 and large["as it is"] == 0.85


def test_every_head_stands_with_its_interval_and_number_of_images() -> None:
    rows = rows_of(report_of(ROWS, TUNED), "accuracy")
    assert [(row["size"], row["weights"], row["head"]) for row in rows] == [
        ("160", "as it is", "class"), ("160", "as it is", "fused"), ("224", "as trained", "class"),
        ("224", "as trained", "fused"), ("384", "as it is", "class"), ("384", "as it is", "fused"),
        ("384", "run_384", "class"), ("384", "run_384", "fused"),
    ]  # fmt: skip
    assert all(row["low"] < row["top1"] < row["high"] and row["images"] == 200 for row in rows)
    assert "real" not in rows[0] and "v2" not in rows[0]


def test_real_and_v2_stand_beside_top1_where_they_are() -> None:
    row = Resolution((224, 224), hits=hits(180, real=90, judged=100), v2=hits(60, 100))
    tuned = Finetuned("run", (224, 224), hits(190, real=95, judged=100), hits(70, 100))
    (found,) = rows_of(report_of([row], tuned), "resolutions")
    assert (found["real"], found["v2"], found["fine-tuned real"], found["fine-tuned v2"]) == (0.9, 0.6, 0.95, 0.7)
    assert rows_of(report_of([row], tuned), "accuracy")[1]["v2_images"] == 100


def test_several_runs_of_a_size_have_a_row_each_and_their_names() -> None:
    other = Finetuned("labels_only", (384, 384), hits(188))
    rows = rows_of(report_of(ROWS, TUNED, other), "resolutions")
    assert [(row["size"], row["run"], row["fine-tuned"]) for row in rows[2:]] == [
        ("384", "run_384", 0.95), ("384", "labels_only", 0.94)
    ]  # fmt: skip
    curves = report_of(ROWS, TUNED, other).figures[0]
    assert isinstance(curves, Curves)
    assert {each.label: each.values for each in curves.series}["labels_only"] == (None, None, 94.0)


def test_the_figure_joins_what_was_trained_at_each_size_as_table_10_does() -> None:
    curves, _, plane = report_of(ROWS, TUNED).figures
    assert isinstance(curves, Curves) and isinstance(plane, Points)
    lines = {each.label: each for each in curves.series}
    assert lines["fused, as it is"].values == (75.0, 90.0, 85.0)
    assert lines["trained at that size (deciding head)"].values == (None, 90.0, 95.0)
    paper = lines["DeiT-B, trained at that size (paper, Table 10)"]
    assert paper.published and paper.values == (79.9, 81.8, 83.1)
    assert [(cloud.x, cloud.y) for cloud in plane.clouds] == [
        ((600, 300, 80), (75.0, 90.0, 85.0)), ((300, 80), (90.0, 95.0)),
    ]  # fmt: skip
    assert plane.clouds[1].names == ("", "384"), "one name where both are one point"


@pytest.mark.parametrize(("accuracy", "with_speed", "figures"), [(True, False, 1), (False, True, 1), (False, False, 0)])
def test_what_was_not_measured_is_not_there(accuracy: bool, with_speed: bool, figures: int) -> None:
    rows = [
        Resolution(
            row.size, row.grid, row.tokens, row.macs, row.speed if with_speed else None, row.hits if accuracy else None
        )
        for row in ROWS
    ]
    report = report_of(rows, conditions=CONDITIONS if with_speed else None)
    assert len(report.figures) == figures
    columns = set(rows_of(report, "resolutions")[0])
    assert ("as it is" in columns) == accuracy and ("images/s" in columns) == ("MiB" in columns) == with_speed
    assert "fine-tuned" not in columns and "paper top1" not in columns


def test_memory_that_could_not_be_measured_is_an_empty_cell() -> None:
    rows = [Resolution((16, 16), speed=speed(100, None))]
    assert rows_of(report_of(rows), "resolutions") == [{"size": "16", "images/s": 100, "MiB": None}]


def test_a_report_survives_json_and_is_drawn_on_a_page() -> None:
    report = report_of(ROWS, TUNED)
    again = Report.from_dict(json.loads(json.dumps(report.as_dict())))
    assert again.figures == report.figures and again.tables == report.tables
    for each in again.figures:
        drawn = page_drawing(each, "key")
        assert drawn is not None
        assert ("dasharray" in drawn.svg) == (each.name == "accuracy"), "what the paper reports is dashed"


def test_resampled_positions_are_named_in_the_definitions() -> None:
    assert "(bilinear)" in report_of(mode="bilinear").definitions["as it is"]
    assert "without position embedding" in report_of(mode="").definitions["as it is"]
