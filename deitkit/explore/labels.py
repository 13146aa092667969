"""Images, labels and answers as samples: written a chunk at a time, and only where the dataset says something else.

So that building twice writes nothing, and what a user added to a sample or to a label (tags, attributes, other fields)
is never touched. A label that is there is the user's to correct: it is written once, and answers are judged by it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.data.open import LabelSets
from deitkit.explore.agreement import ACCEPTED_PATH, Column, derive, described
from deitkit.explore.record import ACCEPTED, GROUND_TRUTH, KEY, Record
from deitkit.predictions.stored import HeadPredictions
from deitkit.predictions.table import Predictions, decisive

CHUNK = 5_000  # images whose labels are held at once
Columns = dict[str, Column]


@dataclass(frozen=True, eq=False)
class FieldAnswer:
    """What one head of one classifier says, the field that shows it, and perhaps which labels it doubts [N]."""

    field: str
    head: HeadPredictions
    doubted: NDArray[np.bool_] | None = None

    @property
    def doubts(self) -> bool:
        return self.doubted is not None


@dataclass(frozen=True, eq=False)
class LabelPart:
    """N images: ids, labels [N] and answers that index `class_names`; `file_of` gives the file of one by its place.

    Without `file_of` only samples that are there are written.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    answers: Sequence[FieldAnswer]
    accepted: LabelSets | None = None
    file_of: Callable[[int], Path] | None = None

    @classmethod
    def of(
        cls, aligned: Sequence[Predictions], fields: Mapping[str, Mapping[str, str]], *,
        file_of: Callable[[int], Path] | None = None,
    ) -> LabelPart:  # fmt: skip
        """Aligned predictions; `fields` by classifier and head."""
        first = aligned[0]
        answers = [
            FieldAnswer(fields[each.classifier][name], head, each.doubted if name == decisive(each) else None)
            for each in aligned
            for name, head in each.heads.items()
        ]
        return cls(first.ids, first.labels, first.class_names, answers, first.accepted, file_of)

    @property
    def said(self) -> list[str]:
        """The fields of all answers."""
        return [answer.field for answer in self.answers]


@dataclass(frozen=True)
class Written:
    """The fields of which labels or confidences changed, and the labels that the user corrected: (image id, label)."""

    changed: set[str]
    corrected: list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class LabelChunk:
    """Some rows [n] of a part that have a sample, and what these samples say now: columns [n] by path."""

    rows: NDArray[np.intp]
    columns: Columns

    @property
    def ids(self) -> Column:
        """The samples' ids."""
        return self.columns["id"]


def write(
    dataset: Any, part: LabelPart, *, record: Record, advance: Callable[[int, int], None] = lambda done, total: None
) -> Written:
    """Bring the samples of these images to what the predictions say."""
    written, total = Written(set(), []), len(part.ids)
    advance(0, total)
    for start in range(0, total, CHUNK):
        rows = np.arange(start, min(start + CHUNK, total))
        chunk = _stored(dataset, part, record=record, rows=rows)
        if len(chunk.rows):
            _write_chunk(dataset, chunk, part=part, record=record, written=written)
        advance(int(rows[-1]) + 1, total)
    return written


def _write_chunk(dataset: Any, chunk: LabelChunk, *, part: LabelPart, record: Record, written: Written) -> None:
    wanted, rows, columns = Columns(), chunk.rows, chunk.columns
    if part.file_of is not None:
        wanted["filepath"] = [os.path.abspath(part.file_of(row)) for row in rows.tolist()]  # noqa: PTH100 - no "..", too
    given = [part.class_names[label] for label in part.labels[rows].tolist()]
    truth = [old if old is not None else new for old, new in zip(columns[f"{GROUND_TRUTH}.label"], given, strict=True)]
    wanted[f"{GROUND_TRUTH}.label"] = truth
    both = zip(columns[KEY], truth, given, strict=True)
    written.corrected.extend((image_id, label) for image_id, label, own in both if label != own)
    for answer in part.answers:
        wanted |= _said(answer, part.class_names, rows=rows, truth=truth)
        wanted |= _doubted(answer, part, record, rows=rows, truth=truth)
    if part.accepted is not None:
        _write_accepted(dataset, chunk, part=part, accepted=part.accepted)
    wanted |= derive(columns | wanted, record)
    for answer in part.answers:
        if answer.field in record.logits and answer.head.logits is None:
            _drop_logits(dataset, chunk, field=answer.field, wanted=wanted)
    for field in [GROUND_TRUTH, *(answer.field for answer in part.answers)]:
        if _make_labels(dataset, chunk, field=field, wanted=wanted):
            written.changed.add(field)
    for path, column in wanted.items():
        field, _, attribute = path.partition(".")
        if _update(dataset, chunk, path=path, wanted=column) and attribute in ("label", "confidence"):
            written.changed.add(field)


