"""Optimiser, learning-rate schedule and EMA, as the paper's recipe has them (Table 9). Runs no training."""

from __future__ import annotations

import copy
import math

import torch
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn

from deitkit.models.student import Student
from deitkit.recipe.schema import Recipe


def build_optimizer(student: Student, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum, of the parameters that learn (`train.parts`).

    No weight decay on biases, 1-D parameters, tokens and positions.
    """
    optim = recipe.optim
    exempt: set[str] = getattr(student.network, "no_weight_decay", set)()
    groups = param_groups_weight_decay(student.network, optim.weight_decay, no_weight_decay_list=exempt)
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.peak_lr, momentum=optim.momentum, nesterov=optim.momentum > 0)
    return torch.optim.AdamW(
        groups, lr=recipe.peak_lr, betas=optim.betas, eps=optim.eps, fused=device.type == "cuda" or None
    )


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
