"""`deitkit runs`: states, progress and results, read from real run folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deitkit.cli.app import run
from deitkit.cli.render import fit
from deitkit.cli.runs.list import columns_of, summary
from deitkit.recipe.load import load_recipe
from deitkit.runs.environment import describe_environment
from deitkit.runs.folder import Run, find_runs

Capture = pytest.CaptureFixture[str]


def make_run(path: Path, *, recipe: str = "quickstart/twin", result: bool = False) -> Run:
    """A run's folder as training leaves it after two logged steps and an evaluation."""
    made = Run.create(
        path, load_recipe(recipe, {"train.epochs": 60}), environment=describe_environment(device="cpu"), overwrite=False
    )
    lines = [
        {"step": 20, "epoch": 1.0, "loss": 2.0, "lr": 1e-3, "seconds": 100.0},
        {"step": 20, "epoch": 1.0, "top1": {"class": 0.75}},
        {"step": 40, "epoch": 2.0, "loss": 1.5, "lr": 2e-3, "seconds": 85.0},
        {"step": 40, "epoch": 2.0, "top1": {"class": 0.5}},
    ]
    made.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        made.write_json("result.json", {"top1": {"class": 0.75}, "step": 60, "kept": "best", "best_step": 20})
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "first", result=True)
    make_run(tmp_path / "runs" / "group" / "second", recipe="quickstart/student")
    broken = make_run(tmp_path / "runs" / "third")
    (broken.path / "recipe.toml").write_text("[model\n")
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


