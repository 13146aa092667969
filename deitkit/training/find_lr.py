"""A learning rate from a range test (Smith 2017, Cyclical learning rates, arXiv 1506.01186, Sec. 3.3). Keeps nothing.

The rate grows by the same factor with every step, from one that changes nothing to one that destroys, on the run's own
views, loss, teacher, groups and optimiser. Over the logarithm of the rate the smoothed loss falls, has a minimum, and
rises. What is suggested is where it falls most steeply: still far from the minimum, behind which training diverges.

Ours: a batch's loss is compared with what the start weights lose on the very same views, dropout's noise included.
Otherwise the batches' own difficulty drowns the curve where batches are small.
"""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass

import numpy as np
import torch

from deitkit.data.views.loader import Batch
from deitkit.distributed import World, autocast
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Floats
from deitkit.models.student import Student
from deitkit.recipe.schema import Recipe
from deitkit.training.log import Sums
from deitkit.training.step import Training, build, loss_terms, noise_seed, teacher_answers, train_step

STEPS = 100
LOWEST, HIGHEST = 1e-7, 1.0  # for optimisers whose step is of the rate's size
HIGHEST_SGD = 100.0
WINDOW = 11  # steps whose mean is the smoothed loss: about half a decade
DIVERGED = 2.0  # a recent loss above so many times the lowest ends the test
RECENT = 5
LEAST = WINDOW + 2  # steps of which anything can be said
LEAST_FALL = 0.005  # of the loss: a curve that falls less says nothing


@dataclass(frozen=True)
class RangeTest:
    """Each step's absolute rate, and the smoothed loss: what the start weights lose on all batches in the mean, and how
    much more or less the trained ones lose on this. `steepest` and `lowest` are rates, None where the loss never fell.
    `lr` is the suggestion as the recipe counts `optim.lr`; `diverged`: whether the test ended early."""

    rates: list[float]
    smoothed: list[float]
    steepest: float | None
    lowest: float | None
    lr: float | None
    diverged: bool


def find_rate(recipe: Recipe, *, device: torch.device, workers: int, steps: int | None = None) -> RangeTest:
    """Run the test on the recipe, over STEPS steps unless told otherwise; nothing is written.

    Raises:
        DeitkitError: whatever the run itself would refuse, or a loss that is not finite from the first steps on.
    """
    training = build(recipe, world=World(), device=device, workers=workers)
    steps = steps or STEPS
    highest = HIGHEST_SGD if recipe.optim.name == "sgd" else HIGHEST
    if training.tape is not None:
        steps = min(steps, training.total_steps)  # it has no more answers
    rates = np.geomspace(LOWEST, highest, steps).tolist()
    training.parallel.train()
    losses, at_start = _losses(training, rates)
    if len(losses) < LEAST:
        raise DeitkitError(
            f"the loss is not finite after {len(losses)} of {steps} steps at rates below "
            f"{rates[min(len(losses), steps - 1)]:.1g}",
            value=recipe.optim.name,
            remedy="other start weights: these have diverged; or a longer run, where it has too few steps",
        )
    return judge(rates[: len(losses)], losses, at_start, recipe, diverged=len(losses) < steps)


def _losses(training: Training, rates: list[float]) -> tuple[Floats, Floats]:
    """The loss before each step at its rate, until it diverges; and that of the start weights on the same batches."""
    losses, at_start = [], []
    initial = copy.deepcopy(training.student).train().requires_grad_(False)
    with contextlib.closing(training.loader.steps(0, len(rates))) as batches:
        for rate, parts in zip(rates, batches, strict=True):
            before = _loss_of(initial, training, parts)
            training.sums = Sums()
            train_step(training, parts, rate=rate)
            training.progress.step += 1
            loss = training.sums.means()["loss"]
            if not math.isfinite(loss):
                break
            losses.append(loss)
            at_start.append(before)
            if len(losses) >= LEAST and np.mean(losses[-RECENT:]) > DIVERGED * np.mean(at_start[-RECENT:]):
                break
    return np.array(losses), np.array(at_start)


@torch.no_grad()
def _loss_of(student: Student, training: Training, parts: list[Batch]) -> float:
    """Of the step that comes, as `train_step` would have it with these weights."""
    total = 0.0
    for index, batch in enumerate(parts):
        torch.manual_seed(noise_seed(training.recipe.train.seed, training.progress.step, 0, index))
        with autocast(training.recipe, training.device):
            heads, answers = student(batch.images), teacher_answers(training, batch, part=index)
        total += loss_terms(heads, batch, answers, training.recipe, classes=training.classes).total.item()
    return total / len(parts)


def judge(rates: list[float], losses: Floats, at_start: Floats, recipe: Recipe, *, diverged: bool) -> RangeTest:
    """What a test's losses say of the rate."""
    curve = at_start.mean() + smoothed(losses - at_start)
    bottom = int(curve.argmin())
    slopes = np.gradient(curve, np.log(rates))[: bottom + 1]
    steepest = rates[int(slopes.argmin())] if curve[bottom] < (1 - LEAST_FALL) * curve[0] else None
    scale = recipe.peak_lr / recipe.optim.lr
    return RangeTest(
        rates=rates, smoothed=curve.tolist(), steepest=steepest,
        lowest=None if steepest is None else rates[bottom],
        lr=None if steepest is None else float(f"{steepest / scale:.2g}"),
        diverged=diverged,
    )  # fmt: skip


def smoothed(losses: Floats) -> Floats:
    """Centred means over WINDOW steps, fewer at the ends."""
    half = WINDOW // 2
    return np.array([losses[max(0, place - half) : place + half + 1].mean() for place in range(len(losses))])
