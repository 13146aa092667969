"""What a report of positions says, in sentences: what each interpolation keeps, and what it costs. Runs no network."""

from __future__ import annotations

from collections.abc import Iterator

from deitkit.analysis.positions.measure import AS_TRAINED, Accuracy, PositionMeasures
from deitkit.analysis.speed import Size, spelled
from deitkit.measures.arrays import Hits
from deitkit.measures.words import beside_words, listed, rate_words

MOST_SIZES = 3  # of which the modes are compared in words


def positions_verdict(measures: PositionMeasures) -> Iterator[str]:
    """Norms first, then accuracy where it was measured: sizes beside its own, and the modes of a size."""
    others = [size for size in measures.resampled if size != measures.size]
    if others:
        yield _norm_words(measures, others)
    hits = {(each.size, each.mode): each.hits for each in measures.accuracy if each.hits is not None}
    own = next((each for each in measures.accuracy if each.mode == AS_TRAINED), None)
    if own is not None and own.hits is not None:
        where = f"its own {spelled(own.size)} px"
        yield f"At {where}: {rate_words(int(own.hits.sum()), own.images)}."
        best = {size: _best(measures, size) for size in others}
        named = {
            f"{spelled(size)} px by {each.mode}": each.hits for size, each in best.items() if each.hits is not None
        }
        yield from beside_words(where, own.hits, named)
    for size in others[:MOST_SIZES] if hits else ():
        yield from _mode_words(
            size, _best(measures, size), {mode: own for (at, mode), own in hits.items() if at == size}
        )


def _best(measures: PositionMeasures, size: Size) -> Accuracy:
    """The mode that has most right at a size."""
    there = [each for each in measures.accuracy if each.size == size]
    return max(there, key=lambda each: [*each.right.values()][-1])


def _mode_words(size: Size, best: Accuracy, hits: dict[str, Hits]) -> list[str]:
    others = {mode: own for mode, own in hits.items() if mode != best.mode}
    if not others:
        return []
    return beside_words(f"{best.mode} at {spelled(size)} px, which has most right", hits[best.mode], others)


def _norm_words(measures: PositionMeasures, others: list[Size]) -> str:
    """What each mode keeps of the mean norm over all sizes, the nearest to all of it first."""
    before, kept = measures.trained.norms().mean(), dict[str, list[float]]()
    for size in others:
        for positions in measures.resampled[size]:
            kept.setdefault(positions.mode, []).append(float(positions.norms().mean() / before))
    order = sorted(kept.items(), key=lambda each: max(abs(share - 1) for share in each[1]))
    sizes = listed([f"{spelled(size)}" for size in others])
    return f"Of the mean norm, at {sizes} px, {listed([f'{mode} keeps {_range(shares)}' for mode, shares in order])}."


def _range(shares: list[float]) -> str:
    low, high = (f"{100 * end:.1f}" for end in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"
