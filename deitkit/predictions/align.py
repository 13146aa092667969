"""Predictions of several classifiers brought to the same images and class indices, or refused. Compares nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deitkit.data.open import LabelSets
from deitkit.errors import DeitkitError, quoted
from deitkit.predictions.stored import HeadPredictions
from deitkit.predictions.table import Predictions


def align(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Predictions of one split of one data set -> the same, reduced to the images that all have, in one order.

    Class indices become those of the first, matched by name. Of classifiers of one name, later ones get a number.
    """
    if not predictions:
        raise DeitkitError(
            "there is nothing to compare: no classifier was given", remedy="name a run that has predictions"
        )
    first = predictions[0]
    for other in predictions[1:]:
        _refuse_other_data(first, other)
    shared = set(first.ids).intersection(*(other.ids for other in predictions[1:]))
    if not shared:
        raise DeitkitError(
            f"no image of {first.dataset}/{first.split} has a prediction from every classifier",
            problems=[f"{each.classifier}: {len(each.ids)} images" for each in predictions],
            remedy="evaluate all of them on the same images",
        )
    ids = [image_id for image_id in first.ids if image_id in shared]
    return _distinct([_selected(_renumbered(each, first), ids) for each in predictions])


def _refuse_other_data(first: Predictions, other: Predictions) -> None:
    names = [f"{each.classifier}: {each.dataset}/{each.split}" for each in (first, other)]
    if (first.dataset, first.split) != (other.dataset, other.split):
        raise DeitkitError(
            "the predictions are of different data",
            problems=names,
            remedy=f"deitkit evaluate {quoted(other.classifier)} --dataset {quoted(first.dataset)} "
            f"--split {first.split}",
        )
    if first.fingerprint != other.fingerprint:
        raise DeitkitError(
            "the predictions are of data with the same name but other images, labels or classes",
            problems=[
                f"{name}, fingerprint {each.fingerprint[:12]}" for name, each in zip(names, (first, other), strict=True)
            ],
            remedy=f"run `deitkit evaluate` for both on the {first.split} split that is there now",
        )


def _renumbered(predictions: Predictions, first: Predictions) -> Predictions:
    """Class indices as in `first`."""
    if predictions.class_names == first.class_names:
        return predictions
    own, wanted = set(predictions.class_names), set(first.class_names)
    if own != wanted or len(predictions.class_names) != len(first.class_names):
        raise DeitkitError(
            f"{predictions.classifier} and {first.classifier} decide between different classes",
            problems=[
                f"only {each.classifier} has {len(names)}: {', '.join(sorted(names)[:5])}"
                for each, names in ((first, wanted - own), (predictions, own - wanted))
                if names
            ],
            remedy="fine-tune one of them on the other's classes, or leave it out",
        )
    number_of = {name: number for number, name in enumerate(first.class_names)}
    new = np.array([number_of[name] for name in predictions.class_names])
    old = np.argsort(new)  # the inverse: a column of logits goes where its class has gone
    heads = {
        name: replace(head, top=new[head.top], logits=None if head.logits is None else head.logits[:, old])
        for name, head in predictions.heads.items()
    }
    accepted = predictions.accepted
    return replace(
        predictions, class_names=first.class_names, labels=new[predictions.labels], heads=heads,
        accepted=None if accepted is None else LabelSets(new[row] for row in accepted.rows),
    )  # fmt: skip


def _selected(predictions: Predictions, ids: list[str]) -> Predictions:
    """The rows of the given images, in their order."""
    if predictions.ids == ids:
        return predictions
    row_of = {image_id: row for row, image_id in enumerate(predictions.ids)}
    rows = np.array([row_of[image_id] for image_id in ids])
    return replace(
        predictions,
        ids=ids,
        labels=predictions.labels[rows],
        heads={name: _head_rows(head, rows) for name, head in predictions.heads.items()},
        paths=None if predictions.paths is None else [predictions.paths[row] for row in rows],
        accepted=None if predictions.accepted is None else predictions.accepted.take(rows),
        doubted=None if predictions.doubted is None else predictions.doubted[rows],
    )


def _head_rows(head: HeadPredictions, rows: NDArray[np.intp]) -> HeadPredictions:
    return HeadPredictions(
        head.name, head.top[rows], head.confidence[rows], None if head.logits is None else head.logits[rows]
    )


def _distinct(predictions: Sequence[Predictions]) -> list[Predictions]:
    seen: Counter[str] = Counter()
    named = []
    for each in predictions:
        seen[each.classifier] += 1
        number = seen[each.classifier]
        named.append(each if number == 1 else replace(each, classifier=f"{each.classifier} ({number})"))
    return named
