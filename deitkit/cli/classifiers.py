"""What a user may call a classifier, and its predictions: found where they were kept, or made and kept.

    RUN, a model folder, timm:NAME, hf-hub:OWNER/NAME   every head of the model
    RUN@best, RUN@step-000000123 (or RUN@123)           a checkpoint that the run kept
    RUN@ema                                             the moving average of its weights
    NAME.onnx, 'FILE.py:FUNCTION?weights=PATH'          a classifier of another making, as teachers may be
    NAME.parquet                                        predictions alone, of whatever made them
    ANY:class, ANY:distillation, ANY:fused              one head alone

Loads torch only where a model has to be run, and nothing heavy before a word is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deitkit.cli import render
from deitkit.cli.foreign import as_model, open_foreign, spec_of
from deitkit.errors import DeitkitError, did_you_mean, one_of
from deitkit.places import PUBLISHED, foreign_parts, is_foreign, local_folder, published_parts

if TYPE_CHECKING:
    from deitkit.data.sources import Source
    from deitkit.predict import ClassMap
    from deitkit.predictions import Predictions
    from deitkit.run import Run
    from deitkit.schema import Data, Recipe
    from deitkit.weights import LoadedModel

HEADS = ("class", "distillation", "fused")
EMA = "ema"


@dataclass(frozen=True)
class Reference:
    """A user's word for a classifier: a model or a file of predictions at `place`, a checkpoint of it, a head of it."""

    place: str
    checkpoint: str = ""
    head: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a word.

        Raises:
            DeitkitError: the model is here, but not the checkpoint or the head.
        """
        from deitkit.run import Run

        if is_foreign(text):
            return cls(text)
        place, head, checkpoint = text, "", ""
        front, colon, word = text.rpartition(":")
        is_whole = Path(text).exists() or f"{front}:" in PUBLISHED
        if colon and not is_whole and (word in HEADS or Path(front.partition("@")[0]).exists()):
            place, head = front, one_of(word, HEADS, what="head")
        front, at, word = place.rpartition("@")
        if at and not place.startswith(PUBLISHED) and not Path(place).exists():
            place, checkpoint = front, _checkpoint(Run.open(front), word)
        return cls(place, checkpoint, head)

    @property
    def word(self) -> str:
        """How its model is written, without a head."""
        return f"{self.place}@{self.checkpoint}" if self.checkpoint else self.place

    @property
    def home(self) -> str:
        """What says on which data it was trained: its run, or the model itself."""
        from deitkit.run import Run

        return str(self.folder) if Run.is_run(self.folder) else self.place

    @property
    def is_table(self) -> bool:
        """Whether it is a file of predictions, and no model."""
        return self.place.endswith(".parquet")

    @property
    def is_foreign(self) -> bool:
        """Whether it is an ONNX file or a Python function, whose code is executed when it is asked."""
        return is_foreign(self.place)

    @property
    def folder(self) -> Path:
        """The run's or model's folder; one that has none keeps its own in the working folder, under its name."""
        if self.is_foreign or self.place.startswith(PUBLISHED):
            return local_folder(self.place)
        path = Path(self.place)
        if self.is_table:
            return path.parent.parent if path.parent.name == "predictions" else path.parent
        return path.parent if path.is_file() else path

    @property
    def model(self) -> str:
        """What `load_model` reads; not for a step's checkpoint."""
        return str(Path(self.place) / "model_ema") if self.checkpoint == EMA else self.place

    def short(self, depth: int) -> str:
        """Its name: the last `depth` parts of the place, and the checkpoint."""
        name = "/".join(self._parts[-depth:])
        return f"{name}@{self.checkpoint.removeprefix('step-').lstrip('0') or '0'}" if self.checkpoint else name

    @property
    def _parts(self) -> tuple[str, ...]:
        if self.is_foreign:
            return foreign_parts(self.place)
        if self.place.startswith(PUBLISHED):
            return published_parts(self.place)
        alone = self.is_table and Path(self.place).parent.name != "predictions"
        path = Path(self.place).with_suffix("") if alone else self.folder
        return (path.resolve() if ".." in path.parts else path.absolute()).parts[1:]


