"""A vision transformer read off its tensors' names and shapes: timm's architecture and arguments. Opens no file.

Exact or nothing: the network is built without storage and compared name by name. What no shape tells, the number of
heads, is DeiT's 64 of the width a head, or the catalog's for a width of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor

from deitkit.catalog import MODELS
from deitkit.models.positions import count_prefix, guess_grid
from deitkit.models.student import CHANNELS

PATCHES = "patch_embed.proj.weight"
# What may lie beside a transformer without being used by it: heads of other forms, and what pre-training needed.
BESIDE = re.compile(r"head|fc\.|classifier|mask_token|decoder|pooler|neck|pre_logits|projector|predictor")
DEIT_HEAD = 64  # of the width
DEIT_WIDTHS = (192, 384, 768, 1024)  # DeiT-Ti, -S, -B and ViT-L, all with heads of 64
TOLD = 3


@dataclass(frozen=True)
class Shapes:
    """What a state dict's shapes say: `architecture` is None where it is no plain transformer, and `notes` say why.

    `size` is the input's (height, width) px.
    """

    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def read_shapes(state: Mapping[str, Tensor]) -> Shapes:
    """The transformer behind a state dict under timm's names."""
    grid = guess_grid(state)
    depth = 1 + max((int(key.split(".")[1]) for key in state if re.match(r"blocks\.\d+\.", key)), default=-1)
    if grid is None or not {PATCHES, "blocks.0.mlp.fc1.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
        return Shapes()
    width, channels, *patch = state[PATCHES].shape
    if channels != CHANNELS:
        return Shapes(notes=(f"it takes images of {channels} channels; deitkit's have {CHANNELS}",))
    size = (grid[0] * patch[0], grid[1] * patch[1])
    heads, notes = _heads(state, width)
    arguments = {
        "num_classes": len(state["head.weight"]) if _is_linear_head(state, width) else 0,
        "img_size": list(size), "patch_size": patch[0] if patch[0] == patch[1] else list(patch), "embed_dim": width,
        "depth": depth, "num_heads": heads, **_options(state, width, grid),
    }  # fmt: skip
    architecture = f"deit_base{'_distilled' if 'dist_token' in state else ''}_patch16_224"
    problems = differences(state, architecture, arguments)
    return Shapes(notes=problems) if problems else Shapes(architecture, arguments, size, notes)


def differences(state: Mapping[str, Tensor], architecture: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What keeps a state dict from being this architecture's; heads apart, which may be others or none."""
    try:
        with torch.device("meta"):
            network = timm.create_model(architecture, **arguments)
    except (TypeError, ValueError, AssertionError, ArithmeticError, LookupError, RuntimeError) as error:
        return (f"timm's {architecture} refuses what its shapes say: {error}",)
    wanted = {key: value.shape for key, value in network.state_dict().items() if not key.startswith("head")}
    other = [key for key in wanted if key in state and state[key].shape != wanted[key]]
    missing = [key for key in wanted if key not in state]
    beside = [key for key in state if key not in wanted and not BESIDE.match(key)]
    told = (("of another shape", other), ("missing", missing), ("no part of a plain transformer", beside))
    return tuple(f"{len(keys)} tensors are {what}: {', '.join(keys[:TOLD])}" for what, keys in told if keys)


def _is_linear_head(state: Mapping[str, Tensor], width: int) -> bool:
    head = state.get("head.weight")
    return head is not None and head.ndim == 2 and head.shape[1] == width and "head.bias" in state


def _heads(state: Mapping[str, Tensor], width: int) -> tuple[int, tuple[str, ...]]:
    """The number of heads, and whether it was only a guess."""
    normed = state.get("blocks.0.attn.q_norm.weight")
    if normed is not None and normed.ndim == 1 and len(normed):
        return max(1, width // len(normed)), ()
    heads = next((model.num_heads for model in MODELS.values() if model.embed_dim == width), max(1, width // DEIT_HEAD))
    if width in DEIT_WIDTHS:
        return heads, ()
    return heads, (
        f"taken as {heads} heads of {width // heads} numbers, which no shape tells (model.options.num_heads)",
    )


def _options(state: Mapping[str, Tensor], width: int, grid: tuple[int, int]) -> dict[str, Any]:
    """Arguments in which it differs from DeiT."""
    hidden, prefix = len(state["blocks.0.mlp.fc1.weight"]), count_prefix(state)
    rows, pooled = state["pos_embed"].shape[1], "cls_token" not in state or "fc_norm.weight" in state
    registers = state.get("reg_token")
    found = {
        "mlp_ratio": None if hidden == 4 * width else mlp_ratio(hidden, width),
        "qkv_bias": None if "blocks.0.attn.qkv.bias" in state else False,
        "qk_norm": "blocks.0.attn.q_norm.weight" in state or None,
        # The value is a start; the weights bring their own.
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in state else None,
        "class_token": None if "cls_token" in state else False,
        "reg_tokens": None if registers is None else registers.shape[1],
        "no_embed_class": True if prefix and rows == grid[0] * grid[1] else None,
        "global_pool": "avg" if pooled else None,
        "fc_norm": False if pooled and "fc_norm.weight" not in state else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def mlp_ratio(hidden: int, width: int) -> float:
    """A float by which timm's int(width x ratio) is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
