"""A run's JSON files, its checkpoints' manifests, its reports and its predictions, changed at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deitkit.analysis.report import Bars, Cloud, Curves, Matrix, Points, PublishedValue, Report, Series, Table
from deitkit.cli.app import run as deitkit
from deitkit.errors import DeitkitError
from deitkit.predictions.align import align
from deitkit.predictions.table import Predictions
from deitkit.report import build_page
from deitkit.report.folder import count_parameters
from deitkit.runs.checkpoint import load_latest, save_checkpoint
from deitkit.runs.folder import Run
from deitkit.runs.names import step_of
from deitkit.runs.notes import read_notes, write_note
from tests.fuzz.mutations import changed_bytes, changed_json, fuzz, refuse_crashes
from tests.report.conftest import build_run, pictures

__all__ = ["pictures"]
FEW, MANY = 60, 1000
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Run:
    root = tmp_path_factory.mktemp("fuzzed")
    build_run(root, pictures, "teacher", heads=("class",), seed=1)
    run = build_run(root, pictures, "student")
    run.write_json("result.json", {**(run.result() or {}), "step": 50, "best_top1": 0.9, "best_step": 40})
    write_note(run, "a note")
    state = {"numbers": [1, 2], "sums": torch.zeros(3)}
    for step in (10, 20):
        save_checkpoint(
            run.checkpoints, step=step, model={"w": torch.ones(2, 3)}, state=state, metrics_bytes=10, keep=3
        )
    return run


def replacing(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """Reads with other bytes in the file's place."""

    def replaced(content: bytes) -> object:
        path.write_bytes(content)
        return read()

    return replaced


def command(*words: str) -> Callable[[], object]:
    """The verb, as the command line runs it; its errors count as refusals."""

    def run() -> object:
        if code := deitkit(words):
            raise DeitkitError(f"exit code {code}")
        return code

    return run


