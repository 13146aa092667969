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
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.files import remove, replace_folder, saving, sync_folder, write_atomic
from deitkit.records import read_json
from deitkit.runs.contents import Manifest
from deitkit.runs.names import BEST

STEP_FOLDER = re.compile(r"step-(\d{9})")
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
            sums = [_sha256(temporary / FILES[0], sync=True), _save_state(dict(state), temporary / FILES[1])]
            manifest = {"step": step, "metrics_bytes": metrics_bytes, "sha256": dict(zip(FILES, sums, strict=True))}
            write_atomic(temporary / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            sync_folder(temporary)
            replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with saving(root):
        remove_beyond(root, keep, step=step)
    return folder


def _save_state(state: dict[str, Any], path: Path) -> str:
    """The file's sha256. torch says only that writing failed; the system says why."""
    with open(path, "wb") as file:
        kept = _Hashed(file)
        try:
            torch.save(state, kept)  # type: ignore[arg-type]  # it writes and flushes
        except RuntimeError:
            if kept.error is not None:
                raise kept.error from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return kept.sha256.hexdigest()


class _Hashed:
    """A file that is written from its start to its end, with the sum of what was; it remembers what went wrong."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def remove_beyond(root: Path, keep: int, *, step: int) -> None:
    """All but the newest `keep` of those up to `step`. One without a manifest is none, so it drives out no other."""
    there = [path for path in list_checkpoints(root) if int(path.name[-9:]) <= step]
    kept = [path for path in there if (path / "manifest.json").is_file()][-keep:]
    for path in there:
        if path not in kept:
            remove(path)


def set_damaged_aside(root: Path, *, say: Callable[[str], None]) -> None:
    """Rename the step checkpoints that cannot be loaded, so that they count for nothing."""
    for folder in list_checkpoints(root):
        try:
            _read_manifest(folder)
        except DeitkitError as error:
            aside = root / f"damaged-{folder.name}"
            remove(aside)
            os.replace(folder, aside)
            say(f"{error.what}; it is now {aside}")


def list_checkpoints(root: Path) -> list[Path]:
    """Step checkpoints, oldest first, valid or not."""
    found = [path for path in root.iterdir() if STEP_FOLDER.fullmatch(path.name)] if root.is_dir() else []
    return sorted(found)


def load_latest(root: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest valid checkpoint; damaged ones are named through `say` and skipped."""
    for folder in reversed(list_checkpoints(root)):
        try:
            return load_checkpoint(folder)
        except DeitkitError as error:
            say(f"{error.what}; skipped for the one before it")
    return None


def load_best(root: Path, *, step: int) -> Checkpoint | None:
    """The best checkpoint, if it is of this step; None where it is missing, damaged or of another one."""
    try:
        found = load_checkpoint(root / BEST)
    except DeitkitError:
        return None
    return found if found.step == step else None


def load_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint whose files match its manifest.

    Raises:
        DeitkitError: truncated, tampered with, or a pickle that would run code.
    """
    step, metrics_bytes = _read_manifest(folder)
    try:
        state = torch.load(folder / FILES[1], map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DeitkitError(
            f"checkpoint {folder}: state.pt is a pickle of foreign code and was not executed", value=str(folder)
        ) from error
    return Checkpoint(step, load_file(folder / FILES[0]), state, metrics_bytes)


def _read_manifest(folder: Path) -> tuple[int, int]:
    """Step and bytes of metrics of a checkpoint whose files are those that were written.

    Raises:
        DeitkitError: they are not.
    """
    try:
        manifest = read_json(folder / "manifest.json", Manifest, remedy="take another checkpoint")
        step, metrics_bytes, sums = manifest["step"], manifest["metrics_bytes"], manifest["sha256"]
        for file in FILES:
            if _sha256(folder / file) != sums[file]:
                what = f"checkpoint {folder} is damaged: {file} differs from its manifest"
                raise DeitkitError(what, value=str(folder))
    except (OSError, KeyError) as error:
        raise DeitkitError(f"checkpoint {folder} is damaged: {error}", value=str(folder)) from error
    return step, metrics_bytes


def _sha256(path: Path, *, sync: bool = False) -> str:
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
