"""What the class and the distillation token read of an image: attention by layer and head, and its rollout.

Rollout: Abnar & Zuidema, Quantifying attention flow in transformers, 2020. Mean attention distance: Dosovitskiy et al.,
An image is worth 16x16 words, 2020, Fig. 7. Attention is what a layer mixes, not proof of what decided.
Legend: B batch, L layers, T tokens shown (class, then distillation), N patches, S all tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.student import TOKEN_NAMES, Heads, Student

if TYPE_CHECKING:
    from deitkit.models.load import LoadedModel

Pixels = NDArray[np.uint8]
Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Maps:
    """Attention of a batch of images; each row of weights over all S tokens sums to 1. On the CPU in float32.

    weights [L, heads, B, T, N]: what the tokens `names` read of the patches, which form `grid` (rows, columns).
    mean [L, B, S, S]: the mean over the heads, of all tokens. distance [L, heads, B]: mean attention distance in
    pixels, over pairs of patches. `decisions`: the logits of the same forward pass.
    """

    names: tuple[str, ...]
    grid: tuple[int, int]
    weights: Tensor
    mean: Tensor
    distance: Tensor
    decisions: Heads

    @property
    def prefix_tokens(self) -> int:
        return self.mean.shape[-1] - self.grid[0] * self.grid[1]


@dataclass(frozen=True, eq=False)
class AttentionLook:
    """One image and what the tokens `names` read of it.

    picture [H, W, 3]; weights [L, heads, T, rows, columns], shares of a token's attention; rolled [T, rows, columns];
    distance [L, heads] px; decisions: head -> (class, confidence).
    """

    name: str
    picture: Pixels
    names: tuple[str, ...]
    weights: Weights
    rolled: Weights
    distance: Weights
    decisions: dict[str, tuple[str, float]]
    label: str = ""


@torch.inference_mode()
def attention_maps(student: Student, images: Tensor) -> Maps:
    """images [B, 3, H, W], normalised -> Maps. Mode and fused attention are afterwards as before, on an error, too.

    Memory: all heads of one layer at a time, B x heads x S^2; the mean over heads and the tokens' rows are kept.

    Raises:
        DeitkitError: the network has no class token (a convnet), or attention of another kind.
    """
    network = _transformer(student)
    names = TOKEN_NAMES[: 2 if student.distilled else 1]
    prefix, (rows, columns) = int(network.num_prefix_tokens), network.patch_embed.grid_size
    distances = patch_distances((rows, columns), network.patch_embed.patch_size).to(images.device)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(_: Any, inputs: tuple[Tensor, ...]) -> None:
        weights = inputs[0].float()  # [B, heads, S, S]
        between = weights[:, :, prefix:, prefix:]
        distance = (between * distances).sum(dim=(-2, -1)) / between.sum(dim=(-2, -1))
        tokens = weights[:, :, : len(names), prefix:].transpose(0, 1)
        kept.append((tokens.cpu(), weights.mean(dim=1).cpu(), distance.T.cpu()))

    was_training = student.training
    hooks = []
    try:
        student.eval()
        with unfused(network):
            # The dropout's input is the softmax that this very forward pass multiplies with the values.
            hooks = [block.attn.attn_drop.register_forward_pre_hook(keep) for block in network.blocks]
            decisions = student(images)
    finally:
        for hook in hooks:
            hook.remove()
        student.train(was_training)
    weights, mean, distance = (torch.stack(parts) for parts in zip(*kept, strict=True))
    return Maps(names, (rows, columns), weights, mean, distance, decisions)


def look_at(model: LoadedModel, view: Pixels, *, device: torch.device, name: str, label: str = "") -> AttentionLook:
    """view [3, H, W] of the model's own size, as its evaluation cuts it."""
    from deitkit.data.views.loader import normalised, per_channel

    info, student = model.info, model.student.to(device)
    images = torch.from_numpy(view)[None].to(device)
    maps = attention_maps(student, normalised(images, per_channel(info.mean, device), per_channel(info.std, device)))
    decisions = {}
    for head, probabilities in maps.decisions.probabilities(info.fusion).items():
        confidence, index = probabilities[0].max(dim=-1)
        decisions[head] = (info.class_names[int(index)], float(confidence))
    return AttentionLook(
        name=name,
        picture=np.ascontiguousarray(view.transpose(1, 2, 0)),
        names=maps.names,
        weights=maps.weights[:, :, 0].double().numpy().reshape(*maps.weights.shape[:2], len(maps.names), *maps.grid),
        rolled=rollout(maps)[0].double().numpy().reshape(len(maps.names), *maps.grid),
        distance=maps.distance[:, :, 0].double().numpy(),
        decisions=decisions,
        label=label,
    )


@contextmanager
def unfused(network: Any) -> Iterator[None]:
    """Attention computed step by step while it is open: a fused kernel never holds the weights."""
    before = [block.attn.fused_attn for block in network.blocks]
    try:
        for block in network.blocks:
            block.attn.fused_attn = False
        yield
    finally:
        for block, fused in zip(network.blocks, before, strict=True):
            block.attn.fused_attn = fused


def rollout(maps: Maps) -> Tensor:
    """What reaches each token of each patch through all layers: [B, T, N].

    Heads are averaged, the residual path is an identity of equal weight, and the layers' matrices multiplied
    (Abnar & Zuidema 2020, eq. 1-2). With the prefix tokens' own share, not returned, a row sums to 1.
    """
    size = maps.mean.shape[-1]
    reached = torch.eye(size)[: len(maps.names)].expand(maps.mean.shape[1], -1, -1)
    for layer in maps.mean.flip(0):
        mixed = (layer + torch.eye(size)) / 2
        reached = reached @ (mixed / mixed.sum(dim=-1, keepdim=True))
    return reached[:, :, maps.prefix_tokens :]


def patch_distances(grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Distances between the centres of the patches, in pixels: [N, N]."""
    rows, columns = torch.meshgrid(
        torch.arange(grid[0]) * float(patch[0]), torch.arange(grid[1]) * float(patch[1]), indexing="ij"
    )
    centres = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    return torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _transformer(student: Student) -> Any:
    network: Any = student.network
    if not isinstance(network, VisionTransformer) or network.cls_token is None:
        raise DeitkitError(
            f"{student.architecture} has no class token whose attention could be shown",
            value=student.architecture,
            remedy="attention exists in vision transformers only; choose a DeiT run",
        )
    if not all(isinstance(getattr(block, "attn", None), Attention) for block in network.blocks):
        raise DeitkitError(
            f"{student.architecture} has blocks without timm's plain self-attention",
            value=student.architecture,
            remedy="choose a DeiT or ViT",
        )
    return network
