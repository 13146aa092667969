"""What a user may call a model or classifier, in every verb and recipe key that takes one: the one grammar.

    RUN                                                 its model; a short name (`student`) finds runs/*/student
    RUN@best, RUN@last, RUN@STEP, RUN@ema               a checkpoint that the run kept, the average of its weights
    a model folder, timm:NAME, hf-hub:OWNER/NAME[@REV]  a model with its config
    FILE.safetensors, FILE.pth                          weights alone
    FILE.onnx                                           what deitkit exported, or a classifier of any framework: no code
    'FILE.py:FUNCTION?weights=PATH', MODULE:FUNCTION    a Python function that makes a classifier: code that is executed
    FILE.parquet                                        answers alone, of whatever gave them
    ANY:class, ANY:distillation, ANY:fused              one head of it

What exists under the very name that was written wins over the grammar; a head's name is never a Python function's. A
run or a model folder keeps its own predictions. What has no folder keeps its own in the working folder, under its name.
Opens no model and needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deitkit.errors import DeitkitError, one_of
from deitkit.models.file_signs import is_exported_onnx
from deitkit.models.forms import (
    HEADS,
    KINDS,
    PUBLISHED,
    PYTHON,
    ModelKind,
    argument_names,
    foreign_parts,
    published_parts,
)  # fmt: skip
from deitkit.runs.folder import Run
from deitkit.runs.names import (
    EMA,
    can_be_a_path,
    checkpoint_called,
    checkpoints,
    is_there,
    no_such_model,
    run_called,
    runs_called,
    step_of,
)  # fmt: skip

__all__ = [
    "EMA", "PUBLISHED", "Reference", "checkpoints", "find_run", "foreign_parts", "is_foreign", "local_folder",
    "name_of", "short_names", "step_of",
]  # fmt: skip

WHOLE = "name a run, RUN@best, a model folder, a weights file, timm:NAME or hf-hub:OWNER/NAME"


@dataclass(frozen=True)
class Reference:
    """A user's word for a model or classifier: it lies at `place`; a checkpoint of it, a head of it."""

    place: str
    checkpoint: str = ""
    head: str = ""

    @classmethod
    def parse(cls, text: str | Path) -> Reference:
        """Read a word. What it names may be missing (`kind` says so); `find` refuses that.

        Raises:
            DeitkitError: several runs are called so, or the model is here, but not the checkpoint or the head.
        """
        text = str(text)
        found = PYTHON.fullmatch(text)
        if is_there(text) or (found and found["place"].endswith(".py")):
            return cls(_tidy(text))
        front, colon, word = text.rpartition(":")
        if colon and f"{front}:" not in PUBLISHED and (word in HEADS or _is_local(front)):
            return replace(_without_head(front), head=one_of(word, HEADS, what="head"))
        return _without_head(text)

    @classmethod
    def find(cls, text: str | Path) -> Reference:
        """`parse`, and it is there, as far as its form tells.

        Raises:
            DeitkitError: as `parse`, or there is no such model.
        """
        reference = cls.parse(text)
        if reference.kind == "missing":
            raise no_such_model(reference.word)
        return reference

    @property
    def kind(self) -> ModelKind:
        """What it is: by what lies at its place, else by its form."""
        place, suffix = self.place, Path(self.place).suffix
        is_file = is_there(place)
        if is_file and Path(place).is_dir():
            return "run" if Run.is_run(Path(place)) else "folder"
        if not is_file:
            if place.startswith(PUBLISHED):
                return "published"
            if _python_form(place):
                return "python"
        if suffix == ".onnx":
            return "exported" if is_file and is_exported_onnx(Path(place)) else "onnx"
        if suffix == ".parquet":
            return "predictions"
        if suffix == ".py":
            return "python"
        return "weights" if is_file else "missing"

    @property
    def word(self) -> str:
        """How its model is written, without a head."""
        return f"{self.place}@{self.checkpoint}" if self.checkpoint else self.place

    @property
    def home(self) -> str:
        """What says on which data it was trained: its run, or the model itself."""
        return str(self.folder) if Run.is_run(self.folder) else self.place

    @property
    def is_table(self) -> bool:
        """Whether it is a file of predictions, and no model."""
        return self.kind == "predictions"

    @property
    def is_foreign(self) -> bool:
        """Whether it is an ONNX file or a Python function."""
        return self.kind in ("onnx", "python")

    @property
    def folder(self) -> Path:
        """The run's or model's folder; one that has none keeps its own in the working folder, under its name."""
        kind, path = self.kind, Path(self.place)
        if kind in ("exported", "onnx", "python", "published"):
            return local_folder(self.place)
        if kind == "predictions":
            return path.parent.parent if path.parent.name == "predictions" else path.parent
        return path.parent if kind == "weights" else path

    @property
    def model(self) -> str:
        """Where its weights lie but for a step's, which are in the run's checkpoints."""
        return str(Path(self.place) / "model_ema") if self.checkpoint == EMA else self.place

    @property
    def is_step(self) -> bool:
        """Whether it is a checkpoint of a run."""
        return self.checkpoint not in ("", EMA)

    def need_weights(self, *, whole: bool = True) -> None:
        """Raise unless it is a model that can be opened, and not one head of it where the `whole` is used.

        Raises:
            DeitkitError: it is missing, predictions alone, or of another making.
        """
        kind = self.kind
        if kind == "missing":
            raise no_such_model(self.place)
        if kind in ("onnx", "python", "predictions"):
            holds = "holds answers and no model" if kind == "predictions" else "shows nothing of its weights"
            others = (
                "disagreement and errors take" if kind == "predictions" else "disagreement, errors and tradeoff take"
            )
            raise DeitkitError(
                f"{self.place} is {KINDS[kind]}, which {holds}: this needs a model",
                value=self.place,
                remedy=f"{WHOLE}; `deitkit evaluate`, `explore` and `analyze` {others} it as it is",
            )
        if whole and self.head:
            raise DeitkitError(
                f"{self.word}:{self.head} is one head: this needs the whole model",
                value=f"{self.word}:{self.head}",
                remedy=f"leave out :{self.head}",
            )

    def short(self, depth: int) -> str:
        """Its name: the last `depth` parts of the place, and the checkpoint."""
        name = "/".join(self._parts[-depth:])
        return f"{name}@{self.checkpoint.removeprefix('step-').lstrip('0') or '0'}" if self.checkpoint else name

    @property
    def _parts(self) -> tuple[str, ...]:
        kind = self.kind
        if kind in ("exported", "onnx", "python"):
            return foreign_parts(self.place)
        if kind == "published":
            return published_parts(self.place)
        alone = kind == "predictions" and Path(self.place).parent.name != "predictions"
        path = Path(self.place).with_suffix("") if alone else self.folder
        return (path.resolve() if ".." in path.parts else path.absolute()).parts[1:]


