"""`deitkit runs`: what ran, how far it came and how good it is. Reads run folders and changes none."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, RunName
from deitkit.cli.render import Column, fit
from deitkit.errors import DeitkitError, quoted
from deitkit.runs.duration import spell_about, spell_seconds

if TYPE_CHECKING:
    from deitkit.models.kept import Standing
    from deitkit.runs.folder import LoggedLines, Run

STATES = {"finished": "done", "running": "runs", "interrupted": "stop", "unreadable": "bad"}  # where it is narrow


def list_runs(
    root: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where the runs are.")] = "runs",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder, also those one folder deeper.

    Example: deitkit runs list
    Example: deitkit runs list runs/quickstart
    Example: deitkit runs list --json
    """
    from deitkit.runs.folder import find_runs

    folder = Path(root)
    if folder.exists() and not folder.is_dir():
        raise DeitkitError(f"{root} is a file", value=root, remedy="name the folder that holds the runs")
    found = [summary(run) for run in find_runs(folder)]
    if as_json:
        render.print_json(found)
        return
    if not found:
        render.say(f"no runs in {root}; next: deitkit quickstart")
        return
    show_list(root, found, now=time.time())


def show_list(root: str, found: list[dict[str, Any]], *, now: float) -> None:
    """One line a run, at any width: a terminal's, or as wide as needed where a program reads it."""
    heading, *lines = fit(columns_of(found, root=root, now=now), render.output_width())
    render.print_lines(f"Runs in {root}", heading, lines)
    for run in found:
        if "unreadable" in run:
            render.say(f"{run['path']} cannot be read: {run['unreadable']}")


def columns_of(found: list[dict[str, Any]], *, root: str, now: float) -> list[Column]:
    """What of each run is shown, the most important first. `now` is in seconds, as `time.time()` gives it."""
    ages = [None if run["began"] is None else now - run["began"] for run in found]
    columns: list[tuple[str, list[str], dict[str, Any]]] = [
        (
            "run", [run["path"] for run in found],
            {"short": [os.path.relpath(run["path"], root) for run in found], "least": 8, "cut_start": True},
        ),
        ("state", [run["status"] for run in found], {"short": [STATES[run["status"]] for run in found]}),
        ("age", _spelled(ages, spell_about), {"numbers": True}),
        (
            "time", _spelled([run["seconds"] for run in found], spell_seconds),
            {"short": _spelled([run["seconds"] for run in found], spell_about), "numbers": True},
        ),
        ("best", [_best(run) for run in found], {"numbers": True}),
        ("data", [Path(run.get("data", "")).name for run in found], {"least": 4}),
        ("model", [_model(run) for run in found], {"optional": True}),
        ("epochs", [f"{run['epoch']:g} of {run['epochs']}" for run in found], {"optional": True, "numbers": True}),
        ("recipe", [run["recipe"] for run in found], {"optional": True}),
        ("tags", [", ".join(run["tags"]) for run in found], {"optional": True}),
    ]  # fmt: skip
    return [Column(name, list(map(render.cell, cells)), **more) for name, cells, more in columns]


def _spelled(seconds: list[float | None], spell: Callable[[float], str]) -> list[str]:
    return ["" if each is None else spell(each) for each in seconds]


def _best(run: dict[str, Any]) -> str:
    """`97.5% e80`: the best top-1 on the validation images, and its epoch."""
    return f"{run['best'].top1:.1%} e{run['best'].epoch:g}" if run["best"] else ""


def _model(run: dict[str, Any]) -> str:
    """`best e80`, `last e100`: which weights are the run's model."""
    return f"{run['kept']} e{run['kept_epoch']:g}" if run["kept"] else ""


