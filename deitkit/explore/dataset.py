"""Predictions as a FiftyOne dataset, to look at the images behind a number: built or brought up to date.

No model runs. Samples are matched by image id, so that building twice changes nothing; what a user added (tags,
fields, views, an arrangement of the App) stays. Classifiers that an earlier build showed stay, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.errors import DeitkitError
from deitkit.explore.app import connect
from deitkit.explore.appearance import arrange
from deitkit.explore.evaluation import evaluate
from deitkit.explore.fields import declare
from deitkit.explore.labels import LabelPart, write
from deitkit.explore.record import GROUND_TRUTH, KEY, MARK, OTHER_NAME, Record, RecordedClassifier, identifier
from deitkit.explore.views import save_views
from deitkit.predictions.align import align
from deitkit.predictions.table import Predictions

__all__ = ["GROUND_TRUTH", "KEY", "MARK", "build_dataset"]

Progress = Callable[[str, int, int], None]  # (what, done, in all)
ImageOf = Callable[[int], Path]


def build_dataset(
    predictions: Sequence[Predictions], name: str, *, image_of: ImageOf, teacher: str = "",
    places: Mapping[str, str] | None = None, command: str = "", overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Any:  # fmt: skip
    """Build or update the persistent fiftyone dataset `name` from predictions of the same images.

    The first predictions are the ones looked at; the others are compared with them. `image_of` gives the image file
    of a row of the first. `teacher` names the classifier that taught the first: its views then speak of student and
    teacher. `places` says which run or file each classifier is, and `command` what brings the dataset up to date.
    Logits are stored where the predictions hold them, those of a fused decision as logarithms of its probabilities.
    `overwrite` deletes a dataset of that name before.

    Raises:
        DeitkitError: other data or classes, no image in common, missing images, a dataset or field that is not ours.
    """
    predictions = _complete(predictions)
    aligned = align(predictions)
    files = _files(predictions[0], aligned[0], image_of)
    _refuse_missing(files, len(aligned[0].ids), progress)
    fiftyone = connect()
    # What is overwritten is deleted when what takes its place is there.
    replaces = overwrite and fiftyone.dataset_exists(name)
    dataset = _new(f"{name}-unfinished", aligned[0]) if replaces else _open(name, aligned[0])
    record = Record.load(dataset)
    named = _enter(dataset, record, aligned=aligned, teacher=teacher, places=places or {})
    record.command = command or record.command
    declare(dataset, record, accepted=aligned[0].accepted is not None)
    changed = _write(dataset, record, named=named, predictions=predictions, files=files, progress=progress)
    evaluate(dataset, record, changed=changed, advance=partial(progress, "evaluating answers"))
    record.unfinished = False
    save_views(dataset, record)
    arrange(dataset, record)
    if replaces:
        fiftyone.delete_dataset(name)
        dataset.name = name
    return dataset


def _complete(predictions: Sequence[Predictions]) -> Sequence[Predictions]:
    """Where heads have logits, the fused one, too."""
    if all(head.logits is None for each in predictions for head in each.heads.values()):
        return predictions
    from deitkit.predictions.fusion import with_fused_logits  # loads torch

    return [with_fused_logits(each) for each in predictions]


# Images


def _files(first: Predictions, aligned: Predictions, image_of: ImageOf) -> ImageOf:
    """The file of each of the images that all have."""
    if first.ids == aligned.ids:
        return image_of
    row_of = {image_id: row for row, image_id in enumerate(first.ids)}
    return lambda row: image_of(row_of[aligned.ids[row]])


def _refuse_missing(files: ImageOf, images: int, progress: Progress) -> None:
    missing, first = 0, None
    for row in range(images):
        file = files(row)
        if not file.is_file():
            missing, first = missing + 1, first or file.absolute()
        if row % 1_000 == 0 or row == images - 1:
            progress("finding the images", row + 1, images)
    if missing:
        raise DeitkitError(
            f"{missing:,} of {images:,} images are not where they were, the first: {first}",
            value=first,
            remedy="put the images back, or name their folder with --data",
        )


# The dataset


def _open(name: str, predictions: Predictions) -> Any:
    """The dataset of that name if it is ours and of the same data, or a new one."""
    import fiftyone

    if not fiftyone.dataset_exists(name):
        return _new(name, predictions)
    dataset = fiftyone.load_dataset(name)
    record = Record.load(dataset)
    if record.fingerprint != predictions.fingerprint:
        raise DeitkitError(
            f"the fiftyone dataset {name!r} shows other images or labels ({record.images}) than these predictions"
            f" ({predictions.dataset}/{predictions.split})",
            value=name,
            remedy=OTHER_NAME,
        )
    return dataset


def _new(name: str, predictions: Predictions) -> Any:
    """An empty dataset of ours, in the place of one of ours that was never finished."""
    import fiftyone

    if fiftyone.dataset_exists(name):
        Record.load(fiftyone.load_dataset(name))
        fiftyone.delete_dataset(name)
    try:
        dataset = fiftyone.Dataset(name, persistent=True)
    except ValueError as error:
        raise DeitkitError(f"fiftyone refuses the name {name!r}: {error}", value=name, remedy="--name NAME") from error
    # Noted before anything else, so that an interrupted build can be continued.
    Record(f"{predictions.dataset}/{predictions.split}", predictions.fingerprint).save(dataset)
    dataset.default_classes = list(predictions.class_names)
    dataset.save()
    return dataset


def _names(record: Record, aligned: Sequence[Predictions], places: Mapping[str, str]) -> dict[str, str]:
    """Each classifier's name in the dataset: a run that it shows already keeps the one that it has there.

    Raises:
        DeitkitError: the dataset shows another run of that name.
    """
    name_at = {each.place: each.name for each in record.classifiers if each.place}
    names = {}
    for each in aligned:
        place = places.get(each.classifier, "")
        name = name_at.get(place, each.classifier) if place else each.classifier
        known = next((each for each in record.classifiers if each.name == name), None)
        if known and place and known.place not in ("", place) and _is_there(known.place):
            raise DeitkitError(
                f"the fiftyone dataset shows another classifier called {name!r}",
                value=place,
                problems=[f"there: {known.place}", f"now: {place}"],
                remedy=OTHER_NAME,
            )
        names[each.classifier] = name
    return names


def _is_there(place: str) -> bool:
    return Path(place).exists() or Path(place.rpartition("@")[0] or place).exists()


def _enter(
    dataset: Any, record: Record, *, aligned: Sequence[Predictions], teacher: str, places: Mapping[str, str]
) -> list[Predictions]:
    """Note these classifiers, beside those of earlier builds whose fields are still there; the first is the subject.

    Gives the predictions under the names that the dataset has for them.
    """
    names, schema = _names(record, aligned, places), dataset.get_field_schema()
    named = [replace(each, classifier=names[each.classifier]) for each in aligned]
    place_of = {names[own]: place for own, place in places.items() if own in names}
    found = {
        each.name: replace(each, heads=tuple((head, own) for head, own in each.heads if own in schema))
        for each in record.classifiers
    }
    for each in named:
        old = found.get(each.classifier, RecordedClassifier(each.classifier, "", ()))
        heads = {**old.fields, **{head: _field(each, head) for head in each.heads}}
        found[each.classifier] = RecordedClassifier(old.name, place_of.get(old.name, old.place), tuple(heads.items()))
    record.classifiers = tuple(each for each in found.values() if each.heads)
    if record.subject != named[0].classifier:
        record.subject, record.teacher = named[0].classifier, ""
    record.teacher = names.get(teacher, record.teacher)
    record.compare()
    return named


def _field(predictions: Predictions, head: str) -> str:
    """A head's field; the head is named where the model has several, even if one alone was asked for."""
    is_distilled = "distillation" in predictions.settings.get("heads", predictions.heads)
    return identifier(f"{predictions.classifier}_{head}" if is_distilled else predictions.classifier)


