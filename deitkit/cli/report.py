"""`deitkit report`: one or several runs as one HTML file that needs no network and no other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, Overwrite, models_argument, output_option
from deitkit.files import output_file

if TYPE_CHECKING:
    from deitkit.report import Page

FILE = "report.html"


def report(
    runs: Annotated[list[str], models_argument("RUN...", "Runs, finished or not.")],
    output: Annotated[str, output_option("The file [default: reports/report.html of the last run].")] = "",
    title: Annotated[str, typer.Option("--title", help="The page's title [default: the runs' names].")] = "",
    open_it: Annotated[bool, typer.Option("--open", help="Also open it in the browser.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write one or several runs as one HTML file that needs no network.

    Results with intervals, curves, heads, who disagrees with whom and on which images, tokens, classes, the recipe with
    origins, environment and commands; several runs are compared. Light, dark and on paper, below 5 MB. No model is run:
    the page shows the predictions, metrics and reports of `deitkit analyze` that are there, and names what is missing,
    as in a run that is not finished, with the command that makes it. Definitions and sources stand on the page.

    Example: deitkit report runs/quickstart/twin runs/quickstart/student
    Example: deitkit report runs/mine --open
    Example: deitkit report runs/a runs/b -o comparison.html --title "Two students"
    """
    from deitkit.models.reference import find_run
    from deitkit.report import build_page, write_page

    wanted = Path(output) / FILE if Path(output).is_dir() else Path(output)
    target = output_file(wanted, overwrite=overwrite) if output else None
    folders = [find_run(run).path for run in runs]
    path = target or output_file(folders[-1] / "reports" / FILE, overwrite=True)
    page = build_page(folders, title=title)
    write_page(page, path)
    if as_json:
        parts = {"missing": page.missing, "problems": page.problems}
        render.print_json({"report": path, "bytes": len(page.html.encode()), **parts})
    else:
        say_page(page, path)
    if open_it:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())


def say_page(page: Page, path: Path) -> None:
    """What the page lacks and which command makes it, what could not be read, and where the page is."""
    for run, missing in page.missing.items():
        for part in missing:
            render.say(f"{run}: not there yet: {part.what} ({part.command})")
    for run, problems in page.problems.items():
        for problem in problems:
            render.say(f"{run}: {problem}")
    render.say(f"wrote {path} ({len(page.html.encode()) / 1e3:,.0f} kB)")
