"""Several runs side by side: results, recipes, curves, and who decides differently from whom. Runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deitkit.analysis.draw.canvas import Inks
from deitkit.analysis.report import Table
from deitkit.errors import DeitkitError
from deitkit.measures.agreement import wilson_interval
from deitkit.report.figures import Desk, show_figures, show_report
from deitkit.report.folder import RunFolder, short_names
from deitkit.report.provenance import spell_value
from deitkit.report.run_tables import ReportedRun
from deitkit.report.training import overlaid
from deitkit.report.views import ComparisonView, PageBudget, ReportView, TableView
from deitkit.runs.duration import spell_seconds

KEY = "comparison"


def compare_runs(subjects: Sequence[ReportedRun], budget: PageBudget, inks: Inks, desk: Desk) -> ComparisonView:
    """The comparison of at least two runs."""
    folders = [subject.folder for subject in subjects]
    figures = overlaid({folder.name: folder.metrics for folder in folders})
    disagreement, note = _disagreement(subjects, budget, inks, desk)
    return ComparisonView(
        runs=TableView.of(runs_table(folders)),
        settings=_settings(folders),
        curves=show_figures(figures, KEY, inks=inks, desk=desk),
        disagreement=disagreement,
        note=note,
    )


def runs_table(folders: Sequence[RunFolder]) -> Table:
    """What ran, how far, how long and how good, a column for each head that any run has."""
    heads = list(dict.fromkeys(head for folder in folders for head in _top1(folder)))
    rows = []
    for folder in folders:
        recipe, top1 = folder.recipe, _top1(folder)
        rows.append(
            (folder.name, folder.status, recipe.model.name if recipe else None, folder.parameters,
             recipe.name if recipe else None, f"{folder.epoch:g}" + (f" of {recipe.train.epochs}" if recipe else ""),
             spell_seconds(folder.seconds) if folder.seconds is not None else None, *(top1.get(head) for head in heads))
        )  # fmt: skip
    columns = ("run", "state", "model", "parameters", "recipe", "epochs", "time", *heads)
    title = "The runs; top-1 with its 95% interval where there are predictions"
    return Table("runs", title, columns, tuple(rows), {"parameters": ","})


def _top1(folder: RunFolder) -> dict[str, str]:
    table = folder.main
    if table is None:
        last = folder.evaluations[-1] if folder.evaluations else {"top1": {}}
        return {head: f"{value:.1%} so far" for head, value in last["top1"].items()}
    found = {}
    for head in table.heads:
        right, images = int(table.hits(head).sum()), len(table.ids)
        interval = wilson_interval(right, images)
        found[head] = f"{right / images:.1%} ({interval.low:.1%} to {interval.high:.1%})"
    return found


def _settings(folders: Sequence[RunFolder]) -> TableView | None:
    """Values of the recipes that differ."""
    recipes = {folder.name: folder.recipe.flat() for folder in folders if folder.recipe is not None}
    keys = dict.fromkeys(key for values in recipes.values() for key in values)
    rows = []
    for key in keys:
        texts = [spell_value(values.get(key)) for values in recipes.values()]  # what is not there is switched off
        if len(set(texts)) > 1:
            rows.append((key, *texts))
    if len(recipes) < 2 or not rows:
        return None
    title = f"Where the recipes differ ({len(rows)} of {len(keys)} values)"
    return TableView.of(Table("settings", title, ("key", *recipes), tuple(rows)), most=len(rows))


def _disagreement(
    subjects: Sequence[ReportedRun], budget: PageBudget, inks: Inks, desk: Desk
) -> tuple[ReportView | None, str]:
    """The matrix of all runs and their teachers, teachers first; or why there is none."""
    runs = {subject.folder.run.path.absolute(): subject.main for subject in subjects if subject.main is not None}
    if len(runs) < 2:
        return None, "Fewer than two of the runs have predictions, so their decisions are not compared."
    teachers = {place.absolute(): table for subject in subjects for place, table in subject.teachers.items()}
    tables = {place: table for place, table in teachers.items() if place not in runs} | runs
    names = short_names(list(tables))
    order = [replace(table, classifier=name) for table, name in zip(tables.values(), names, strict=True)]
    try:
        report = desk.compare(order)
        return show_report(report, f"{KEY}-disagreement", budget, inks=inks, desk=desk, without=("classes",)), ""
    except DeitkitError as error:
        return None, f"The runs' decisions are not compared: {error.message()}"
