"""A classifier's verdict: its words, the labels that it doubts, and commands that a shell takes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deitkit.measures.label_errors import find_label_errors
from deitkit.predictions.align import align
from deitkit.predictions.doubts import with_doubts, without_logits
from deitkit.predictions.find import only_heads
from deitkit.predictions.table import Predictions, head_predictions
from deitkit.predictions.verdict import command_words, labels_words, table_verdict

MakePredictions = Callable[..., Predictions]


def sure(*, wrong_labels: int = 3, split: str = "val", classes: int = 3, images: int = 60) -> Predictions:
    """A classifier that is right throughout, but that the first labels are wrong."""
    truth = np.arange(images) % classes
    labels = truth.copy()
    labels[:wrong_labels] = (truth[:wrong_labels] + 1) % classes
    logits = (4 * np.eye(classes)[truth]).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        dataset="pets", split=split, fingerprint="f00d", classifier="sure",
        class_names=tuple(f"class {number}" for number in range(classes)), ids=[f"{row}" for row in range(images)],
        labels=labels, heads={"class": head_predictions("class", probabilities, logits)},
    )  # fmt: skip


def test_the_verdict_is_that_of_the_decisive_head(decided: MakePredictions) -> None:
    labels = [0] * 9 + [1] * 11 + [2] * 11
    fused = [0] * 2 + [1] * 5 + [2] * 2 + labels[9:]
    heads = {"class": [0] * 31, "distillation": [1] * 31, "fused": fused}
    assert table_verdict(decided("student", heads, labels)) == [
        "24 of 31 right (60 to 89 %) by the fused head.", "Weak: cat (2 of 9 right), mostly taken for dog."
    ]  # fmt: skip
    assert table_verdict(decided("twin", {"class": [0] * 31}, labels)) == [
        "9 of 31 right (16 to 47 %).", "Always saying dog may be as good: 11 of 31 are."
    ]  # fmt: skip


def test_training_images_say_nothing_of_new_ones(decided: MakePredictions) -> None:
    table = decided("own", {"class": [0, 1]}, [0, 1], split="train")
    assert table_verdict(table)[-1].endswith("this says nothing of new ones.")


def test_doubted_labels_are_those_of_confident_learning_and_are_kept(tmp_path: Path) -> None:
    table = sure()
    found = with_doubts(table)
    assert found.doubted is not None
    assert set(np.flatnonzero(found.doubted)) == {*find_label_errors(table.heads["class"].logits, table.labels).rows}
    assert found.doubted.sum() == 3
    without_logits(found).save(tmp_path / "kept.parquet")
    kept = Predictions.load(tmp_path / "kept.parquet")
    assert np.array_equal(kept.doubted, found.doubted) and kept.heads["class"].logits is None
    assert np.array_equal(with_doubts(kept).doubted, found.doubted), "what is kept stays"
    halves = align([kept, replace(kept, classifier="other", ids=kept.ids[2:], labels=kept.labels[2:], doubted=None,
                                  heads={"class": head_predictions("class", np.eye(3)[kept.labels[2:]])})])  # fmt: skip
    assert halves[0].doubted.tolist() == kept.doubted.tolist()[2:]


@pytest.mark.parametrize(
    "table", [sure(split="train"), sure(wrong_labels=30), sure(classes=1, wrong_labels=0)],
    ids=["learned", "wrong too often", "one class"],
)  # fmt: skip
def test_doubts_that_tell_nothing_are_not_kept(table: Predictions) -> None:
    assert with_doubts(table).doubted is None


def test_doubts_go_with_the_head_that_has_them() -> None:
    table = with_doubts(sure())
    heads = {name: replace(table.heads["class"], name=name) for name in ("class", "distillation", "fused")}
    three = replace(table, heads=heads)
    assert only_heads(three, ["fused"]).doubted is not None
    assert only_heads(three, ["class"]).doubted is None


def test_top_5_is_there_of_more_than_ten_classes() -> None:
    assert sure(classes=10, images=50).top5("class") is None
    assert sure(classes=11, images=55).top5("class") is not None


def test_a_command_is_whole_and_survives_a_shell() -> None:
    words = command_words(
        "explore", "my runs/a'b", data="/data/my photos", split="test", more=["--view", "labels to check"]
    )
    assert shlex.split(words) == [
        "deitkit", "explore", "my runs/a'b", "--data", "/data/my photos", "--split", "test", "--view", "labels to check"
    ]  # fmt: skip
    assert command_words("explore", "runs/x", split="val") == "deitkit explore runs/x"
    assert labels_words(1, "C") == ["1 label to check: C"] and labels_words(0, "C") == []
