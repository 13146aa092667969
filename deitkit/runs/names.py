"""A run by the end of its path, and its checkpoints by their names. Opens no model."""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from pathlib import Path

from deitkit.errors import DeitkitError, did_you_mean
from deitkit.records import read_json
from deitkit.runs.contents import Stepped
from deitkit.runs.folder import Run, find_runs

BEST, EMA, LAST = "best", "ema", "last"
LONG = 200  # characters of a name that an error shows

logger = logging.getLogger(__name__)


def is_there(text: str) -> bool:
    """Whether a file or folder has this very name; False for words that none can have."""
    return bool(text) and os.path.exists(text)  # noqa: PTH110 -- Path's raises where a name is too long


def can_be_a_path(text: str) -> bool:
    """Whether a file or folder of this name could be here."""
    try:
        os.lstat(text or ".")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except (OSError, ValueError):  # too long, or with a null character
        return False
    return True


def runs_called(name: str) -> list[str]:
    """The runs below runs/ whose paths end in this name, by path."""
    parts = Path(name).parts
    if not parts or not Path("runs").is_dir():
        return []
    return sorted(str(run.path) for run in find_runs() if run.path.parts[-len(parts) :] == parts)


def run_called(text: str) -> str:
    """The run of a short name, which is said; else the word as it is.

    Raises:
        DeitkitError: several runs are called so.
    """
    found = [] if is_there(text) else runs_called(text)
    if len(found) > 1:
        raise DeitkitError(
            f"{len(found)} runs are called {text!r}", value=text, choices=found, remedy="name one by its folder"
        )
    if found:
        _say_found(text, found[0])
    return found[0] if found else text


@cache
def _say_found(text: str, place: str) -> None:
    """Once a command."""
    logger.info(f"{text} is {place}")


def checkpoint_called(run: Run, word: str) -> str:
    """The name of a run's checkpoint, `best` or `ema`."""
    kept = checkpoints(run)
    steps = [name for name in kept if name.startswith("step-")]
    name = f"step-{int(word):09d}" if word.isdecimal() else steps[-1] if word == LAST and steps else word
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
    return [*steps, *([BEST] if BEST in names else [])]


def step_of(run: Run, checkpoint: str) -> int:
    """The optimiser step after which it was saved.

    Raises:
        DeitkitError: its manifest is damaged.
    """
    return read_json(run.checkpoints / checkpoint / "manifest.json", Stepped, remedy="name another checkpoint")["step"]


def no_such_model(text: str) -> DeitkitError:
    """The one error about a model that is not there: near names, and how others are written."""
    names = [name for run in find_runs() for name in (run.name, str(run.path))]
    text = text[:LONG]
    near = did_you_mean(text, names) or did_you_mean(text.partition("@")[0].partition(":")[0], names)
    other = "hf-hub:" if re.fullmatch(r"[\w.-]+/[\w.-]+", text) else "timm:"
    written = f"{other}{text}" if re.fullmatch(r"[\w./-]+", text) else f"{other}NAME"
    return DeitkitError(
        f"model {text} does not exist{near and f'.{near}'}" if text else "no model is named",
        value=text,
        remedy=f"`deitkit runs list` shows the runs; a published model is written {written}, a file with its ending",
    )
