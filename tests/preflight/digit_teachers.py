"""Teachers of the handwritten digits, good and bad, that need no training: the nearest of ten mean images.

Each function is a factory, as `digit_teachers.py:right` names it on a command line.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

NAMES = tuple("0123456789")


class NearestMean(nn.Module):
    """images [B, 3, H, W], pixels from 0 to `white` -> logits [B, 10]: less the squared distance to each class's mean
    image of 8 x 8 pixels; like most networks it is blind beyond black and white."""

    means: Tensor

    def __init__(self, *, white: float = 1.0, columns: list[int] | None = None, **says: Any) -> None:
        super().__init__()
        digits = load_digits()
        images = torch.tensor(digits.images / 16, dtype=torch.float32).flatten(1)
        target = torch.tensor(digits.target)
        means = torch.stack([images[target == digit].mean(dim=0) for digit in range(10)])
        self.register_buffer("means", means)
        self.white, self.columns = white, columns
        for name, value in {"class_names": NAMES, "mean": (0.0,) * 3, "std": (1.0,) * 3, **says}.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        pixels = F.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 8).flatten(1)
        logits = -(torch.cdist((pixels / self.white).clamp(0, 1), self.means) ** 2)
        return logits if self.columns is None else logits[:, self.columns]


class RandomHead(NearestMean):
    """The means of a good teacher, answered in a jumble of weights: features that fit, a head that does not."""

    def forward(self, images: Tensor) -> Tensor:
        head = torch.randn((10, 10), generator=torch.Generator().manual_seed(1))
        return (super().forward(images) * 4).softmax(dim=1) @ head


class Breaks(NearestMean):
    """NaN for every image but the first."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images).clone()
        if len(images) > 2:  # a trial at opening shows two
            logits[1:] = torch.nan
        return logits


def right() -> nn.Module:
    return NearestMean()


def unnamed() -> nn.Module:
    return NearestMean(class_names=None)


def shifted() -> nn.Module:
    """Says the data's order, but answers each class one output late."""
    return NearestMean(columns=[9, 0, 1, 2, 3, 4, 5, 6, 7, 8])


def permuted() -> nn.Module:
    return NearestMean(columns=[3, 0, 8, 1, 6, 9, 2, 5, 7, 4])


def unnormalised() -> nn.Module:
    """Was trained on pixels from 0 to 255, but says nothing of it."""
    return NearestMean(white=255.0)


def wrongly_normalised() -> nn.Module:
    """Was trained on pixels from 0 to 1, but says that it takes them from 0 to 255."""
    return NearestMean(input="0..255")


def random_head() -> nn.Module:
    return RandomHead()


def breaks() -> nn.Module:
    return Breaks()
