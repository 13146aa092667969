"""Which weights a run's model is made of, of which epoch, and how good the best were. Reads a run's files alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deitkit.models.forms import decisive_head, score_of
from deitkit.recipe.schema import Keep, Recipe
from deitkit.runs.folder import Run


@dataclass(frozen=True)
class Evaluated:
    """A run's weights after a step, and their top-1 on the validation images by the `head` that decides."""

    step: int
    epoch: float
    head: str
    top1: float
    score: float | None = None  # by the run's metric, where that is not top-1

    @property
    def rank(self) -> float:
        """By which evaluations are compared."""
        return self.top1 if self.score is None else self.score

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Evaluated:
        """An evaluation's line of metrics.jsonl."""
        head = decisive_head(line["top1"])
        return cls(line["step"], line["epoch"], head, line["top1"][head], score_of(line) if "metric" in line else None)

    def __str__(self) -> str:
        return f"epoch {self.epoch:g} ({self.head} {self.top1:.2%})"


@dataclass(frozen=True)
class Standing:
    """A run's best weights and its last ones; `kept` says which of them are its model, None of an unfinished run."""

    best: Evaluated
    last: Evaluated
    kept: Keep | None
    epochs: int
    stopped_early: bool = False

    @property
    def model(self) -> Evaluated | None:
        return None if self.kept is None else self.best if self.kept == "best" else self.last

    def spelled(self) -> str:
        """`best, epoch 12 of 15`; empty while nothing is kept."""
        return "" if self.model is None else f"{self.kept}, epoch {self.model.epoch:g} of {self.epochs}"

    def facts(self) -> dict[str, Any]:
        """The same for a program."""
        kept_epoch = self.model.epoch if self.model else None
        more = {"best": self.best, "last": self.last, "stopped_early": self.stopped_early}
        return {"kept": self.kept, "kept_epoch": kept_epoch, **more}

    def mark(self, line: Mapping[str, Any]) -> str:
        """What the weights of an evaluation's line are to the run: its best, its model; or that a key asked for it."""
        if line.get("asked"):
            return "asked for: counts for nothing"
        is_model = self.model is not None and line["step"] == self.model.step
        return ", ".join(["best"] * (line["step"] == self.best.step) + ["the model"] * is_model)

    def sentences(self, run: str) -> list[str]:
        """What the model of `run` is, and how the others are named."""
        said = []
        if self.stopped_early:
            said.append(f"stopped early, after epoch {self.last.epoch:g} of {self.epochs}: train.patience")
        if self.kept is None:
            said.append(f"the best so far is {self.best}: {run}@best")
        elif self.best.step == self.last.step:
            said.append(f"the model is of {self.last}, the last and the best")
        elif self.kept == "best":
            said.append(f"the model is of {self.best}, the best; the last, {self.last}, is {run}@last")
        else:
            said.append(f"the model is of {self.last}, the last; the best, {self.best}, is {run}@best")
        return said


def standing_of(run: Run) -> Standing | None:
    """How a run stands; None before its first evaluation.

    Raises:
        DeitkitError: its recipe, result or metrics cannot be read.
    """
    return standing(run.recipe(), run.result(), run.logged(spaced=0).lines)


def standing(
    recipe: Recipe, result: Mapping[str, Any] | None, lines: Iterable[Mapping[str, Any]]
) -> Standing | None:  # fmt: skip
    """The same from what was read already. What somebody asked for by a key counts for nothing."""
    evaluated = [Evaluated.of(line) for line in lines if "top1" in line and not line.get("asked")]
    if not evaluated:
        return None
    named = [each for each in evaluated if result and each.step == result.get("best_step")]
    best, last = named[-1] if named else _best(evaluated), evaluated[-1]
    if result is None:
        return Standing(best, last, None, recipe.train.epochs)
    # Before results said so, the last was the model, or the best where patience had ended the run.
    gainless, patience = sum(each.step > best.step for each in evaluated), recipe.train.patience
    early = patience is not None and gainless >= patience
    kept: Keep = result.get("kept", "best" if early else "last")
    return Standing(best, last, kept, recipe.train.epochs, bool(result.get("stopped_early", early)))


def _best(evaluated: list[Evaluated]) -> Evaluated:
    """The later one of equals."""
    return max(evaluated, key=lambda each: (each.rank, each.step))
