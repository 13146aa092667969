"""Weights in and out: model folders, weights files, upscaling, starting from earlier weights.

A model folder is `model.safetensors` + `config.json`. timm loads it, too:
`timm.create_model("local-dir:FOLDER", pretrained=True)`; without pretrained=True timm silently gives random weights,
and its distilled models average the heads' logits where deitkit adds their softmaxes.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models._hub import save_config_for_hf
from torch import Tensor

from deitkit.catalog import MODELS
from deitkit.errors import DeitkitError
from deitkit.model import Fusion, Student, architecture_of, rebuild_student
from deitkit.positions import POSITION_MODES, PREFIX_KEYS, count_prefix, mean_norm, resample_pos_embed
from deitkit.run import Run, saving, write_atomic
from deitkit.schema import Data, Model, PositionMode


@dataclass(frozen=True)
class ModelInfo:
    """What travels with a model: its classes, its input and what it was trained on. `size` is (height, width) px."""

    class_names: tuple[str, ...]
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_ratio: float
    interpolation: str
    dataset: str = ""
    data_fingerprint: str = ""
    recipe: str = ""
    fusion: Fusion = "softmax"

    @classmethod
    def of(cls, data: Data, size: tuple[int, int], class_names: tuple[str, ...], **more: Any) -> ModelInfo:
        return cls(class_names, size, data.mean, data.std, data.crop_ratio, data.interpolation, data.dataset, **more)


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
    patch = model.info.size[0] // grid_of(model.student)[0]
    if any(side % patch for side in size):
        raise DeitkitError(
            f"{size[0]}x{size[1]} px is no multiple of the patch size {patch}",
            value=size,
            remedy=f"--to {max(1, round(size[0] / patch)) * patch}",
        )
    student = rebuild_student(model.student.architecture, {**model.student.arguments, "img_size": list(size)})
    grid, new_grid, prefix = grid_of(model.student), grid_of(student), count_prefix(state)

    def resampled(mode: PositionMode) -> Tensor:
        return resample_pos_embed(state["pos_embed"], grid, new_grid, prefix_tokens=prefix, mode=mode)

    norms: dict[str, float] = {other: mean_norm(resampled(other), prefix_tokens=prefix) for other in POSITION_MODES}
    report = Resampling(grid, new_grid, mean_norm(state["pos_embed"], prefix_tokens=prefix), norms)
    student.network.load_state_dict({**state, "pos_embed": resampled(mode)})
    return replace(model, student=student, info=replace(model.info, size=size)), report


# Model folders


def save_model(folder: Path, student: Student, info: ModelInfo) -> None:
    """Write a model folder; an older one is replaced only when the new one is whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        with saving(folder):
            _write_model(temporary, student, info)
            if folder.exists():
                os.replace(folder, old)
            os.replace(temporary, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_model(folder: Path, student: Student, info: ModelInfo) -> None:
    folder.mkdir(parents=True)
    state = {key: value.detach().cpu().contiguous() for key, value in student.network.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    save_config_for_hf(
        student.network,
        str(folder / "config.json"),
        model_config={"deitkit": asdict(info), "label_names": list(info.class_names)},
        model_args={key: value for key, value in student.arguments.items() if key != "num_classes"},
        data_config={
            "input_size": (3, *info.size),
            "mean": info.mean,
            "std": info.std,
            "crop_pct": info.crop_ratio,
            "interpolation": info.interpolation,
        },
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] = student.arguments  # timm drops what it can infer; deitkit rebuilds from these
    config["pretrained_cfg"]["tag"] = "deitkit"  # not the released weights that timm's template names
    config["pretrained_cfg"].pop("license", None)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def find_model(reference: str | Path) -> Path:
    """The model folder of a run, or of itself.

    Raises:
        DeitkitError: neither is there; an unfinished run is named as such.
    """
    path = Path(reference)
    if (path / "config.json").is_file():
        return path
    if Run.is_run(path):
        run = Run(path)
        if (run.model / "config.json").is_file():
            return run.model
        raise DeitkitError(
            f"{path} has no model yet: the run is {run.status()}",
            value=str(path),
            remedy=f"wait for it, or finish it with its command and --resume (see {path}/environment.json)",
        )
    reason = "is neither a run nor a model folder" if path.exists() else "does not exist"
    raise DeitkitError(f"model {path} {reason}", value=str(path), remedy="`deitkit runs list` shows the runs")


def load_info(reference: str | Path) -> ModelInfo:
    """What travels with the model of a run or of a model folder."""
    folder = find_model(reference)
    about = _config(folder).get("deitkit")
    if about is None:
        raise DeitkitError(
            f"{folder}/config.json has no deitkit section: class names and protocol are unknown",
            value=str(folder),
            remedy="name a folder that deitkit wrote",
        )
    tuples = {key: tuple(about[key]) for key in ("class_names", "size", "mean", "std")}
    return ModelInfo(**{**about, **tuples})


def load_model(reference: str | Path) -> LoadedModel:
    """The model of a run, of a model folder or of a weights file, in evaluation mode."""
    if Path(reference).is_file():
        return _model_of_file(Path(reference))
    info, folder = load_info(reference), find_model(reference)
    config = _config(folder)
    student = rebuild_student(config["architecture"], config["model_args"])
    student.network.load_state_dict(read_weights(folder / "model.safetensors"))
    return LoadedModel(student.eval(), info, str(reference))


def _model_of_file(path: Path) -> LoadedModel:
    """A transformer read off its tensors' shapes; its classes are numbered, its protocol is ImageNet's.

    Raises:
        DeitkitError: no vision transformer, or patches that form no square.
    """
    state = read_weights(path)
    try:
        positions, patch = state["pos_embed"], state["patch_embed.proj.weight"].shape[-1]
        classes, width = state["head.weight"].shape
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    except (KeyError, ValueError) as error:
        raise DeitkitError(
            f"{path} holds no vision transformer with position embeddings: {error} is missing",
            value=str(path),
            remedy="name a run or a model folder; a convnet needs no upscaling",
        ) from error
    heads = next((known.num_heads for known in MODELS.values() if known.embed_dim == width), max(1, width // 64))
    side = math.isqrt(positions.shape[1] - count_prefix(state)) * patch
    model = Model(
        name="deit_base", distilled="dist_token" in state, image_size=side, drop_path=0.0,
        options={"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads},
    )  # fmt: skip
    student = rebuild_student(*architecture_of(model, classes))
    try:
        student.network.load_state_dict(state)
    except RuntimeError as error:
        raise DeitkitError(
            f"{path} is no plain DeiT: {error}", value=str(path), remedy="name a model folder"
        ) from error
    names = tuple(str(index) for index in range(classes))
    return LoadedModel(student.eval(), ModelInfo.of(Data(), (side, side), names), str(path))


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise DeitkitError(
            f"{folder}/config.json is damaged: {error}", value=str(folder), remedy="copy it again"
        ) from error
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """A weights file as a state dict; foreign pickles are refused, never executed.

    Raises:
        DeitkitError: missing, damaged, or a pickle that would run code.
    """
    if not path.is_file():
        raise DeitkitError(f"{path} does not exist", value=str(path), remedy="name a weights file or a run")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise DeitkitError(f"{path} is damaged: {error}", value=str(path), remedy="copy it again") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DeitkitError(
            f"{path} is a pickle of foreign code and was not executed",
            value=str(path),
            remedy="convert it where you trust it: safetensors.torch.save_file(state_dict, 'weights.safetensors')",
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise DeitkitError(
            f"{path} is no readable weights file: {error}", value=str(path), remedy="copy it again"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DeitkitError(f"{path} holds no state dict", value=str(path), remedy="save model.state_dict() alone")
    return state


# Starting weights


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor when earlier weights started a new model."""

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    new: tuple[str, ...]
    ignored: tuple[str, ...]

    def summary(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"{word} {', '.join(keys)}" for word, keys in self._told().items() if keys]
        return "; ".join(parts)

    def _told(self) -> dict[str, tuple[str, ...]]:
        return {"resized": self.resized, "new": self.new, "ignored": self.ignored}


def start_from(student: Student, reference: str, *, class_names: tuple[str, ...], mode: PositionMode) -> Transfer:
    """Load earlier weights into `student`: a run, a model folder or a weights file.

    The classifier is new when the classes differ in name or order; position embeddings are resampled to the
    student's grid; a missing distillation token or head stays fresh.
    """
    path = Path(reference)
    if path.is_file():
        state, same_classes = read_weights(path), True
        grid: tuple[int, int] | None = None
    else:
        model = load_model(reference)
        state, same_classes = model.student.network.state_dict(), model.info.class_names == class_names
        grid = grid_of(model.student) if "pos_embed" in state else None
    target = student.network.state_dict()
    state = dict(state)
    classifier = _classifier_keys(student)
    resized = []
    if "pos_embed" in state and "pos_embed" in target:
        state["pos_embed"], changed = _fit_positions(student, state, grid, mode)
        resized = ["pos_embed"] if changed else []
    usable = {
        key: value
        for key, value in state.items()
        if key in target and target[key].shape == value.shape and (same_classes or key not in classifier)
    }
    _refuse_other_architecture(reference, target, state, usable, beside={*classifier, *PREFIX_KEYS})
    student.network.load_state_dict({**target, **usable})
    return Transfer(
        loaded=tuple(key for key in usable if key not in resized),
        resized=tuple(resized),
        new=tuple(key for key in target if key not in usable),
        ignored=tuple(key for key in state if key not in usable),
    )


def _refuse_other_architecture(
    reference: str,
    target: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    usable: Mapping[str, Tensor],
    *,
    beside: set[str],
) -> None:
    """Raise unless every tensor of the target, those `beside` left out, comes from the weights."""
    wanted = [key for key in target if key not in usable and key not in beside]
    other = [f"{key}: {tuple(state[key].shape)}, expected {tuple(target[key].shape)}" for key in wanted if key in state]
    missing = [f"{key}: missing" for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if other or missing:
        raise DeitkitError(
            f"the weights in {reference} are another architecture's",
            value=reference,
            problems=[*other[:5], *missing[:5]],
            remedy="set model.name and model.options to those of the weights' model",
        )


def _fit_positions(
    student: Student, state: Mapping[str, Tensor], grid: tuple[int, int] | None, mode: PositionMode
) -> tuple[Tensor, bool]:
    """The source's position embedding on the student's grid and with the student's prefix rows."""
    prefix, wanted = count_prefix(state), 2 if student.distilled else 1
    if grid is None:
        side = math.isqrt(state["pos_embed"].shape[1] - prefix)
        grid = (side, side)
    fitted = resample_pos_embed(state["pos_embed"], grid, grid_of(student), prefix_tokens=prefix, mode=mode)
    if wanted > prefix:
        fresh = student.network.pos_embed.detach()[:, prefix:wanted]
        fitted = torch.cat([fitted[:, :prefix], fresh, fitted[:, prefix:]], dim=1)
    elif wanted < prefix:
        fitted = torch.cat([fitted[:, :wanted], fitted[:, prefix:]], dim=1)
    return fitted, grid != grid_of(student) or wanted != prefix


def _classifier_keys(student: Student) -> set[str]:
    """State-dict keys of the classifier head(s)."""
    names = student.network.pretrained_cfg.get("classifier") or "head"
    prefixes = ({names} if isinstance(names, str) else set(names)) | ({"head_dist"} if student.distilled else set())
    return {key for key in student.network.state_dict() if key.rsplit(".", 1)[0] in prefixes}
