"""SIGKILL at random steps, then --resume: every weight, EMA weight, optimiser tensor and metric equal to the last bit.

Through the real command, with accumulation 2, dropout and stochastic depth on, with 0 workers, 2, and changed between.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deitkit.runs.folder import Run
from tests.training.test_fit import assert_equal, comparable

pytestmark = pytest.mark.slow

RECIPE = """
[model]
name = "deit_nano"
image_size = 16
distilled = true
drop_path = 0.1
dropout = 0.1
options = { embed_dim = 32, depth = 2, num_heads = 2 }
[loss]
second_token = "label"
[data]
dataset = "digits"
crop_ratio = 1.0
[stream]
batch_size = 192
repeats = 3
mix_group = 32
[optim]
lr = 2e-3
[schedule]
warmup_epochs = 1
[ema]
decay = 0.9
[train]
epochs = 6
accumulation = 2
log_every = 1
eval_every = 2
[checkpoint]
every_steps = 4
"""
TOTAL_STEPS = 42


# A large model's checkpoints are written while training goes on; here every one.
BESIDE = "from deitkit.runs import saver; saver.LARGE = 0; from deitkit.cli.app import main; main()"


def command(recipe: Path, output: Path, workers: int, *more: str, beside: bool = False) -> list[str]:
    start = ("-c", BESIDE) if beside else ("-m", "deitkit")
    return [
        sys.executable, *start, "pretrain", "--recipe", str(recipe), "--output", str(output), "--workers",
        str(workers), "--device", "cpu", *more,
    ]  # fmt: skip


def steps_logged(run: Run) -> int:
    return max((line["step"] for line in run.metrics()), default=0)


def kill_after(process: subprocess.Popen[bytes], run: Run, step: int, number: int = signal.SIGKILL) -> int:
    """Signal the process once it has logged `step` steps; its exit code."""
    deadline = time.monotonic() + 900
    while process.poll() is None and steps_logged(run) < step:
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.01)
    if process.poll() is None:
        os.kill(process.pid, number)
    return process.wait(timeout=600)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    output = tmp_path_factory.mktemp("runs") / "unbroken"
    subprocess.run(command(recipe, output, 0), check=True, capture_output=True)
    return Run(output)


@pytest.mark.parametrize(
    ("workers", "beside"),
    [((0, 0, 0), False), ((2, 2, 2), False), ((0, 2, 0), False), ((0, 2, 0), True)],
    ids=["0", "2", "changed", "saved beside"],
)
def test_a_run_killed_at_random_steps_ends_with_the_same_bits(
    workers: tuple[int, ...], beside: bool, recipe: Path, unbroken: Run, tmp_path: Path
) -> None:
    run, dice = Run(tmp_path / "run"), random.Random(sum(workers))
    for index, number in enumerate(workers[:-1]):
        again = ("--resume",) if index else ()
        process = subprocess.Popen(command(recipe, run.path, number, *again, beside=beside), stderr=subprocess.PIPE)
        code = kill_after(process, run, dice.randrange(1, TOTAL_STEPS // 2) + index * TOTAL_STEPS // 3)
        assert code == -signal.SIGKILL
        assert run.status() == "interrupted"
    words = command(recipe, run.path, workers[-1], "--resume", beside=beside)
    subprocess.run(words, check=True, capture_output=True)
    assert_equal(comparable(run), comparable(unbroken))


@pytest.mark.parametrize(
    ("number", "code", "beside"),
    [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, False), (signal.SIGINT, 130, True)],
)
def test_a_signal_finishes_the_step_saves_and_prints_the_resume_command(
    number: int, code: int, beside: bool, recipe: Path, unbroken: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    process = subprocess.Popen(command(recipe, run.path, 2, beside=beside), stderr=subprocess.PIPE)
    assert kill_after(process, run, 9, number) == code
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert f"--output {run.path}" in said and "--resume" in said
    subprocess.run(command(recipe, run.path, 0, "--resume"), check=True, capture_output=True)
    assert_equal(comparable(run), comparable(unbroken))