def show(run: RunName, as_json: AsJson = False) -> None:
    """Show one run: its state, last metrics and result.

    Example: deitkit runs show runs/quickstart/student
    Example: deitkit runs show runs/mine
    Example: deitkit runs show runs/mine --json
    """
    from deitkit.runs.folder import Run

    opened = Run.open(run)
    logged = cache(partial(opened.logged, spaced=0))  # a large file is looked through once
    facts = summary(opened, logged)
    if "unreadable" in facts:
        raise DeitkitError(f"{run} cannot be read: {facts['unreadable']}", value=run, remedy="start it again")
    metrics = logged().lines
    steps = [line for line in metrics if "loss" in line]
    facts |= {
        "result": opened.result(),
        "last_metrics": steps[-1] if steps else None,
        "evaluations": [line for line in metrics if "top1" in line],
        "environment": opened.environment(),
        "files": sorted(path.name for path in opened.path.iterdir() if not path.name.startswith(".")),
    }
    if as_json:
        render.print_json(facts)
        return
    from deitkit.models.kept import standing

    print_facts(facts, standing(opened.recipe(), facts["result"], metrics))


def print_facts(facts: dict[str, Any], standing: Standing | None) -> None:
    """One run as tables: what it is, of which epoch its model, its last step, its evaluations."""
    command = shlex.join(facts["environment"].get("command", []))
    rows = [[key, facts[key]] for key in ("path", "status", "recipe", "model", "dataset", "teacher", "step")]
    rows += [["epochs", f"{facts['epoch']:g} of {facts['epochs']}"], ["top-1", spell(facts["top1"])]]
    rows += [["time", spell_seconds(facts["seconds"])]] if facts["seconds"] is not None else []
    rows += [["command", command], ["files", ", ".join(facts["files"])]]
    said = standing.sentences(quoted(facts["path"])) if standing else []
    render.print_table(f"Run {facts['path']}", ["", ""], rows, footer="\n".join([*said, ""]) if said else "")
    if facts["last_metrics"]:
        render.print_table("Last metrics", ["", ""], list(facts["last_metrics"].items()))
    if facts["evaluations"]:
        evaluated = [
            [line.get("step"), line.get("epoch"), spell(line["top1"]), standing.mark(line) if standing else ""]
            for line in facts["evaluations"]
        ]
        render.print_table("Evaluations", ["step", "epoch", "top-1", "weights"], evaluated)
    if facts["status"] == "interrupted":
        render.say("interrupted; the same command with --resume goes on")


def summary(run: Run, logged: Callable[[], LoggedLines] | None = None) -> dict[str, Any]:
    """A run in a few words; a run that cannot be read says why instead of hiding the others. `logged` gives its lines,
    where somebody else reads them, too."""
    facts: dict[str, Any] = {"path": str(run.path), "status": "unreadable", "recipe": "", "step": 0, "epoch": 0.0}
    facts |= {"epochs": 0, "top1": None, "tags": (), "began": None, "seconds": None, "kept": None, "best": None}
    try:
        return facts | _summary(run, logged or partial(run.logged, spaced=0))
    except DeitkitError as error:
        return facts | {"unreadable": error.what}


def _summary(run: Run, read: Callable[[], LoggedLines]) -> dict[str, Any]:
    from deitkit.models.kept import standing
    from deitkit.runs.notes import read_notes

    recipe, result, logged = run.recipe(), run.result(), read()
    metrics = logged.lines
    stands = standing(recipe, result, metrics)
    top1 = result["top1"] if result else next((line["top1"] for line in metrics[::-1] if "top1" in line), None)
    return {
        "status": run.status(),
        "recipe": recipe.name,
        "model": recipe.model.name,
        "dataset": recipe.data.dataset,
        "data": (recipe.data.path if recipe.data.dataset == "folder" else None) or recipe.data.dataset,
        "teacher": recipe.teacher.model if recipe.teacher else None,
        "step": max((line["step"] for line in metrics if "step" in line), default=0),
        "epoch": float(max((line["epoch"] for line in metrics if "epoch" in line), default=0.0)),
        "epochs": recipe.train.epochs,
        "top1": top1,
        "tags": read_notes(run).tags,
        "began": run.began,
        "seconds": (result or {}).get("seconds", logged.seconds),
        **(stands.facts() if stands else {}),
    }


def spell(top1: dict[str, float] | None) -> str:
    """`class 97.1 %, fused 97.5 %`."""
    return ", ".join(f"{head} {value:.1%}" for head, value in (top1 or {}).items())
