"""Which point comes next: from a list, or as Optuna proposes. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deitkit.sweep.folder import Ending, Point, SweepFolder
from deitkit.sweep.schema import Sweep
from deitkit.sweep.space import Values, draws, grid


class Proposer(Protocol):
    """Proposes points and hears what became of them."""

    def ask(self) -> Values | None:
        """The next point's values; None when there are no more."""
        ...

    def is_hopeless(self, point: Point, step: int, top1: float) -> bool:
        """Whether a run is not worth going on with, by its evaluation at a step."""
        ...

    def tell(self, point: Point, scores: Sequence[float], ending: Ending | None) -> None:
        """What became of a point: the top-1 of each seed, or how it ended without."""
        ...


class Listed:
    """Points that were known from the beginning."""

    def __init__(self, points: Sequence[Values], *, done: int) -> None:
        self.left = list(points[done:])

    def ask(self) -> Values | None:
        return self.left.pop(0) if self.left else None

    def is_hopeless(self, point: Point, step: int, top1: float) -> bool:
        return False

    def tell(self, point: Point, scores: Sequence[float], ending: Ending | None) -> None:
        """What came out changes nothing."""


def proposer_of(sweep: Sweep, folder: SweepFolder) -> Proposer:
    """The sweep's, as far as the folder has come."""
    if sweep.method == "tpe":
        from deitkit.sweep.tpe import Estimator

        return Estimator(sweep, folder)
    return Listed(listed(sweep), done=len(folder.points))


def listed(sweep: Sweep) -> list[Values]:
    """Every point of a grid or of random draws, these behind the baseline where there is one."""
    if sweep.method == "grid":
        return list(grid(sweep.space))
    first = [dict(sweep.baseline)] if sweep.baseline else []
    return first + draws(sweep.space, sweep.points - len(first), seed=sweep.seed)
