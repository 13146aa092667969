"""The student's views as one classifier wants them, on the device: normalisation, size and channels.

Bicubic with antialiasing is Pillow's (a = -0.5), enlarging or shrinking. Nothing is clipped but integer pixels: erased
boxes hold noise beyond black and white. Legend: B batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deitkit.data.views.loader import per_channel
from deitkit.teachers.facts import Input, Triple, shown

CPU = torch.device("cpu")
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's grey


class Adapter(nn.Module):
    """images [B, 3, H, W], normalised with the student's mean and std -> what the classifier takes.

    Where nothing differs it hands the very same tensor on.
    """

    factor: Tensor | None
    offset: Tensor | None
    luma: Tensor | None

    def __init__(self, wanted: Input, *, mean: Triple, std: Triple) -> None:
        super().__init__()
        self.wanted = wanted
        factor, offset = rescaling(wanted, mean=mean, std=std)
        self.register_buffer("factor", factor)
        self.register_buffer("offset", offset)
        self.register_buffer("luma", per_channel(LUMA, CPU) if wanted.channels == "grey" else None)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> [B, 3 or 1, h, w], float32 or uint8."""
        if self.factor is not None and self.offset is not None:
            images = images * self.factor + self.offset
        if self.wanted.size is not None and tuple(images.shape[-2:]) != self.wanted.size:
            images = F.interpolate(images, self.wanted.size, mode="bicubic", antialias=True)
        if self.luma is not None:
            images = (images * self.luma).sum(dim=1, keepdim=True)
        elif self.wanted.channels == "bgr":
            images = images.flip(1)
        return images.round().clamp(0, 255).to(torch.uint8) if self.wanted.integer else images


def rescaling(wanted: Input, *, mean: Triple, std: Triple) -> tuple[Tensor | None, Tensor | None]:
    """(factor, offset), each [1, 3, 1, 1] in the order of RGB, or (None, None) where nothing changes.

    The student's x = (p - mean) / std becomes (s p - mean') / std' with s = 1 or 255: x' = x * s std / std' +
    (s mean - mean') / std'.
    """
    own_mean, own_std = wanted.mean, wanted.std
    if wanted.channels == "bgr":
        own_mean, own_std = own_mean[::-1], own_std[::-1]
    scale = 255.0 if wanted.values == "0..255" else 1.0
    if scale == 1.0 and (tuple(mean), tuple(std)) == (own_mean, own_std):
        return None, None
    theirs, spread, own, own_spread = (per_channel(values, CPU) for values in (mean, std, own_mean, own_std))
    return spread * scale / own_spread, (theirs * scale - own) / own_spread


def adaptations(wanted: Input, *, mean: Triple, std: Triple, size: tuple[int, int]) -> list[str]:
    """What the adapter does to views of this normalisation and size (height, width) px, in words."""
    notes = []
    if rescaling(wanted, mean=mean, std=std)[0] is not None:
        notes.append(f"views are normalised anew on the device: {wanted.normalisation()}")
    if wanted.size is not None and wanted.size != size:
        notes.append(
            f"views are resized on the device from {shown(size)} to {shown(wanted.size)} px (bicubic, antialiased)"
        )
    if wanted.channels != "rgb":
        notes.append("channels are reversed to BGR" if wanted.channels == "bgr" else "views are made grey (luma)")
    if wanted.integer:
        notes.append("views are rounded and clipped to uint8")
    return notes
