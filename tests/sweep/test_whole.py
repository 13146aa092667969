"""Whole sweeps through the real command line: kill, resumption, divergence, seeds, and the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deitkit.runs.folder import Run
from deitkit.sweep.folder import SweepFolder
from tests.training.test_kill_and_resume import RECIPE

pytestmark = pytest.mark.slow

SWEEP = """
recipe = "tiny.toml"
[keys]
optim.lr = [1e30, 2e-3, 1e-3]
[baseline]
optim.lr = 1e-3
"""
ROOT = Path(__file__).parents[2]


def deitkit(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deitkit", *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(run: Run, step: int) -> None:
    deadline = time.monotonic() + 300
    while not (run.metrics_path.is_file() and max((line["step"] for line in run.metrics()), default=0) >= step):
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path


def test_a_sweep_survives_a_divergence_a_signal_and_a_kill(place: Path) -> None:
    words = ("sweep", "sweep.toml", "-o", "it", "--workers", "0", "--device", "cpu", "--json")
    first = deitkit(place, *words)
    wait_for(Run(place / "it" / "001-seed0"), 6)  # the first, whose rate is 1e30, has diverged by then
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130
    assert Run(place / "it" / "001-seed0").status() == "interrupted"
    second = deitkit(place, *words, "--resume")
    wait_for(Run(place / "it" / "002-seed0"), 2)
    second.kill()  # its run goes on alone; the next session waits for it
    second.wait(60)
    third = deitkit(place, *words, "--resume")
    out, err = third.communicate(timeout=600)
    assert third.returncode == 0, err
    folder = SweepFolder.open(place / "it")
    assert folder.ended.keys() == {"000-seed0"} and "diverged" in folder.ended["000-seed0"][1]
    assert all(folder.scores(point) for point in folder.points[1:])
    rows = json.loads(out)["tables"][0]["rows"]
    assert [row[-1] for row in rows].count("baseline") == 1 and len(rows) == 3
    page = (place / "it" / "reports" / "report.html").read_text()
    assert "Parallel coordinates" in page and "optim.lr: its own effect" in page


def test_seeds_of_a_verb_are_a_sweep_whose_runs_are_the_verbs_own(place: Path) -> None:
    common = ("pretrain", "--recipe", "tiny.toml", "--epochs", "1", "--workers", "0", "--device", "cpu")
    swept = deitkit(place, *common, "--seed", "4", "--seeds", "2", "--jobs", "2", "-o", "both", "--json")
    out, err = swept.communicate(timeout=600)
    assert swept.returncode == 0, err
    alone = deitkit(place, *common, "--seed", "5", "-o", "alone")
    alone.communicate(timeout=600)
    found = json.loads(out)
    assert found["numbers"]["seeds"] == [4, 5] and found["tables"][0]["rows"][0][3] == 2
    runs = [Run(place / name) for name in ("both/seed5", "alone")]
    weights = [(run.model / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert runs[0].recipe().flat() == runs[1].recipe().flat()
