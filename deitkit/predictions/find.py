"""Classifiers' predictions: found where they were kept, or made and kept. Loads torch only where a model has to run.

`predictions_of` is what every analysis asks; `kept_files` and `is_current` are its parts for whoever only looks, as the
report does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deitkit.errors import DeitkitError
from deitkit.models.forms import decisive_head
from deitkit.models.reference import EMA, Reference, short_names, step_of
from deitkit.predictions.foreign import as_model, open_foreign, spec_of

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.models.load import LoadedModel
    from deitkit.predictions.predict import ClassMap
    from deitkit.predictions.table import Predictions
    from deitkit.recipe.schema import Data, Recipe

logger = logging.getLogger(__name__)


def predictions_of(
    references: Sequence[str],
    *,
    dataset: str = "",
    data: str = "",
    split: str = "val",
    device: str = "auto",
    keep_logits: bool = False,
    like: str = "",
) -> list[Predictions]:
    """Each model's predictions on the data of the run `like`, else of the first run, or the data named.

    They are found, or made and kept. A model that is named twice is there once; heads named one by one are there alone.

        student, twin = predictions_of(["runs/student@best", "runs/twin:class"], data="photos")

    Raises:
        DeitkitError: a model does not exist or does not know all classes of the data; nothing says on which images.
    """
    from deitkit.runs.folder import Run

    parsed = [Reference.parse(text) for text in references]
    names = short_names(parsed)
    models = [reference for reference in names if not reference.is_table]
    first = [Reference.parse(like)] if like and models else []
    settings = data_of([*first, *models], dataset=dataset, data=data) if models else None
    runs = [Run(each.folder) for each in (*first, *models) if Run.is_run(each.folder)]
    recipes = [run.recipe() for run in runs] if any(model.is_foreign for model in models) else []
    tables = []
    for model, name in names.items():
        table = _find(model, settings, split, recipes, data=data, keep_logits=keep_logits)
        if table is None and settings is not None:
            logger.info(f"{name} has no predictions on {settings.dataset} {split} yet: making them")
            table = _make(model, settings, split, recipes, data=data, device=device, keep_logits=keep_logits)
        if table is not None:
            heads = [reference.head for reference in parsed if replace(reference, head="") == model]
            tables.append(only_heads(replace(table, classifier=name), heads))
    return tables


def only_heads(table: Predictions, heads: Sequence[str]) -> Predictions:
    """Only these heads, where none of them is ""; `settings` still says which there are.

    Doubts of labels stay while the head that has them does.

    Raises:
        DeitkitError: the table lacks one of them.
    """
    if not all(heads):
        return table
    chosen = {head: table.head(head) for head in dict.fromkeys(heads)}
    doubted = table.doubted if decisive_head(chosen) == decisive_head(table.heads) else None
    return replace(table, heads=chosen, settings=table.settings | {"heads": list(table.heads)}, doubted=doubted)


# Which images


def data_of(references: Sequence[Reference], *, dataset: str, data: str) -> Data:
    """The data of the first that is a run, because a published model has none of its own; else of the first.

    Raises:
        DeitkitError: neither a reference nor `dataset` or `data` says it.
    """
    from deitkit.recipe.schema import Data
    from deitkit.runs.folder import Run

    run = next((reference.folder for reference in references if Run.is_run(reference.folder)), None)
    if run and not dataset and not data:
        return Run(run).recipe().data  # at once, without torch
    model = next((reference.place for reference in references if not reference.is_foreign), None)
    if model is None and not dataset and not data:
        raise DeitkitError(
            "none of these says on which images",
            value=references[0].place,
            remedy="--dataset NAME, or --data FOLDER, or name a run beside it",
        )
    if run is None and model is None:
        return Data(dataset=dataset or "folder", path=data or None)
    return data_settings(str(run or model), dataset=dataset, data=data)


def data_settings(reference: str, *, dataset: str, data: str) -> Data:
    """The data of a run's recipe, or of a model folder's config, or the data named."""
    from deitkit.recipe.schema import Data
    from deitkit.runs.folder import Run

    if Run.is_run(Path(reference)):
        settings = Run(Path(reference)).recipe().data
    else:
        from deitkit.models.weights import describe

        info = describe(reference).info
        settings = Data() if info is None else Data(dataset=info.dataset)
    if data:
        own = "folder" if settings.dataset == "digits" else settings.dataset
        return settings.model_copy(update={"path": data, "dataset": dataset or own})
    return settings.model_copy(update={"dataset": dataset, "path": None}) if dataset else settings


# There, and good


def kept_path(reference: Reference, dataset: str, split: str, *, data: str = "") -> Path:
    """Where a model's predictions on a split are kept: one file for each checkpoint, and for each folder of `data`."""
    from deitkit.predictions.table import predictions_path

    path = predictions_path(reference.model, dataset, split, data=data)
    step = reference.checkpoint if reference.checkpoint != EMA else ""
    return path.with_name(f"{path.stem}@{step}.parquet") if step else path


