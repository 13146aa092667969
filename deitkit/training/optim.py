"""Optimiser, learning-rate schedule and EMA, as the paper's recipe has them (Table 9). Runs no training."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from timm.optim._optim_factory import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn

from deitkit.models.start import classifier_keys
from deitkit.models.student import Student
from deitkit.recipe.schema import Recipe

# Optimisers of timm's, and the recipe's values that they take; what they do not take is their own default.
OF_TIMM = {"lion": ("betas",), "nadamw": ("betas", "eps"), "adafactor": (), "muon": ("betas", "momentum")}


def build_optimizer(student: Student, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """AdamW, SGD with Nesterov momentum or one of timm's, of the parameters that learn (`train.parts`)."""
    optim, groups = recipe.optim, parameter_groups(student, recipe)
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.peak_lr, momentum=optim.momentum, nesterov=optim.momentum > 0)
    if optim.name in OF_TIMM:
        values = {key: getattr(optim, key) for key in OF_TIMM[optim.name]}
        return create_optimizer_v2(
            groups, opt=optim.name, lr=recipe.peak_lr, weight_decay=optim.weight_decay, **values
        )  # fmt: skip
    return torch.optim.AdamW(
        groups, lr=recipe.peak_lr, betas=optim.betas, eps=optim.eps, fused=device.type == "cuda" or None
    )


def parameter_groups(student: Student, recipe: Recipe) -> list[dict[str, Any]]:
    """What learns, in groups of equal weight decay and equal `lr_scale`: the share of the rate that a group gets.

    No weight decay on biases, 1-D parameters, tokens and positions. Under `optim.layer_decay` a group's share is
    layer_decay**d, d layers before the classifier, as timm cuts the network. Muon is for the hidden layers' matrices:
    tokens, positions and classifier are left to its AdamW (Jordan et al. 2024).
    """
    optim, network = recipe.optim, student.network
    exempt: set[str] = getattr(network, "no_weight_decay", set)()
    heads = set(classifier_keys(student))
    fallback = exempt | heads if optim.name == "muon" else ()
    if optim.layer_decay < 1:
        groups = param_groups_layer_decay(
            network, optim.weight_decay, no_weight_decay_list=exempt, fallback_list=fallback,
            layer_decay=optim.layer_decay,
        )  # fmt: skip
    else:
        groups = param_groups_weight_decay(
            network, optim.weight_decay, no_weight_decay_list=exempt, fallback_list=fallback
        )
    if optim.head_lr_scale == 1:
        return list(groups)
    own = {id(parameter) for name, parameter in network.named_parameters() if name in heads}
    return [part for group in groups for part in _head_apart(group, own, optim.head_lr_scale)]


def _head_apart(group: dict[str, Any], heads: set[int], scale: float) -> list[dict[str, Any]]:
    """The group without the classifier's parameters, and the classifier's at `scale` of its rate."""
    rest = [parameter for parameter in group["params"] if id(parameter) not in heads]
    head = [parameter for parameter in group["params"] if id(parameter) in heads]
    scales = ((rest, 1.0), (head, scale))
    return [
        {**group, "params": params, "lr_scale": share * group.get("lr_scale", 1.0)}
        for params, share in scales
        if params
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def learning_rate(recipe: Recipe, step: int, *, steps_per_epoch: int) -> float:
    """The rate of optimiser step `step` (from 0): linear from warmup_lr, then cosine to min_lr.

    The cosine spans the whole run and the warm-up replaces its start, as in the reference code; unlike there, both
    move with every step. warmup_lr and min_lr are absolute: they are not scaled with the batch.
    """
    peak, low = recipe.peak_lr, recipe.min_lr
    warmup_steps = round(recipe.schedule.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return recipe.schedule.warmup_lr + (peak - recipe.schedule.warmup_lr) * step / warmup_steps
    progress = step / (recipe.train.epochs * steps_per_epoch)
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * progress))


class Ema:
    """Exponential moving average of a student's weights and buffers: evaluated, saved and resumed."""

    def __init__(self, student: Student, decay: float) -> None:
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """average = decay * average + (1 - decay) * weights; buffers are copied."""
        averages: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in student.parameters()], 1 - self.decay)
        for average, buffer in zip(self.student.buffers(), student.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.student.network.state_dict())
