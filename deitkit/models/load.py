"""Models with their weights: loading any reference, and upscaling. Trains nothing and moves no tensor to another model.

Beside it: `folder` (writing), `reference` (what a reference is), `weights` and `weight_files` (reading), `start`
(starting from earlier weights).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from deitkit.errors import DeitkitError, quoted
from deitkit.models.class_names import numbered
from deitkit.models.description import Known
from deitkit.models.exported import ExportedStudent, read_exported
from deitkit.models.folder import ModelInfo, save_model
from deitkit.models.positions import POSITION_MODES, mean_norm, resample_pos_embed
from deitkit.models.reference import Reference
from deitkit.models.shapes import BESIDE
from deitkit.models.student import Student, rebuild_student
from deitkit.models.weights import describe, open_reference, refuse_larger
from deitkit.recipe.schema import Data, PositionMode

__all__ = [
    "LoadedModel", "ModelInfo", "Resampling", "grid_of", "load_classifier", "load_info", "load_model",
    "refuse_headless", "save_model", "upscale",
]  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A student with its weights and what travels with it; `origin` is where it came from, and `is_named` says whether
    its classes have names, or only numbers."""

    student: Student
    info: ModelInfo
    origin: str
    is_named: bool = True


@dataclass(frozen=True)
class Resampling:
    """Grids (rows, columns) and the patches' mean position norm before and after, for each mode."""

    grid: tuple[int, int]
    new_grid: tuple[int, int]
    norm_before: float
    norm_after: dict[str, float]


def load_model(reference: str | Path | Reference) -> LoadedModel:
    """The model of a reference, in evaluation mode: a run, a checkpoint, a model folder, a published one or a file.

    A file's classes are numbered, and its protocol is ImageNet's.

    Raises:
        DeitkitError: there is no such model, it is not at hand, is one head, of another making or predictions alone, or
            a file does not say how it is built.
    """
    found = reference if isinstance(reference, Reference) else Reference.parse(reference)
    weights, word = open_reference(found), found.word
    known = weights.known
    if known.architecture is None:
        raise DeitkitError(
            f"{word} holds no vision transformer with position embeddings, and does not say what it is",
            value=word,
            problems=known.notes,
            remedy="name a run, a model folder or timm:NAME",
        )
    refuse_larger(known, weights.state)
    student = rebuild_student(known.architecture, known.arguments)
    own = student.network.state_dict()
    used = {key: value for key, value in weights.state.items() if key in own or not BESIDE.match(key)}
    try:
        student.network.load_state_dict(used)
    except RuntimeError as error:
        raise DeitkitError(
            f"{word} is no plain {known.architecture}: {error}", value=word, remedy="name a run or a model folder"
        ) from error
    is_named = known.class_names is not None and len(known.class_names) == student.num_classes
    return LoadedModel(student.eval(), _info(known, student.num_classes), word, is_named)


def load_classifier(reference: str | Path | Reference) -> LoadedModel:
    """`load_model`, and the model has a head. An exported ONNX file answers by its own graph.

    Raises:
        DeitkitError: as `load_model`, or it is a backbone alone.
    """
    found = reference if isinstance(reference, Reference) else Reference.parse(reference)
    model = _exported(found) if found.kind == "exported" else load_model(found)
    refuse_headless(model)
    return model


def refuse_headless(model: LoadedModel) -> None:
    """Raise where a model is a backbone alone."""
    if not model.student.num_classes:
        raise _no_head(model, "it answers nothing", "")


def _exported(reference: Reference) -> LoadedModel:
    reference.need_weights()
    exported = read_exported(Path(reference.place))
    student = ExportedStudent(exported)
    return LoadedModel(student.eval(), _info(exported.known, student.num_classes), reference.word)


def _no_head(model: LoadedModel, so: str, option: str) -> DeitkitError:
    return DeitkitError(
        f"{model.origin} has no head: {so}",
        value=model.origin,
        remedy=f"deitkit finetune --from {quoted(model.origin)}{option} gives it one",
    )


def load_info(reference: str | Path | Reference) -> ModelInfo:
    """What travels with the model of a reference; reads no weights but a bare file's.

    Raises:
        DeitkitError: there is no such model, or it does not say.
    """
    known = describe(str(reference) if isinstance(reference, Path) else reference)
    if known.info is None:
        raise DeitkitError(
            f"{reference} is a file alone: its class names and protocol are unknown",
            value=str(reference),
            remedy="name the run, or a folder with its config.json",
        )
    return known.info


def _info(known: Known, classes: int) -> ModelInfo:
    return known.info or ModelInfo.of(Data(), known.size or (224, 224), numbered(classes))


def grid_of(student: Student) -> tuple[int, int]:
    """(rows, columns) of a transformer's patches."""
    rows, columns = student.network.patch_embed.grid_size
    return int(rows), int(columns)


def upscale(model: LoadedModel, size: tuple[int, int], *, mode: PositionMode) -> tuple[LoadedModel, Resampling]:
    """The same model at another resolution (height, width) px: only its position embedding changes.

    Raises:
        DeitkitError: the model has no position embedding or no head, or the size is no multiple of its patch.
    """
    if not model.student.num_classes:
        raise _no_head(model, "a model folder has classes", f" --image-size {size[0]}")
    state = model.student.network.state_dict()
    if "pos_embed" not in state:
        raise DeitkitError(
            f"{model.student.architecture} has no position embeddings to resample",
            value=model.origin,
            remedy="a convnet runs at any resolution as it is: `deitkit finetune --from` it at the other size",
        )
    grid = grid_of(model.student)
    patch = model.info.size[0] // grid[0]
    if any(side % patch for side in size):
        raise DeitkitError(
            f"{size[0]}x{size[1]} px is no multiple of the patch size {patch}",
            value=size,
            remedy=f"--to {max(1, round(size[0] / patch)) * patch}",
        )
    student = rebuild_student(model.student.architecture, {**model.student.arguments, "img_size": list(size)})
    new_grid, prefix = grid_of(student), state["pos_embed"].shape[1] - grid[0] * grid[1]

    def resampled(mode: PositionMode) -> Tensor:
        return resample_pos_embed(state["pos_embed"], grid, new_grid, prefix_tokens=prefix, mode=mode)

    norms: dict[str, float] = {other: mean_norm(resampled(other), prefix_tokens=prefix) for other in POSITION_MODES}
    report = Resampling(grid, new_grid, mean_norm(state["pos_embed"], prefix_tokens=prefix), norms)
    student.network.load_state_dict({**state, "pos_embed": resampled(mode)})
    fusion = model.info.fusion if isinstance(model.info.fusion, str) else "softmax"  # fitted at the other size
    return replace(model, student=student, info=replace(model.info, size=size, fusion=fusion)), report
