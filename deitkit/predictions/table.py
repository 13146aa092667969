"""Predictions: a table, one row an image, one column group a head. Runs no model and does not know how they were made.

On disk it is one Parquet file for a data set and a split: the columns `image_id`, `path`, `label`, then `HEAD.top`,
`HEAD.confidence` and, on request, `HEAD.logits` as lists of fixed size. What holds for the whole table is JSON in the
schema's metadata. `accepted`, lists of labels, is there where several or none may be right (ImageNet-ReaL); `doubted`
where it is known which labels the decisive head doubts (`deitkit.predictions.doubts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deitkit.data.open import LabelSets
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.files import writing_whole
from deitkit.measures.agreement import MOST_CLASSES_WITHOUT_TOP5
from deitkit.measures.by_class import ClassCounts
from deitkit.models.forms import decisive_head
from deitkit.models.reference import is_foreign, local_folder, own_folder
from deitkit.predictions.rows import joined_rows
from deitkit.predictions.stored import HeadPredictions, as_metadata, escaped, read_stored

TOP = 5  # classes kept for an image
MOST_ROWS, MOST_LOGITS = 2**20, 2**24  # of a row group; 2**24 logits are 64 MiB


@dataclass(frozen=True, eq=False)
class Predictions:
    """One classifier's answers for one split of one data set.

    `labels` [N] and every `top` index `class_names`. `fingerprint` is the source's, so equal ones mean equal images.
    `settings` says how the classifier looked at the images (image_size, crop_ratio, fusion and the like).
    """

    dataset: str
    split: str
    fingerprint: str
    classifier: str
    class_names: tuple[str, ...]
    ids: list[str]
    labels: NDArray[np.int64]
    heads: dict[str, HeadPredictions]
    paths: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    accepted: LabelSets | None = None
    doubted: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        images = len(self.ids)
        lengths = {"labels": len(self.labels)} | {name: len(head.top) for name, head in self.heads.items()}
        if self.paths is not None:
            lengths["paths"] = len(self.paths)
        if self.accepted is not None:
            lengths["accepted"] = len(self.accepted)
        if self.doubted is not None:
            lengths["doubted"] = len(self.doubted)
        if wrong := {name: length for name, length in lengths.items() if length != images}:
            raise ValueError(f"{images} image ids, but other lengths: {wrong}")
        if len(set(self.ids)) != images:
            raise DeitkitError(
                f"the image ids of {self.dataset}/{self.split} are not unique, so predictions cannot be told apart",
                remedy="give every image an id of its own in the data source",
            )

    def head(self, name: str) -> HeadPredictions:
        """The head of that name, or an error that lists the ones there are."""
        if name not in self.heads:
            raise DeitkitError(
                f"the predictions of {self.classifier} have no head {name!r}.{did_you_mean(name, self.heads)}",
                value=name,
                choices=self.heads,
            )
        return self.heads[name]

    def top1(self, head: str) -> NDArray[np.int64]:
        """The head's decisions [N]."""
        return self.head(head).top[:, 0]

    def accuracy(self, head: str, k: int = 1) -> float:
        """The fraction of images whose label is among the head's k best classes."""
        return float(self.hits(head, k).mean())

    def top5(self, head: str) -> float | None:
        """`accuracy` with k = 5; None where there are at most 10 classes."""
        kept = self.head(head).top.shape[1] >= TOP
        return self.accuracy(head, TOP) if kept and len(self.class_names) > MOST_CLASSES_WITHOUT_TOP5 else None

    def hits(self, head: str, k: int = 1) -> NDArray[np.bool_]:
        """Whether each image's label is among the head's k best classes: [N]."""
        top = self.head(head).top
        if not len(top):
            raise DeitkitError(f"there are no images in {self.dataset}/{self.split}, so there is no accuracy")
        if not 1 <= k <= top.shape[1]:
            raise DeitkitError(f"top-{k} accuracy needs k from 1 to {top.shape[1]}, the classes kept", value=k)
        return np.asarray((top[:, :k] == self.labels[:, None]).any(axis=1))

    def real_accuracy(self, head: str) -> tuple[int, int]:
        """(right, judged) images by the accepted labels; those that accept none are not judged (Beyer et al. 2020)."""
        if self.accepted is None:
            raise DeitkitError(
                f"the predictions on {self.dataset}/{self.split} know one label an image",
                remedy="deitkit data download imagenet_real, then evaluate anew",
            )
        judged = self.accepted.counts > 0
        return int(self.accepted.hits(self.top1(head)[:, None])[judged].sum()), int(judged.sum())

    def per_class(self, head: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right decisions and images of each class: [K], [K]; a class without images has 0 of 0."""
        classes = len(self.class_names)
        right = np.bincount(self.labels[self.hits(head)], minlength=classes)
        return right, np.bincount(self.labels, minlength=classes)

    def class_counts(self, head: str) -> ClassCounts:
        """The same with how often each class was decided, and what follows from it."""
        return ClassCounts.of(self.top1(head), self.labels, classes=len(self.class_names))

    def save(self, path: Path) -> None:
        """Write the Parquet file whole or not at all."""
        is_escaped = any(_is_no_text(name) for name in (*self.ids, *(self.paths or ())))
        groups = _groups(self)
        first = _table(self, groups[0], is_escaped=is_escaped)
        with writing_whole(path) as file, pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for rows in groups[1:]:
                writer.write_table(_table(self, rows, is_escaped=is_escaped))

    @classmethod
    def load(cls, path: Path, *, logits: bool = True) -> Predictions:
        """Read what `save` wrote; without `logits` they are left on the disk, which spares 4 K bytes an image.

        Raises:
            DeitkitError: missing, damaged, or not as deitkit writes it.
        """
        stored = read_stored(path, logits=logits)
        about = stored.about
        return cls(
            about.dataset, about.split, about.fingerprint, about.classifier, about.class_names, stored.ids,
            stored.labels, stored.heads, stored.paths, about.settings,
            None if stored.accepted is None else LabelSets(stored.accepted), stored.doubted,
        )  # fmt: skip


def head_predictions(
    name: str, probabilities: NDArray[np.floating[Any]], logits: NDArray[np.floating[Any]] | None = None
) -> HeadPredictions:
    """probabilities [N, K], logits [N, K] or None -> the best classes of each image; the lower index wins a tie."""
    left = np.array(probabilities, dtype=np.float32)
    if not np.isfinite(left).all():
        raise DeitkitError(
            f"the {name} head gives probabilities that are not finite for"
            f" {int((~np.isfinite(left)).any(axis=1).sum())} of {len(left)} images",
            remedy="the weights have diverged: take an earlier checkpoint",
        )
    rows, k = np.arange(len(left)), min(TOP, left.shape[1])
    top = np.empty((len(left), k), dtype=np.int64)
    confidence = np.empty((len(left), k), dtype=np.float32)
    # k passes of argmax, because a partial sort does not say which of two equal classes it keeps.
    for place in range(k):
        top[:, place] = left.argmax(axis=1)
        confidence[:, place] = left[rows, top[:, place]]
        left[rows, top[:, place]] = -np.inf
    return HeadPredictions(name, top, confidence, None if logits is None else np.asarray(logits, dtype=np.float32))


def concatenate(parts: Sequence[HeadPredictions]) -> HeadPredictions:
    """One head's predictions for several batches, in order, so that all probabilities are never held at once."""
    logits = [part.logits for part in parts if part.logits is not None]
    return HeadPredictions(
        parts[0].name,
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        joined_rows(logits) if logits else None,
    )


def predictions_path(reference: str, dataset: str, split: str, *, data: str = "") -> Path:
    """In the run's folder, in a model folder, or in one of the model's name: one file per data set and split, and per
    folder named by --data."""
    path = Path(reference)
    is_alone = path.is_file() and path.suffix != ".onnx" and not (path.parent / "config.json").is_file()
    root = own_folder(path) if is_alone and not is_foreign(reference) else local_folder(reference)
    if path.is_file() and root == path:  # a model's file beside its config
        root = path.parent
    stem = f"{dataset}-{split}-{Path(data).resolve().name}" if data else f"{dataset}-{split}"
    return root / "predictions" / f"{stem}.parquet"


def _groups(predictions: Predictions) -> list[slice]:
    """The rows of each of the file's row groups, which are written and read one at a time."""
    wide = sum(head.logits.shape[1] for head in predictions.heads.values() if head.logits is not None)
    step = min(MOST_ROWS, max(1, MOST_LOGITS // max(wide, 1)))
    return [slice(start, start + step) for start in range(0, max(len(predictions.ids), 1), step)]


def _table(predictions: Predictions, rows: slice, *, is_escaped: bool) -> pa.Table:
    spelled = escaped if is_escaped else str
    columns: dict[str, pa.Array] = {"image_id": pa.array(list(map(spelled, predictions.ids[rows])), pa.string())}
    if predictions.paths is not None:
        columns["path"] = pa.array(list(map(spelled, predictions.paths[rows])), pa.string())
    columns["label"] = pa.array(predictions.labels[rows], pa.int64())
    if predictions.accepted is not None:
        columns["accepted"] = pa.array(predictions.accepted.rows[rows], pa.list_(pa.int32()))
    if predictions.doubted is not None:
        columns["doubted"] = pa.array(predictions.doubted[rows], pa.bool_())
    for name, head in predictions.heads.items():
        columns[f"{name}.top"] = _lists(head.top[rows].astype(np.int32))
        columns[f"{name}.confidence"] = _lists(head.confidence[rows])
        if head.logits is not None:
            columns[f"{name}.logits"] = _lists(head.logits[rows])
    metadata = {
        "dataset": predictions.dataset,
        "split": predictions.split,
        "fingerprint": predictions.fingerprint,
        "classifier": predictions.classifier,
        "class_names": predictions.class_names,
        "heads": list(predictions.heads),
        "settings": predictions.settings,
    } | ({"escaped": True} if is_escaped else {})
    return pa.table(columns).replace_schema_metadata(as_metadata(metadata))


def _is_no_text(name: str) -> bool:
    """Whether a file's name has bytes that are no UTF-8, which Python keeps as lone surrogates."""
    return not name.isascii() and any("\udc80" <= mark <= "\udcff" for mark in name)


def _lists(matrix: NDArray[Any]) -> pa.Array:
    """[N, k] -> a column of N lists of k."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), matrix.shape[1])


def decisive(table: Predictions) -> str:
    """The head that counts: the fused one, or the only one."""
    return decisive_head(table.heads)
