"""Predictions against plain numpy, and their file against a second reader."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deitkit.errors import DeitkitError
from deitkit.predictions import rows, stored, table
from deitkit.predictions.table import Predictions, concatenate, head_predictions

MakePredictions = Callable[..., Predictions]


def probabilities(images: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=images).astype(np.float32)


@pytest.fixture
def make() -> MakePredictions:
    def build(classes: int = 10, images: int = 7, **changes: object) -> Predictions:
        first, second = probabilities(images, classes), probabilities(images, classes, seed=1)
        values: dict[str, object] = {
            "dataset": "digits",
            "split": "val",
            "fingerprint": "f00d",
            "classifier": "student",
            "class_names": tuple(f"name {index}" for index in range(classes)),
            "ids": [f"digits/{index:04d}" for index in range(images)],
            "labels": np.arange(images) % classes,
            "heads": {
                "class": head_predictions("class", first, np.log(first)),
                "fused": head_predictions("fused", (first + second) / 2),
            },
            "settings": {"image_size": [24, 32], "crop_ratio": 0.875, "fusion": "softmax"},
        }
        return Predictions(**(values | changes))

    return build


def test_the_kept_classes_are_the_most_probable_best_first() -> None:
    given = probabilities(200, 17)
    head = head_predictions("class", given)
    expected = np.argsort(-given, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(head.top, expected)
    np.testing.assert_array_equal(head.confidence, np.take_along_axis(given, expected, axis=1))


def test_of_equally_probable_classes_the_lower_index_comes_first() -> None:
    head = head_predictions("class", np.array([[0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]]))
    assert head.top.tolist() == [[1, 2, 0], [0, 1, 2]]


def test_three_classes_keep_three_and_not_five() -> None:
    assert head_predictions("class", probabilities(4, 3)).top.shape == (4, 3)


def test_making_predictions_leaves_the_probabilities_alone() -> None:
    given = probabilities(4, 10)
    before = given.copy()
    head_predictions("class", given)
    np.testing.assert_array_equal(given, before)


def test_probabilities_that_are_not_finite_are_refused() -> None:
    given = probabilities(4, 10)
    given[2, 3] = np.nan
    with pytest.raises(DeitkitError, match="not finite for 1 of 4 images"):
        head_predictions("class", given)


def test_batches_joined_are_the_whole() -> None:
    given = probabilities(20, 10)
    whole = head_predictions("class", given, np.log(given))
    joined = concatenate([head_predictions("class", part, np.log(part)) for part in np.split(given, [3, 11])])
    for field in ("top", "confidence", "logits"):
        np.testing.assert_array_equal(getattr(joined, field), getattr(whole, field))


def test_a_table_larger_than_memory_holds_is_written_and_read_by_row_groups(
    make: MakePredictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = make(images=500, paths=[f"/images/{index}.png" for index in range(500)])
    saved.save(tmp_path / "one group.parquet")
    monkeypatch.setattr(table, "MOST_LOGITS", 64 * 10)
    monkeypatch.setattr(stored, "MOST_ROWS", 50)  # batches across groups, too
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    (tmp_path / "spare").mkdir()
    saved.save(tmp_path / "groups.parquet")
    assert pq.ParquetFile(tmp_path / "groups.parquet").num_row_groups == 8
    for name in ("one group", "groups"):  # the first as earlier versions wrote it
        loaded = Predictions.load(tmp_path / f"{name}.parquet")
        assert (loaded.ids, loaded.paths) == (saved.ids, saved.paths)
        np.testing.assert_array_equal(loaded.labels, saved.labels)
        for field in ("top", "confidence", "logits"):
            np.testing.assert_array_equal(getattr(loaded.head("class"), field), getattr(saved.head("class"), field))
    assert list((tmp_path / "spare").iterdir()) == []  # the file has no name
    rows_of = np.concatenate(np.split(saved.head("class").logits, [3, 99]))
    np.testing.assert_array_equal(rows.joined_rows(np.split(rows_of, [7])), rows_of)


def test_a_disk_without_room_for_what_memory_does_not_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DeitkitError, match="disk is full"):
        rows.empty_rows(2**40, 1000)


def test_a_saved_table_comes_back_as_it_was(make: MakePredictions, tmp_path: Path) -> None:
    paths = [f"/images/{index}.png" for index in range(7)]
    saved = make(paths=paths)
    saved.save(tmp_path / "predictions" / "digits-val.parquet")
    loaded = Predictions.load(tmp_path / "predictions" / "digits-val.parquet")
    for field in ("dataset", "split", "fingerprint", "classifier", "class_names", "ids", "paths", "settings"):
        assert getattr(loaded, field) == getattr(saved, field)
    np.testing.assert_array_equal(loaded.labels, saved.labels)
    assert list(loaded.heads) == ["class", "fused"]
    for name, head in saved.heads.items():
        np.testing.assert_array_equal(loaded.heads[name].top, head.top)
        np.testing.assert_array_equal(loaded.heads[name].confidence, head.confidence)
    np.testing.assert_array_equal(loaded.heads["class"].logits, saved.heads["class"].logits)
    assert loaded.heads["fused"].logits is None


def test_logits_stay_on_the_disk_where_they_are_not_wanted(make: MakePredictions, tmp_path: Path) -> None:
    saved = make()
    saved.save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet", logits=False)
    assert all(head.logits is None for head in loaded.heads.values())
    np.testing.assert_array_equal(loaded.top1("class"), saved.top1("class"))
    assert loaded.ids == saved.ids


def test_another_parquet_reader_sees_a_row_an_image(make: MakePredictions, tmp_path: Path) -> None:
    predictions = make()
    predictions.save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        *("image_id", "label", "class.top", "class.confidence", "class.logits"),
        *("fused.top", "fused.confidence"),
    ]
    assert table["fused.top"].to_pylist() == predictions.heads["fused"].top.tolist()


def test_a_table_without_images_survives_the_file(make: MakePredictions, tmp_path: Path) -> None:
    make(images=0).save(tmp_path / "p.parquet")
    empty = Predictions.load(tmp_path / "p.parquet")
    assert empty.heads["class"].top.shape == (0, 5)
    with pytest.raises(DeitkitError, match="no images"):
        empty.accuracy("class")


def test_accuracy_counts_labels_among_the_best_k(make: MakePredictions) -> None:
    predictions = make(images=500, classes=9)
    for k in (1, 3, 5):
        hits = [label in row[:k] for label, row in zip(predictions.labels, predictions.head("fused").top, strict=True)]
        assert predictions.accuracy("fused", k) == pytest.approx(sum(hits) / 500)


def test_accuracy_of_more_classes_than_are_kept_is_refused(make: MakePredictions) -> None:
    with pytest.raises(DeitkitError, match="k from 1 to 5"):
        make().accuracy("class", k=6)


def test_an_unknown_head_is_named_with_the_near_miss(make: MakePredictions) -> None:
    with pytest.raises(DeitkitError, match=r"'fussed'\. Did you mean fused"):
        make().top1("fussed")


def test_equal_image_ids_are_refused(make: MakePredictions) -> None:
    with pytest.raises(DeitkitError, match="not unique"):
        make(ids=["a"] * 7)


def test_a_column_of_another_length_is_a_bug(make: MakePredictions) -> None:
    with pytest.raises(ValueError, match="labels"):
        make(labels=np.zeros(3, dtype=np.int64))


def test_a_missing_file_a_foreign_file_and_a_broken_file_are_named(make: MakePredictions, tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="no predictions at"):
        Predictions.load(tmp_path / "absent.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DeitkitError, match="cannot be read as Parquet"):
        Predictions.load(tmp_path / "broken.parquet")
    make().save(tmp_path / "p.parquet")
    pq.write_table(pq.read_table(tmp_path / "p.parquet").replace_schema_metadata(None), tmp_path / "foreign.parquet")
    with pytest.raises(DeitkitError, match="does not hold predictions"):
        Predictions.load(tmp_path / "foreign.parquet")


def test_a_full_disk_leaves_the_earlier_file_and_no_rest(
    make: MakePredictions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().save(tmp_path / "p.parquet")
    before = (tmp_path / "p.parquet").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deitkit.runs.folder.os.fsync", full)
    with pytest.raises(DeitkitError, match="the disk is full"):
        make(classifier="other").save(tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_the_name_under_which_files_keep_what_they_are_stays(decided: MakePredictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    decided("student", {"class": [0, 1]}, [0, 1]).save(path)
    assert b"deitkit.predictions" in (pq.read_schema(path).metadata or {})
