"""Models with their weights: loading any reference, and upscaling. Trains nothing and moves no tensor to another model.

Beside it: `model_folder` (writing), `references` (what a reference is), `weight_files`, `transfer` (starting from
earlier weights).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.models.class_names import numbered
from deitkit.models.folder import ModelInfo, find_model, save_model
from deitkit.models.positions import POSITION_MODES, mean_norm, resample_pos_embed
from deitkit.models.reference import EMA, Reference
from deitkit.models.student import Student, build_student, rebuild_student
from deitkit.models.weight_files import read_weights
from deitkit.models.weights import Known, describe, open_reference
from deitkit.recipe.schema import Data, PositionMode
from deitkit.runs.checkpoint import load_checkpoint
from deitkit.runs.folder import Run

__all__ = [
    "LoadedModel", "ModelInfo", "Resampling", "find_model", "grid_of", "load_info", "load_model", "read_weights",
    "save_model", "upscale",
]  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A student with its weights and what travels with it; `origin` is where it came from."""

    student: Student
    info: ModelInfo
    origin: str


@dataclass(frozen=True)
class Resampling:
    """Grids (rows, columns) and the patches' mean position norm before and after, for each mode."""

    grid: tuple[int, int]
    new_grid: tuple[int, int]
    norm_before: float
    norm_after: dict[str, float]


def load_model(reference: str | Path) -> LoadedModel:
    """The model of a reference, in evaluation mode: a run, a model folder, timm:NAME, hf-hub:OWNER/NAME, or a file.

    A file's classes are numbered, and its protocol is ImageNet's.

    Raises:
        DeitkitError: there is no such model, it is not at hand, or a file does not say how it is built.
    """
    weights = open_reference(str(reference))
    known = weights.known
    if known.architecture is None:
        raise DeitkitError(
            f"{reference} holds no vision transformer with position embeddings, and does not say what it is",
            value=str(reference),
            remedy="name a run, a model folder or timm:NAME",
        )
    student = rebuild_student(known.architecture, known.arguments)
    try:
        student.network.load_state_dict(weights.state)
    except RuntimeError as error:
        raise DeitkitError(
            f"{reference} is no plain {known.architecture}: {error}",
            value=str(reference),
            remedy="name a run or a model folder",
        ) from error
    return LoadedModel(student.eval(), _info(known, student.num_classes), str(reference))


def load_info(reference: str | Path) -> ModelInfo:
    """What travels with the model of a reference; reads no weights but a bare file's.

    Raises:
        DeitkitError: there is no such model, or it does not say.
    """
    known = describe(str(reference))
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
        DeitkitError: the model has no position embedding, or the size is no multiple of its patch.
    """
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


def load_checkpointed(run: Run, checkpoint: str) -> LoadedModel:
    """A run's model with the weights of one of its checkpoints; the run may be unfinished."""
    weights = load_checkpoint(run.checkpoints / checkpoint).model
    if (run.model / "config.json").is_file():
        student, info = load_model(run.path).student, load_info(run.path)
    else:
        recipe = run.recipe()
        names = open_source(recipe.data, "train").class_names
        student = build_student(recipe.model, len(names))
        info = ModelInfo.of(recipe.data, recipe.model.size, names, recipe=recipe.name)
    student.network.load_state_dict(weights)
    return LoadedModel(student.eval(), info, f"{run.path}@{checkpoint}")


def load_reference(text: str) -> LoadedModel:
    """The model of a word, that of a run's checkpoint or moving average, too.

    Raises:
        DeitkitError: there is none, or it is of another making or predictions alone.
    """
    reference = Reference.parse(text)
    if reference.is_table or reference.is_foreign:
        raise DeitkitError(
            f"{text} is no run, model folder or published model",
            value=text,
            remedy="`deitkit analyze` disagreement, errors and tradeoff take ONNX files and Python functions",
        )
    is_step = reference.checkpoint not in ("", EMA)
    return load_checkpointed(Run(reference.folder), reference.checkpoint) if is_step else load_model(reference.model)
