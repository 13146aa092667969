"""Each tracker on a real tiny run, interrupted and gone on with: what it holds afterwards is what the run logged.

TensorBoard's files are read back by its own reader; the others' libraries are stood in for, and used in slow tests
where they are installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from deitkit.analysis.report import Points
from deitkit.recipe.load import to_toml
from deitkit.report.training import training_figures
from deitkit.runs.folder import Run
from deitkit.trackers import feed
from deitkit.trackers.feed import Feed, tracking
from deitkit.trackers.registry import open_tracker
from deitkit.trackers.tracker import STATE, values_of
from deitkit.training.fit import train_run
from tests.trackers.stand_ins import MLflowServer, TrackioBoard, WandbServer
from tests.training.test_fit import Crash, CrashAt, tiny
from tests.training.test_kill_and_resume import RECIPE, command, kill_after

Values = dict[tuple[str, int], float]


def crashed_and_resumed(path: Path, tracker: str) -> Run:
    """A run whose power went at step 5 and which was resumed from the checkpoint of step 3."""
    recipe = tiny()
    with pytest.raises(Crash), tracking(tracker, path, CrashAt(5)) as observer:
        train_run(recipe, path, device="cpu", observer=observer)
    with tracking(tracker, path) as observer:
        train_run(recipe, path, device="cpu", resume=True, observer=observer)
    return Run(path)


def fed_twice(finished: Run, path: Path, tracker: str) -> Run:
    """A finished run as a tracker sees it whose session was cut off within it, and taken up from further back."""
    shutil.copytree(finished.path, path)
    (path / STATE).unlink()
    run, lines = Run(path), finished.metrics_path.read_text().splitlines(keepends=True)
    said: list[str] = []
    for known, told in ((0, 9), (5, len(lines))):
        run.metrics_path.write_text("".join(lines[:known]))
        feeding = Feed(tracker, run, open_tracker(tracker))
        feeding.begin(said.append)
        for line in map(json.loads, lines[known:told]):
            feeding.send(line, said.append)
        run.metrics_path.write_text("".join(lines[:told]))
        feeding.end(done=told == len(lines), say=said.append)
    assert len(said) == 2 and all(text.startswith(f"{tracker}: ") for text in said), said
    return run


def expected(run: Run) -> set[tuple[str, int]]:
    return {(key, line["step"]) for line in run.metrics() for key in values_of(line)}


def losses(run: Run) -> Values:
    """What is the same in every session; the clock's values are those of the first."""
    return {("loss", line["step"]): line["loss"] for line in run.metrics() if "loss" in line}