def test_runs_are_listed_with_state_and_accuracy_also_one_folder_deeper(root: Path, capsys: Capture) -> None:
    with Run.open(root / "group" / "second").lock():
        assert run(["runs", "list", str(root), "--json"]) == 0
    found = {Path(row["path"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["status"] for name, row in found.items()} == {
        "first": "finished", "second": "running", "third": "unreadable"
    }  # fmt: skip
    assert found["first"]["top1"] == {"class": 0.75}
    assert found["second"]["top1"] == {"class": 0.5}
    assert (found["first"]["recipe"], found["first"]["step"]) == ("quickstart/twin", 40)
    assert (found["first"]["epoch"], found["first"]["epochs"]) == (2.0, 60)
    assert "recipe.toml" in found["third"]["unreadable"]


def test_the_table_shows_every_run(root: Path, capsys: Capture) -> None:
    assert run(["runs", "list", str(root)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("first", "second", "third", "75.0% e1", "2 of 60", "interrupted"))


@pytest.mark.parametrize("width", [40, 41, 60, 79, 80, 120, 200])
def test_the_list_is_a_line_a_run_at_any_width_with_age_time_best_data_and_state(root: Path, width: int) -> None:
    found = [summary(run) for run in find_runs(root)]
    lines = fit(columns_of(found, root=str(root), now=found[0]["began"] + 3 * 86400 + 5), width)
    assert len(lines) == 4 and max(map(len, lines)) <= width
    assert lines[0].split()[:6] == ["run", "state", "age", "time", "best", "data"]
    (first,) = (line for line in lines if "first" in line)
    assert "3d" in first and "75.0% e1" in first and first.split()[1] in ("finished", "done")
    assert "3m" in first or "3 min 05 s" in first
    assert "digits"[:4] in first
    (second,) = (line for line in lines if "cond" in line)
    assert "stop" in second or "interrupted" in second
    assert ("best e1" in first) == ("model" in lines[0])


def test_list_and_show_say_which_weights_are_the_model(root: Path, capsys: Capture) -> None:
    assert run(["runs", "list", str(root), "--json"]) == 0
    found = {Path(row["path"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert (found["first"]["kept"], found["first"]["kept_epoch"]) == ("best", 1.0)
    assert found["first"]["best"] == {"step": 20, "epoch": 1.0, "head": "class", "top1": 0.75, "score": None}
    assert (found["second"]["kept"], found["second"]["best"]["epoch"]) == (None, 1.0)
    assert run(["runs", "show", str(root / "first")]) == 0
    shown = capsys.readouterr().out
    place = root / "first"
    assert (
        f"the model is of epoch 1 (class 75.00%), the best; the last, epoch 2 (class 50.00%), is {place}@last" in shown
    )
    assert "best, the model" in shown
    assert run(["runs", "show", str(root / "group" / "second")]) == 0
    assert "the best so far is epoch 1 (class 75.00%)" in capsys.readouterr().out


def test_one_run_is_shown_with_metrics_and_evaluations(root: Path, capsys: Capture) -> None:
    assert run(["runs", "show", str(root / "first"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "finished"
    assert found["last_metrics"]["loss"] == 1.5
    assert [line["top1"] for line in found["evaluations"]] == [{"class": 0.75}, {"class": 0.5}]
    assert found["result"]["step"] == 60
    assert found["environment"]["device"] == "cpu"
    assert "metrics.jsonl" in found["files"]
    assert run(["runs", "show", str(root / "group" / "second")]) == 0
    captured = capsys.readouterr()
    assert "quickstart/student" in captured.out
    assert "--resume" in captured.err


def test_a_run_before_its_first_step_is_shown(tmp_path: Path, capsys: Capture) -> None:
    fresh = make_run(tmp_path / "fresh")
    fresh.metrics_path.unlink()
    assert run(["runs", "show", str(fresh.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["last_metrics"], found["top1"]) == (0, None, None)
    assert run(["runs", "show", str(fresh.path)]) == 0


def test_no_runs_is_no_error_but_says_how_to_begin(tmp_path: Path, capsys: Capture) -> None:
    assert run(["runs", "list", str(tmp_path / "nowhere")]) == 0
    assert "deitkit quickstart" in capsys.readouterr().err
    assert run(["runs", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_is_no_run_is_refused(root: Path, capsys: Capture) -> None:
    for path, words in (("nowhere", "does not exist"), ("notes", "is not a deitkit run"), ("third", "cannot be read")):
        assert run(["runs", "show", str(root / path)]) == 2
        assert words in capsys.readouterr().err
    assert run(["runs", "list", str(root / "first" / "recipe.toml")]) == 2
    assert "is a file" in capsys.readouterr().err


# What someone changed

MUTATIONS: list[bytes] = [
    b"", b"null", b"[]", b"3", b'"text"', b"{", b"\xff\xfe\x00", b"[" * 5_000, b'{"command": 3}', b'{"command": null}',
    b'{"command": {"a": 1}}', b'{"command": [1, null, {"a": []}]}', b'{"command": "pretrain"}',
    b'{"command": ["\\u001b[2J"]}',
    b'{"versions": 7, "command": [[]]}', b'{"command": true, "device": []}', b"1" * 5_000,
]  # fmt: skip
RECORDS: list[bytes] = [
    b"3", b"null", b"[]", b'"top1"', b'{"top1": 3}', b'{"top1": {"class": "x"}}', b'{"step": "x", "epoch": "y"}',
    b"\xff",
    b'{"loss": null}', b'{"epoch": null, "top1": {}}', b"{",
]  # fmt: skip


@pytest.mark.parametrize(
    "file", ["environment.json", "result.json", "recipe.origins.json", "metrics.jsonl", "recipe.toml"]
)
def test_a_run_whose_files_were_changed_breaks_neither_show_nor_the_list(
    file: str, tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "runs"
    for name in ("broken", "sound"):
        make_run(root / name, result=True)
    place = root / "broken" / file
    for content in [*MUTATIONS, *RECORDS]:
        place.write_bytes(content + b"\n")
        for more in ([], ["--json"]):
            assert run(["runs", "show", str(root / "broken"), *more]) in (0, 2), content
            assert run(["runs", "list", str(root), *more]) == 0, content
            shown = capsys.readouterr()
            assert "sound" in shown.out and "\x1b" not in shown.out, content
    place.unlink()
    assert run(["runs", "list", str(root)]) == 0
    assert "sound" in capsys.readouterr().out
