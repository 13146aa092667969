"""What only a file names, a run's teacher: found, but no Python function of it is executed unless it was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from deitkit.errors import DeitkitError
from deitkit.models.reference import PUBLISHED, Reference, is_foreign, local_folder
from deitkit.runs.folder import Run

_ASKED: ContextVar[frozenset[str] | None] = ContextVar("asked", default=None)


@contextlib.contextmanager
def executing_only(asked: Iterable[str]) -> Iterator[None]:
    """Meanwhile, of Python functions only these words are executed; without it, whatever the caller opens."""
    token = _ASKED.set(frozenset(Reference.parse(word).place for word in asked if word))
    try:
        yield
    finally:
        _ASKED.reset(token)


def refuse_unasked(function: str) -> None:
    """Raise where a Python function is not among those that were asked for.

    Raises:
        DeitkitError: it names the function, and how to ask for it.
    """
    asked = _ASKED.get()
    if asked is not None and function not in asked:
        raise code_from_file(function, "a run's folder", remedy=f"name it yourself: --teacher '{function}'")


def code_from_file(function: str, file: str, *, remedy: str) -> DeitkitError:
    """A Python function that a file names, and nobody who runs deitkit: it was not executed."""
    return DeitkitError(
        f"{file} names the Python function {function}: its code would be executed with all your rights, and was not",
        value=function,
        remedy=f"read that code; if you trust it: {remedy}",
    )


def teacher_of(run: str) -> str:
    """The one teacher of a run's recipe, where it is published or still on this disk; else nothing.

    An ONNX file or a Python function only where its predictions are kept: no code is executed that nobody asked for.
    """
    place = Reference.parse(run).folder
    teacher = Run(place).recipe().teacher if Run.is_run(place) else None
    if teacher is None or len(teacher.models) != 1:
        return ""
    model = teacher.models[0]
    if is_foreign(model):
        return model if (local_folder(model) / "predictions").is_dir() else ""
    return model if model.startswith(PUBLISHED) or Path(model).exists() else ""
