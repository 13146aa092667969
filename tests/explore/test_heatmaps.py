"""Heatmaps: their place on the image, their scale, and what stays in the dataset; in a real MongoDB."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from deitkit.analysis.attention.measure import Maps, attention_maps, rollout
from deitkit.data.views.augment import evaluation_view
from deitkit.errors import DeitkitError
from deitkit.explore import build_dataset
from deitkit.explore.heatmaps import add_heatmaps, look, maps_of, place
from deitkit.models.load import LoadedModel, ModelInfo, save_model
from deitkit.models.student import Heads, Student, build_student, rebuild_student
from deitkit.predictions.table import head_predictions
from deitkit.recipe.schema import Data, Model
from tests.explore.conftest import Build, predictions, teacher

# fiftyone's own imports use what is deprecated elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
INFO = ModelInfo.of(Data(), (16, 16), ("dark", "grey", "light"))
FIELDS = ["student_class_attention", "student_distillation_attention", "student_attention_difference"]
ORIENTATION = 0x0112


def tiny(*, distilled: bool = True, seed: int = 0) -> Student:
    """A random student whose attention is far from even."""
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    built = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), 3, seed=seed)
    with torch.no_grad():
        for block in built.network.blocks:
            block.attn.qkv.weight.mul_(20)
    return built.eval()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "student", tiny(), INFO)
    return tmp_path / "student"


Heat = Callable[..., list[str]]


@pytest.fixture
def heat(model: Path, files: list[Path], tmp_path: Path) -> Heat:
    """add_heatmaps of the model in `tmp_path / "maps"`, on the CPU."""

    def call(dataset: Any, *rows: int, **options: Any) -> list[str]:
        given = {
            "image_ids": [f"shade/{row:02d}" for row in rows],
            "folder": tmp_path / "maps",
            "read": lambda image_id: files[int(image_id[-2:])].read_bytes(),
        }
        return add_heatmaps(dataset, str(model), **(given | options), device="cpu")

    return call


def refuse(image_id: str) -> bytes:
    raise AssertionError(f"{image_id} was read again")


# Place


@pytest.mark.parametrize(
    ("image", "size", "crop_ratio"),
    [
        ((300, 200), (32, 32), 0.875), ((61, 173), (32, 32), 0.875), ((50, 50), (32, 32), 1.0),
        ((97, 40), (24, 48), 0.9), ((40, 97), (24, 48), 0.9), ((8, 8), (32, 32), 0.875),
    ],
)  # fmt: skip
def test_a_map_lies_where_the_evaluation_view_is_cut(
    image: tuple[int, int], size: tuple[int, int], crop_ratio: float
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*image, 3), dtype=np.uint8)
    original = Image.fromarray(pixels)
    whole = place(np.full((4, 4), 9, np.uint8), image, size=size, crop_ratio=crop_ratio)
    rows, columns = np.nonzero(np.asarray(whole) == 9)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert len(rows) == size[0] * size[1] == (box[2] - box[0]) * (box[3] - box[1])
    cut = original.resize(whole.size, Image.Resampling.BICUBIC).crop(box)
    view = evaluation_view(original, size, crop_ratio, "bicubic")
    np.testing.assert_array_equal(np.asarray(cut).transpose(2, 0, 1), view)


def test_each_patch_is_a_block_of_its_own_pixels() -> None:
    whole = np.asarray(place(np.arange(1, 7, dtype=np.uint8).reshape(2, 3), (8, 12), size=(8, 12), crop_ratio=1.0))
    np.testing.assert_array_equal(whole, np.kron(np.arange(1, 7).reshape(2, 3), np.ones((4, 4))))


def brightness(student: Student, images: torch.Tensor) -> Maps:
    """Attention that reads what is bright: the class token of red, the distillation token of green."""
    patches = torch.nn.functional.avg_pool2d(images - images.amin(), 2).flatten(2)  # [B, 3, 64]
    weights = (patches[:, :2] / patches.sum())[None, None]  # [L, heads, B, T, N]
    heads = Heads(torch.zeros(len(images), 3), torch.zeros(len(images), 3))
    return Maps(("class", "distillation"), (8, 8), weights, torch.zeros(1, len(images), 66, 66), weights, heads)


@pytest.mark.parametrize("upright", [False, True], ids=["as it lies", "by its tag"])
def test_what_a_token_reads_lies_on_it_in_the_image_as_it_is_shown(
    fiftyone: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upright: bool
) -> None:
    """A red and a green square off the middle of an oblong image, a file for each orientation tag."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[6:18, 30:42, 0] = pixels[36:48, 54:66, 1] = 255
    files = {f"tag {tag}": tmp_path / f"{tag}.png" for tag in range(1, 9)}
    for tag, file in enumerate(files.values(), 1):
        exif = Image.Exif()
        exif[ORIENTATION] = tag
        Image.fromarray(pixels).save(file, exif=exif)
    info = ModelInfo.of(Data(exif_orientation=upright), (16, 16), INFO.class_names)
    save_model(tmp_path / "student", tiny(), info)
    monkeypatch.setattr("deitkit.explore.heatmaps.attention_maps", brightness)
    table = replace(
        predictions("student", seed=0), ids=list(files), labels=np.zeros(8, np.int64),
        heads={"class": head_predictions("class", np.full((8, 3), 1 / 3))},
    )  # fmt: skip
    dataset = build_dataset([table], name, image_of=lambda row: files[table.ids[row]])
    add_heatmaps(
        dataset, str(tmp_path / "student"), image_ids=list(files), folder=tmp_path / "maps",
        read=lambda image_id: files[image_id].read_bytes(), device="cpu",
    )  # fmt: skip
    for sample in dataset:
        with Image.open(sample.filepath) as opened:
            shown = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        first, second, difference = (drawn(sample[field].map_path, shown.shape[:2]) for field in FIELDS)
        for channel, heat in enumerate((first, second)):
            hot, square = np.argwhere(heat > 150), np.argwhere(shown[..., channel] == 255)
            np.testing.assert_allclose(hot.mean(axis=0), square.mean(axis=0), atol=3.5)  # a patch is 60 / 8 px
            middle = difference[tuple(square.mean(axis=0).astype(int))]
            assert middle > 200 if channel == 0 else 1 <= middle < 55
        assert difference.min() == 0  # nothing was seen beside the crop


