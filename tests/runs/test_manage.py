"""Tags, notes, pruning and comparing runs: on folders alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deitkit.errors import DeitkitError
from deitkit.recipe.load import load_recipe
from deitkit.runs.compare import compare_runs
from deitkit.runs.folder import Run
from deitkit.runs.notes import FILE, Notes, change_tags, read_notes, write_note
from deitkit.runs.prune import delete, superfluous


def make(path: Path, *, finished: bool = True, **changes: object) -> Run:
    recipe = load_recipe("quickstart/teacher", changes, origin="test")
    run = Run.create(path, recipe, environment={"data_fingerprint": "f00d"}, overwrite=False)
    if finished:
        run.write_json("result.json", {"top1": {"class": 0.5}, "best_top1": 0.6, "best_step": 22, "seconds": 3.0})
    return run


def test_tags_and_a_note_stand_beside_a_run_and_change_nothing_else(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    change_tags(run, add=["good", "baseline"])
    change_tags(run, add=["good"], remove=["baseline"])
    assert write_note(run, "für später [b]") == Notes(("good",), "für später [b]")
    assert read_notes(run) == Notes(("good",), "für später [b]")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tags": "good", "note": ""}', '{"tags": [1], "note": ""}', '{"tags": []}']
)
def test_notes_that_were_changed_into_something_else_are_an_error(tmp_path: Path, text: str) -> None:
    run = make(tmp_path / "run")
    (run.path / FILE).write_text(text)
    with pytest.raises(DeitkitError, match=FILE):
        read_notes(run)


def checkpoints(run: Run, *names: str) -> None:
    for name in names:
        (run.checkpoints / name).mkdir(parents=True)
        (run.checkpoints / name / "model.safetensors").write_bytes(bytes(999))
        (run.checkpoints / name / "manifest.json").write_bytes(b"?")


def test_of_a_finished_run_the_best_and_the_last_checkpoint_stay(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    checkpoints(run, "best", "step-000000010", "step-000000020", "step-000000030", ".step-000000040.4711.tmp")
    found = superfluous(run)
    assert sum(each.size for each in found) == 3_000
    assert delete(found) == 3_000
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["best", "step-000000030"]
    assert superfluous(run) == []


def test_what_is_no_whole_checkpoint_takes_no_place_of_one_and_the_only_copy_stays(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    checkpoints(run, "step-000000010", "step-000000020", "step-000000030", ".best.4711.old")
    (run.checkpoints / "step-000000030" / "manifest.json").unlink()
    assert [each.path.name for each in superfluous(run)] == ["step-000000010"]
    checkpoints(run, "best")
    assert {each.path.name for each in superfluous(run)} == {"step-000000010", ".best.4711.old"}


def test_of_an_interrupted_run_every_checkpoint_stays(tmp_path: Path) -> None:
    run = make(tmp_path / "run", finished=False)
    checkpoints(run, "best", "step-000000010", "step-000000020")
    assert superfluous(run) == []


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    checkpoints(run, "step-000000010", "step-000000020")
    with run.lock():
        assert superfluous(run) == []


def test_runs_are_compared_where_their_recipes_differ(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b", finished=False, **{"optim.lr": 0.5})
    second.metrics_path.write_text(
        json.dumps({"step": 5, "epoch": 1.0, "top1": {"class": 0.25}}) + "\n"
        + json.dumps({"step": 6, "epoch": 1.2, "top1": {"class": 0.9}, "asked": True}) + "\n"
    )  # fmt: skip
    found = compare_runs([first, second])
    assert list(found.differences) == ["optim.lr"]
    assert found.differences["optim.lr"][1] == 0.5
    assert found.same_data
    assert [run.status for run in found.runs] == ["finished", "interrupted"]
    assert found.runs[0].best_top1 == 0.6
    assert found.runs[1].top1 == {"class": 0.25}  # what a key asked for counts for nothing
