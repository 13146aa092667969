"""Optuna's tree-structured Parzen estimator with pruning by the median. The only file that imports Optuna.

Bergstra et al. 2011; the median rule of Golovin et al. 2017, as Optuna has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from deitkit.models.forms import decisive_head
from deitkit.sweep.folder import Ending, Point, SweepFolder
from deitkit.sweep.schema import Sweep
from deitkit.sweep.space import Choices, Range, Values

STATES = {"failed": TrialState.FAIL, "pruned": TrialState.PRUNED}


class Estimator:
    """A study in memory. What the folder has of it is told again when a sweep goes on."""

    def __init__(self, sweep: Sweep, folder: SweepFolder) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.folder = sweep, folder
        self.kinds = {key: distribution(each) for key, each in sweep.space.items()}
        # Another seed than before it was interrupted: the same would draw the first points again.
        sampler = optuna.samplers.TPESampler(seed=sweep.seed + len(folder.points))
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.MedianPruner())
        self.trials: dict[int, Trial] = {}
        for point in folder.points:
            self._take_up(point)
        if sweep.baseline and not folder.points:
            self.study.enqueue_trial({key: self._index(key, value) for key, value in sweep.baseline.items()})

    def _take_up(self, point: Point) -> None:
        """A point of an earlier session: what became of it, or the point again, whose runs go on."""
        params = {key: self._index(key, value) for key, value in point.values.items()}
        scores, ending = list(self.folder.scores(point).values()), self.folder.ending_of(point)
        if ending is None and len(scores) < len(self.sweep.seeds):
            self.study.enqueue_trial(params)
            self.trials[point.number] = self.study.ask(self.kinds)
            return
        run = self.folder.run(point, self.sweep.seeds[0])
        seen = {line["step"]: line["top1"][decisive_head(line["top1"])] for line in run.metrics() if "top1" in line}
        state = STATES[ending] if ending and not scores else TrialState.COMPLETE
        value = sum(scores) / len(scores) if state == TrialState.COMPLETE else None
        self.study.add_trial(
            optuna.create_trial(
                state=state, value=value, params=params, distributions=self.kinds, intermediate_values=seen
            )
        )

    def ask(self) -> Values | None:
        if len(self.folder.points) >= self.sweep.points:
            return None
        trial = self.study.ask(self.kinds)
        self.trials[len(self.folder.points)] = trial
        return {key: self._value(key, value) for key, value in trial.params.items()}

    def is_hopeless(self, point: Point, step: int, top1: float) -> bool:
        trial = self.trials[point.number]
        trial.report(top1, step)
        return trial.should_prune()

    def tell(self, point: Point, scores: Sequence[float], ending: Ending | None) -> None:
        trial = self.trials.pop(point.number, None)
        if trial is None:  # another seed's run was still being trained when the point was given up
            return
        if scores:
            self.study.tell(trial, sum(scores) / len(scores))
        else:
            self.study.tell(trial, state=STATES[ending or "failed"])

    def _index(self, key: str, value: Any) -> Any:
        """A choice by its place: Optuna's own can be no lists."""
        each = self.sweep.space[key]
        return each.values.index(value) if isinstance(each, Choices) else value

    def _value(self, key: str, drawn: Any) -> Any:
        each = self.sweep.space[key]
        return each.values[drawn] if isinstance(each, Choices) else drawn


def distribution(each: Choices | Range) -> BaseDistribution:
    """What Optuna draws from."""
    if isinstance(each, Choices):
        return CategoricalDistribution(range(len(each.values)))
    if each.is_whole:
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(each.low, each.high, log=each.log)