def drawn(path: str, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A map as the App lays it over an image of (height, width) px."""
    with Image.open(path) as heatmap:
        return np.asarray(heatmap.resize((size[1], size[0]), Image.Resampling.NEAREST))


# Scale


def test_both_tokens_share_a_scale_from_nothing_to_the_greatest() -> None:
    weights = np.array([[[0.0, 0.05], [0.2, 0.15]], [[0.4, 0.0], [0.25, 0.2]]])
    first, second, difference = maps_of(weights)
    np.testing.assert_array_equal(first.patches, [[1, 33], [128, 96]])  # 1 + 254 w / 0.4
    np.testing.assert_array_equal(second.patches, [[255, 1], [160, 128]])
    np.testing.assert_array_equal(difference.patches, [[1, 144], [112, 112]])  # 128 + 127 d / 0.4
    assert (first.greatest, second.greatest, difference.greatest) == pytest.approx((40, 40, 40))


def test_tokens_that_read_the_same_differ_nowhere() -> None:
    assert set(maps_of(np.full((2, 3, 3), 0.1))[2].patches.ravel()) == {128}
    assert set(maps_of(np.zeros((1, 3, 3)))[0].patches.ravel()) == {1}


@pytest.mark.parametrize("upright", [False, True], ids=["as it lies", "by its tag"])
@pytest.mark.parametrize("kind", ["last_layer", "rollout"])
def test_weights_are_the_attention_on_the_models_own_view(kind: str, upright: bool) -> None:
    built, pixels = tiny(), np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    file, exif, image = io.BytesIO(), Image.Exif(), Image.fromarray(pixels)
    exif[ORIENTATION] = 6
    image.save(file, "PNG", exif=exif)
    info = replace(INFO, exif_orientation=upright)
    seen = look(LoadedModel(built, info, "student"), {"a": file.getvalue()}, kind=kind)["a"]
    if upright:
        image = image.transpose(Image.Transpose.ROTATE_270)
    view = evaluation_view(image, (16, 16), INFO.crop_ratio, INFO.interpolation)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (INFO.mean, INFO.std))
    maps = attention_maps(built, (torch.from_numpy(view)[None] / 255 - mean) / std)
    expected = rollout(maps)[0] if kind == "rollout" else maps.weights[-1, :, 0].mean(dim=0)
    np.testing.assert_allclose(seen.weights, expected.reshape(2, 4, 4), atol=1e-5)
    assert (seen.size, seen.tag) == (((31, 20), 6) if upright else ((20, 31), 1))


# In the dataset


def test_maps_are_files_that_the_database_names(build: Build, heat: Heat, tmp_path: Path) -> None:
    dataset = build(teacher())
    assert heat(dataset, 3, 4) == FIELDS
    assert [each is not None for each in dataset.values(FIELDS[0])] == [row in (3, 4) for row in range(len(dataset))]
    label = dataset.skip(3).first()[FIELDS[2]]
    assert (label.map, label.range) == (None, [1, 255])
    assert 0 < label.greatest < 100
    with Image.open(label.map_path) as drawn:
        assert (drawn.mode, drawn.size) == ("L", (18, 18))  # 16 px of 32 resized to 18
    assert Path(label.map_path).is_relative_to(tmp_path / "maps")
    assert not list((tmp_path / "maps").rglob("*.tmp"))


def test_maps_of_the_same_weights_are_kept_and_more_images_added(build: Build, heat: Heat) -> None:
    dataset = build(teacher())
    heat(dataset, 3, 4)
    dataset.skip(3).limit(1).tag_labels("odd", FIELDS[0])
    before = dataset.values(f"{FIELDS[0]}.id")[3]
    assert heat(dataset, 3, 4, read=refuse) == FIELDS
    heat(dataset, 4, 9)
    assert [row for row, each in enumerate(dataset.values(FIELDS[0])) if each] == [3, 4, 9]
    Path(dataset.skip(3).first()[FIELDS[1]].map_path).unlink()
    heat(dataset, 3, 4, 9)
    label = dataset.skip(3).first()[FIELDS[0]]
    assert (label.id, label.tags) == (before, ["odd"])
    assert Path(dataset.skip(3).first()[FIELDS[1]].map_path).is_file()


def test_other_weights_make_maps_anew_and_old_ones_go(build: Build, heat: Heat, model: Path) -> None:
    dataset = build(teacher())
    heat(dataset, 3, 4)
    old = Path(dataset.skip(3).first()[FIELDS[0]].map_path).read_bytes()
    save_model(model, tiny(seed=1), INFO)
    heat(dataset, 3)
    dataset.reload()
    assert [row for row, each in enumerate(dataset.values(FIELDS[0])) if each] == [3]
    assert Path(dataset.skip(3).first()[FIELDS[0]].map_path).read_bytes() != old
    once = Path(dataset.skip(3).first()[FIELDS[0]].map_path).read_bytes()
    heat(dataset, 3, kind="rollout")
    assert Path(dataset.skip(3).first()[FIELDS[0]].map_path).read_bytes() != once


def test_a_model_of_one_token_has_one_map_under_the_name_given(build: Build, heat: Heat, model: Path) -> None:
    save_model(model, tiny(distilled=False), INFO)
    dataset = build(teacher())
    assert heat(dataset, 0, name="my twin") == ["my_twin_class_attention"]
    assert dataset.first()["my_twin_class_attention"].map_path


def test_a_convnet_is_refused_and_leaves_nothing_behind(build: Build, heat: Heat, model: Path) -> None:
    save_model(
        model, rebuild_student("test_resnet", {"num_classes": 3}), ModelInfo.of(Data(), (32, 32), INFO.class_names)
    )
    dataset = build(teacher())
    schema = set(dataset.get_field_schema())
    with pytest.raises(DeitkitError, match="no class token") as caught:
        heat(dataset, 0)
    assert "DeiT" in caught.value.remedy
    assert set(dataset.get_field_schema()) == schema


def test_an_image_that_is_not_there_is_refused(build: Build, heat: Heat) -> None:
    with pytest.raises(DeitkitError, match="1 of 2 images are not in the fiftyone dataset") as caught:
        heat(build(teacher()), 3, 77)
    assert caught.value.value == "shade/77"
    with pytest.raises(DeitkitError, match="unknown kind of attention 'roll'"):
        heat(build(teacher()), 3, kind="roll")


def test_a_field_of_the_users_is_not_taken(build: Build, heat: Heat, fiftyone: ModuleType) -> None:
    dataset = build(teacher())
    dataset.add_sample_field(FIELDS[2], fiftyone.StringField)
    with pytest.raises(DeitkitError, match=f"the field '{FIELDS[2]}'"):
        heat(dataset, 0)
    assert dataset.values(FIELDS[2]) == [None] * len(dataset)


def test_each_field_has_colours_and_those_that_a_user_chose_stay(build: Build, heat: Heat) -> None:
    dataset = build(teacher())
    theirs = {"path": FIELDS[0], "name": "hot"}
    dataset.app_config.color_scheme.colorscales = [theirs]
    dataset.save()
    heat(dataset, 0)
    dataset.reload()
    scales = {each["path"]: each for each in dataset.app_config.color_scheme.colorscales}
    assert list(scales) == FIELDS
    assert dict(scales[FIELDS[0]]) == theirs
    rgb = np.array(scales[FIELDS[2]]["rgb"])
    assert rgb.shape == (256, 3)
    assert rgb[127].max() < 20  # even is dark, the ends are bright
    assert rgb[0].argmax() == 2
    assert rgb[255].argmax() == 0


def test_any_text_is_an_image_id_and_each_has_a_file_of_its_own(
    fiftyone: ModuleType, name: str, model: Path, files: list[Path], tmp_path: Path
) -> None:
    table = predictions("student", "class", seed=0)
    odd = ["../../escape", "a/b", "a_b", "A_b", "é" * 300]
    table.ids[: len(odd)] = odd
    dataset = build_dataset([table], name, image_of=lambda row: files[row])
    (field, *_) = add_heatmaps(
        dataset, str(model), image_ids=odd, folder=tmp_path / "maps", read=lambda _: files[0].read_bytes(), device="cpu"
    )
    paths = [Path(path) for path in dataset.limit(len(odd)).values(f"{field}.map_path")]
    assert len({path.name.casefold() for path in paths}) == len(odd)
    assert {path.parent for path in paths} == {tmp_path / "maps" / field}
    other = build_dataset([replace(table, split="train")], f"{name}-train", image_of=lambda row: files[row])
    add_heatmaps(
        other,
        str(model),
        image_ids=["a/b"],
        folder=tmp_path / "maps",
        read=lambda _: files[9].read_bytes(),
        device="cpu",
    )
    assert other.values(f"{field}.map_path")[1] not in {str(path) for path in paths}
