"""The other ways in which a classifier may have been trained to take its pixels. Runs no model.

A teacher that was trained on pixels from 0 to 255, with another mean or on BGR still answers, only worse: so each usual
way is tried on the same images. Legend: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deitkit.catalog import IMAGENET_MEAN, IMAGENET_STD
from deitkit.data.views.loader import per_channel
from deitkit.teachers.facts import ONES, ZEROS, Channels, Input, Triple, spelled

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
HALVES = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Way:
    """A named way of giving pixels to a network."""

    name: str
    input: Input

    def settings(self, now: Input) -> tuple[str, ...]:
        """The recipe's keys that make it so where `now` is how it is."""
        wanted, keys = self.input, []
        if (wanted.mean, wanted.std) != (now.mean, now.std):
            keys = [f"'teacher.{key}=[{spelled(getattr(wanted, key))}]'" for key in ("mean", "std")]
        if wanted.values != now.values:
            keys.append(f"teacher.input={wanted.values}")
        if wanted.channels != now.channels:
            keys.append(f"teacher.channels={wanted.channels}")
        return tuple(keys)


def other_ways(now: Input, *, mean: Triple, std: Triple) -> list[Way]:
    """The usual ways other than `now`; mean and std are the data's. None for a network that takes whole numbers: it
    normalises for itself."""
    if now.integer:
        return []
    caffe: Triple = (255 * IMAGENET_MEAN[2], 255 * IMAGENET_MEAN[1], 255 * IMAGENET_MEAN[0])
    usual = [
        Way("ImageNet's mean and std", _rgb(IMAGENET_MEAN, IMAGENET_STD)),
        Way("CIFAR-10's mean and std", _rgb(CIFAR_MEAN, CIFAR_STD)),
        Way("-1 to 1 (mean and std 0.5)", _rgb(HALVES, HALVES)),
        Way("the data's mean and std", _rgb(mean, std)),
        Way("0 to 1, not normalised", _rgb(ZEROS, ONES)),
        Way("0 to 255, not normalised", replace(_rgb(ZEROS, ONES), values="0..255")),
        Way("0 to 255 less ImageNet's mean, BGR (Caffe)", Input(None, caffe, ONES, "bgr", "0..255")),
    ]
    if now.channels == "grey":
        usual = [replace(way, input=replace(way.input, channels="grey")) for way in usual[:-1]]
    else:
        usual.insert(0, _reversed(now))
    found: list[Way] = []
    for way in usual:
        if not any(_is_same(way.input, known) for known in (now, *(each.input for each in found))):
            found.append(way)
    return found


def _rgb(mean: Triple, std: Triple) -> Input:
    return Input(None, mean, std)


def _reversed(now: Input) -> Way:
    """The other order of channels, each keeping its own mean and std."""
    channels: Channels = "rgb" if now.channels == "bgr" else "bgr"
    other = replace(now, channels=channels, mean=now.mean[::-1], std=now.std[::-1])
    return Way(f"{channels.upper()} instead of {now.channels.upper()}", other)


def _is_same(a: Input, b: Input) -> bool:
    """Whether a network is given the same numbers, up to rounding."""
    (one, one_spread), (other, other_spread) = _affine(a, torch.device("cpu")), _affine(b, torch.device("cpu"))
    close = torch.allclose(one * one_spread, other * other_spread, atol=1e-2) and torch.allclose(
        one_spread, other_spread, rtol=1e-2
    )
    return a.channels == b.channels and close


def _affine(given: Input, device: torch.device) -> tuple[Tensor, Tensor]:
    """(mean, factor), each [1, 3, 1, 1] in the order of RGB: a pixel p from 0 to 1 becomes (p - mean) * factor."""
    scale = 255.0 if given.values == "0..255" else 1.0
    mean, std = per_channel(given.mean, device), per_channel(given.std, device)
    if given.channels == "bgr":
        mean, std = mean.flip(1), std.flip(1)
    return mean / scale, scale / std


def shown_as(images: Tensor, way: Way, *, now: Input, mean: Triple, std: Triple) -> Tensor:
    """images [B, 3, H, W], normalised by the data's mean and std -> images for which a classifier that makes `now` of
    its images gives its network what `way` would have given for the first ones."""
    device = images.device
    theirs, spread = per_channel(mean, device), per_channel(std, device)
    offset, factor = _affine(way.input, device)
    wanted = (images * spread + theirs - offset) * factor
    if (way.input.channels == "bgr") != (now.channels == "bgr"):
        wanted = wanted.flip(1)
    own_offset, own_factor = _affine(now, device)
    return (wanted / own_factor + own_offset - theirs) / spread
