"""A sweep as a Report: the ranked table, parallel coordinates, and each key's own effect. Draws nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deitkit.analysis.report import AnyFigure, Bars, Cloud, Curves, Points, Report, Series, Table
from deitkit.measures.seeds import mean_and_deviation
from deitkit.measures.words import is_chance, open_words, p_words, points
from deitkit.sweep.results import Gain, PointResult, SweepResult
from deitkit.sweep.space import is_logarithmic, places, spell, spell_value

MOST_LINES = 12  # of parallel coordinates: more cannot be told apart
TOP1 = "top-1 (%)"

DEFINITIONS = {
    "top-1": "the share of the validation images that a run's model has right, by the head that decides; of a point "
    "the mean over its seeds, sd their standard deviation (n - 1)",
    "gain": "the difference in top-1 to the baseline. Over two seeds or more: the mean over the same seeds, Student's "
    "paired t; with one seed: on the same images, McNemar's test and Bonett and Price's interval",
    "p": "two-sided, corrected by Holm for all points that are compared",
    "best of many": "the best point was chosen by the images that it is measured on: on new images expect a little "
    "less, the more so the more points there are",
}
SOURCES = ("Student 1908", "McNemar 1947", "Holm 1979", "Bonett and Price 2012")


def sweep_report(name: str, result: SweepResult) -> Report:
    """The whole sweep, as far as it has come."""
    ranked, keys = result.ranked, list(dict.fromkeys(key for each in result.points for key in each.point.values))
    varied = [key for key in keys if len({str(each.point.values.get(key)) for each in ranked}) > 1]
    figures: list[AnyFigure] = [parallel(ranked, varied)] if varied else []
    figures += [effect(ranked, key, number) for number, key in enumerate(varied)]
    return Report(
        name="sweep",
        title=f"Sweep {name}",
        definitions=DEFINITIONS,
        sources=SOURCES,
        numbers={
            "points": len(result.points), "seeds": list(result.seeds), "runs": result.runs, "failed": result.failed,
            "pruned": result.pruned,
            "best": {"values": ranked[0].point.values, "top1": ranked[0].mean, "sd": ranked[0].deviation}
            if ranked else None,
        },
        tables=(ranking(result, keys),),
        figures=tuple(figures),
        verdict=tuple(verdict(result)),
    )  # fmt: skip


def ranking(result: SweepResult, keys: Sequence[str]) -> Table:
    """A row a point, the best first."""
    columns = ("rank", *keys, "top-1", "sd", "seeds", "gain", "95 % from", "to", "p", "state")
    rows = tuple(_row(rank, each, keys) for rank, each in enumerate(result.points, start=1))
    formats = {"top-1": ".2%", "sd": ".2%", "gain": "+.2%", "95 % from": "+.2%", "to": "+.2%", "p": ".3g"}
    points, runs = len(result.points), result.runs
    title = f"{points} point{'s' * (points != 1)}, {runs} run{'s' * (runs != 1)} finished"
    return Table("points", title, columns, rows, formats)


def _row(rank: int, each: PointResult, keys: Sequence[str]) -> tuple[Any, ...]:
    gain = each.gain
    low, high = (gain.interval.low, gain.interval.high) if gain and gain.interval else (None, None)
    values = (spell_value(each.point.values[key]) for key in keys)
    ended = f"{each.ending}: {each.why}" if each.ending else "" if each.scores else "not finished"
    return (
        rank if each.mean is not None else None, *values, each.mean, each.deviation, len(each.scores),
        gain.mean if gain else None, low, high, gain.p if gain else None, "baseline" if each.is_baseline else ended,
    )  # fmt: skip


def parallel(ranked: Sequence[PointResult], keys: Sequence[str]) -> Curves:
    """A line a point over an axis a key and one of top-1, each from its least to its most."""
    columns: dict[str, list[Any]] = {key: [each.point.values[key] for each in ranked] for key in keys}
    columns[TOP1] = [round(100 * (each.mean or 0.0), 2) for each in ranked]
    at = [places(values, log=key != TOP1 and is_logarithmic(values)) for key, values in columns.items()]
    few = f"the {MOST_LINES} best of {len(ranked)} points" if len(ranked) > MOST_LINES else "all points"
    return Curves(
        "parallel", f"Parallel coordinates: {few}", "", "from the least (0) to the most (1)",
        tuple(f"{key}: {_span(values)}" for key, values in columns.items()),
        tuple(
            Series(f"{rank}: {each.mean:.2%}", tuple(axis[rank - 1] for axis in at))
            for rank, each in enumerate(ranked[:MOST_LINES], start=1)
        ),
        bounds=(0.0, 1.0),
    )  # fmt: skip


def _span(values: Sequence[Any]) -> str:
    """`5e-05 to 0.0005`."""
    ends = (min(values), max(values)) if _is_numeric(values) else (values[0], values[-1])
    return f"{spell_value(ends[0])} to {spell_value(ends[1])}"


def effect(ranked: Sequence[PointResult], key: str, number: int) -> AnyFigure:
    """A key's own effect: every point's top-1 at its value, and the mean of those that share the value."""
    values = [each.point.values[key] for each in ranked]
    scores = [100 * (each.mean or 0.0) for each in ranked]
    name, title = f"effect_{number}", f"{key}: its own effect, the other keys averaged over"
    groups: dict[Any, list[float]] = {}
    for value, score in zip(values, scores, strict=True):
        groups.setdefault(value if _is_numeric(values) else spell_value(value), []).append(score)
    means = {value: mean_and_deviation(group) for value, group in groups.items()}
    if not _is_numeric(values):
        heights = tuple(mean for mean, _ in means.values())
        series = Series("mean", heights, tuple(deviation or 0.0 for _, deviation in means.values()))
        return Bars(name, title, key, "top-1 (%)", tuple(means), (series,))
    at = sorted(means)
    single = Cloud("a point", tuple(map(float, values)), tuple(scores))
    mean = Cloud("mean", tuple(map(float, at)), tuple(means[value][0] for value in at), line=True)
    return Points(name, title, key, "top-1 (%)", (single, mean), log_x=is_logarithmic(values))


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def verdict(result: SweepResult) -> list[str]:
    """What the table says in sentences, and nothing that chance may have made."""
    if not result.ranked:
        return ["No run has finished."]
    best = result.ranked[0]
    what = f"Best of {len(result.ranked)} points: {spell(best.point.values)}" if len(result.points) > 1 else "The mean"
    said = [f"{what}: top-1 {best.mean:.2%}{_over_seeds(best)}."]
    said += ["It is the baseline."] if best.is_baseline else [_gain_words(best.gain)] if best.gain else []
    said += [f"{result.failed} of the runs failed; the table says why."] if result.failed else []
    if result.pruned:
        said.append(f"{result.pruned} were ended early, worse than the median of the others at the same epoch.")
    return said


def _over_seeds(best: PointResult) -> str:
    if best.deviation is None:
        return ""
    return f", standard deviation {100 * best.deviation:.2f} points over {len(best.scores)} seeds"


def _gain_words(gain: Gain) -> str:
    if gain.interval is None or gain.p is None:
        return f"That is {100 * gain.mean:+.2f} points to the baseline; whether by chance cannot be told."
    if is_chance(gain.p, gain.interval):
        return f"Whether it is better than the baseline cannot be told ({open_words(gain.p, gain.interval)})."
    return (
        f"It is better than the baseline by {100 * gain.mean:.2f} points ({points(gain.interval)}, {p_words(gain.p)})."
    )
