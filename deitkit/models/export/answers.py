"""The network that is traced: images -> logits of each head, and the probabilities that decide.

Legend: B batch, K classes.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from deitkit.models.exported import OUTPUTS
from deitkit.models.load import LoadedModel
from deitkit.models.student import Heads


class Answers(nn.Module):
    """images [B, 3, H, W] -> outputs by name, each [B, K] in float32; `half` inside. The model is left as it is."""

    def __init__(self, model: LoadedModel, *, half: bool = False) -> None:
        super().__init__()
        self.student = copy.deepcopy(model.student).half() if half else model.student
        self.fusion, self.half_inside = model.info.fusion, half

    @property
    def names(self) -> list[str]:
        """Of the outputs, in their order."""
        return [name for head, name in OUTPUTS.items() if self.student.distilled or head != "distillation"]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        heads: Heads = self.student(images.half() if self.half_inside else images)
        logits = [values.float() for values in heads.logits().values()]
        return dict(zip(self.names, (*logits, Heads(*logits).fused(self.fusion)), strict=True))