# Samples


def _write(
    dataset: Any, record: Record, *, named: Sequence[Predictions], predictions: Sequence[Predictions], files: ImageOf,
    progress: Progress,
) -> set[str]:  # fmt: skip
    """Bring every sample up to date; the fields of which something changed."""
    fields = {each.name: each.fields for each in record.classifiers}
    whole = LabelPart.of(named, fields, file_of=files)
    changed = {GROUND_TRUTH} if record.unfinished else set()
    record.logits = sorted({*record.logits, *(each.field for each in whole.answers if each.head.logits is not None)})
    record.unfinished = True
    record.save(dataset)
    written = write(dataset, whole, record=record, advance=partial(progress, "writing labels"))
    changed |= written.changed
    record.doubted = sorted({*record.doubted} - {*whole.said} | {each.field for each in whole.answers if each.doubts})
    corrected = [list(pair) for pair in sorted(written.corrected)]
    if corrected != record.corrected:
        changed.add(GROUND_TRUTH)
        record.corrected = corrected
    if len(dataset) > len(whole.ids):  # images of earlier builds, that not all of these classifiers have seen
        for own, each in zip(predictions, named, strict=True):
            rest = _others(replace(own, classifier=each.classifier), whole.ids)
            if rest is not None:
                changed |= write(dataset, LabelPart.of([rest], fields), record=record).changed
    return changed


def _others(predictions: Predictions, ids: Sequence[str]) -> Predictions | None:
    """The predictions of other images than these."""
    others = sorted(set(predictions.ids).difference(ids))
    if not others:
        return None
    bare = replace(predictions, ids=others, labels=np.zeros(len(others), np.int64), heads={}, paths=None, accepted=None)
    return align([predictions, bare])[0]