# What is there


def _stored(dataset: Any, part: LabelPart, *, record: Record, rows: NDArray[np.intp]) -> LabelChunk:
    """The rows that have a sample, which is made for those that have none, where the part has files."""
    import fiftyone

    row_of, paths = {part.ids[row]: row for row in rows.tolist()}, _paths(record, part)
    columns = dict(zip(paths, dataset.select_by(KEY, list(row_of)).values(paths), strict=True))
    found = [row_of[image_id] for image_id in columns[KEY]]
    if part.file_of is not None and len(found) < len(rows):
        new = sorted(set(rows.tolist()).difference(found))
        bare = [fiftyone.Sample(filepath=str(part.file_of(row)), image_id=part.ids[row]) for row in new]
        made = {
            "id": dataset.add_samples(bare, progress=False),
            "filepath": [sample.filepath for sample in bare],
            KEY: [sample.image_id for sample in bare],
        }
        columns = {path: [*column, *made.get(path, [None] * len(new))] for path, column in columns.items()}
        found += new
    return LabelChunk(np.array(found, dtype=np.intp), columns)


def _paths(record: Record, part: LabelPart) -> list[str]:
    """Everything that is compared before it is written."""
    paths = ["id", KEY, "filepath", f"{GROUND_TRUTH}.id", f"{GROUND_TRUTH}.label", *described(record)]
    attributes = ["id", "label", "confidence", "label_probability", "right"]
    if ACCEPTED in record.fields:
        paths.append(ACCEPTED_PATH)
        attributes.append("accepted")
    paths += [f"{field}.{attribute}" for field in record.answers for attribute in attributes]
    paths += [f"{answer.field}.doubted" for answer in part.answers if answer.doubts or answer.field in record.doubted]
    return [*paths, *(f"{answer.field}.logits" for answer in part.answers if answer.head.logits is not None)]


# What is wanted


def _said(answer: FieldAnswer, class_names: tuple[str, ...], *, rows: NDArray[np.intp], truth: Column) -> Columns:
    head, field = answer.head, answer.field
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.array([number.get(name, -1) for name in truth])
    wanted = {
        f"{field}.label": [class_names[index] for index in head.top[rows, 0].tolist()],
        f"{field}.confidence": head.confidence[rows, 0].tolist(),
        f"{field}.label_probability": label_probability(head, rows=rows, labels=labels),
    }
    if head.logits is not None:
        wanted[f"{field}.logits"] = list(head.logits[rows])
    return wanted


def _doubted(
    answer: FieldAnswer, part: LabelPart, record: Record, *, rows: NDArray[np.intp], truth: Column
) -> Columns:  # fmt: skip
    """Which labels the answer doubts; those that the user has corrected are not doubted any more."""
    path = f"{answer.field}.doubted"
    if answer.doubted is None:
        return {path: [None] * len(rows)} if answer.field in record.doubted else {}
    given = [part.class_names[label] for label in part.labels[rows].tolist()]
    both = zip(answer.doubted[rows].tolist(), given, truth, strict=True)
    return {path: [doubted and own == label for doubted, own, label in both]}


