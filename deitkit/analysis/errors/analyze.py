"""Classifiers -> their worst images, their calibration, labels to doubt: what `deitkit analyze errors` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.analysis.report import Report
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.align import align
from deitkit.predictions.find import data_settings, predictions_of
from deitkit.predictions.table import Predictions
from deitkit.predictions.verdict import LABELS_VIEW, command_words
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run

if TYPE_CHECKING:
    from deitkit.analysis.errors.pictures import PictureReader


def analyze(
    *models: str | Path, top: int = 24, bins: int = 15, images: bool = True, dataset: str = "", data: str | Path = "",
    split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """What classifiers get wrong on the first run's data or on the data named; the first one's images are listed.

    `models` are whatever `deitkit.predictions.find.predictions_of` takes; predictions or logits that are missing are
    made and kept. Each list has `top` images, with pictures where `images`; calibration has `bins` bins of confidence.
    Definitions and sources stand in the report.

        report = deitkit.analyze_errors("runs/mine", "runs/twin:class", images=False)

    Raises:
        DeitkitError: a classifier does not exist or cannot answer for these images, or kept predictions are of others.
    """
    from deitkit.analysis.errors.report import ErrorOptions, find_errors

    parsed = [Reference.parse(str(model)) for model in models]
    names = short_names(parsed)
    words = [model.word for model in names]
    tables = align(predictions_of(words, dataset=dataset, data=str(data), split=split, device=device, keep_logits=True))
    heads = {
        name: list(dict.fromkeys(each.head for each in parsed if replace(each, head="") == model))
        for model, name in names.items()
    }
    pictures = reader(list(names), tables[0], dataset=dataset, data=str(data)) if images else None
    report = find_errors(
        tables,
        heads={name: own for name, own in heads.items() if all(own)},
        trained_on=[name for model, name in names.items() if learned_from(model, tables[0])],
        picture=pictures,
        options=ErrorOptions(top=top, bins=bins),
        command=command_words(
            "explore", words[0], dataset=dataset, data=str(data), split=split, more=["--view", LABELS_VIEW]
        ),
    )
    return report if pictures is None else _with_lost(report, pictures)


def learned_from(model: Reference, table: Predictions) -> bool:
    """Whether a run was trained on the very images of this table."""
    is_run = Run.is_run(model.folder)
    return is_run and Run(model.folder).environment().get("data_fingerprint") == table.fingerprint


def reader(models: Sequence[Reference], table: Predictions, *, dataset: str, data: str) -> PictureReader:
    """How the images of the first table are found: by the paths that it notes, or in the data of the first run."""
    from deitkit.analysis.errors.pictures import PictureReader

    run = next((str(model.folder) for model in models if Run.is_run(model.folder)), "")
    own = data_settings(run, dataset=dataset, data=data) if run else Data(dataset=table.dataset, path=data or None)
    return PictureReader(table, own)


def _with_lost(report: Report, pictures: PictureReader) -> Report:
    """The report, and a note of images that could not be shown."""
    if not pictures.lost:
        return report
    note = f"{len(pictures.lost)} pictures could not be shown, the first because: {pictures.lost[0]}"
    numbers = {**report.numbers, "notes": [*report.numbers["notes"], note]}
    return replace(report, numbers=numbers, definitions={**report.definitions, "pictures": note})
