"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of whole mix groups, as timm's `Mixup` in batch mode.

A group is mixed with its own reversal; lambda, kind and box are keyed by the group. Knows no labels' smoothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv

from deitkit.data.draws import Domain, uniforms
from deitkit.recipe import schema

CACHED_VALUES = 1 << 17  # half a MiB as floats
_APPLY, _SWITCH, _LAMBDA, _ROW, _COLUMN = range(5)  # lanes


@dataclass(frozen=True)
class MixPlans:
    """n groups: lam [n] (the share of the image itself), cutmix [n], box [n, 4] (top, left, bottom, right)."""

    lam: npt.NDArray[np.float64]
    cutmix: npt.NDArray[np.bool_]
    box: npt.NDArray[np.int64]


def draw_mix(mix: schema.Mix, size: tuple[int, int], *, seed: int, epoch: int, groups: npt.ArrayLike) -> MixPlans:
    """How each of the groups [n] is mixed; `size` is the view's (height, width). lam is 1 where nothing is mixed."""
    draws = uniforms(seed, Domain.MIX, epoch, groups, lanes=5)
    applied = draws[:, _APPLY] < (mix.prob if mix.mixup_alpha or mix.cutmix_alpha else 0.0)
    switch = mix.switch_prob if mix.mixup_alpha and mix.cutmix_alpha else float(mix.cutmix_alpha > 0)
    cutmix = applied & (draws[:, _SWITCH] < switch)
    # A Beta variate is its distribution's inverse at one uniform number; an alpha of 0 is never used.
    alpha = np.where(cutmix, mix.cutmix_alpha, mix.mixup_alpha)
    alpha[~applied] = 1.0
    lam = np.where(applied, betaincinv(alpha, alpha, draws[:, _LAMBDA]), 1.0)
    box = np.where(cutmix[:, None], _boxes(size, lam, draws), 0)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return MixPlans(np.where(cutmix, 1.0 - area / (size[0] * size[1]), lam), cutmix, box)


def _boxes(
    size: tuple[int, int], lam: npt.NDArray[np.float64], draws: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Boxes [n, 4] of area about (1 - lam), with a uniform centre, cut off at the view's edges."""
    sides = []
    for length, lane in zip(size, (_ROW, _COLUMN), strict=True):
        cut = np.floor(length * np.sqrt(1.0 - lam)).astype(np.int64)
        centre = np.floor(draws[:, lane] * length).astype(np.int64)
        sides.append((np.clip(centre - cut // 2, 0, length), np.clip(centre + (cut + 1) // 2, 0, length)))
    (top, bottom), (left, right) = sides
    return np.stack([top, left, bottom, right], axis=-1)


def mix_groups(images: torch.Tensor, plans: MixPlans, *, mix_group: int) -> torch.Tensor:
    """Mix each group with its own reversal, in place: images [n*G, C, H, W] -> the same."""
    half = mix_group // 2
    for group, lam, cutmix, box in zip(
        torch.split(images, mix_group), plans.lam.tolist(), plans.cutmix.tolist(), plans.box.tolist(), strict=True
    ):
        if lam == 1.0:
            continue
        for start in range(0, half, size := cached(images)):
            stop = min(half, start + size)
            _mix_pairs(group[start:stop], group[mix_group - stop : mix_group - start], lam, box if cutmix else None)
    return images


def _mix_pairs(first: torch.Tensor, second: torch.Tensor, lam: float, box: list[int] | None) -> None:
    """Mix images [n, C, H, W] with those of `second` from the last on, and those with them."""
    if box is not None:
        top, left, bottom, right = box
        ours, theirs = first[:, :, top:bottom, left:right], second[:, :, top:bottom, left:right]
        kept = ours.flip(0)
        ours.copy_(theirs.flip(0))
        theirs.copy_(kept)
        return
    ours, theirs = second.flip(0).mul_(1.0 - lam), first.flip(0).mul_(1.0 - lam)
    first.mul_(lam).add_(ours)
    second.mul_(lam).add_(theirs)


def cached(images: torch.Tensor) -> int:
    """How many images [B, C, H, W] a processor's cache holds while they are worked on; other devices take all."""
    return max(1, CACHED_VALUES // max(1, images[:1].numel())) if images.device.type == "cpu" else max(1, len(images))