def kept_files(reference: Reference, *, of: str = "") -> list[Path]:
    """The files of predictions that a model keeps, only those whose names begin with `of`, such as "digits-val"."""
    example = kept_path(reference, "DATASET", "SPLIT")
    checkpoint = example.stem.partition("@")[2]
    found = sorted(example.parent.glob(f"{of}*.parquet"))
    return [path for path in found if path.stem.partition("@")[2] == checkpoint]


def is_current(table: Predictions, reference: Reference, settings: Data, beside: Sequence[Recipe] = ()) -> bool:
    """Whether kept predictions are of the model as it is now, shown the images as it would be now.

    `settings` say how the images are read; `beside` are the recipes of the runs that it stands beside.
    """
    return all(table.settings.get(key) == value for key, value in state_of(reference, settings, beside).items())


def state_of(reference: Reference, settings: Data, beside: Sequence[Recipe] = ()) -> dict[str, Any]:
    """What predictions are of that changes under a model's name: a checkpoint's step; the content of files, and how a
    classifier of another making is shown images, which follows the run beside it."""
    from deitkit.runs.folder import Run

    if reference.is_foreign:
        from deitkit.tape.header import weights_digest

        size = next((list(recipe.model.size) for recipe in beside), None)
        shown = [size, settings.crop_ratio, settings.interpolation, settings.exif_orientation]
        return {"weights": weights_digest(reference.place), "shown": shown}
    if reference.kind in ("exported", "weights"):
        from deitkit.tape.header import weights_digest

        return {"weights": weights_digest(reference.place)}
    if reference.checkpoint not in ("", EMA):
        return {"step": step_of(Run(reference.folder), reference.checkpoint)}
    return {}


def _find(
    reference: Reference, settings: Data | None, split: str, recipes: Sequence[Recipe], *, data: str, keep_logits: bool
) -> Predictions | None:
    """Predictions that are there and good: not of an earlier best, not of other images, with logits where asked for."""
    from deitkit.predictions.table import Predictions

    if settings is None or reference.is_table:
        return Predictions.load(Path(reference.place), logits=keep_logits)
    path = kept_path(reference, settings.dataset, split, data=data)
    if not path.is_file():
        return None
    table = Predictions.load(path, logits=keep_logits)
    if keep_logits and table.head("class").logits is None:  # kept by a command that had no use for them
        return None
    if not is_current(table, reference, settings, recipes):
        return None
    if data or reference.is_foreign:
        from deitkit.data.open import open_source

        return table if table.fingerprint == open_source(settings, split).fingerprint else None
    return table


# Made and kept


def _make(
    reference: Reference, settings: Data, split: str, recipes: Sequence[Recipe], *, data: str, device: str,
    keep_logits: bool,
) -> Predictions:  # fmt: skip
    """Run the model over the split, and keep what it says."""
    from deitkit.data.views.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_classifier
    from deitkit.predictions.doubts import predict_kept

    picked = pick_device(device)
    if reference.is_foreign:
        model, source, classes = open_other(reference, settings, split, recipes)
    else:
        model = load_classifier(reference.word)
        source, classes = open_for(model, settings, split)
    table = predict_kept(
        model.student.to(picked), model.info, source, name=reference.short(1), device=picked,
        keep_logits=keep_logits, reading=Reading.of(settings), classes=classes,
    )  # fmt: skip
    table = replace(table, settings=table.settings | state_of(reference, settings, recipes))
    table.save(kept_path(reference, settings.dataset, split, data=data))
    return table


def open_for(model: LoadedModel, settings: Data, split: str) -> tuple[Source, ClassMap | None]:
    """A split, and how the model's classes are matched to its own, by name.

    Raises:
        DeitkitError: the data has classes that the model does not know.
    """
    from deitkit.data.open import open_source
    from deitkit.models.class_names import imagenet_names, numbered
    from deitkit.predictions.predict import map_classes

    source, names = open_source(settings, split), model.info.class_names
    if names == numbered(len(names)) and source.class_names == imagenet_names():
        logger.info(f"{model.origin}: {len(names):,} unnamed classes are taken as ImageNet's")
        names = imagenet_names()
    return source, map_classes(names, source.class_names, origin=model.origin)


def open_other(
    reference: Reference, settings: Data, split: str, beside: Sequence[Recipe] = ()
) -> tuple[LoadedModel, Source, ClassMap | None]:
    """An ONNX file or a Python function as a model, a split, and how its classes are matched.

    The recipes of the runs `beside` it say what it was taken for as their teacher, and at which size it is shown.

    Raises:
        DeitkitError: it cannot be opened, or does not say at which size it runs or which classes it knows.
    """
    from deitkit.data.open import open_source

    source = open_source(settings, split)
    spec = spec_of(reference.place, [recipe.teacher for recipe in beside if recipe.teacher is not None])
    size = next((recipe.model.size for recipe in beside), None)
    model, classes = as_model(open_foreign(reference.place, spec, size=size), spec, settings, source)
    return model, source, classes
