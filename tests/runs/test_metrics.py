"""metrics.jsonl without its bulk: what is shown of a large file, against all of its lines."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from deitkit.cli.runs.watch import follow
from deitkit.recipe.load import validate
from deitkit.runs import metrics
from deitkit.runs.folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Of 2,000 steps, each logged, with an evaluation after every 50; its last line is half-written."""
    recipe = validate({"model": {"name": "deit_nano"}}, name="mine", origins={})
    made = Run.create(tmp_path / "a", recipe, environment={"began": 1.5e9}, overwrite=False)
    draw = random.Random(0)
    with open(made.metrics_path, "w") as file:
        for step in range(1, 2001):
            at = {"step": step, "epoch": step / 50}
            file.write(json.dumps({**at, "loss": draw.random(), "seconds": round(draw.random(), 3)}) + "\n")
            if step % 50 == 0:
                file.write(json.dumps({**at, "top1": {"class": draw.random()}}) + "\n")
        file.write('{"step": 2001, "lo')
    return made


def test_a_large_file_is_shown_by_its_evaluations_its_ends_and_lines_between(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.metrics()
    assert run.logged().lines == whole
    monkeypatch.setattr(metrics, "WHOLE", 0)
    for block in (3_000, 50_000, metrics.BLOCK):  # lines lie across blocks, too
        monkeypatch.setattr(metrics, "BLOCK", block)
        shown = run.logged(spaced=100)
        assert [line for line in shown.lines if "top1" in line] == [line for line in whole if "top1" in line]
        assert shown.seconds == sum(line.get("seconds", 0.0) for line in whole)
        assert shown.lines[0] == whole[0] and shown.lines[-50:] == whole[-50:]
        steps = [line["step"] for line in shown.lines if "loss" in line]
        assert steps == sorted(set(steps)) and all(line in whole for line in shown.lines)
        gaps = [after - before for before, after in itertools.pairwise(steps)]
        assert max(gaps) <= 45 and len(steps) < 600  # of 2,000, about each 20th or its neighbour, and the tail
    few = run.logged(spaced=0)
    assert few.seconds == shown.seconds and few.lines[-1] == whole[-1]
    assert [line for line in few.lines if "top1" in line] == [line for line in whole if "top1" in line]
    assert len(few.lines) < 150


def test_watching_a_large_file_ends_with_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "WHOLE", 0)
    seen = [record for record in follow(run) if record is not None]
    assert seen == run.logged().lines
    assert run.logged().end == run.metrics_path.read_bytes().rfind(b"\n") + 1


def test_a_copied_run_is_as_old_as_it_was(run: Run) -> None:
    (run.path / "recipe.toml").touch()
    assert run.began == 1.5e9
