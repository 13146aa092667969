"""The class names of data sets that no library brings: one a line, in label order, in text files beside this module."""

from __future__ import annotations

from pathlib import Path


def class_list(name: str) -> tuple[str, ...]:
    """The classes of this data set, in label order."""
    return tuple(Path(__file__).with_name(f"{name}_classes.txt").read_text("utf-8").splitlines())