def _checkpoint(run: Run, word: str) -> str:
    """The name of a run's checkpoint, `best` or `ema`."""
    name = f"step-{int(word):09d}" if word.isdecimal() else word
    kept = checkpoints(run)
    if name != EMA and name not in kept:
        raise DeitkitError(
            f"{run.path} keeps no checkpoint {word!r}.{did_you_mean(name, kept)}",
            value=word,
            choices=[*kept, EMA] if (run.path / "model_ema").is_dir() else kept,
            remedy="checkpoint.keep in the recipe says how many recent ones a run keeps",
        )
    if name == EMA and not (run.path / "model_ema").is_dir():
        raise DeitkitError(
            f"{run.path} has no moving average of its weights",
            value=f"{run.path}@{EMA}",
            remedy="train with --set ema.decay=0.9999" + ("" if run.result() else ", and finish the run"),
        )
    return name


def checkpoints(run: Run) -> list[str]:
    """The names of the checkpoints that a run kept, `best` last."""
    if not run.checkpoints.is_dir():
        return []
    names = sorted(path.parent.name for path in run.checkpoints.glob("*/manifest.json"))
    steps = [name for name in names if name.startswith("step-")]
    return [*steps, *(["best"] if "best" in names else [])]


def step_of(run: Run, checkpoint: str) -> int:
    """The optimiser step after which it was saved."""
    return int(json.loads((run.checkpoints / checkpoint / "manifest.json").read_text())["step"])


def short_names(references: Sequence[Reference]) -> dict[Reference, str]:
    """Each model's name: the end of its place, as long as needed to tell it from the others. Heads are left out."""
    models = list(dict.fromkeys(replace(reference, head="") for reference in references))
    names: dict[Reference, str] = {}
    for model in models:
        others = [other for other in models if other != model]
        depth = 1
        while depth < len(model._parts) and model.short(depth) in {other.short(depth) for other in others}:
            depth += 1
        names[model] = model.short(depth)
    return names


def name_of(text: str, references: Sequence[str]) -> str:
    """How an analysis of these references calls the classifier that a user wrote, by its reference or by its name."""
    names = short_names([Reference.parse(other) for other in references])
    front, colon, head = text.rpartition(":")
    if colon and head in HEADS and front in names.values():
        return f"{front} {head}"
    if text in names.values():
        return text
    reference = Reference.parse(text)
    name = names.get(replace(reference, head=""))
    return text if name is None else f"{name} {reference.head}".rstrip()


def teacher_of(run: str) -> str:
    """The one teacher of a run's recipe, where it is published or still on this disk; else nothing.

    An ONNX file or a Python function only where its predictions are kept: no code is executed that nobody asked for.
    """
    from deitkit.run import Run

    place = Reference.parse(run).folder
    teacher = Run(place).recipe().teacher if Run.is_run(place) else None
    if teacher is None or len(teacher.models) != 1:
        return ""
    model = teacher.models[0]
    if is_foreign(model):
        return model if (local_folder(model) / "predictions").is_dir() else ""
    return model if model.startswith(PUBLISHED) or Path(model).exists() else ""


def load_reference(text: str) -> LoadedModel:
    """The model of a word, that of a run's checkpoint or moving average, too.

    Raises:
        DeitkitError: there is none, or it is of another making or predictions alone.
    """
    from deitkit.checkpoint import load_checkpointed
    from deitkit.run import Run
    from deitkit.weights import load_model

    reference = Reference.parse(text)
    if reference.is_table or reference.is_foreign:
        raise DeitkitError(
            f"{text} is no run, model folder or published model",
            value=text,
            remedy="`deitkit analyze` disagreement, errors and tradeoff take ONNX files and Python functions",
        )
    is_step = reference.checkpoint not in ("", EMA)
    return load_checkpointed(Run(reference.folder), reference.checkpoint) if is_step else load_model(reference.model)


# Predictions


