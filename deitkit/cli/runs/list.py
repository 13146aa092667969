"""`deitkit runs`: what ran, how far it came and how good it is. Reads run folders and changes none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, RunName
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.runs.folder import Run


def list_runs(
    root: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where the runs are.")] = "runs",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder, also those one folder deeper.

    Example: deitkit runs list
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
    rows = [
        [run["path"], run["status"], run["recipe"], f"{run['epoch']:g} of {run['epochs']}", spell(run["top1"]),
         ", ".join(run["tags"])]
        for run in found
    ]  # fmt: skip
    render.print_table(f"Runs in {root}", ["run", "status", "recipe", "epochs", "top-1", "tags"], rows)


def show(run: RunName, as_json: AsJson = False) -> None:
    """Show one run: its state, last metrics and result.

    Example: deitkit runs show runs/quickstart/student
    """
    from deitkit.runs.folder import Run

    opened = Run.open(run)
    facts = summary(opened)
    if "unreadable" in facts:
        raise DeitkitError(f"{run} cannot be read: {facts['unreadable']}", value=run, remedy="start it again")
    metrics = opened.metrics()
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
    else:
        print_facts(facts)


def print_facts(facts: dict[str, Any]) -> None:
    """One run as tables: what it is, its last step, its evaluations."""
    command = shlex.join(facts["environment"].get("command", []))
    rows = [[key, facts[key]] for key in ("path", "status", "recipe", "model", "dataset", "teacher", "step")]
    rows += [["epochs", f"{facts['epoch']:g} of {facts['epochs']}"], ["top-1", spell(facts["top1"])]]
    rows += [["command", command], ["files", ", ".join(facts["files"])]]
    render.print_table(f"Run {facts['path']}", ["", ""], rows)
    if facts["last_metrics"]:
        render.print_table("Last metrics", ["", ""], list(facts["last_metrics"].items()))
    if facts["evaluations"]:
        evaluated = [[line.get("step"), line.get("epoch"), spell(line["top1"])] for line in facts["evaluations"]]
        render.print_table("Evaluations", ["step", "epoch", "top-1"], evaluated)
    if facts["status"] == "interrupted":
        render.say("interrupted; the same command with --resume goes on")


def summary(run: Run) -> dict[str, Any]:
    """A run in a few words; a run that cannot be read says why instead of hiding the others."""
    facts: dict[str, Any] = {"path": str(run.path), "status": "unreadable", "recipe": "", "step": 0, "epoch": 0.0}
    facts |= {"epochs": 0, "top1": None, "tags": ()}
    try:
        return facts | _summary(run)
    except DeitkitError as error:
        return facts | {"unreadable": error.what}


def _summary(run: Run) -> dict[str, Any]:
    from deitkit.runs.notes import read_notes

    recipe, result, metrics = run.recipe(), run.result(), run.metrics()
    evaluations = [line for line in metrics if "top1" in line]
    top1 = result["top1"] if result else evaluations[-1]["top1"] if evaluations else None
    return {
        "status": run.status(),
        "recipe": recipe.name,
        "model": recipe.model.name,
        "dataset": recipe.data.dataset,
        "teacher": recipe.teacher.model if recipe.teacher else None,
        "step": max((line["step"] for line in metrics if "step" in line), default=0),
        "epoch": float(max((line["epoch"] for line in metrics if "epoch" in line), default=0.0)),
        "epochs": recipe.train.epochs,
        "top1": top1,
        "tags": read_notes(run).tags,
    }


def spell(top1: dict[str, float] | None) -> str:
    """`class 97.1 %, fused 97.5 %`."""
    return ", ".join(f"{head} {value:.1%}" for head, value in (top1 or {}).items())
