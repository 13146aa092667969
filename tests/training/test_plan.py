"""What a run will take: measured on real steps, and arithmetic for other lengths of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from deitkit.recipe.load import load_recipe
from deitkit.training.plan import RunPlan, plan_run

CPU = torch.device("cpu")


def made_up(**changes: object) -> RunPlan:
    values: dict[str, object] = {
        "model": "deit_nano", "parameters": 200_000, "learning": 200_000, "learning_mb": 2.3,
        "image_size": (32, 32), "train_images": 1_000, "val_images": 100,
        "classes": 10, "epochs": 20, "steps_per_epoch": 10, "batch_size": 100, "timed_steps": 5, "step_s": 0.5,
        "data_wait": 0.1, "evaluation_s": 3.0, "evaluations": 4, "checkpoint_s": 1.0, "checkpoints": 20, "start_s": 2.0,
        "memory_mb": 100.0, "largest_batch": 400, "disk_mb": 10.0, "free_disk_mb": 1_000.0, "teacher": None,
    }  # fmt: skip
    return RunPlan(**{**values, **changes})  # type: ignore[arg-type]


def test_the_whole_is_the_sum_of_its_parts() -> None:
    # start, 200 steps, 4 evaluations and the last predictions, 20 checkpoints and a new best at every other evaluation
    assert made_up().total_s == pytest.approx(2 + 200 * 0.5 + 5 * 3 + 20 + 2)


def test_another_length_evaluates_and_saves_as_often_an_epoch() -> None:
    half = made_up().for_epochs(10)
    assert (half.steps, half.evaluations, half.checkpoints) == (100, 2, 10)


@pytest.mark.parametrize("seconds", [0.0, 5.0, 20.0, 60.0, 600.0, 1e6])
def test_a_time_is_used_as_far_as_it_goes_and_not_exceeded(seconds: float) -> None:
    plan = made_up()
    epochs = plan.epochs_within(seconds)
    if epochs:
        assert plan.for_epochs(epochs).total_s <= seconds
    assert plan.for_epochs(epochs + 1).total_s > seconds


def test_a_run_is_measured_and_nothing_is_left_behind(tmp_path: Path) -> None:
    recipe = load_recipe(
        "quickstart/twin", {"train.epochs": 4, "train.eval_every": 2, "schedule.warmup_epochs": 1}, origin="test"
    )
    plan = plan_run(recipe, device=CPU, workers=0, folder=tmp_path / "runs" / "mine")
    assert list(tmp_path.iterdir()) == []
    assert (plan.train_images, plan.val_images, plan.classes) == (1_437, 360, 10)
    assert plan.steps == 4 * (1_437 // plan.batch_size) and plan.evaluations == 2
    assert plan.step_s > 0 and 0 <= plan.data_wait < 1 and plan.evaluation_s > 0
    assert plan.teacher is None
    assert plan.disk_mb > plan.parameters * 4 / 2**20  # at least the weights
    assert math.isfinite(plan.total_s)
