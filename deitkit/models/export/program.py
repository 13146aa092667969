"""A model as a `torch.export` program, which torch alone runs: `torch.export.load(FILE).module()(images)`.

images [B, 3, H, W], any B -> a dict of each head's logits and the probabilities. `deitkit.models.program_file` reads
its tensors back.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from deitkit.models.export.answers import Answers
from deitkit.models.export.quiet import quiet
from deitkit.models.export.wanted import Wanted
from deitkit.models.exported import OUTPUTS
from deitkit.models.file_signs import ABOUT_FILE
from deitkit.models.folder import config_of
from deitkit.models.load import LoadedModel
from deitkit.models.student import Heads


def write(model: LoadedModel, path: Path, wanted: Wanted) -> None:
    """Write the file."""
    batch = {0: torch.export.Dim("batch")}
    with quiet():
        program = torch.export.export(
            Answers(model).eval(), (torch.zeros(2, 3, *model.info.size),), dynamic_shapes={"images": batch}
        )
        about = json.dumps(config_of(model.student, model.info))
        torch.export.save(program, path, extra_files={ABOUT_FILE: about})


def answer(path: Path, images: Tensor) -> Heads:
    """images [B, 3, H, W] -> Heads, by the program; only for one's own, because torch executes what it holds."""
    found = torch.export.load(path).module()(images)
    return Heads(found[OUTPUTS["class"]], found.get(OUTPUTS["distillation"]))
