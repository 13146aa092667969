"""The names of a state dict's tensors, whoever wrote them -> timm's. Pure functions of tensors; builds no model.

What a trainer or wrapper put before the names (`module.`, `model.`, `backbone.`) is found by the place of the patch
embedding, which every vision transformer has; other networks have it taken off by a list of usual words. Numbers stay
bit for bit, but for one addition (`_without_class_position`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deitkit.models.positions import is_square

# What tools put into the midst of names: torch.compile, FSDP, activation checkpoints.
INNER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What trainers put before the names of networks that are no vision transformers.
WRAPPERS = (
    "module.", "network.", "model.", "net.", "backbone.", "encoder.", "student.", "teacher.", "ema_model.", "ema.",
    "_forward_module.",
)  # fmt: skip
TOLD = 3


@dataclass(frozen=True)
class KeyNames:
    """How one project calls a vision transformer's tensors.

    `patches` and `positions` find its patch embedding's weight and its position embedding, behind whatever was put
    before all names; `keys` are its own words and timm's, replaced one after the other.
    """

    whose: str
    patches: str
    positions: str
    keys: tuple[tuple[str, str], ...]

    def wrappers(self, keys: Iterable[str]) -> list[str]:
        """What stands before the names of each such transformer."""
        signs = [re.compile(rf"(?P<wrapper>(?:.*?\.)??){sign}") for sign in (self.patches, self.positions)]
        patches, positions = ([found["wrapper"] for found in map(sign.fullmatch, keys) if found] for sign in signs)
        return [wrapper for wrapper in patches if wrapper in positions]


NAMINGS = (
    # DeiT, DeiT III (gamma_1), DINO, MAE and DINOv2 (register_tokens) have timm's names but for these.
    KeyNames(
        "timm's", r"patch_embed\.proj\.weight", "pos_embed",
        ((r"\.gamma_([12])$", r".ls\1.gamma"), (r"^register_tokens$", "reg_token")),
    ),
    KeyNames(
        "transformers'", r"(?:(?:deit|vit|dinov2\w*)\.)?embeddings\.patch_embeddings\.projection\.weight",
        r"(?:(?:deit|vit|dinov2\w*)\.)?embeddings\.position_embeddings",
        (
            (r"^(?:deit|vit|dinov2\w*)\.", ""), (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.position_embeddings$", "pos_embed"), (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.register_tokens$", "reg_token"), (r"^embeddings\.(\w+)$", r"\1"),
            (r"^encoder\.layer\.", "blocks."), (r"\.attention\.attention\.(q|k|v)\w+\.", r".attn.\1."),
            (r"\.attention\.output\.dense\.", ".attn.proj."), (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."), (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."), (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (r"^layernorm\.", "norm."), (r"^(?:cls_)?classifier\.", "head."),
            (r"^distillation_classifier\.", "head_dist."),
        ),
    ),
    KeyNames(
        "mmpretrain's", r"(?:backbone\.)?patch_embed\.projection\.weight", r"(?:backbone\.)?pos_embed",
        (
            (r"^backbone\.", ""), (r"^patch_embed\.projection\.", "patch_embed.proj."), (r"^layers\.", "blocks."),
            (r"\.ln([12])\.", r".norm\1."), (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"\.(?:attn|ffn)\.gamma([12])\.\w+$", r".ls\1.gamma"), (r"^(?:ln1|norm1)\.", "norm."),
            (r"^ln2\.", "fc_norm."), (r"^head\.layers\.(head\w*)\.", r"\1."),
        ),
    ),
    KeyNames(
        "torchvision's", r"conv_proj\.weight", r"encoder\.pos_embedding",
        (
            (r"^conv_proj\.", "patch_embed.proj."), (r"^class_token$", "cls_token"),
            (r"^encoder\.pos_embedding$", "pos_embed"), (r"^encoder\.layers\.encoder_layer_", "blocks."),
            (r"\.ln_([12])\.", r".norm\1."), (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."), (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."), (r"^encoder\.ln\.", "norm."), (r"^heads\.head\.", "head."),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Renamed:
    """A state dict under timm's names; `notes` say what was taken off, left out or translated."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def timms_names(state: Mapping[str, Tensor]) -> Renamed:
    """A state dict as timm would have written it. Of several networks in it the first is taken, and that is said."""
    keys = {INNER.sub("", key): value for key, value in state.items()}
    notes = [] if keys.keys() == state.keys() else ["what torch.compile or FSDP put into the names was left out"]
    for naming in NAMINGS:
        if wrappers := naming.wrappers(keys):
            kept = _taken_off(keys, wrappers, notes)
            if naming.whose != NAMINGS[0].whose:
                notes.append(f"the tensors have {naming.whose} names: translated into timm's")
            return Renamed(_translated(kept, naming), tuple(notes))
    while wrapper := next((word for word in WRAPPERS if _is_before_most(keys, word)), ""):
        keys = _taken_off(keys, [wrapper], notes)
    return Renamed(keys, tuple(notes))


def _is_before_most(keys: Iterable[str], word: str) -> bool:
    has = [key.startswith(word) for key in keys]
    return sum(has) > len(has) / 2


def _taken_off(state: Mapping[str, Tensor], wrappers: list[str], notes: list[str]) -> dict[str, Tensor]:
    """The tensors whose names begin with the first wrapper, without it; what is left out is said."""
    wrapper, *others = wrappers
    kept = {key.removeprefix(wrapper): value for key, value in state.items() if key.startswith(wrapper)}
    if others:
        notes.append(f"of several networks {wrapper!r} was taken, not {' or '.join(map(repr, others))}")
    beside = [key for key in state if not key.startswith((wrapper, *others))]
    if wrapper:
        told = f" and {len(beside)} tensors beside them ({', '.join(beside[:TOLD])})" if beside else ""
        notes.append(f"{wrapper!r} before every key{told} was left out")
    return kept


def _translated(state: Mapping[str, Tensor], naming: KeyNames) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for theirs, ours in naming.keys:
            key = re.sub(theirs, ours, key)
        renamed[key] = value
    renamed = _dropped_head(_joined(renamed))
    return renamed if "reg_token" in state else _without_class_position(renamed)


def _joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of a layer, each [D, ...], as the one tensor [3 D, ...] that timm has."""
    joined = dict(state)
    for key in state:
        front, middle, part = key.partition(".attn.q.")
        names = [f"{front}.attn.{each}.{part}" for each in "qkv"]
        if middle and all(name in state for name in names):
            joined[f"{front}.attn.qkv.{part}"] = torch.cat([joined.pop(name) for name in names])
    return joined


def _dropped_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A distillation token without its head, as of transformers' DeiTForImageClassification, acts as a register."""
    if "dist_token" in state and "head.weight" in state and "head_dist.weight" not in state:
        state["reg_token"] = state.pop("dist_token")
    return state


def _without_class_position(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 with registers gives the class token a position and the registers none; timm has one for none of them:
    the class token's is added to it here, once, instead of in every forward pass."""
    positions, token = state.get("pos_embed"), state.get("cls_token")
    if "reg_token" in state and positions is not None and token is not None and is_square(positions.shape[1] - 1):
        state["cls_token"], state["pos_embed"] = token + positions[:, :1], positions[:, 1:]
    return state
