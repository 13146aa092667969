"""The run folder: created whole, locked, found, compared."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deitkit.errors import DeitkitError
from deitkit.recipe.load import override, validate
from deitkit.recipe.schema import Recipe
from deitkit.runs.folder import BEGINNING, Run, find_runs


@pytest.fixture
def recipe() -> Recipe:
    return validate({"model": {"name": "deit_nano"}}, name="mine", origins={"model.name": "ours"})


def test_a_new_run_holds_its_recipe_with_origins(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={"device": "cpu"}, overwrite=False)
    back = run.recipe()
    assert (back.flat(), back.name, back.origin("model.name")) == (recipe.flat(), "mine", "ours")
    assert run.status() == "interrupted"
    assert run.result() is None and run.metrics() == []


def test_a_locked_run_is_running(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    with run.lock():
        assert run.status() == "running"
    run.write_json("result.json", {"top1": {}})
    assert run.status() == "finished"


def test_overwriting_removes_only_what_deitkit_wrote(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    run.write_json("result.json", {})
    (run.path / "notes.txt").write_text("mine")
    Run.create(tmp_path / "a", recipe, environment={}, overwrite=True)
    assert (run.path / "notes.txt").read_text() == "mine"
    assert run.result() is None


def test_runs_are_found_in_a_folder_and_one_below(recipe: Recipe, tmp_path: Path) -> None:
    for name in ("first", "study/second"):
        Run.create(tmp_path / name, recipe, environment={}, overwrite=False)
    (tmp_path / "not a run").mkdir()
    assert {run.name for run in find_runs(tmp_path)} == {"first", "second"}
    assert find_runs(tmp_path / "nowhere") == []


def test_a_resumed_run_may_change_cadence_but_nothing_else(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    run.refuse_changed(override(recipe, {"train.log_every": 7, "checkpoint.keep": 5, "train.accumulation": 2}))
    with pytest.raises(DeitkitError, match=r"train\.seed: was 0, is 1"):
        run.refuse_changed(override(recipe, {"train.seed": 1}))


def test_a_half_written_metrics_line_is_left_out(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    run.metrics_path.write_text('{"step": 1, "epoch": 0.5}\n{"step": 2, "lo')
    assert run.metrics() == [{"step": 1, "epoch": 0.5}]


def test_a_forked_worker_that_outlives_a_killed_run_does_not_keep_its_lock(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    ready, alive = os.pipe()
    with run.lock():
        worker = os.fork()
        if worker == 0:
            os.write(alive, b"!")
            signal.pause()
            os._exit(0)
        os.read(ready, 1)
    try:
        assert run.status() == "interrupted"
        with run.lock():
            assert run.status() == "running"
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_a_run_that_a_kill_left_half_replaced_is_the_new_one(recipe: Recipe, tmp_path: Path) -> None:
    old = Run.create(tmp_path / "a", recipe, environment={"command": "old"}, overwrite=False)
    old.write_json("result.json", {"top1": {}})
    beside = Run.create(tmp_path / "b", override(recipe, {"train.seed": 7}), environment={}, overwrite=False)
    beside.path.rename(old.path / BEGINNING)
    assert Run.is_run(old.path) and old.status() == "interrupted"
    assert old.recipe().train.seed == 7 and old.result() is None
    old.recover()
    assert not (old.path / BEGINNING).exists() and not (old.path / "result.json").exists()
    assert old.recipe().train.seed == 7


def test_what_a_dead_process_was_writing_is_removed_and_nothing_else(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    for name in ("checkpoints/.step-000000001.123.tmp", ".model.123.tmp", "checkpoints/.best.123.old"):
        (run.path / name).mkdir(parents=True)
    for name in (".mine.123.tmp", "mine.tmp"):
        (run.path / name).write_text("mine")
    run.recover()
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*")}
    assert names >= {"checkpoints/best", ".mine.123.tmp", "mine.tmp"}
    assert not any("step-" in name or ".model" in name for name in names)


def test_a_start_that_failed_leaves_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    with run.lock():
        assert run.path.is_dir()
    assert not run.path.exists()


def test_an_unreadable_metrics_line_hides_no_other(recipe: Recipe, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a", recipe, environment={}, overwrite=False)
    run.metrics_path.write_bytes(b'{"step": 1, "epoch": 0.5}\n' + bytes(9) + b'\n{"step": 2, "epoch": 1}\n')
    assert run.metrics() == [{"step": 1, "epoch": 0.5}, {"step": 2, "epoch": 1}]
