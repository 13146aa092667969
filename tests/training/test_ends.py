"""Every end is an end: whatever goes wrong, the command says why and leaves, with its workers, in bounded time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deitkit.data.views import pool
from deitkit.errors import DeitkitError
from deitkit.runs.folder import Run
from tests.training.test_kill_and_resume import RECIPE, command, steps_logged

pytestmark = pytest.mark.slow
BOUND_S = 240


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def ends(words: list[str], *, before: str = "", script: str = "") -> subprocess.CompletedProcess[str]:
    """Run it, perhaps after shell commands and a Python script's changes; a hang is an error here."""
    if script:
        words = [
            words[0],
            "-c",
            f"import sys\n{script}\nfrom deitkit.cli.app import run\nsys.exit(run(sys.argv[1:]))",
            *words[3:],
        ]
    wrapped = ["bash", "-c", f'{before}\nexec "$@"', "-", *words]
    return subprocess.run(wrapped, capture_output=True, text=True, timeout=BOUND_S)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def is_gone(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_an_unexpected_error_ends_the_process_and_its_workers(recipe: Path, tmp_path: Path) -> None:
    broken = (
        "import deitkit.training.fit as fit\n"
        "def fail(*args): raise ZeroDivisionError('in the middle')\n"
        "fit.train_step = fail"
    )
    done = ends(command(recipe, tmp_path / "run", 2), script=broken)
    assert done.returncode == 1 and "in the middle" in done.stderr


def test_a_pass_that_a_traceback_holds_open_does_not_keep_the_process() -> None:
    script = (
        "import torch; from deitkit.data.views.pool import Pool\n"
        "def work(key): return (torch.ones(3) * key,)\n"
        "def main():\n"
        "    for sample in Pool(work, 2, torch.device('cpu')).map(range(1000)): raise ZeroDivisionError\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


def test_memory_that_runs_out_is_an_error_with_its_remedy(recipe: Path, tmp_path: Path) -> None:
    images = ["--set", "model.image_size=224", "--set", "stream.batch_size=384", "--set", "stream.mix_group=64"]
    size = ["--set", "model.options={embed_dim=768,depth=12,num_heads=12}", "--set", "train.accumulation=1"]
    done = ends(command(recipe, tmp_path / "run", 2, *images, *size), before="ulimit -v 9000000")
    assert done.returncode == 2 and "memory" in done.stderr and "train.accumulation=" in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_with_the_main_process(number: int, recipe: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    process = subprocess.Popen(command(recipe, run.path, 2, "--set", "train.epochs=1000"), stderr=subprocess.DEVNULL)
    wait_until(lambda: steps_logged(run) > 2, "the run makes no progress")
    workers = children_of(process.pid)
    assert workers
    process.send_signal(number)
    assert process.wait(timeout=BOUND_S) == (-number if number == signal.SIGKILL else 128 + number)
    wait_until(lambda: all(map(is_gone, workers)), "workers outlive the run")


def test_a_killed_worker_ends_the_run_with_its_name(recipe: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    words = command(recipe, run.path, 2, "--set", "train.epochs=1000")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: steps_logged(run) > 2, "the run makes no progress")
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=BOUND_S)
    assert process.returncode == 2 and "a data worker was killed" in said


def test_a_signal_is_heeded_while_no_data_come(recipe: Path, tmp_path: Path) -> None:
    run, sign = Run(tmp_path / "run"), tmp_path / "waiting"
    script = (
        "import time, pathlib\nimport deitkit.data.views.workers as workers\nmade = workers.UnitMaker._make\n"
        "def make(self, unit):\n"
        "    if unit.image_set > 4:\n"
        f"        pathlib.Path({str(sign)!r}).touch(); time.sleep(1000)\n"
        "    return made(self, unit)\n"
        "workers.UnitMaker._make = make"
    )
    words = command(recipe, run.path, 0)
    wrapped = [words[0], "-c", f"import sys\n{script}\nfrom deitkit.cli.app import run\nsys.exit(run(sys.argv[1:]))"]
    process = subprocess.Popen([*wrapped, *words[3:]], stderr=subprocess.PIPE, text=True)
    wait_until(sign.exists, "it never waits")
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=BOUND_S)
    assert process.returncode == 143 and "--resume" in said, said
    again = subprocess.run(command(recipe, run.path, 0, "--resume"), capture_output=True, text=True, timeout=BOUND_S)
    assert again.returncode == 0 and "resuming" in again.stderr


def in_small_shared_memory(words: list[str], megabytes: int) -> subprocess.CompletedProcess[str]:
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-m", "bash", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no right to make a small /dev/shm")
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", f'{mount}\nexec "$@"', "-", *words], capture_output=True, text=True,
        timeout=BOUND_S,
    )  # fmt: skip


def test_too_little_shared_memory_is_found_before_the_first_step(recipe: Path, tmp_path: Path) -> None:
    sizes = ["--set", "model.image_size=224", "--set", "stream.mix_group=64", "--set", "train.accumulation=1"]
    done = in_small_shared_memory(command(recipe, tmp_path / "run", 4, *sizes), 64)
    assert done.returncode == 2 and "shared memory" in done.stderr and "--shm-size=" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_a_worker_that_finds_no_shared_memory_says_so() -> None:
    script = (
        "import torch; from deitkit.data.views.pool import Pool\n"
        "def work(key): return (torch.ones(20 * 2**20, dtype=torch.uint8),)\n"
        "from deitkit.errors import DeitkitError\n"
        "try: list(Pool(work, 2, torch.device('cpu')).map(range(100)))\n"
        "except DeitkitError as error: print(error)\n"
    )
    done = in_small_shared_memory([sys.executable, "-c", script], 30)
    assert "shared memory" in done.stdout and "--workers" in done.stdout, done.stderr


@pytest.mark.parametrize("megabytes", [2, 6, 9])
def test_a_full_disk_keeps_the_last_checkpoint_and_ends(megabytes: int, recipe: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {disk}"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-m", "bash", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no right to make a small disk")
    width = ["--set", "model.options={embed_dim=160,depth=2,num_heads=2}", "--set", "checkpoint.keep=20"]
    words = command(recipe, disk / "run", 2, *width, "--set", "checkpoint.every_steps=1")
    look = f"code=$?; ls -A {disk}/run/checkpoints; exit $code"
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", f'{mount}\n"$@"\n{look}', "-", *words], capture_output=True, text=True,
        timeout=BOUND_S,
    )  # fmt: skip
    assert done.returncode == 2 and "the disk is full" in done.stderr, done.stderr
    assert ".tmp" not in done.stdout


def test_a_wait_without_an_answer_ends_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(pool, "PATIENCE_S", 4.0)
    began = time.monotonic()
    with pytest.raises(DeitkitError, match="none of 1 data workers has answered"):
        list(pool.Pool(time.sleep, 1, torch.device("cpu")).map([1000]))
    assert time.monotonic() - began < 60
