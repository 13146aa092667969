"""Running a sweep: what fails is noted, what was killed goes on, nothing is trained twice. A script stands in for the
runs; tests/sweep/test_whole.py trains."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deitkit.errors import DeitkitError
from deitkit.sweep import run as running
from deitkit.sweep.folder import SweepFolder
from deitkit.sweep.report import sweep_report
from deitkit.sweep.results import results_of
from deitkit.sweep.run import run_sweep, run_words, toml
from deitkit.sweep.schema import Sweep
from deitkit.sweep.space import Choices, Range

STAND_IN = Path(__file__).with_name("stand_in.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(running, "DEITKIT", (sys.executable, str(STAND_IN)))


def sweep_of(rates: list[float], *, seeds: int = 1, **more: Any) -> Sweep:
    space = {"optim.lr": Choices(tuple(rates))}
    return Sweep("it", "pretrain", "quickstart/twin", "grid", space, tuple(range(seeds)), len(rates), {}, {}, **more)


def go(sweep: Sweep, path: Path, *words: str, jobs: int = 1, resume: bool = False) -> tuple[SweepFolder, list[str]]:
    said: list[str] = []
    folder = SweepFolder.begin(path, sweep, words, resume=resume, overwrite=False)
    assert run_sweep(sweep, folder, words, jobs=jobs, say=said.append) == 0
    return folder, said


def calls(path: Path) -> Counter[str]:
    return Counter((path / "calls.txt").read_text().splitlines())


def test_a_run_that_diverges_is_noted_and_the_sweep_goes_on(tmp_path: Path) -> None:
    folder, said = go(sweep_of([5.0, 0.02, 0.01], seeds=2), tmp_path / "it", jobs=3)
    found = results_of(folder)
    assert [each.point.values["optim.lr"] for each in found.points] == [0.01, 0.02, 5.0]
    assert found.ranked[0].scores == {0: pytest.approx(0.89), 1: pytest.approx(0.90)}
    assert (found.runs, found.failed) == (4, 2)
    assert found.points[-1].why == "training diverged by step 3: loss not finite"
    assert len(said) == 6 and sum("failed: training diverged" in line for line in said) == 2
    assert calls(tmp_path / "it") == Counter(f"{number:03d}-seed{seed}" for number in range(3) for seed in range(2))
    table = sweep_report("it", found).tables[0]
    assert table.rows[-1][-1] == "failed: training diverged by step 3: loss not finite"


def test_a_sweep_that_was_killed_goes_on_with_what_is_left(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from deitkit.sweep import run
from tests.sweep.test_run import go, sweep_of
run.DEITKIT = (sys.executable, {str(STAND_IN)!r})
go(sweep_of([0.03, 0.02], seeds=2), Path(sys.argv[1]), "--die")
"""
    path = tmp_path / "it"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True)
    assert killed.returncode == -9
    folder, _ = go(sweep_of([0.03, 0.02], seeds=2), path, "--die", resume=True)
    assert results_of(folder).runs == 4
    # The run that was cut off went on; the one before it was not repeated.
    assert calls(path)["000-seed0"] == 1 and calls(path)["000-seed1"] == 1 and calls(path)["000-seed1 again"] == 1
    before = calls(path)
    go(sweep_of([0.03, 0.02], seeds=2), path, "--die", resume=True)
    assert calls(path) == before


def test_a_folder_is_neither_overwritten_nor_taken_for_another_sweeps(tmp_path: Path) -> None:
    path = tmp_path / "it"
    go(sweep_of([0.02]), path)
    for sweep, resume, words in (
        (sweep_of([0.02]), False, "holds a sweep"),
        (sweep_of([0.01]), True, "begun otherwise"),
    ):
        with pytest.raises(DeitkitError, match=words):
            SweepFolder.begin(path, sweep, (), resume=resume, overwrite=False)
    (path / "mine.txt").write_text("mine")
    fresh = SweepFolder.begin(path, sweep_of([0.01]), (), resume=False, overwrite=True)
    assert not fresh.points and not (path / "000-seed0").exists() and (path / "mine.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    with pytest.raises(DeitkitError, match="no sweep wrote"):
        SweepFolder.begin(tmp_path / "other", sweep_of([0.01]), (), resume=False, overwrite=True)


def test_what_no_run_can_begin_with_ends_the_sweep_at_once(tmp_path: Path) -> None:
    folder = SweepFolder.begin(tmp_path / "it", sweep_of([0.02, 0.01]), (), resume=False, overwrite=False)
    with pytest.raises(DeitkitError, match="there are no images"):
        run_sweep(sweep_of([0.02, 0.01]), folder, ["--refused"])
    assert sum(calls(tmp_path / "it").values()) == 1
    assert not SweepFolder.open(tmp_path / "it").ended


def test_optuna_finds_the_best_prunes_the_hopeless_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = {"optim.lr": Range(0.001, 0.4), "mix.prob": Choices((0.5, 1.0))}
    baseline = {"optim.lr": 0.05, "mix.prob": 1.0}
    few = Sweep("it", "pretrain", "quickstart/twin", "tpe", space, (0,), 12, {}, baseline)
    folder, _ = go(few, tmp_path / "it")
    assert len(folder.points) == 12 and folder.points[0].values == baseline
    found = results_of(folder)
    # What a point has after its first epoch is set against the median of those that were not ended. Only points that
    # wait to be ended can be, and those are the later ones with rates above 0.25.
    hopeless, waiting, others = set(), set(), []
    for point in folder.points:
        top1 = 0.9 - point.values["optim.lr"]
        if point.number > 5 and point.values["optim.lr"] > 0.25:
            waiting.add(point.number)
            if top1 < statistics.median(others):
                hopeless.add(point.number)
                continue
        others.append(top1)
    pruned = {each.point.number for each in found.points if each.ending == "pruned"}
    assert hopeless and hopeless <= pruned <= waiting
    assert found.ranked[0].point.values["optim.lr"] == min(point.values["optim.lr"] for point in folder.points)
    points = [point.values for point in folder.points]
    again, _ = go(few, tmp_path / "it", resume=True)
    assert [point.values for point in again.points] == points
    assert len({str(values) for values in points}) == len(points)


def test_several_seeds_are_compared_seed_by_seed(tmp_path: Path) -> None:
    sweep = sweep_of([0.02, 0.01], seeds=3)
    folder, _ = go(sweep, tmp_path / "it")
    best, baseline = results_of(folder).points
    assert baseline.is_baseline and baseline.point.number == 0
    assert best.gain is not None and best.gain.mean == pytest.approx(0.01)
    assert best.deviation == pytest.approx(0.01)  # of 0.00, 0.01 and 0.02


def test_a_runs_command_can_be_typed() -> None:
    from deitkit.runs.folder import Run

    words = run_words(sweep_of([1e-3]), ["--data", "photos"], {"optim.lr": 1e-3}, 4, Run(Path("runs/a b")))
    assert words == ["pretrain", "--recipe", "quickstart/twin", "--data", "photos", "--set", "optim.lr=0.001", "--set",
                     "train.seed=4", "--output", "runs/a b"]  # fmt: skip
    assert [toml(value) for value in (True, "a b", [1, 2.5], 1e-05)] == ["true", '"a b"', "[1, 2.5]", "1e-05"]
