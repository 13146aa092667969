"""What a check found. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line: what is there, and what helps. A warning limits what deitkit can do; a problem stops it."""

    state: State
    found: str
    remedy: str = ""


def ok(found: str) -> Finding:
    return Finding("ok", found)


def warning(found: str, remedy: str) -> Finding:
    return Finding("warning", found, remedy)


def problem(found: str, remedy: str) -> Finding:
    return Finding("problem", found, remedy)