def label_probability(
    head: HeadPredictions, *, rows: NDArray[np.intp], labels: NDArray[np.int64]
) -> list[float | None]:
    """The probability that the head gives to the labels [n] (-1: none) of its images `rows` [n].

    It is known of the classes that predictions keep, the five most probable; of all by the logits; None elsewhere.
    """
    hit = head.top[rows] == labels[:, None]
    kept = (head.confidence[rows] * hit).sum(axis=1)  # at most one hit a row
    if head.logits is None:
        return [value if known else None for value, known in zip(kept.tolist(), hit.any(axis=1).tolist(), strict=True)]
    logits = head.logits[rows].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    others = np.exp(logits[np.arange(len(rows)), labels]) / np.exp(logits).sum(axis=1)
    chosen = np.where(hit.any(axis=1), kept, others)
    return [value if label >= 0 else None for value, label in zip(chosen.tolist(), labels.tolist(), strict=True)]


# Writing


def _set(dataset: Any, path: str, values: dict[str, Any]) -> bool:
    """Sample id -> value; whether there was any."""
    if values:
        dataset.set_values(path, values, key_field="id", validate=False, expand_schema=False)
    return bool(values)


def _make_labels(dataset: Any, chunk: LabelChunk, *, field: str, wanted: Columns) -> bool:
    """A field's labels where there are none, with all that they say at once; the chunk then has it, too.

    As the database's own documents, which are the same and several times as fast as objects.
    """
    import fiftyone
    from bson import ObjectId

    empty = [place for place, label in enumerate(chunk.columns[f"{field}.id"]) if label is None]
    paths = [path for path in wanted if path.startswith(f"{field}.") and not path.endswith(".logits")]
    template, start = fiftyone.Classification().to_dict(), len(field) + 1
    documents = {
        chunk.ids[place]: {
            **template, "_id": ObjectId(), "tags": [], **{path[start:]: wanted[path][place] for path in paths}
        }
        for place in empty
    }  # fmt: skip
    for path in paths:
        for place in empty:
            chunk.columns[path][place] = wanted[path][place]
    return _set(dataset, field, documents)


def _update(dataset: Any, chunk: LabelChunk, *, path: str, wanted: Column) -> bool:
    """Write a column where the samples say something else."""
    stored = chunk.columns[path]
    news = {chunk.ids[place]: new for place, new in enumerate(wanted) if not _same(stored[place], new)}
    return _set(dataset, path, news)


def _same(stored: Any, new: Any) -> bool:
    if isinstance(new, np.ndarray):
        return stored is not None and np.array_equal(stored, new)
    return bool(stored == new)


def _drop_logits(dataset: Any, chunk: LabelChunk, *, field: str, wanted: Columns) -> None:
    """Take away the logits of answers that are others now."""
    paths, there = [f"{field}.label", f"{field}.confidence"], chunk.columns[f"{field}.id"]
    stale = {
        sample_id: None
        for place, sample_id in enumerate(chunk.ids)
        if there[place] is not None and any(chunk.columns[path][place] != wanted[path][place] for path in paths)
    }
    _set(dataset, f"{field}.logits", stale)


def _write_accepted(dataset: Any, chunk: LabelChunk, *, part: LabelPart, accepted: LabelSets) -> None:
    """The classes that count as right, where they are several or none; labels that stay keep what a user added."""
    import fiftyone

    wanted = [[part.class_names[label] for label in accepted.rows[row].tolist()] for row in chunk.rows.tolist()]
    stored = chunk.columns[ACCEPTED_PATH]
    news = {chunk.ids[place]: names for place, names in enumerate(wanted) if stored[place] != names}
    chunk.columns[ACCEPTED_PATH] = wanted
    if not news:
        return
    kept = dict(zip(*dataset.select(list(news)).values(["id", f"{ACCEPTED}.classifications"]), strict=True))
    documents = {}
    for sample_id, names in news.items():
        by_name = {label.label: label for label in kept[sample_id] or ()}
        labels = [by_name.get(name) or fiftyone.Classification(label=name) for name in names]
        documents[sample_id] = fiftyone.Classifications(classifications=labels)
    dataset.set_values(ACCEPTED, documents, key_field="id")
