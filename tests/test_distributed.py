"""Two real processes under torchrun: the same gradients as one process, exact counts, and resume to the last bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.runs.folder import Run
from tests.training.test_fit import assert_equal, comparable
from tests.training.test_kill_and_resume import RECIPE, kill_after

pytestmark = pytest.mark.slow

QUIET = ["--set", "model.dropout=0.0", "--set", "model.drop_path=0.0", "--set", "train.epochs=2"]


def torchrun(recipe: Path, output: Path, *more: str, ranks: int = 2) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "deitkit",
        "pretrain", "--recipe", str(recipe), "--output", str(output), "--workers", "0", "--device", "cpu", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    output = tmp_path_factory.mktemp("runs") / "two"
    more = ("--set", "train.accumulation=1")
    subprocess.run(torchrun(recipe, output, *more), check=True, capture_output=True)
    return Run(output)


def test_two_ranks_train_as_one_process_with_two_parts(recipe: Path, tmp_path: Path) -> None:
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    accumulate = ("--set", "train.accumulation=2")
    subprocess.run(torchrun(recipe, one.path, *QUIET, *accumulate, ranks=1), check=True, capture_output=True)
    subprocess.run(torchrun(recipe, two.path, *QUIET, "--set", "train.accumulation=1"), check=True, capture_output=True)
    ours, theirs = (load_checkpoint(list_checkpoints(run.checkpoints)[-1]).model for run in (one, two))
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=2e-3, atol=2e-4)
    losses = [[line["loss"] for line in run.metrics() if "loss" in line] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (one.result() or {})["images"] == (two.result() or {})["images"] == 360


def test_two_ranks_resume_to_the_last_bit(recipe: Path, unbroken: Run, tmp_path: Path) -> None:
    run, more = Run(tmp_path / "run"), ("--set", "train.accumulation=1")
    process = subprocess.Popen(torchrun(recipe, run.path, *more), stderr=subprocess.DEVNULL, start_new_session=True)
    kill_after(process, run, 10, signal.SIGTERM)
    assert run.status() == "interrupted"
    subprocess.run(torchrun(recipe, run.path, *more, "--resume"), check=True, capture_output=True)
    assert_equal(comparable(run), comparable(unbroken))