def events(folder: Path) -> tuple[list[tuple[str, int, float]], Counter[str]]:
    """Every scalar of every file as it lies there, and how often each other tag."""
    scalars, others = [], Counter[str]()
    for path in sorted(folder.iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    scalars.append((value.tag, event.step, value.tensor.float_val[0]))
                else:
                    others[value.tag] += 1
    return scalars, others


def hold_tensorboard(run: Run) -> None:
    scalars, others = events(run.path / "tensorboard")
    assert Counter((tag, step) for tag, step, _ in scalars) == Counter(expected(run))
    found = {(tag, step): value for tag, step, value in scalars if tag == "loss"}
    assert found == pytest.approx(losses(run), rel=1e-6)  # float32
    assert others["recipe/text_summary"] == others["report/text_summary"] == others["figures/top1"] == 1


def only_top1(metrics: list[dict[str, Any]]) -> list[Points]:
    """One figure of eight, to be quick."""
    return [figure for figure in training_figures(metrics) if figure.name == "top1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "training_figures", only_top1)
        return crashed_and_resumed(tmp_path_factory.mktemp("runs") / "run", "tensorboard")


def test_tensorboards_files_hold_each_value_once(finished: Run) -> None:
    hold_tensorboard(finished)


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_same_files(tmp_path: Path) -> None:
    """Through the real command; `runs resume` logs where the run began to."""
    recipe, run = tmp_path / "tiny.toml", Run(tmp_path / "run")
    recipe.write_text(RECIPE)
    process = subprocess.Popen(command(recipe, run.path, 0, "--log", "tensorboard"), stderr=subprocess.DEVNULL)
    kill_after(process, run, 10)
    resume = [sys.executable, "-m", "deitkit", "runs", "resume", str(run.path)]
    subprocess.run(resume, check=True, capture_output=True)
    assert run.status() == "finished"
    hold_tensorboard(run)
    assert (run.path / "reports" / "report.html").is_file()


def test_where_a_run_logs_is_no_part_of_its_recipe(finished: Run) -> None:
    assert (finished.path / "recipe.toml").read_text() == to_toml(tiny())


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts modules in the place of libraries, and lets deitkit's own be imported with them."""

    def put(modules: dict[str, Any]) -> None:
        monkeypatch.setattr("deitkit.errors.is_installed", lambda package: True)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(feed, "training_figures", only_top1)
        for name in ("wandb", "mlflow", "trackio"):
            monkeypatch.delitem(sys.modules, f"deitkit.trackers.{name}", raising=False)

    return put


def test_wandb_has_one_run_with_each_step_once(finished: Run, stood_in: Any, tmp_path: Path) -> None:
    server = WandbServer()
    stood_in({"wandb": server.module()})
    run = fed_twice(finished, tmp_path / "run", "wandb")
    (rows,) = server.runs.values()
    assert server.dropped == 0 and server.codes == [1, 0]
    assert {("loss", step): row["loss"] for step, row in rows.items() if "loss" in row} == losses(run)
    assert rows[run.metrics()[-1]["step"]].keys() >= {"top1/fused", "figures/top1"}
    assert any("report" in row for row in rows.values())
    assert server.configs["run0"]["optim.lr"] == 2e-3


def test_mlflow_has_one_run_with_each_value_once(finished: Run, stood_in: Any, tmp_path: Path) -> None:
    server = MLflowServer()
    stood_in(server.modules())
    run = fed_twice(finished, tmp_path / "run", "mlflow")
    (kept,) = server.runs.values()
    assert Counter((each.key, each.step) for each in kept.metrics) == Counter(expected(run))
    assert {(each.key, each.step): each.value for each in kept.metrics if each.key == "loss"} == losses(run)
    assert kept.status == "FINISHED" and kept.params["optim.lr"] == "0.002"
    assert {"recipe.toml", "report.html", "figures/top1.png"} <= set(kept.artifacts)


def test_trackio_has_one_run_with_each_value_once(finished: Run, stood_in: Any, tmp_path: Path) -> None:
    board = TrackioBoard()
    stood_in({"trackio": board.module()})
    run = fed_twice(finished, tmp_path / "run", "trackio")
    (rows,) = board.runs.values()
    found = [(key, step) for step, values in rows for key in values if key in ("loss", "top1/fused")]
    assert Counter(found) == Counter(each for each in expected(run) if each[0] in ("loss", "top1/fused"))
    assert board.is_finished and any("report" in values for _, values in rows)


@pytest.mark.slow
def test_the_real_mlflow_keeps_each_value_once(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking_of = pytest.importorskip("mlflow.tracking")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = fed_twice(finished, tmp_path / "run", "mlflow")
    client = tracking_of.MlflowClient()
    (kept,) = client.search_runs([client.get_experiment_by_name("deitkit").experiment_id])
    history = client.get_metric_history(kept.info.run_id, "loss")
    assert [(("loss", each.step), each.value) for each in history] == list(losses(run).items())


@pytest.mark.slow
def test_the_real_trackio_keeps_each_value_once(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    run = fed_twice(finished, tmp_path / "run", "trackio")
    (name,) = storage.get_runs("deitkit")
    rows = storage.get_logs("deitkit", name)
    assert {("loss", row["step"]): row["loss"] for row in rows if "loss" in row} == pytest.approx(losses(run))
    assert len([row for row in rows if "loss" in row]) == len(losses(run))
