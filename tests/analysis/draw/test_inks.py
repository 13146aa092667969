"""A classifier keeps its colour through the figures of a report and the charts of a page."""

from __future__ import annotations

from pathlib import Path

from deitkit.analysis.draw import draw
from deitkit.analysis.draw.canvas import assign, inks_of
from deitkit.analysis.draw.page import page_drawing
from deitkit.analysis.draw.sheet import COLOURS
from deitkit.analysis.report import Curves, Series
from deitkit.report.figures import page_inks, run_inks
from deitkit.report.folder import RunFolder
from deitkit.report.run_tables import ReportedRun
from deitkit.report.training import training_figures
from deitkit.runs.folder import Run


def figure(*labels: str) -> Curves:
    return Curves("c", "", "x", "y", ("a", "b"), tuple(Series(label, (1.0, 2.0)) for label in labels))


def test_a_name_keeps_its_number_where_another_name_is_missing() -> None:
    inks = inks_of([figure("a", "b", "c"), figure("c", "d")])
    assert assign(["c", "b"], inks) == [2, 1]
    assert assign(["d", "c"], inks) == [0, 2]


def test_equal_and_missing_names_have_numbers_of_their_own() -> None:
    assert assign(["a", "a", "", ""], {"a": 2}) == [2, 0, 1, 3]


def test_the_page_and_the_files_draw_a_name_in_the_colour_of_its_number() -> None:
    inks = inks_of([figure("a", "b")])
    drawn = page_drawing(figure("b"), "key", inks=inks)
    assert drawn is not None
    assert "var(--s1)" in drawn.svg
    assert "var(--s0)" not in drawn.svg
    svg = draw(figure("b"), "svg", inks).decode()
    assert COLOURS[1] in svg
    assert COLOURS[0] not in svg


def subjects(folder: Path, *names: str) -> list[ReportedRun]:
    (folder / "predictions").mkdir()
    return [ReportedRun(RunFolder(Run(folder), name)) for name in names]


def test_runs_and_heads_have_numbers_of_their_own_on_a_page(tmp_path: Path) -> None:
    inks = page_inks(subjects(tmp_path, "one", "two"))
    assert [inks[name] for name in ("one", "two", "class", "distillation", "fused", "teacher")] == [0, 1, 2, 3, 4, 5]
    assert inks["two fused"] == inks["fused"] == inks["fused, teacher"] == inks["fused head"] == 4
    own = run_inks(inks, "two")
    assert own[""] == own["loss"] == own["two"] == 1


def test_the_curves_of_a_run_are_numbered_without_a_clash(tmp_path: Path) -> None:
    heads = {"class": 0.5, "distillation": 0.6, "fused": 0.7}
    line = {"epoch": 1.0, "loss": 1.0, "top1": heads, "ema_top1": heads, "teacher_top1": 0.9}
    line |= {"agreement": {"teacher": heads, "heads": 0.8}}
    inks = run_inks(page_inks(subjects(tmp_path, "one")), "one")
    for each in training_figures([line]):
        labels = [cloud.label for cloud in each.clouds]
        assert assign(labels, inks) == [inks[label] for label in labels]
