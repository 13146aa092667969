"""A model folder as timm and the Hugging Face hub take it: `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

from __future__ import annotations

from pathlib import Path

import timm
from torch import Tensor

from deitkit.models.export.wanted import Wanted
from deitkit.models.folder import save_model
from deitkit.models.load import LoadedModel
from deitkit.models.student import Heads, Student

PRETRAINED = "timm gives random weights unless it is called with pretrained=True"
AVERAGED = "{} averages the heads' logits, where the paper and deitkit add their softmaxes (Sec. 4)"


def write(model: LoadedModel, folder: Path, wanted: Wanted) -> None:
    """Write config and weights."""
    save_model(folder, model.student, model.info)


def answer(folder: Path, images: Tensor) -> Heads:
    """images [B, 3, H, W] -> Heads, of the network that timm itself opens."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return Student(network, "", {}).eval()(images)  # type: ignore[no-any-return]


def notes(model: LoadedModel) -> tuple[str, ...]:
    return (PRETRAINED, *((AVERAGED.format("timm"),) if model.student.distilled else ()))
