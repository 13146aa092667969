"""Position embeddings on another grid (DeiT Sec. 3; FixRes). Pure tensor functions; loads nothing.

Legend: P prefix tokens, D width; a grid is (rows, columns) of patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.recipe.schema import PositionMode

POSITION_MODES: tuple[PositionMode, ...] = get_args(PositionMode)
PREFIX_KEYS = ("cls_token", "dist_token", "reg_token")
MOST_PREFIX_TOKENS = 8  # class, distillation and the registers of some transformers


def resample_pos_embed(
    pos_embed: Tensor,
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    prefix_tokens: int,
    mode: PositionMode = "bicubic",
) -> Tensor:
    """[1, P + h*w, D] -> [1, P + h'*w', D]; the P prefix tokens are kept apart and unchanged.

    Bicubic without antialiasing is the paper's choice: it keeps a vector's norm, where bilinear shrinks it (Sec. 3).
    torch's antialiased bicubic has another kernel (a = -0.5) and differs even when enlarging. Equal grids: a copy.
    """
    if pos_embed.shape[1] != prefix_tokens + grid[0] * grid[1]:
        raise DeitkitError(
            f"position embedding has {pos_embed.shape[1]} rows, not {prefix_tokens} + {grid[0]} x {grid[1]}",
            value=tuple(pos_embed.shape),
            remedy="name the source's grid and number of prefix tokens",
        )
    if grid == new_grid:
        return pos_embed.clone()
    prefix, patches = pos_embed[:, :prefix_tokens], pos_embed[:, prefix_tokens:]
    # float32: bicubic has no half-precision kernel on every device
    image = patches.float().reshape(1, *grid, -1).permute(0, 3, 1, 2)
    name, _, antialias = mode.partition("-")
    corners = None if name == "nearest" else False
    image = F.interpolate(image, size=new_grid, mode=name, align_corners=corners, antialias=bool(antialias))
    patches = image.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)
    return torch.cat([prefix, patches], dim=1)


def mean_norm(pos_embed: Tensor, *, prefix_tokens: int) -> float:
    """Mean L2 norm of the patches' position vectors; pos_embed [1, P + N, D]."""
    return float(pos_embed[0, prefix_tokens:].float().norm(dim=-1).mean().item())


def count_prefix(state: Mapping[str, Tensor]) -> int:
    """Number of prefix tokens, [1, P, D] each, of a state dict: read from the source, never assumed."""
    return sum(state[key].shape[1] for key in PREFIX_KEYS if key in state and state[key].ndim == 3)


def is_square(patches: int) -> bool:
    """Whether so many patches can form a square."""
    return patches > 0 and math.isqrt(patches) ** 2 == patches


def guess_grid(state: Mapping[str, Tensor], *, size: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """(rows, columns) of the patches behind `pos_embed` [1, P + h*w, D]; None where there is no such embedding.

    `size` is the input (height, width) px, where it is known; without it the patches must form a square.
    """
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    rows, prefix = positions.shape[1], count_prefix(state)
    if size is not None:
        grid = (size[0] // patches.shape[-2], size[1] // patches.shape[-1])
        if rows - grid[0] * grid[1] in range(MOST_PREFIX_TOKENS + 1):
            return grid
    for tokens in (prefix, 0):  # some embed the patches alone
        if is_square(rows - tokens):
            side = math.isqrt(rows - tokens)
            return side, side
    return None
