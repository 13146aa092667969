"""The ways to learn a part of a network (`train.parts`) beside each other: what each would take. Trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from deitkit.data.check.scan import Scan
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Parts, Recipe
from deitkit.training.plan import RunPlan, plan_run


@dataclass(frozen=True)
class PartPlan:
    """What a run would take in which these parts learn; without a plan, why there is none."""

    parts: Parts
    plan: RunPlan | None
    refused: str = ""


def compare_parts(
    recipe: Recipe, *, device: torch.device, workers: int, folder: Path, scan: Scan | None = None
) -> list[PartPlan]:
    """Measure a few steps of each way, from the start to the end of the run alike; nothing is written."""
    return [_plan_of(parts, recipe, device, workers, folder, scan) for parts in get_args(Parts)]


def _plan_of(
    parts: Parts, recipe: Recipe, device: torch.device, workers: int, folder: Path, scan: Scan | None
) -> PartPlan:
    train = recipe.train.model_copy(update={"parts": parts, "unfreeze_epoch": None})
    changed = recipe.model_copy(update={"train": train})
    try:
        return PartPlan(parts, plan_run(changed, device=device, workers=workers, folder=folder, scan=scan))
    except DeitkitError as error:
        return PartPlan(parts, None, error.what)
