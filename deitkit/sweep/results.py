"""What came out of a sweep: each point's mean over its seeds, ranked and compared with the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deitkit.measures.agreement import Interval, holm
from deitkit.measures.seeds import mean_and_deviation, paired_difference
from deitkit.predictions.paired import paired_with_baseline
from deitkit.sweep.folder import Ending, Point, SweepFolder


@dataclass(frozen=True)
class Gain:
    """What a point gains over the baseline in top-1, from -1 to 1. `p` is corrected for all points (Holm)."""

    mean: float
    interval: Interval | None
    p: float | None


@dataclass(frozen=True)
class PointResult:
    """A point's top-1 by seed, their mean and standard deviation; `ending` and `why` of a run without one."""

    point: Point
    scores: Mapping[int, float]
    mean: float | None
    deviation: float | None
    ending: Ending | None
    why: str
    is_baseline: bool = False
    gain: Gain | None = None


@dataclass(frozen=True)
class SweepResult:
    """Points by their mean, the best first; those without a score come last."""

    points: tuple[PointResult, ...]
    seeds: tuple[int, ...]
    runs: int  # that are finished
    failed: int
    pruned: int

    @property
    def ranked(self) -> list[PointResult]:
        return [each for each in self.points if each.mean is not None]

    @property
    def baseline(self) -> PointResult | None:
        return next((each for each in self.points if each.is_baseline), None)


def results_of(folder: SweepFolder) -> SweepResult:
    """Everything that is finished so far."""
    found = [_result(folder, point) for point in folder.points]
    baseline = _baseline(folder, found)
    if baseline is not None:
        found = _compared(folder, [replace(each, is_baseline=each is baseline) for each in found])
    ranked = sorted(found, key=lambda each: (each.mean is None, -(each.mean or 0.0), each.point.number))
    endings = [ending for ending, _ in folder.ended.values()]
    runs = sum(len(each.scores) for each in found)
    return SweepResult(tuple(ranked), folder.seeds, runs, endings.count("failed"), endings.count("pruned"))


def _result(folder: SweepFolder, point: Point) -> PointResult:
    scores, ending = folder.scores(point), folder.ending_of(point)
    mean, deviation = mean_and_deviation(list(scores.values())) if scores else (None, None)
    names = [folder.run(point, seed).name for seed in folder.seeds]
    why = next((folder.ended[name][1] for name in names if name in folder.ended), "")
    return PointResult(point, scores, mean, deviation, ending, why)


def _baseline(folder: SweepFolder, found: list[PointResult]) -> PointResult | None:
    """The point that the sweep names, of a grid else the first; None where it has no score, or is the only point."""
    wanted: dict[str, Any] = folder.plan["baseline"]
    if not wanted and folder.plan["method"] != "grid":
        return None
    named = [each for each in found if wanted.items() <= each.point.values.items()]
    first = named[0] if named else None
    return first if first and first.scores and len(found) > 1 else None


def _compared(folder: SweepFolder, found: list[PointResult]) -> list[PointResult]:
    baseline = next(each for each in found if each.is_baseline)
    gains = {each.point.number: _gain(folder, each, baseline) for each in found if each.scores and not each.is_baseline}
    tested = {number: gain for number, gain in gains.items() if gain is not None and gain.p is not None}
    corrected = dict(zip(tested, holm([gain.p or 0.0 for gain in tested.values()]), strict=True))
    gains = {
        number: replace(gain, p=corrected.get(number)) if gain is not None else None for number, gain in gains.items()
    }
    return [replace(each, gain=gains.get(each.point.number)) for each in found]


def _gain(folder: SweepFolder, result: PointResult, baseline: PointResult) -> Gain | None:
    """Over the seeds that both have, Student's paired t; of one seed over the images, McNemar's."""
    both = [seed for seed in folder.seeds if seed in result.scores and seed in baseline.scores]
    if not both:
        return None
    if len(both) > 1:
        found = paired_difference([result.scores[seed] for seed in both], [baseline.scores[seed] for seed in both])
        return Gain(found.mean, found.interval, found.p)
    runs = [folder.run(each.point, both[0]) for each in (baseline, result)]
    for gain in paired_with_baseline([run.path for run in runs]):
        return Gain(gain.gain, Interval(gain.low, gain.high), gain.p)
    return Gain(result.scores[both[0]] - baseline.scores[both[0]], None, None)
