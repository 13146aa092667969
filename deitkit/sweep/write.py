"""A sweep's files: its numbers, table and figures in reports/, and a page with the best run and the baseline."""

from __future__ import annotations

from pathlib import Path

from deitkit.analysis.report import Report
from deitkit.analysis.save import save_report
from deitkit.report import build_page, write_page
from deitkit.sweep.folder import SweepFolder
from deitkit.sweep.report import sweep_report
from deitkit.sweep.results import results_of


def write_sweep(folder: SweepFolder, *, to: Path | None = None) -> tuple[Report, Path | None]:
    """The sweep's report, as far as it has come, saved in its folder; the page, None where no run is finished.

    Raises:
        DeitkitError: it cannot be written.
    """
    result = results_of(folder)
    report = sweep_report(folder.path.name, result)
    reports = folder.path / "reports"
    save_report(report, reports)
    shown = dict.fromkeys(each.point.number for each in (*result.ranked[:1], result.baseline) if each is not None)
    runs = [
        folder.run(folder.points[number], seed).path
        for number in shown
        for seed in list(folder.scores(folder.points[number]))[:1]
    ]
    if not runs:
        return report, None
    path = to or reports / "report.html"
    write_page(build_page(runs, title=report.title, study=report), path)
    return report, path
