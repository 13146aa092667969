"""Weights files -> state dicts: .safetensors, and .pth without executing anything. Builds no model.

The reference's checkpoints (`{"model": ..., "args": argparse.Namespace(...)}`) are read; pickles of other classes are
refused.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from deitkit.errors import DeitkitError

# Where a training script keeps its weights; the first that is there is taken.
ENTRIES = ("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema")
LFS = b"version https://git-lfs.github.com/spec/"  # how a pointer begins that stands for a file in a repository
FOREIGN = ("unsupported", "allowlisted")  # in torch's words for what it does not execute
# What wrappers put before every key: DistributedDataParallel, torch.compile, deitkit's checkpoints.
WRAPPERS = ("module.", "_orig_mod.", "network.")


@dataclass(frozen=True)
class WeightsFile:
    """A file's tensors. `architecture` is timm's name where the file says it; `notes` say what was left out."""

    state: dict[str, Tensor]
    architecture: str | None = None
    notes: tuple[str, ...] = ()


def read_weights(path: Path) -> dict[str, Tensor]:
    """A weights file as a state dict; foreign pickles are refused, never executed.

    Raises:
        DeitkitError: missing, damaged, or a pickle that would run code.
    """
    state = read_weights_file(path).state
    forget_weights()
    return state


def read_weights_file(path: Path) -> WeightsFile:
    """A weights file's state dict, with what else it says. The last file read is kept until `forget_weights`, so that
    describing a file and then opening it reads it once.

    Raises:
        DeitkitError: missing, damaged, or a pickle that would run code.
    """
    if not path.is_file():
        raise DeitkitError(f"{path} is no file", value=str(path), remedy="name a weights file or a run")
    state = path.stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


def forget_weights() -> None:
    """Let go of the last file that was read."""
    _read.cache_clear()


@lru_cache(maxsize=1)
def _read(path: Path, modified_ns: int, size: int) -> WeightsFile:
    """The file; `modified_ns` and `size` (bytes) tell it from what it was before."""
    _refuse_pointer(path)
    if path.suffix == ".safetensors":
        return _unwrapped(_safetensors(path), None, [])
    content = _unpickled(path)
    notes: list[str] = []
    state = _entry(content, notes) if isinstance(content, dict) else None
    if state is None:
        raise DeitkitError(f"{path} holds no state dict", value=str(path), remedy="save model.state_dict() alone")
    return _unwrapped(state, _architecture(content), notes)


def _refuse_pointer(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(len(LFS)) == LFS:
            raise DeitkitError(
                f"{path} is a Git LFS pointer: it only names the weights",
                value=str(path),
                remedy="`git lfs pull` in its repository fetches them",
            )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    # Whatever its kind: of a changed file safetensors and torch raise what befits the byte that was changed.
    except Exception as error:
        raise DeitkitError(f"{path} is damaged: {error}", value=str(path), remedy="copy it again") from error


def _unpickled(path: Path) -> Any:
    """Tensors, plain values and `argparse.Namespace`, which runs nothing; other classes are refused."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(word in str(error).lower() for word in FOREIGN):
            raise _unreadable(path, str(error).partition("WeightsUnpickler error: ")[2] or error) from error
        raise DeitkitError(
            f"{path} is a pickle of foreign code and was not executed",
            value=str(path),
            remedy="convert it where you trust it: safetensors.torch.save_file(state_dict, 'weights.safetensors')",
        ) from error
    # Whatever its kind: of a changed file zipfile, pickle and torch raise what befits the byte that was changed.
    except Exception as error:
        raise _unreadable(path, error) from error
    _refuse_larger(content, path)
    return content


def _unreadable(path: Path, reason: object) -> DeitkitError:
    first = str(reason).strip().partition("\n")[0]
    return DeitkitError(f"{path} is no readable weights file: {first}", value=str(path), remedy="copy it again")


def _refuse_larger(content: Any, path: Path) -> None:
    """Raise where a tensor claims more numbers than the file can hold, which only a view of few does: none is made."""
    size, waiting, seen = path.stat().st_size, [content], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            if each.numel() * each.element_size() > size:
                raise _unreadable(path, f"a tensor of shape {list(each.shape)} is larger than the file")
        elif isinstance(each, (Mapping, list, tuple)) and id(each) not in seen:  # a pickle may hold itself
            seen.add(id(each))
            waiting += each.values() if isinstance(each, Mapping) else each


def _entry(content: dict[str, Any], notes: list[str]) -> dict[str, Tensor] | None:
    if _is_state(content):
        return content
    found = [name for name in ENTRIES if _is_state(content.get(name))]
    if not found:
        return None
    if found[1:]:
        notes.append(f"the file's {found[0]!r} was taken, not its {' or '.join(map(repr, found[1:]))}")
    state: dict[str, Tensor] = content[found[0]]
    return state


def _is_state(candidate: object) -> bool:
    return (
        isinstance(candidate, Mapping)
        and bool(candidate)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in candidate.items())
    )


def _architecture(content: Mapping[str, Any]) -> str | None:
    """What the reference's `args.model` or timm's `arch` says."""
    args = content.get("args")
    named = content.get("arch") or getattr(args, "model", None)
    return named if isinstance(named, str) else None


def _unwrapped(state: Mapping[str, Tensor], architecture: str | None, notes: list[str]) -> WeightsFile:
    """Keys without a wrapper's prefix, where every key has it."""
    keys = dict(state)
    while prefix := next((word for word in WRAPPERS if keys and all(key.startswith(word) for key in keys)), ""):
        keys = {key.removeprefix(prefix): value for key, value in keys.items()}
        notes = [*notes, f"{prefix!r} before every key was left out"]
    return WeightsFile(keys, architecture, tuple(notes))
