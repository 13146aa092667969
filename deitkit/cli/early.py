"""What can be told of an argument before anything heavy is imported: each option checks its value while it is parsed.

What only the verb can tell (a head that a model lacks, a data set's split) is left to it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from deitkit.errors import DeitkitError

DEVICES = ("auto", "cpu", "cuda", "mps")


def known_device(name: str) -> str:
    """A device's name, unless there surely is no such device here; torch has the last word.

    Raises:
        DeitkitError: no device is called so, or this machine has none.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise DeitkitError(f"unknown device {name!r}", value=name, choices=DEVICES)
    if (kind == "cuda" and not _may_have_cuda()) or (kind == "mps" and sys.platform != "darwin"):
        raise DeitkitError(f"this machine has no {kind.upper()} device", value=name, remedy="--device cpu")
    return name


def _may_have_cuda() -> bool:
    """Whether a driver is here: NVIDIA's, or AMD's, whose devices torch calls cuda, too."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def known_model(text: str) -> str:
    """A reference to a model that is there, as far as its form tells.

    Raises:
        DeitkitError: there is no such model, checkpoint or head; near names are suggested.
    """
    from deitkit.models.reference import Reference

    if text:
        Reference.find(text)
    return text


def known_models(texts: list[str] | None) -> list[str] | None:
    return None if texts is None else [known_model(text) for text in texts]


def known_recipe(name: str) -> str:
    """A shipped recipe's name or a file that can be read.

    Raises:
        DeitkitError: there is none, or it is no recipe.
    """
    from deitkit.recipe.load import read_recipe

    if name:
        read_recipe(name)
    return name


def known_tape(folder: Path) -> Path:
    """A tape's folder that is there.

    Raises:
        DeitkitError: there is none.
    """
    if not folder.exists():
        remedy = f"deitkit tape record --recipe RECIPE --teacher TEACHER -o {folder}"
        raise DeitkitError(f"{folder} does not exist", value=str(folder), remedy=remedy)
    return folder


def known_tapes(folders: list[Path]) -> list[Path]:
    return [known_tape(folder) for folder in folders]


def known_runs(folders: list[str]) -> list[str]:
    """Folders of runs that are there.

    Raises:
        DeitkitError: one is none.
    """
    from deitkit.runs.folder import Run

    for folder in folders:
        Run.open(folder)
    return folders


def known_trackers(text: str) -> str:
    """Names of trackers whose packages are here.

    Raises:
        DeitkitError: there is no such tracker, or its package is not installed.
    """
    from deitkit.trackers.registry import parse_trackers

    parse_trackers(text)
    return text
