"""Where a run comes from, in words, and commands that work."""

from __future__ import annotations

import json

from deitkit.report.folder import RunFolder
from deitkit.report.provenance import commands, environment
from tests.report.conftest import MakeRun


def test_what_is_known_of_the_images_is_told_in_words_and_what_is_empty_is_not(make_run: MakeRun) -> None:
    run = make_run("run")
    path = run.path / "environment.json"
    known = json.loads(path.read_text())
    content = {"train": {"images": 12, "sample": "ab" * 256}, "val": {"images": 3, "sample": "cd" * 256}}
    path.write_text(json.dumps({**known, "data_content": content, "teacher": {}}))
    rows = dict(environment(RunFolder(run, run.path.name)))
    train, val = f"train: 12 images, sample {'ab' * 8}...", f"val: 3 images, sample {'cd' * 8}..."
    assert rows["data content"] == f"{train}; {val}"
    assert "teacher" not in rows


def test_versions_are_installed_in_a_clone_since_no_registry_has_deitkit(make_run: MakeRun) -> None:
    run = make_run("run")
    path = run.path / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": {"deitkit": "0.1.0", "torch": "2.8.0"}}))
    first = commands(RunFolder(run, run.path.name))[0]
    assert first.lines == "pip install . torch==2.8.0" and "clone of deitkit 0.1.0" in first.what