@pytest.mark.parametrize("count", [pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["result.json", "environment.json", "metrics.jsonl", "recipe.origins.json"])
def test_a_runs_files(distilled: Run, name: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = distilled.path / name
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    content = lines[1] if name == "metrics.jsonl" else before

    def read() -> object:
        if name == "metrics.jsonl":
            path.write_bytes(lines[0] + path.read_bytes() + b"\n" + lines[2])
        deitkit(["runs", "list", str(distilled.path.parent)])
        deitkit(["runs", "list", str(distilled.path.parent), "--json"])
        deitkit(["runs", "compare", str(distilled.path), str(distilled.path.parent / "teacher")])
        return command("runs", "show", str(distilled.path))()

    try:
        found = fuzz(name, content, changed_json, replacing(path, read), count=count)
    finally:
        path.write_bytes(before)
    capsys.readouterr()
    refuse_crashes(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["result.json", "environment.json", "metrics.jsonl", "predictions/folder-val.parquet"])
def test_the_page_of_a_run(distilled: Run, name: str) -> None:
    """A page names what is broken, and shows the rest."""
    path = distilled.path / name
    before = path.read_bytes()
    change = changed_bytes if name.endswith(".parquet") else changed_json

    def read() -> object:
        page = build_page([distilled.path])
        if page.problems[str(distilled.path)]:
            raise DeitkitError("named on the page")
        return page

    lines = before.splitlines(keepends=True)
    content = lines[1] if name == "metrics.jsonl" else before
    try:
        found = fuzz(f"page of {name}", content, change, replacing(path, read), count=60)
    finally:
        path.write_bytes(before)
    refuse_crashes(found)


@pytest.mark.parametrize("count", COUNTS)
def test_notes(distilled: Run, count: int) -> None:
    path = distilled.path / "notes.json"
    before = path.read_bytes()
    try:
        found = fuzz("notes.json", before, changed_json, replacing(path, lambda: read_notes(distilled)), count=count)
    finally:
        path.write_bytes(before)
    refuse_crashes(found)


@pytest.mark.parametrize("count", COUNTS)
def test_a_checkpoints_manifest(distilled: Run, count: int) -> None:
    path = distilled.checkpoints / "step-000000020" / "manifest.json"
    before = path.read_bytes()
    said: list[str] = []

    def read() -> object:
        found = load_latest(distilled.checkpoints, say=said.append)
        assert found is not None  # the one before it
        step_of(distilled, path.parent.name)
        if found.step != 20:
            raise DeitkitError("skipped")
        return found

    try:
        found = fuzz("manifest.json", before, changed_json, replacing(path, read), count=count)
    finally:
        path.write_bytes(before)
    refuse_crashes(found)


@pytest.mark.parametrize("count", COUNTS)
def test_a_safetensors_header(distilled: Run, tmp_path: Path, count: int) -> None:
    whole = (distilled.checkpoints / "step-000000010" / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path = tmp_path / "model.safetensors"

    def header(content: bytes) -> object:
        path.write_bytes(len(content).to_bytes(8, "little") + content + whole[8 + length :])
        return count_parameters(path)

    def anywhere(content: bytes) -> object:
        path.write_bytes(content)
        return count_parameters(path)

    refuse_crashes(fuzz("safetensors header", whole[8 : 8 + length].rstrip(), changed_json, header, count=count))
    refuse_crashes(fuzz("safetensors bytes", whole, changed_bytes, anywhere, count=count))


def saved_report() -> Report:
    """One of each figure."""
    return Report(
        "errors", "Errors", {"top-1": "a share"}, ("a paper",), {"images": 60, "top1": 0.9},
        (Table("worst", "Worst", ("class", "share"), (("cat", 0.5), ("dog", None)), {"share": ".1%"}),),
        (
            Matrix("m", "M", ("a", "b"), ((1.0, 2.0), (3.0, 4.0)), "%", ((1.0, None), (None, 2.0))),
            Curves("c", "C", "x", "y", ("1", "2"), (Series("s", (1.0, None), (0.1, None)),),
                   (PublishedValue("r", 1.0, 0, 1),)),
            Points("p", "P", "x", "y", (Cloud("k", (1.0, 2.0), (3.0, 4.0), ("a", "b"), ((1.0, 2.0), (2.0, 3.0))),)),
            Bars("b", "B", "x", "y", ("1",), (Series("s", (1.0,)),)),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("count", [FEW, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_saved_report(count: int) -> None:
    content = json.dumps(saved_report().as_dict()).encode()
    from deitkit.analysis.report import read_saved

    refuse_crashes(fuzz("report", content, changed_json, lambda words: read_saved(words, name="r.json"), count=count))


@pytest.mark.slow
def test_a_saved_report_on_a_page(distilled: Run) -> None:
    path = distilled.reports / "errors.json"
    path.parent.mkdir(exist_ok=True)
    content = json.dumps(saved_report().as_dict()).encode()
    try:
        found = fuzz("report on a page", content, changed_json, replacing(path, lambda: _page(distilled)), count=60)
    finally:
        path.unlink()
    refuse_crashes(found)


def _page(run: Run) -> object:
    page = build_page([run.path])
    if page.problems[str(run.path)]:
        raise DeitkitError("named on the page")
    return page


# Predictions


def _use(path: Path, other: Predictions) -> object:
    """What analyses do first with predictions."""
    table = Predictions.load(path)
    first, *_ = align([table, other])
    return [(first.accuracy(head), first.per_class(head)) for head in first.heads]


@pytest.mark.parametrize("count", COUNTS)
def test_the_bytes_of_predictions(distilled: Run, tmp_path: Path, count: int) -> None:
    kept = distilled.predictions / "folder-val.parquet"
    other, path = Predictions.load(kept), tmp_path / "p.parquet"
    read = replacing(path, lambda: _use(path, other))
    refuse_crashes(fuzz("predictions, bytes", kept.read_bytes(), changed_bytes, read, count=count))


@pytest.mark.parametrize("count", COUNTS)
def test_the_metadata_of_predictions(distilled: Run, tmp_path: Path, count: int) -> None:
    kept = distilled.predictions / "folder-val.parquet"
    other, path, table = Predictions.load(kept), tmp_path / "p.parquet", pq.read_table(kept)
    (key, content), *_ = table.schema.metadata.items()

    def read(words: bytes) -> object:
        pq.write_table(table.replace_schema_metadata({key: words}), path)
        return _use(path, other)

    refuse_crashes(fuzz("predictions, metadata", content, changed_json, read, count=count))


COLUMNS = (
    pa.array([None] * 60), pa.array([None] * 60, pa.int64()), pa.array(range(60)), pa.array([-1] * 60),
    pa.array([2**62] * 60), pa.array([0.5] * 60), pa.array([float("nan")] * 60), pa.array(["x"] * 60),
    pa.array([[1, 2]] * 60), pa.array([[0, 1, 2, 3]] * 59 + [[]]), pa.array([{"a": 1}] * 60), pa.array([b"\xff"] * 60),
    pa.FixedSizeListArray.from_arrays(pa.array([7] * 240), 4), pa.FixedSizeListArray.from_arrays(pa.array([0] * 60), 1),
    pa.FixedSizeListArray.from_arrays(pa.array([np.nan] * 240), 4), pa.array([True] * 60),
    pa.FixedSizeListArray.from_arrays(pa.array(["x"] * 240), 4), pa.array(["x", "y"] * 30).dictionary_encode(),
)  # fmt: skip


def test_other_columns_of_predictions(distilled: Run, tmp_path: Path) -> None:
    kept = distilled.predictions / "folder-val.parquet"
    other, path, table = Predictions.load(kept), tmp_path / "p.parquet", pq.read_table(kept)
    wrong = [table.drop_columns([name]) for name in table.column_names]
    wrong += [
        table.set_column(place, name, column) for place, name in enumerate(table.column_names) for column in COLUMNS
    ]
    wrong += [table.append_column("accepted", column) for column in COLUMNS]
    wrong += [table.append_column("label", table["label"]), table.slice(0, 0)]
    for changed in wrong:
        pq.write_table(changed, path)
        try:
            _use(path, other)
        except DeitkitError:
            continue
