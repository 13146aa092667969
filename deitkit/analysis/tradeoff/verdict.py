"""What a report of a trade-off says, in sentences: which models none beats, and how surely one beats another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from deitkit.analysis.tradeoff.measure import AXES, Contender, Cost
from deitkit.measures.agreement import Interval, holm, mcnemar, paired_interval, wilson_interval
from deitkit.measures.words import is_chance, listed, open_words, points, rate_words, span

MOST_PAIRS = 4
UNITS: dict[Cost, str] = {
    "throughput": "images/s", "parameters": "parameters", "macs": "multiply-accumulates", "memory": "memory"
}  # fmt: skip


def tradeoff_verdict(models: Sequence[Contender], front: Sequence[bool | None], cost: Cost) -> Iterator[str]:
    """The front, then those that are beaten beside who beats them, then neighbours on the front."""
    if len(models) == 1:
        yield f"{models[0].name}: {rate_words(models[0].right, models[0].images)}."
        return
    best = [model for model, is_on in zip(models, front, strict=True) if is_on]
    beaten = [model for model, is_on in zip(models, front, strict=True) if is_on is False]
    pairs = [(_winner(best, model, cost), model) for model in beaten] + [(a, b) for b, a in pairwise(best)]
    if best:
        names = listed([model.name for model in best])
        yield f"By these figures none beats {names} in both accuracy and {UNITS[cost]}."
    yield from _pair_words(pairs[:MOST_PAIRS], cost)


def _winner(best: Sequence[Contender], beaten: Contender, cost: Cost) -> Contender:
    """The most accurate of those that are at least as good in both."""
    axis = AXES[cost]

    def is_better(model: Contender) -> bool:
        own, other = axis.value(model), axis.value(beaten)
        cheaper = own is not None and other is not None and (own >= other if axis.more_is_better else own <= other)
        return cheaper and model.top1 >= beaten.top1

    return max(filter(is_better, best), key=lambda model: model.top1)


def _pair_words(pairs: Sequence[tuple[Contender, Contender]], cost: Cost) -> Iterator[str]:
    """One sentence a pair; p-values are corrected by Holm for all that are told."""
    counts = [_alone(a, b) for a, b in pairs]
    sure = holm([mcnemar(*count).p if count else 1.0 for count in counts])
    for (a, b), count, p in zip(pairs, counts, sure, strict=True):
        yield f"Beside {b.name}, {a.name} {_cost_words(a, b, cost)} and {_accuracy_words(a, b, count, p)}."


def _alone(a: Contender, b: Contender) -> tuple[int, int] | None:
    """Images that one alone has right."""
    if a.decided is None or b.decided is None or len(a.decided) != len(b.decided):
        return None
    return int((a.decided & ~b.decided).sum()), int((b.decided & ~a.decided).sum())


def _accuracy_words(a: Contender, b: Contender, count: tuple[int, int] | None, p: float) -> str:
    if count is None:
        own, other = (span(wilson_interval(model.right, model.images)) for model in (a, b))
        return f"is right on {own} of the images, not {other}"
    interval: Interval = paired_interval(*count, a.images)
    if is_chance(p, interval):
        return f"is, of so few images, not known to be right more or less often ({open_words(p, interval)})"
    return f"is right {'more' if interval.low > 0 else 'less'} often ({points(interval)})"


def _cost_words(a: Contender, b: Contender, cost: Cost) -> str:
    own, other = (AXES[cost].value(model) for model in (a, b))
    if own is None or other is None or not other:
        return f"has other {UNITS[cost]}"
    if (
        cost == "throughput"
        and a.speed
        and b.speed
        and max(a.speed.low, b.speed.low) <= min(a.speed.high, b.speed.high)
    ):
        return "is about as fast"
    return f"has {own / other:.2g} x the {UNITS[cost]}"
