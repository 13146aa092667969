"""Pages of runs that lack something, of several runs, and of very many classes; and the file that is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from deitkit.errors import DeitkitError
from deitkit.report import build_page, write_page
from deitkit.report.page import MOST_BYTES
from deitkit.runs.folder import Run
from tests.report.conftest import MakeRun, predictions
from tests.report.reading import read, table_of

# What is not there


def test_a_run_that_is_not_finished_says_so_and_shows_what_is_there(make_run: MakeRun) -> None:
    run = make_run("student", finished=False, epochs=3)
    page = build_page([run.path])
    words = read(page.html).words()
    assert "This run is not finished" in words and "epoch 3 of 5" in words
    assert "deitkit distill --recipe quickstart/student -o student --resume" in words
    assert "top-1, class 83.3%" in words and "at epoch 3" in words
    assert [part.what for part in page.missing[str(run.path)]] == [
        "predictions: heads, disagreement, examples, classes"
    ]


def test_a_run_that_is_being_trained_says_so(make_run: MakeRun) -> None:
    run = make_run("student", finished=False)
    with run.lock():
        assert "is still being trained" in read(build_page([run.path]).html).words()


def test_a_run_without_anything_but_its_recipe_has_a_page(make_run: MakeRun) -> None:
    run = make_run("student", finished=False, epochs=0)
    page = build_page([run.path])
    assert {"training curves", "predictions: heads, disagreement, examples, classes"} == {
        part.what for part in page.missing[str(run.path)]
    }


def test_missing_predictions_of_the_teacher_are_named_with_their_command(make_run: MakeRun) -> None:
    make_run("teacher", heads=("class",), predicted=False)
    run = make_run("student")
    (lacking, tokens) = build_page([run.path]).missing[str(run.path)]
    assert lacking.what == "the teacher's predictions on the same images"
    assert lacking.command == f"deitkit analyze disagreement {run.path} --teacher {run.path.parent}/teacher"
    assert tokens.command == f"deitkit analyze tokens {run.path}"


def test_a_teacher_that_saw_other_images_is_not_compared(make_run: MakeRun) -> None:
    make_run("teacher", heads=("class",), fingerprint="other")
    run = make_run("student")
    page = build_page([run.path])
    assert "the teacher's predictions on the same images" in {part.what for part in page.missing[str(run.path)]}
    assert "Student fixes teacher" not in page.html


def test_a_teacher_with_other_classes_is_named_as_a_problem(make_run: MakeRun) -> None:
    make_run("teacher", heads=("class",), names=("cat", "dog", "owl", "fox"))
    run = make_run("student")
    (problem,) = build_page([run.path]).problems[str(run.path)]
    assert "different classes" in problem


def test_a_folder_of_runs_may_be_moved(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("teacher", heads=("class",), seed=1)
    run = make_run("student", teacher="/no/longer/there/teacher")
    assert "Student fixes teacher" in build_page([run.path]).html


def test_images_that_moved_are_counted_and_named(make_run: MakeRun, tmp_path: Path, pictures: Path) -> None:
    make_run("teacher", heads=("class",), seed=1)
    run = make_run("student")
    moved = shutil.copytree(pictures, tmp_path / "moved")
    table = predictions("student", moved)
    table.save(run.predictions / "folder-val.parquet")
    shutil.rmtree(moved)
    reader = read(build_page([run.path]).html)
    assert not reader.all("img")
    assert re.search(r"(\d+) of the \1 images to be shown are not where they were", reader.words())


@pytest.mark.parametrize("name", ["recipe.toml", "metrics.jsonl", "result.json", "predictions/folder-val.parquet"])
def test_a_broken_file_is_named_and_the_rest_is_shown(student: Run, name: str) -> None:
    (student.path / name).write_text("{broken\n")
    page = build_page([student.path])
    (problem, *_) = page.problems[str(student.path)]
    assert Path(name).stem.split("-")[0] in problem
    assert "Environment" in page.html


def test_no_numbers_that_are_none(student: Run) -> None:
    with student.metrics_path.open("a") as file:
        file.write('{"step": 60, "epoch": 6.0, "loss": NaN, "grad_norm": Infinity}\n')
    html = build_page([student.path]).html
    assert not re.search(r'[" ](nan|inf|-inf)[ ",LH]', re.sub(r'"data:[^"]*"', "", html))


# Several runs


def test_several_runs_are_compared_side_by_side(student: Run, make_run: MakeRun) -> None:
    twin = make_run("twin", heads=("class",), seed=3, settings={"optim.lr": 0.5})
    reader = read(build_page([twin.path, student.path]).html)
    runs = table_of(reader, "The runs")
    assert "twin finished timm:resnet10t 12 quickstart/teacher 5 of 5 1 h 02 min" in runs
    assert "optim.lr 0.5 0.012" in table_of(reader, "Where the recipes differ")
    matrix = next(e.text for e in reader.all("svg") if "Different decisions" in e.text)
    assert all(name in matrix for name in ("teacher", "twin", "student fused"))
    assert reader.all("h1")[0].text == "twin and student"


def test_runs_of_other_images_are_shown_but_not_compared(student: Run, make_run: MakeRun) -> None:
    other = make_run("other", heads=("class",), fingerprint="other")
    words = read(build_page([other.path, student.path]).html).words()
    assert "The runs' decisions are not compared" in words and "other images" in words


def test_a_run_that_is_named_twice_is_there_once(student: Run) -> None:
    assert "Comparison" not in build_page([student.path, student.path]).html


def test_runs_of_one_name_are_told_apart(make_run: MakeRun) -> None:
    runs = [make_run(f"{folder}/student", predicted=False) for folder in ("a", "b")]
    assert read(build_page([run.path for run in runs]).html).all("h1")[0].text == "a/student and b/student"


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="no run was given"):
        build_page([])
    with pytest.raises(DeitkitError, match="does not exist"):
        build_page([tmp_path / "nothing"])


# Size


@pytest.mark.parametrize("runs", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_page_of_a_thousand_classes_is_below_5_megabytes(make_run: MakeRun, runs: int) -> None:
    names = tuple(f"n{number:08d}, a class with <a> & long name" for number in range(1_000))
    make_run("teacher", heads=("class",), seed=9, images=1_000, names=names)
    made = [make_run(f"run {number}", seed=number, images=1_000, names=names) for number in range(runs)]
    html = build_page([run.path for run in made]).html
    assert len(html.encode()) < MOST_BYTES
    assert html.count("n00000999") >= 1


def test_a_page_that_would_be_too_large_leaves_images_out_and_says_so(
    shown: Run, html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deitkit.report.page.MOST_BYTES", len(html) - 10_000)
    smaller = build_page([shown.path]).html
    assert len(smaller) < len(html) - 10_000
    assert "were left out to keep this page below 5 MB" in smaller


# Files


def test_a_report_is_written_anew_and_below_a_file_refused(student: Run) -> None:
    page, mine = build_page([student.path]), student.path / "recipe.toml"
    write_page(page, student.reports / "report.html")
    write_page(page, student.reports / "report.html")
    with pytest.raises(DeitkitError, match="cannot write"):
        write_page(page, mine / "report.html")
