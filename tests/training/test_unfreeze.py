"""Everything learns from an epoch on: when, with which optimiser, and exactly again after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from deitkit.distributed import World
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Recipe
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.training.fit import train_run
from deitkit.training.step import build, train_step
from deitkit.training.unfreeze import unfreeze_when_due
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

CPU = torch.device("cpu")


def gradual(parts: str = "classifier", **changes: Any) -> Recipe:
    """Steps 0 to 6 hold, 7 to 13 do not; a checkpoint every step."""
    values = {"parts": parts, "unfreeze_epoch": 1, "accumulation": 1, "log_every": 1, **changes}
    return tiny(train=values, checkpoint={"every_steps": 1, "keep": 20})


@pytest.mark.parametrize("parts", ["classifier", "lora"])
@pytest.mark.parametrize("crash", [6, 7, 8])
def test_a_run_that_crashes_around_the_epoch_resumes_to_the_last_bit(
    parts: str, crash: int, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    if parts == "lora":
        pytest.importorskip("peft", reason="pip install 'deitkit[lora]'")
    if parts not in unbroken:
        unbroken[parts] = comparable(train_run(gradual(parts), tmp_path / "unbroken", device="cpu").run)
    with pytest.raises(Crash):
        train_run(gradual(parts), tmp_path / "run", device="cpu", observer=CrashAt(crash))
    resumed = train_run(gradual(parts), tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), unbroken[parts])


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    return {}


def test_the_backbone_moves_from_that_epoch_on_and_not_before(tmp_path: Path) -> None:
    run = train_run(gradual(), tmp_path / "run", device="cpu").run
    states = {load_checkpoint(folder).step: load_checkpoint(folder) for folder in list_checkpoints(run.checkpoints)}
    key = "blocks.0.attn.qkv.weight"
    moved = [step for step in range(2, 15) if not torch.equal(states[step].model[key], states[step - 1].model[key])]
    assert moved == list(range(8, 15))
    assert len(states[7].state["optimizer"]) == 4  # weight and bias of both heads
    assert len(states[8].state["optimizer"]) == len(list(states[8].model))


def test_the_optimiser_keeps_what_it_knows_of_the_classifier() -> None:
    training = build(gradual(), world=World(), device=CPU, workers=0)
    train_step(training, next(training.loader.steps(0, 1)))
    head = training.student.network.head.weight
    average = training.optimizer.state[head]["exp_avg"].clone()
    assert not unfreeze_when_due(training, step=6)
    assert unfreeze_when_due(training, step=7)
    assert not unfreeze_when_due(training, step=8)
    assert torch.equal(training.optimizer.state[head]["exp_avg"], average)
    assert set(training.optimizer.state) == {
        parameter for name, parameter in training.student.network.named_parameters() if name.startswith("head")
    }
    learning = {parameter for group in training.optimizer.param_groups for parameter in group["params"]}
    assert learning == set(training.student.parameters())


@pytest.mark.parametrize(
    ("train", "said"), [({"parts": "all"}, "without anything frozen"), ({"unfreeze_epoch": 2}, "not before the end")]
)
def test_an_epoch_that_never_comes_is_refused(train: dict[str, Any], said: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        tiny(train={"parts": "classifier", "unfreeze_epoch": 1, **train})
    assert said in caught.value.problems[0]
