"""The table of formats: how each is written, and how it answers by its own library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deitkit.models.export import onnx, program, safetensors, timm, transformers
from deitkit.models.export.wanted import FormatName, Wanted
from deitkit.models.load import LoadedModel
from deitkit.models.student import Heads


@dataclass(frozen=True)
class Format:
    """`write` makes a file or folder of a model, `answer` has it classify images [B, 3, H, W]; `allowed` is by how much
    logits may differ then; `notes` are what its users should know."""

    write: Callable[[LoadedModel, Path, Wanted], None]
    answer: Callable[[Path, Tensor], Heads]
    allowed: float
    notes: Callable[[LoadedModel], tuple[str, ...]] = lambda _: ()


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(onnx.write, onnx.answer, 1e-4),
    "timm": Format(timm.write, timm.answer, 1e-5, timm.notes),
    "hf": Format(transformers.write, transformers.answer, 1e-5, transformers.notes),
    "torch": Format(program.write, program.answer, 1e-5),
    "safetensors": Format(safetensors.write, safetensors.answer, 1e-5),
}
