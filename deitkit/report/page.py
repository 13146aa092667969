"""Runs -> report.html: one file with style, script, drawings and pictures inside. The only file that knows Jinja."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from deitkit import __version__
from deitkit.analysis.report import Report
from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.measures.words import listed
from deitkit.report.figures import Desk, page_inks, show_report
from deitkit.report.folder import Missing, RunFolder, short_names
from deitkit.report.one_run import show_run
from deitkit.report.run_tables import ReportedRun
from deitkit.report.several import compare_runs
from deitkit.report.views import PageBudget, PageView, RunView
from deitkit.runs.folder import Run

MOST_BYTES = 5_000_000


@dataclass(frozen=True)
class Page:
    """The HTML, and what each run lacks: by its path."""

    html: str
    missing: dict[str, tuple[Missing, ...]]
    problems: dict[str, tuple[str, ...]]


def build_page(paths: Sequence[Path], *, title: str = "", study: Report | None = None) -> Page:
    """One run's page, or several runs' with a comparison before them; the same folders give the same bytes.

    `study` is the report of the sweep that the runs are from, with which the page begins.

    Raises:
        DeitkitError: no run, or a folder that is none.
    """
    runs = [Run.open(path) for path in dict.fromkeys(paths)]
    if not runs:
        raise DeitkitError("there is nothing to report: no run was given", remedy="deitkit report RUN")
    names = short_names([run.path for run in runs])
    subjects = [ReportedRun(RunFolder(run, name)) for run, name in zip(runs, names, strict=True)]
    budget, note, desk = PageBudget().divided(len(runs)), "", Desk()
    while True:
        view = _view(subjects, title or listed(names), budget, note, desk, study)
        html = render(view)
        if len(html.encode()) <= MOST_BYTES or budget == budget.tighter():
            break
        budget, note = budget.tighter(), "Images and rows were left out to keep this page below 5 MB."
    return Page(
        html,
        missing={run.path: run.missing for run in view.runs},
        problems={run.path: run.problems for run in view.runs},
    )


def _view(
    subjects: Sequence[ReportedRun], title: str, budget: PageBudget, note: str, desk: Desk, study: Report | None
) -> PageView:  # fmt: skip
    inks = page_inks(subjects)
    shown = tuple(show_run(each, f"run{number}", budget, inks, desk) for number, each in enumerate(subjects, start=1))
    comparison = compare_runs(subjects, budget, inks, desk) if len(subjects) > 1 else None
    swept = show_report(study, "study", budget, inks=inks, desk=desk) if study else None
    return PageView(title, __version__, shown, comparison, note, swept)


def contents(run: RunView) -> list[tuple[str, str]]:
    """A run's headings that are there: the anchor and the words."""
    found = [
        ("result", "Result", True),
        ("training", "Training", run.curves),
        ("heads", "Heads", run.heads),
        ("disagreement", "Disagreement", run.disagreement),
        ("examples", "Images", run.kinds),
        *((saved.anchor, saved.anchor.capitalize(), True) for saved in run.reports),
        ("classes", "Classes", run.classes),
        ("recipe", "Recipe", run.settings),
        ("environment", "Environment", run.environment),
        ("commands", "Commands", True),
    ]
    return [(anchor, words) for anchor, words, there in found if there]


@cache
def _templates() -> Environment:
    """Compiled once, because a page may be put together several times."""
    return Environment(
        loader=PackageLoader("deitkit.report", "template"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render(page: PageView) -> str:
    """The page's HTML; every text is escaped."""
    html = _templates().get_template("page.html").render(page=page, contents=contents) + "\n"
    return html.encode("utf-8", "backslashreplace").decode()  # names whose bytes are no text are spelled out


def write_page(page: Page, path: Path) -> None:
    """Write the file whole or not at all.

    Raises:
        DeitkitError: it cannot be written.
    """
    write_atomic(path, page.html)
