"""Weights files -> state dicts under timm's names: safetensors, exported programs, and pickles without executing
anything. Builds no model.

A file is known by its content, not its name (`file_signs`). The reference's checkpoints (`{"model": ..., "args":
argparse.Namespace(...)}`) are read, and what trainers keep beside weights: NumPy's numbers and paths are met by
stand-ins. Pickles of other classes are refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.file_signs import form_of
from deitkit.models.namings import timms_names
from deitkit.models.program_file import read_program

# Where a training script keeps its weights, at any depth; the first that is there is taken.
ENTRIES = (
    "model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema", "ema", "ema_state_dict", "teacher",
    "student", "module", "network", "net", "backbone", "weights", "params",
)  # fmt: skip
FOREIGN = ("unsupported", "allowlisted")  # in torch's words for what it does not execute
PARTS, ARRAYS = ("multiarray", "numeric"), ("scalar", "_reconstruct", "_frombuffer")
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
# What a pickle may name beside tensors: numbers, arrays and paths. None of them is made: a stand-in takes the place.
HARMLESS = (
    "numpy.dtype", "numpy.ndarray",
    *(f"numpy.{core}.{part}.{name}" for core in ("core", "_core") for part in PARTS for name in ARRAYS),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in PATHS),
)  # fmt: skip
TOLD = 6
ABOUT = "deitkit"  # where an exported file says of itself what `models.folder.config_of` does
DEEPEST = 3  # entries within entries
# Of tensors that need a scale beside them. torch.bool is none: masks are buffers.
QUANTISED = (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2)


class StandIn:
    """In place of what a pickle names: it takes whatever it is given and keeps none of it."""

    def __new__(cls, *_: object) -> StandIn:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


MET: list[Any] = [argparse.Namespace, *((StandIn, name) for name in HARMLESS)]


@dataclass(frozen=True)
class WeightsFile:
    """A file's tensors. `architecture` is timm's name where the file says it; `about` is what deitkit wrote of the
    model, as JSON, where it exported the file; `notes` say what was left out."""

    state: dict[str, Tensor]
    architecture: str | None = None
    notes: tuple[str, ...] = ()
    about: str | None = None


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
    form = form_of(path)
    if form != "pickle":
        tensors, about = (_safetensors if form == "safetensors" else read_program)(path)
        return replace(_named(tensors, None, [], path), about=about)
    content = _unpickled(path)
    notes: list[str] = []
    state = _entry(content, notes)
    if state is None:
        raise DeitkitError(
            f"{path} holds no state dict but {_contents(content)}",
            value=str(path),
            remedy="save model.state_dict() alone",
        )
    return _named(state, _architecture(content), notes, path)


def _contents(content: object) -> str:
    """What a file holds instead, in a few words."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    more = ", ..." if len(content) > TOLD else ""
    return f"{', '.join(map(repr, list(content)[:TOLD])) or 'nothing'}{more}"


def _safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors, and what deitkit wrote beside them."""
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get(ABOUT)
        return load_file(path), about
    # Whatever its kind: of a changed file safetensors and torch raise what befits the byte that was changed.
    except Exception as error:
        raise DeitkitError(f"{path} is damaged: {error}", value=str(path), remedy="copy it again") from error


def _unpickled(path: Path) -> Any:
    """Tensors, plain values, `argparse.Namespace`, which runs nothing, and stand-ins; other classes are refused."""
    try:
        # Opened here: by its name alone torch would take it for what its ending says.
        with torch.serialization.safe_globals(MET), open(path, "rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(word in str(error).lower() for word in FOREIGN):
            raise _unreadable(path, str(error).partition("WeightsUnpickler error: ")[2] or error) from error
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise DeitkitError(
            f"{path} is a pickle of foreign code{f' ({named[1]})' if named else ''} and was not executed",
            value=str(path),
            remedy="where you trust it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
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


def _entry(content: object, notes: list[str], depth: int = 0) -> Mapping[str, Tensor] | None:
    """The state dict in what a training script saved, however deep."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return None
    inside = {name: state for name in ENTRIES if (state := _entry(content.get(name), [], depth + 1)) is not None}
    if not inside:
        return content if _is_state(content) else None
    name, *others = inside
    if others:
        notes.append(f"the file's {name!r} was taken, not its {' or '.join(map(repr, others))}")
    return inside[name]


def _is_state(candidate: Mapping[Any, Any]) -> bool:
    """Whether most of it are tensors under names: some write numbers beside them."""
    tensors = [key for key, value in candidate.items() if isinstance(key, str) and isinstance(value, Tensor)]
    return len(tensors) > len(candidate) / 2


def _architecture(content: Any) -> str | None:
    """What the reference's `args.model` or timm's `arch` says."""
    args = content.get("args")
    named = content.get("arch") or getattr(args, "model", None)
    return named if isinstance(named, str) else None


def _named(state: Mapping[str, Any], architecture: str | None, notes: list[str], path: Path) -> WeightsFile:
    """The tensors under timm's names.

    Raises:
        DeitkitError: they are quantised.
    """
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    narrow = [key for key, value in tensors.items() if value.ndim > 1 and value.dtype in QUANTISED]
    if narrow:
        raise DeitkitError(
            f"{path} holds quantised weights: {narrow[0]} has numbers of 8 bits",
            value=str(path),
            remedy="take the weights from before quantisation: training needs 16 bits or more",
        )
    if left := [key for key in state if key not in tensors]:
        notes.append(f"{len(left)} entries without a tensor were left out ({', '.join(map(str, left[:TOLD]))})")
    renamed = timms_names(tensors)
    return WeightsFile(renamed.state, architecture, (*notes, *renamed.notes))