def find_run(text: str | Path) -> Run:
    """The run of a word, by its folder or its short name.

    Raises:
        DeitkitError: there is none, or it is something else, or one head or checkpoint of a run.
    """
    found = Reference.find(text)
    if found.kind != "run":
        raise DeitkitError(
            f"{text} is {KINDS[found.kind]}: this needs a run, with its recipe and metrics",
            value=str(text),
            remedy="`deitkit runs list` shows the runs",
        )
    if found.checkpoint or found.head:
        raise DeitkitError(
            f"{text} is a part of a run: this needs all of it", value=str(text), remedy=f"name {found.place}"
        )
    return Run(Path(found.place))


def _is_local(text: str) -> bool:
    """Whether it names a file, a folder, a run by its short name, or a checkpoint of one."""
    return any(is_there(word) or bool(runs_called(word)) for word in {text, text.rpartition("@")[0]} if word)


def _tidy(text: str) -> str:
    """A path without a trailing slash; other words as they are."""
    return str(Path(text)) if is_there(text) else text


def _python_form(text: str) -> bool:
    """Whether it is written as a Python function: FILE.py alone is one without the function's name."""
    found = PYTHON.fullmatch(text)
    if found is None or text.startswith(PUBLISHED):
        return False
    if found["place"].endswith(".py"):
        return True
    return bool(found["function"]) and found["function"] not in HEADS and not _is_local(found["place"])


def _without_head(text: str) -> Reference:
    """A place, perhaps with a checkpoint."""
    front, at, word = text.rpartition("@")
    is_written = not is_there(front) and (text.startswith(PUBLISHED) or _python_form(text))
    if is_there(text) or is_written:
        return Reference(_tidy(text))
    if not can_be_a_path(text):
        raise no_such_model(text)
    if not at:
        return Reference(run_called(text))
    place = Reference(_tidy(run_called(front)))
    if place.kind == "missing":
        raise no_such_model(front)
    if place.kind != "run":
        raise DeitkitError(
            f"{front} is {KINDS[place.kind]}: only a run has checkpoints", value=text, remedy=f"leave out @{word}"
        )
    return replace(place, checkpoint=checkpoint_called(Run(Path(place.place)), word))


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


# Forms


def is_foreign(reference: str) -> bool:
    """Whether a word without a head is an ONNX file or a Python function."""
    return Reference(reference).is_foreign


def local_folder(reference: str) -> Path:
    """A model's own folder, or the one in the working folder that has its name, and its arguments."""
    kind, path = Reference(reference).kind, Path(reference)
    if kind == "published":
        return Path(published_parts(reference)[-1])
    if kind == "exported":
        return own_folder(path)
    if kind not in ("onnx", "python"):
        return path
    found = PYTHON.fullmatch(reference)
    return Path("-".join((foreign_parts(reference)[-1], *(argument_names(found) if found else ()))))


def own_folder(file: Path) -> Path:
    """Where a file of a model keeps its own: `mine.onnx` in mine_onnx of the working folder, because mine may be the
    run that it was exported from."""
    return Path(f"{file.stem}_{file.suffix.removeprefix('.')}")
