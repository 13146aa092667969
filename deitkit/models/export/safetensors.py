"""A model as one file of safetensors under timm's names, which says in its header how it is built and used."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from deitkit.models.export.wanted import Wanted
from deitkit.models.folder import config_of
from deitkit.models.load import LoadedModel, load_model
from deitkit.models.student import Heads
from deitkit.models.weight_files import ABOUT


def write(model: LoadedModel, path: Path, wanted: Wanted) -> None:
    """Write the file."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.student.network.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", ABOUT: json.dumps(config_of(model.student, model.info))})


def answer(path: Path, images: Tensor) -> Heads:
    """images [B, 3, H, W] -> Heads, by the file's own tensors in the network that its header describes."""
    student = load_model(str(path)).student
    student.network.load_state_dict(load_file(path))
    return student(images)  # type: ignore[no-any-return]
