"""Checkpoints: a folder that exists only when its manifest does. Loads no foreign pickle and knows no loss.

checkpoints/step-000000123/   model.safetensors, state.pt (weights_only), manifest.json with sha256s, written last
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deitkit.classifiers import EMA, Reference
from deitkit.data.sources import open_source
from deitkit.errors import DeitkitError
from deitkit.model import build_student
from deitkit.run import Run, saving, write_atomic
from deitkit.weights import LoadedModel, ModelInfo, load_info, load_model

STEP_FOLDER = re.compile(r"step-(\d{9})$")
FILES = ("model.safetensors", "state.pt")


@dataclass(frozen=True)
class Checkpoint:
    """Model tensors, and `state`: only tensors, numbers, strings, lists and dicts."""

    step: int
    model: dict[str, Tensor]
    state: dict[str, Any]
    metrics_bytes: int


def save_checkpoint(
    root: Path,
    *,
    step: int,
    model: Mapping[str, Tensor],
    state: Mapping[str, Any],
    metrics_bytes: int,
    keep: int,
    name: str | None = None,
) -> Path:
    """Write one checkpoint atomically, then remove those beyond `keep`; `name` keeps one apart (`best`).

    Raises:
        DeitkitError: the disk is full; earlier checkpoints stay as they are.
    """
    folder = root / (name or f"step-{step:09d}")
    temporary = root / f".{folder.name}.{os.getpid()}.tmp"
    try:
        with saving(folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_file({key: value.detach().cpu().contiguous() for key, value in model.items()}, temporary / FILES[0])
            torch.save(dict(state), temporary / FILES[1])
            manifest = {
                "step": step,
                "metrics_bytes": metrics_bytes,
                "sha256": {file: _sha256(temporary / file, sync=True) for file in FILES},
            }
            write_atomic(temporary / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            _sync_folder(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in list_checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(root: Path) -> list[Path]:
    """Step checkpoints, oldest first, valid or not."""
    found = [path for path in root.iterdir() if STEP_FOLDER.search(path.name)] if root.is_dir() else []
    return sorted(found)


def load_latest(root: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest valid checkpoint; damaged ones are named through `say` and skipped."""
    for folder in reversed(list_checkpoints(root)):
        try:
            return load_checkpoint(folder)
        except DeitkitError as error:
            say(f"{error.what}; skipped for the one before it")
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint whose files match its manifest.

    Raises:
        DeitkitError: truncated, tampered with, or a pickle that would run code.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        step, metrics_bytes, sums = manifest["step"], manifest["metrics_bytes"], manifest["sha256"]
        for file in FILES:
            if _sha256(folder / file) != sums[file]:
                what = f"checkpoint {folder} is damaged: {file} differs from its manifest"
                raise DeitkitError(what, value=str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeitkitError(f"checkpoint {folder} is damaged: {error}", value=str(folder)) from error
    try:
        state = torch.load(folder / FILES[1], map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DeitkitError(
            f"checkpoint {folder}: state.pt is a pickle of foreign code and was not executed", value=str(folder)
        ) from error
    return Checkpoint(step, load_file(folder / FILES[0]), state, metrics_bytes)


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


def _sha256(path: Path, *, sync: bool = False) -> str:
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