def predictions_of(
    references: list[str],
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
    """
    from deitkit.run import Run

    parsed = [Reference.parse(text) for text in references]
    names = short_names(parsed)
    models = [reference for reference in names if not reference.is_table]
    first = [Reference.parse(like)] if like and models else []
    settings = _data_of([*first, *models], dataset=dataset, data=data) if models else None
    tables = []
    for model, name in names.items():
        table = _find(model, settings, split, data=data, keep_logits=keep_logits)
        if table is None and settings is not None:
            render.say(f"{name} has no predictions on {settings.dataset} {split} yet: making them")
            recipes = [Run(each.folder).recipe() for each in (*first, *models) if Run.is_run(each.folder)]
            table = _make(model, settings, split, recipes, data=data, device=device, keep_logits=keep_logits)
        if table is not None:
            heads = [reference.head for reference in parsed if replace(reference, head="") == model]
            tables.append(_with_heads(replace(table, classifier=name), heads))
    return tables


def _data_of(references: Sequence[Reference], *, dataset: str, data: str) -> Data:
    """The data of the first that is a run, because a published model has none of its own; else of the first."""
    from deitkit.cli.use import data_settings
    from deitkit.run import Run
    from deitkit.schema import Data

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


def _path(reference: Reference, settings: Data, split: str, *, data: str) -> Path:
    """Where its predictions are kept."""
    from deitkit.predictions import predictions_path

    path = predictions_path(reference.model, settings.dataset, split, data=data)
    step = reference.checkpoint if reference.checkpoint != EMA else ""
    return path.with_name(f"{path.stem}@{step}.parquet") if step else path


def _find(
    reference: Reference, settings: Data | None, split: str, *, data: str, keep_logits: bool
) -> Predictions | None:
    """Predictions that are there and good: not of an earlier best, not of other images, with logits where asked for."""
    from deitkit.predictions import Predictions

    if settings is None or reference.is_table:
        return Predictions.load(Path(reference.place), logits=keep_logits)
    path = _path(reference, settings, split, data=data)
    if not path.is_file():
        return None
    table = Predictions.load(path, logits=keep_logits)
    if keep_logits and table.head("class").logits is None:
        return None
    if any(table.settings.get(key) != value for key, value in _state(reference).items()):
        return None
    if data or reference.is_foreign:
        from deitkit.data.sources import open_source

        return table if table.fingerprint == open_source(settings, split).fingerprint else None
    return table


def _state(reference: Reference) -> dict[str, Any]:
    """What its predictions are of that changes under its name: a checkpoint's step, the content of files."""
    from deitkit.run import Run

    if reference.is_foreign:
        from deitkit.tape.header import weights_digest

        return {"weights": weights_digest(reference.place)}
    if reference.checkpoint not in ("", EMA):
        return {"step": step_of(Run(reference.folder), reference.checkpoint)}
    return {}


def _make(
    reference: Reference, settings: Data, split: str, recipes: Sequence[Recipe], *, data: str, device: str,
    keep_logits: bool,
) -> Predictions:  # fmt: skip
    """Run the model over the split, and keep what it says."""
    from deitkit import predict as prediction
    from deitkit.data.augment import Reading
    from deitkit.distributed import pick_device

    picked = pick_device(device)
    model, source, classes = _open(reference, settings, split, recipes)
    table = prediction.predict(
        model.student.to(picked), model.info, source, name=reference.short(1), device=picked,
        keep_logits=keep_logits, reading=Reading.of(settings), classes=classes,
    )  # fmt: skip
    table = replace(table, settings=table.settings | _state(reference))
    table.save(_path(reference, settings, split, data=data))
    return table


def _open(
    reference: Reference, settings: Data, split: str, recipes: Sequence[Recipe]
) -> tuple[LoadedModel, Source, ClassMap | None]:
    """The model, the split, and how its classes are matched; the recipes are of the runs that are named beside it."""
    from deitkit.cli.use import open_for
    from deitkit.data.sources import open_source

    if reference.is_foreign:
        source = open_source(settings, split)
        spec = spec_of(reference.place, [recipe.teacher for recipe in recipes if recipe.teacher is not None])
        size = next((recipe.model.size for recipe in recipes), None)
        model, classes = as_model(open_foreign(reference.place, spec, size=size), spec, settings, source)
        return model, source, classes
    model = load_reference(reference.word)
    return model, *open_for(model, settings, split)


def _with_heads(table: Predictions, heads: Sequence[str]) -> Predictions:
    """Only these heads, where each reference to the model named one; `settings` still says which there are."""
    if not all(heads):
        return table
    chosen = {head: table.head(head) for head in dict.fromkeys(heads)}
    return replace(table, heads=chosen, settings=table.settings | {"heads": list(table.heads)})
