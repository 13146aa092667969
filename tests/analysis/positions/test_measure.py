"""Norms, similarity maps and accuracy without fine-tuning, against numpy, torch's interpolation and `predict`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deitkit.analysis.positions.measure import (
    AS_TRAINED,
    PositionMeasures,
    default_sizes,
    measure_accuracy,
    measure_positions,
    patch_positions,
    resample_positions,
)
from deitkit.analysis.positions.report import positions_report
from deitkit.analysis.report import Curves, Panels
from deitkit.data.open import open_source, subset
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, ModelInfo, upscale
from deitkit.models.positions import POSITION_MODES
from deitkit.models.student import build_student, rebuild_student
from deitkit.predictions.predict import predict
from deitkit.recipe.schema import Data, Model

CPU = torch.device("cpu")


def model(size: tuple[int, int] = (16, 24), *, distilled: bool = True) -> LoadedModel:
    """A random nano student with patches of 4 px: grid 4x6."""
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=size, distilled=distilled, options=options), 10)
    names = tuple(str(digit) for digit in range(10))
    return LoadedModel(student, ModelInfo.of(Data(dataset="digits"), size, names), "student")


# Definitions


def test_norms_and_similarities_leave_prefix_tokens_out_and_keep_rows_and_columns() -> None:
    embedding = torch.randn(1, 2 + 4 * 6, 8)
    found = patch_positions(embedding, (4, 6))
    vectors = embedding[0, 2:].double().numpy()
    assert found.grid == (4, 6)
    np.testing.assert_allclose(found.norms(), np.linalg.norm(vectors, axis=1).reshape(4, 6))
    one = vectors[3 * 6 + 1]
    cosines = vectors @ one / np.linalg.norm(vectors, axis=1) / np.linalg.norm(one)
    np.testing.assert_allclose(found.similarity(3, 1), cosines.reshape(4, 6))
    assert found.similarity(3, 1)[3, 1] == pytest.approx(1)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_resampled_vectors_are_torchs_interpolation(mode: str) -> None:
    embedding = torch.randn(1, 1 + 9, 5)
    found = {each.mode: each for each in resample_positions(embedding, (3, 3), (5, 4))}
    assert tuple(found) == POSITION_MODES
    image = embedding[0, 1:].reshape(3, 3, 5).permute(2, 0, 1)[None]
    expected = F.interpolate(image, (5, 4), mode=mode, align_corners=False)[0].permute(1, 2, 0)
    torch.testing.assert_close(found[mode].vectors, expected.double())


def test_on_its_own_grid_there_is_one_embedding_as_trained() -> None:
    (found,) = resample_positions(torch.randn(1, 9, 5), (3, 3), (3, 3))
    assert found.mode == AS_TRAINED


def test_bilinear_keeps_less_of_independent_vectors_than_bicubic() -> None:
    found = {each.mode: each.norms().mean() for each in resample_positions(torch.randn(1, 196, 64), (14, 14), (24, 24))}
    assert found["bilinear"] < found["bicubic"] < found["nearest"]


def test_default_sizes_are_table_10s_in_whole_patches() -> None:
    assert default_sizes((224, 224), (16, 16)) == [(160, 160), (224, 224), (320, 320), (384, 384)]
    assert default_sizes((32, 48), (4, 4)) == [(24, 36), (32, 48), (44, 68), (56, 84)]


# A model


def test_accuracy_is_that_of_the_upscaled_model_for_every_mode_and_size() -> None:
    loaded, digits = model(), open_source(Data(dataset="digits"), "val")
    source = subset(digits, range(0, 60, 2), "val")
    measures = measure_positions(loaded, [(16, 24), (24, 24)], modes=["bilinear", "nearest"])
    found = list(measure_accuracy(loaded, measures, source, device=CPU))
    assert [(each.size, each.mode) for each in found] == [
        ((16, 24), AS_TRAINED), ((24, 24), "bilinear"), ((24, 24), "nearest")
    ]  # fmt: skip
    for each in found[1:]:
        resized, _ = upscale(loaded, (24, 24), mode="bilinear" if each.mode == "bilinear" else "nearest")
        table = predict(resized.student.eval(), resized.info, source, name="student", device=CPU)
        assert each.right == {head: int(table.hits(head).sum()) for head in ("class", "distillation", "fused")}
        assert each.images == 30


def test_the_report_has_a_row_for_every_mode_and_size_and_pictures_of_each() -> None:
    loaded = model()
    measures = measure_positions(loaded, [(16, 24), (24, 24), (32, 48)])
    source = subset(open_source(Data(dataset="digits"), "val"), range(8), "val")
    accuracy = list(measure_accuracy(loaded, measures, source, device=CPU))
    report = positions_report(replace(measures, accuracy=accuracy), images="digits/val")
    norms, accuracies = report.tables
    assert [row[0] for row in norms.rows] == ["16x24", *["24"] * 4, *["32x48"] * 4]
    assert norms.rows[0][2:5] == (AS_TRAINED, pytest.approx(report.numbers["mean_norm"]), 1.0)
    assert len(accuracies.rows) == 9
    figures = {figure.name: figure for figure in report.figures}
    assert figures.keys() == {"similarity", "resampled_norms", "resampled_similarity", "kept", "accuracy"}
    similarity, norms_shown, curves = figures["similarity"], figures["resampled_norms"], figures["accuracy"]
    assert isinstance(similarity, Panels) and isinstance(norms_shown, Panels) and isinstance(curves, Curves)
    assert [len(row) for row in similarity.rows] == [5, 5, 5, 5]
    assert [len(row) for row in norms_shown.rows] == [5, 5]
    assert {series.values[0] for series in curves.series} == {100 * accuracy[0].right["fused"] / 8}


def test_without_images_or_other_sizes_the_norms_are_shown_alone() -> None:
    measures: PositionMeasures = measure_positions(model(distilled=False), [(16, 24)])
    report = positions_report(measures)
    assert [table.name for table in report.tables] == ["norms"]
    assert [figure.name for figure in report.figures] == ["similarity"]


# Bad input


def test_a_convnet_is_refused() -> None:
    student = rebuild_student("resnet10t", {"num_classes": 2})
    convnet = LoadedModel(student, ModelInfo.of(Data(), (32, 32), ("a", "b")), "runs/teacher")
    with pytest.raises(DeitkitError, match="resnet10t has no position embeddings") as caught:
        measure_positions(convnet)
    assert "DeiT" in caught.value.remedy


def test_sizes_that_are_no_multiple_of_the_patch_are_named_together() -> None:
    with pytest.raises(DeitkitError, match="18x24, 16x23 px: no multiple of the patch, 4x4 px") as caught:
        measure_positions(model(), [(18, 24), (16, 24), (16, 23)])
    assert "--sizes 12x16,16x24" in caught.value.remedy


def test_an_embedding_of_another_grid_is_refused() -> None:
    with pytest.raises(DeitkitError, match="no grid 4 x 4"):
        patch_positions(torch.randn(1, 9, 5), (4, 4))
