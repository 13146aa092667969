"""The table of formats: how each is written, and how it answers by its own library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deitkit.models.export import onnx
from deitkit.models.export.wanted import FormatName, Wanted
from deitkit.models.load import LoadedModel
from deitkit.models.student import Heads


@dataclass(frozen=True)
class Format:
    """`write` makes a file or folder of a model, `answer` has it classify images [B, 3, H, W]; `allowed` is by how much
    logits may differ then; `ending` is that of its name."""

    write: Callable[[LoadedModel, Path, Wanted], None]
    answer: Callable[[Path, Tensor], Heads]
    allowed: float
    ending: str


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(onnx.write, onnx.answer, 1e-4, ".onnx"),
}
