"""Several runs side by side: where their recipes differ, and what came out. Reads run folders alone, and no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deitkit.recipe.schema import Keep
from deitkit.runs.folder import Run


@dataclass(frozen=True)
class RunFacts:
    """A run in a few values; None for what it does not have (yet).

    `top1`: accuracy by head, of the model, which is the `kept` of its weights; `best_top1` by the head that decides;
    `seconds`: of training, evaluations and checkpoints left out.
    """

    path: str
    status: str
    epoch: float
    epochs: int
    top1: dict[str, float] | None
    best_top1: float | None
    best_step: int | None
    best_epoch: float | None
    kept: Keep | None
    seconds: float | None


@dataclass(frozen=True)
class RunComparison:
    """`differences`: dotted recipe key -> a value for each run, where not all are equal; `runs` in the order given."""

    runs: tuple[RunFacts, ...]
    differences: dict[str, tuple[Any, ...]]
    same_data: bool


def compare_runs(runs: Sequence[Run]) -> RunComparison:
    """Recipes' differences and results of these runs.

    Raises:
        DeitkitError: a recipe cannot be read.
    """
    whole = [run.recipe() for run in runs]
    recipes = [recipe.flat() for recipe in whole]
    keys = sorted(set().union(*recipes))
    values = {key: tuple(recipe.get(key) for recipe in recipes) for key in keys}
    fingerprints = {run.environment().get("data_fingerprint") for run in runs}
    return RunComparison(
        tuple(_facts(run, recipe.train.epochs) for run, recipe in zip(runs, whole, strict=True)),
        {key: row for key, row in values.items() if any(value != row[0] for value in row)},
        same_data=len(fingerprints) == 1,
    )


def _facts(run: Run, epochs: int) -> RunFacts:
    result = run.result() or {}
    lines = run.logged(spaced=0).lines
    evaluations = [line for line in lines if "top1" in line and not line.get("asked")]
    best = [line["epoch"] for line in evaluations if line["step"] == result.get("best_step")]
    return RunFacts(
        path=str(run.path),
        status=run.status(),
        epoch=max((line["epoch"] for line in lines if "epoch" in line), default=0.0),
        epochs=epochs,
        top1=result.get("top1") or (evaluations[-1]["top1"] if evaluations else None),
        best_top1=result.get("best_top1"),
        best_step=result.get("best_step"),
        best_epoch=result.get("best_epoch", best[-1] if best else None),
        kept=result.get("kept"),
        seconds=result.get("seconds"),
    )
