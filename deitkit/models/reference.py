"""What a user may call a classifier, what that is by its form, and where its predictions are kept.

    RUN, a model folder, timm:NAME, hf-hub:OWNER/NAME   every head of the model
    RUN@best, RUN@step-000000123 (or RUN@123)           a checkpoint that the run kept
    RUN@ema                                             the moving average of its weights
    NAME.onnx, 'FILE.py:FUNCTION?weights=PATH'          a classifier of another making, as teachers may be
    NAME.parquet                                        predictions alone, of whatever made them
    ANY:class, ANY:distillation, ANY:fused              one head alone

A run or a model folder keeps its own predictions. A published model and a classifier of another making have no folder:
theirs lie in the working folder, under their names. Opens no model and needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.errors import DeitkitError, did_you_mean, one_of

if TYPE_CHECKING:
    from deitkit.runs.folder import Run

HEADS = ("class", "distillation", "fused")
EMA = "ema"
PUBLISHED = ("timm:", "hf-hub:", "hf_hub:", "hub:")
FILE = re.compile(r"(?P<place>[^?]+\.py)(?::(?P<function>\w+))?(?:\?(?P<arguments>.*))?")
MODULE = re.compile(r"(?P<place>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)(?:\?(?P<arguments>.*))?")


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
        from deitkit.runs.folder import Run

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
        from deitkit.runs.folder import Run

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
    from deitkit.runs.folder import Run

    place = Reference.parse(run).folder
    teacher = Run(place).recipe().teacher if Run.is_run(place) else None
    if teacher is None or len(teacher.models) != 1:
        return ""
    model = teacher.models[0]
    if is_foreign(model):
        return model if (local_folder(model) / "predictions").is_dir() else ""
    return model if model.startswith(PUBLISHED) or Path(model).exists() else ""


# Forms


def is_foreign(reference: str) -> bool:
    """Whether it is an ONNX file or a Python function, whose code is executed when it is opened.

    `RUN:HEAD` looks like a module's function; a folder of that name tells them apart.
    """
    if reference.startswith(PUBLISHED):
        return False
    if reference.endswith(".onnx") or FILE.fullmatch(reference):
        return True
    module = MODULE.fullmatch(reference)
    return module is not None and not Path(module["place"]).exists()


def foreign_parts(reference: str) -> tuple[str, ...]:
    """The place of a classifier of another making, its arguments and, last, its name: the file's or the function's."""
    found = FILE.fullmatch(reference) or MODULE.fullmatch(reference)
    if found is None:
        return Path(reference).absolute().with_suffix("").parts[1:]
    place = Path(found["place"]).with_suffix("")
    return (*place.parts, *_arguments(found), found["function"] or place.name)


def published_parts(reference: str) -> tuple[str, ...]:
    """The owner of a published model, where there is one, and its name; the revision is left out."""
    return tuple(reference.partition(":")[2].partition("@")[0].split("/"))


def local_folder(reference: str) -> Path:
    """A model's own folder, or the one in the working folder that has its name, and its arguments."""
    if reference.startswith(PUBLISHED):
        return Path(published_parts(reference)[-1])
    if not is_foreign(reference):
        return Path(reference)
    found = FILE.fullmatch(reference) or MODULE.fullmatch(reference)
    return Path("-".join((foreign_parts(reference)[-1], *(_arguments(found) if found else ()))))


def _arguments(found: re.Match[str]) -> list[str]:
    """The values of a function's arguments; of paths only the name."""
    values = (argument.partition("=")[2] for argument in (found["arguments"] or "").split("&"))
    return [Path(value).stem for value in values if value]
