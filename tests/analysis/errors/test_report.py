"""The report of errors: scores against equations, fused heads against the model's fusions, lists, what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss

from deitkit.analysis.errors.heads import HeadAnswers, LabelledImages, answers_of, measure_head
from deitkit.analysis.errors.lists import Pixels
from deitkit.analysis.errors.pictures import PictureReader
from deitkit.analysis.errors.report import ErrorOptions, errors_report, find_errors
from deitkit.analysis.report import Matrix, Panels, Points, Report
from deitkit.data.open import LabelSets, open_source
from deitkit.errors import DeitkitError
from deitkit.measures.scores import score
from deitkit.models.folder import fusion_as_json
from deitkit.models.student import FittedFusion, Fusion, Heads
from deitkit.predictions.fusion import fused_logits
from deitkit.predictions.table import Predictions, head_predictions
from deitkit.recipe.schema import Data

CLASSES = ("cat", "dog", "owl", "newt")
FUSIONS: dict[str, Fusion] = {
    "softmax": "softmax",
    "average_logits": "average_logits",
    "weighted_softmax": FittedFusion("weighted_softmax", 0.7, (0.6, 1.9)),
    "weighted_logits": FittedFusion("weighted_logits", 0.2, (1.4, 0.8)),
}


def predicted(
    classifier: str = "student", *, fusion: Fusion = "softmax", distilled: bool = True, images: int = 120,
    logits: bool = True, seed: int = 0, **changes: Any,
) -> Predictions:  # fmt: skip
    """What `deitkit evaluate --logits` keeps of a model with one or two heads that are mostly right."""
    rng, size = np.random.default_rng(seed), len(CLASSES)
    labels = np.random.default_rng(0).integers(size, size=images)
    truth = np.where(np.arange(images) % 5 == 4, (labels + 1) % size, labels)  # a fifth of the labels is wrong
    a, b = (torch.from_numpy(rng.normal(size=(images, size)) + 3 * np.eye(size)[truth]).float() for _ in range(2))
    heads = Heads(a, b if distilled else None)
    kept = {name: values.numpy() for name, values in heads.logits().items()} if logits else {}
    values: dict[str, Any] = {
        "dataset": "pets", "split": "val", "fingerprint": "f00d", "classifier": classifier, "class_names": CLASSES,
        "ids": [f"image {row}" for row in range(images)], "labels": labels,
        "heads": {
            name: head_predictions(name, probabilities.numpy(), kept.get(name))
            for name, probabilities in heads.probabilities(fusion).items()
        },
        "settings": {"fusion": fusion_as_json(fusion)},
    }  # fmt: skip
    return Predictions(**(values | changes))


def rows_of(report: Report, table: str) -> list[dict[str, Any]]:
    found = next(each for each in report.tables if each.name == table)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def tables_of(report: Report) -> list[str]:
    return [table.name for table in report.tables]


FAST = ErrorOptions(resamples=20)


# Scores


def test_scores_are_those_of_the_equations() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(70, 6)) * 4 + 300, rng.integers(6, size=70)
    found, p = score(logits.astype(np.float32), labels), softmax(logits.astype(np.float32).astype(float), axis=1)
    own, hot = p[np.arange(70), labels], np.eye(6)[labels]
    np.testing.assert_allclose(found.loss, -np.log(own))
    assert found.loss.mean() == pytest.approx(log_loss(labels, p, labels=range(6)))
    np.testing.assert_allclose(found.brier, ((p - hot) ** 2).sum(axis=1))
    np.testing.assert_allclose(found.label_probability, own)
    np.testing.assert_allclose(found.margin, own - np.where(hot == 1, 0, p).max(axis=1))


def test_a_large_table_is_scored_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(41, 5)), rng.integers(5, size=41)
    whole = score(logits, labels)
    monkeypatch.setattr("deitkit.measures.scores.BLOCK", 15)
    np.testing.assert_array_equal(score(logits, labels).loss, whole.loss)


# Fused heads


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusions_logits_give_the_confidences_that_were_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deitkit.predictions.fusion.ROWS", 50)  # images at once
    table = predicted(fusion=FUSIONS[name])
    logits = fused_logits(table)
    assert logits is not None
    probabilities = softmax(logits.astype(np.float64), axis=1)
    head = table.heads["fused"]
    np.testing.assert_allclose(np.take_along_axis(probabilities, head.top, axis=1), head.confidence, rtol=1e-4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_a_fused_probability_too_small_for_a_float_still_has_a_finite_loss() -> None:
    sure = np.zeros((12, 4), dtype=np.float32)
    sure[:, 1] = 500
    heads = {
        name: head_predictions(name, softmax(sure, axis=1), None if name == "fused" else sure)
        for name in ("class", "distillation", "fused")
    }
    table = predicted(images=12, heads=heads, labels=np.zeros(12, dtype=np.int64))
    report = find_errors([table], options=FAST)
    assert rows_of(report, "top_losses")[0]["loss"] == pytest.approx(500)


def test_logits_of_another_fusion_than_the_one_that_decided_are_refused() -> None:
    table = predicted(fusion=FUSIONS["weighted_logits"], settings={"fusion": "softmax"})
    with pytest.raises(DeitkitError, match="student fused: the logits kept give other confidences"):
        find_errors([table], options=FAST)


def test_only_the_heads_named_are_measured_though_the_fused_one_needs_both() -> None:
    names = [each.name for each in answers_of(predicted(), ["fused"])]
    assert names == ["student fused"]
    report = find_errors([predicted(), predicted("twin", distilled=False)], heads={"student": ["fused"]}, options=FAST)
    assert [row["classifier"] for row in rows_of(report, "heads")] == ["student fused", "twin"]


# Lists


@pytest.mark.parametrize(
    ("heads", "listed"),
    [({}, "student fused"), ({"student": ["distillation", "class"]}, "student distillation"),
     ({"student": ["class", "fused"]}, "student class")],
)  # fmt: skip
def test_images_are_listed_for_the_fused_head_or_the_one_named_first(
    heads: dict[str, Sequence[str]], listed: str
) -> None:  # fmt: skip
    table = predicted()
    report = find_errors([table], heads=heads, options=FAST)
    assert report.numbers["listed"] == listed
    head = table.heads[listed.removeprefix("student ")]
    worst = rows_of(report, "mistakes")[0]
    wrong = np.flatnonzero(head.top[:, 0] != table.labels)
    assert worst["confidence"] == head.confidence[wrong, 0].max()


def test_lists_are_in_order_and_as_long_as_asked_for() -> None:
    table = predicted(distilled=False)
    report = find_errors([table], options=replace(FAST, top=5))
    losses = [row["loss"] for row in rows_of(report, "top_losses")]
    said = softmax(table.heads["class"].logits.astype(float), axis=1)
    expected = np.sort(-np.log(said[np.arange(120), table.labels]))[::-1][:5]
    np.testing.assert_allclose(losses, expected)
    mistakes = rows_of(report, "mistakes")
    assert all(row["label"] != row["said"] for row in mistakes)
    assert [row["confidence"] for row in mistakes] == sorted((row["confidence"] for row in mistakes), reverse=True)
    margins = [row["margin"] for row in rows_of(report, "doubtful")]
    assert margins == sorted(margins)
    assert all(margin < 0 for margin in margins)


def test_reassessed_labels_say_which_doubts_they_share() -> None:
    table = predicted(distilled=False)
    said = table.top1("class")
    accepted = LabelSets(
        [] if row % 3 == 0 else [said[row]] if row % 3 == 1 else [table.labels[row]] for row in range(120)
    )
    report = find_errors([replace(table, accepted=accepted)], options=FAST)
    kinds = {int(row["image"].removeprefix("image ")) % 3 for row in rows_of(report, "doubtful")}
    assert kinds == {0, 1, 2}
    for row in rows_of(report, "doubtful"):
        kind = int(row["image"].removeprefix("image ")) % 3
        expected = [("not judged", "not judged"), ("no", "yes"), ("yes", "no")][kind]
        assert (row["label accepted"], row["said accepted"]) == expected
    assert report.numbers["ReaL"]["judged"] == 80
    assert report.numbers["ReaL"]["rejected"] == int((said != table.labels)[1::3].sum())
    words = [row["label accepted"] for row in rows_of(report, "doubtful") if row["label accepted"] != "not judged"]
    assert report.numbers["ReaL"]["doubtful_judged"] == len(words)
    assert (
        f"ReaL rejects {words.count('no') / len(words):.0%} of the {len(words)} labels" in report.numbers["notes"][-1]
    )
    assert "label accepted" not in rows_of(find_errors([table], options=FAST), "doubtful")[0]


# The verdict


def test_the_verdict_says_how_often_right_how_sure_and_which_labels_to_check() -> None:
    right, _, sure, labels = find_errors([predicted()], options=FAST, command="deitkit explore x").verdict
    (own,) = [row for row in rows_of(find_errors([predicted()], options=FAST), "heads") if "fused" in row["classifier"]]
    assert right == f"{120 - own['errors']} of 120 right (72 to 86 %) by the student fused head."
    assert sure.startswith(("Overconfident", "Underconfident", "No more", "As sure as right"))
    assert labels == f"{own['doubtful']} labels to check: deitkit explore x"


def test_on_images_that_it_learned_from_nothing_more_is_said() -> None:
    verdict = find_errors([predicted(split="train")], options=FAST).verdict
    assert verdict[-1] == "It learned from these images: all this says nothing of new ones, and hides wrong labels."
    assert not any("labels to check" in sentence for sentence in verdict)


# What is there, and what is missing


def test_a_report_is_json_and_comes_back_from_it() -> None:
    report = find_errors([predicted(), predicted("twin", distilled=False, seed=1)], options=FAST)
    words = json.dumps(report.as_dict(), allow_nan=False)
    assert Report.from_dict(json.loads(words)).as_dict() == json.loads(words) | {
        key: report.as_dict()[key] for key in ("sources", "tables", "figures")
    }
    assert tables_of(report) == [
        "heads", "calibration", "ece", "temperature", "bins", "clusters", "labels", "top_losses", "mistakes", "doubtful"
    ]  # fmt: skip


def test_without_logits_the_rest_is_measured_and_what_is_missing_is_named() -> None:
    report = find_errors([predicted(logits=False), predicted("twin", distilled=False)], options=FAST)
    assert "labels" not in tables_of(report)
    assert "top_losses" not in tables_of(report)
    assert [row["classifier"] for row in rows_of(report, "temperature")] == ["twin"]
    (note,) = report.numbers["notes"]
    assert "student class, student distillation, student fused" in note
    assert "deitkit evaluate RUN --logits" in note
    bare = find_errors([predicted(logits=False)], options=FAST)
    assert "loss" not in rows_of(bare, "heads")[0]
    assert rows_of(bare, "ece")[0]["ECE"] == rows_of(report, "ece")[0]["ECE"]


def test_images_that_a_model_learned_from_are_said_to_be_in_sample() -> None:
    table = predicted(distilled=False, split="train")
    (unsure,) = find_errors([table], options=FAST).numbers["notes"]
    assert "may have learned from these images (pets/train)" in unsure
    report = find_errors([table], trained_on=["student"], options=FAST)
    assert "student learned from these images" in report.numbers["notes"][0]
    assert report.definitions["note 1"] == report.numbers["notes"][0]
    assert report.title.endswith("(in-sample)")


def test_a_fusion_that_was_fitted_to_these_images_is_said_to_be() -> None:
    for fingerprint, count in (("f00d", 1), ("beef", 0)):
        fusion = FittedFusion("weighted_logits", 0.2, (1.4, 0.8), fitted_on="pets/val", fingerprint=fingerprint)
        notes = find_errors([predicted(fusion=fusion)], options=FAST).numbers["notes"]
        assert sum("was fitted to these very images" in note for note in notes) == count


def test_a_model_without_errors_is_still_calibrated_and_said_to_have_none() -> None:
    labels = np.arange(40) % 4
    logits = (3 * np.eye(4)[labels]).astype(np.float32)
    report = errors_report(
        [HeadAnswers("perfect", labels, softmax(logits, axis=1).max(axis=1), logits)],
        LabelledImages(labels, CLASSES, tuple(map(str, range(40)))), options=FAST,
    )  # fmt: skip
    assert "perfect has every image right" in report.numbers["notes"][0]
    assert "mistakes" not in tables_of(report)
    assert "clusters" not in tables_of(report)
    assert rows_of(report, "calibration")[0]["accuracy"] == 1.0
    assert not any(isinstance(figure, Matrix) for figure in report.figures)


@pytest.mark.parametrize(("images", "classes"), [(1, 3), (20, 1), (2, 2)])
def test_a_single_image_and_a_single_class_are_no_trouble(images: int, classes: int) -> None:
    labels = np.arange(images) % classes
    logits = np.random.default_rng(0).normal(size=(images, classes))
    p = softmax(logits, axis=1)
    report = errors_report(
        [HeadAnswers("tiny", p.argmax(axis=1), p.max(axis=1), logits)],
        LabelledImages(labels, CLASSES[:classes], tuple(map(str, range(images)))), options=FAST,
    )  # fmt: skip
    assert json.dumps(report.as_dict(), allow_nan=False)


def test_clusters_of_a_few_errors_are_said_to_mean_nothing() -> None:
    labels = np.arange(40) % 4
    decisions = labels.copy()
    decisions[0], decisions[1] = 1, 2
    report = errors_report(
        [HeadAnswers("few", decisions, np.full(40, 0.9))],
        LabelledImages(labels, CLASSES, tuple(map(str, range(40)))), options=FAST,
    )  # fmt: skip
    assert any("the clusters of few say nothing" in note for note in report.numbers["notes"])


def test_the_curve_of_the_listed_head_tells_the_images_of_its_bins_and_few_are_left_to_the_table() -> None:
    report = find_errors([predicted(images=400)], options=FAST)
    curve = next(figure for figure in report.figures if isinstance(figure, Points) and figure.name == "reliability")
    assert [bool(cloud.names) for cloud in curve.clouds] == [False, False, True]
    own = [row for row in rows_of(report, "bins") if row["classifier"] == "student fused" and row["images"] >= 10]
    assert curve.clouds[2].names == tuple(str(row["images"]) for row in own)
    np.testing.assert_allclose(curve.clouds[2].y, [100 * row["accuracy"] for row in own])
    np.testing.assert_allclose(curve.clouds[2].intervals, [(100 * row["low"], 100 * row["high"]) for row in own])
    assert len(own) < sum(row["classifier"] == "student fused" for row in rows_of(report, "bins"))


def test_of_many_classes_the_matrix_shows_the_largest_clusters() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(90, size=6_000)
    decisions = np.where(rng.random(6_000) < 0.3, labels // 3 * 3 + rng.integers(3, size=6_000), labels)
    report = errors_report(
        [HeadAnswers("many", decisions, np.full(6_000, 0.7))],
        LabelledImages(labels, tuple(f"class {index}" for index in range(90)), tuple(map(str, range(6_000)))),
        options=FAST,
    )
    (matrix,) = (figure for figure in report.figures if isinstance(figure, Matrix))
    assert len(matrix.labels) == 18
    assert "18 of 90 classes" in matrix.title
    first = rows_of(report, "clusters")[0]
    assert ", ".join(matrix.labels[:3]) == first["classes"]
    index = [int(name.removeprefix("class ")) for name in matrix.labels[:2]]
    share = ((labels == index[0]) & (decisions == index[1])).sum() / (labels == index[0]).sum()
    assert matrix.values[0][1] == pytest.approx(100 * share)
    assert all(matrix.values[place][place] == 0 for place in range(18))


# Pictures


def test_sheets_show_the_listed_images_and_say_which_are_gone() -> None:
    table = predicted(distilled=False)

    def picture(row: int) -> Pixels | None:
        return None if row % 2 else np.full((4, 6, 3), row, dtype=np.uint8)

    report = find_errors([table], picture=picture, options=replace(FAST, top=8))
    (sheet,) = (figure for figure in report.figures if isinstance(figure, Panels) and figure.name == "mistakes")
    shown = [panel for row in sheet.rows for panel in row]
    for panel, row in zip(shown, rows_of(report, "mistakes"), strict=True):
        number = int(row["image"].removeprefix("image "))
        assert panel.title.startswith(f"{row['label']} → {row['said']}, {row['confidence']:.0%}")
        assert panel.title.endswith("(image is gone)") == bool(number % 2)
        assert number % 2 or (panel.values == number).all()
    nothing = find_errors([table], picture=lambda _: None, options=FAST)
    assert not any(isinstance(figure, Panels) for figure in nothing.figures)


def test_pictures_come_from_the_file_that_was_noted_or_from_the_source(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (9, 8, 7)).save(tmp_path / "wide.png")
    paths = [str(tmp_path / "wide.png"), str(tmp_path / "gone.png")]
    reader = PictureReader(predicted(distilled=False, images=2, paths=paths))
    found = reader(0)
    assert found is not None
    assert found.shape == (40, 80, 3)
    assert found[0, 0].tolist() == [9, 8, 7]
    assert reader(1) is None
    assert "gone.png" in reader.lost[0]

    source = open_source(Data(dataset="digits"), "val")
    own = {"ids": list(source.ids[:2]), "fingerprint": source.fingerprint, "dataset": "digits"}
    table = predicted(distilled=False, images=2, **own)
    digit = PictureReader(table, Data(dataset="digits"))(1)
    assert digit is not None
    assert digit.shape == (8, 8, 3)
    other = PictureReader(replace(table, fingerprint="other"), Data(dataset="digits"))
    assert other(0) is None
    assert "others than those of the predictions" in other.lost[0]
    nowhere = PictureReader(table)
    assert nowhere(0) is None
    assert "no run says where" in nowhere.lost[0]


# Bad input


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DeitkitError, match="top is 0"):
        ErrorOptions(top=0)
    with pytest.raises(DeitkitError, match="no head 'fused'"):
        find_errors([predicted(distilled=False)], heads={"student": ["fused"]}, options=FAST)
    with pytest.raises(DeitkitError, match="no classifier was given"):
        find_errors([], options=FAST)
    nothing: NDArray[Any] = np.empty((0, 4), dtype=np.float32)
    empty = predicted(distilled=False, images=0, heads={"class": head_predictions("class", nothing)})
    with pytest.raises(DeitkitError, match="no image of pets/val"):
        find_errors([empty])
    with pytest.raises(DeitkitError, match="different data"):
        find_errors([predicted(), predicted("other", dataset="birds")], options=FAST)
    with pytest.raises(DeitkitError, match="different classes"):
        find_errors([predicted(), predicted("other", class_names=("a", "b", "c", "d"))], options=FAST)


def test_one_heads_measures_do_not_depend_on_the_others() -> None:
    table = predicted()
    images = LabelledImages.of(table)
    alone = measure_head(next(answers_of(table, ["distillation"])), images, resamples=20)
    together = find_errors([table], options=FAST)
    assert together.numbers["ece"]["student distillation"] == alone.calibration.reliability.ece
