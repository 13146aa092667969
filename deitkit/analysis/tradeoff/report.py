"""Models' accuracy against cost, in tables, figures and words (paper Figure 1 and Table 5). Measures nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from deitkit.analysis.report import AnyFigure, Cloud, Points, Report, Table
from deitkit.analysis.speed import COMMON, speed_definitions, speed_table, spelled
from deitkit.analysis.tradeoff.measure import AXES, Axis, Contender, Cost, fronts, pareto_front
from deitkit.catalog import TABLE5
from deitkit.errors import DeitkitError
from deitkit.measures.agreement import Interval, holm, mcnemar, paired_interval, wilson_interval
from deitkit.measures.words import is_chance, listed, open_words, points, rate_words, span

V100 = "published, V100"


def tradeoff_report(
    models: Sequence[Contender], *, images: str, cost: Cost = "throughput", conditions: Mapping[str, Any] | None = None,
    published: bool = False,
) -> Report:  # fmt: skip
    """Any number of models; `images` names the data, `conditions` say how speed was measured (None: it was not)."""
    if not models:
        raise DeitkitError("there is nothing to compare: no model was given", remedy="name a run")
    axis = AXES[cost]
    on_front = fronts(models, cost)
    order = sorted(range(len(models)), key=lambda place: _order(models[place], axis))
    ranked, front = [models[place] for place in order], [on_front[place] for place in order]
    count = max(model.images for model in models)
    return Report(
        name="tradeoff",
        title=f"Accuracy against {axis.label}, {count:,} images of {images}",
        definitions={
            **COMMON,
            "size": "each model's own image size (px), in accuracy and in speed; ONNX files and functions have the"
            " first run's crop",
            "distilled": "with a distillation token, or trained with a teacher",
            "front": f"no other model is at least as good in both accuracy and {cost}, and better in one",
            **(speed_definitions(conditions) if conditions else {}),
        },
        sources=(
            "Touvron et al., Training data-efficient image transformers, 2020, Figure 1 and Table 5",
            "Wilson, Probable inference, the law of succession, and statistical inference, 1927",
        ),
        numbers={
            "images": count, "cost": cost, "conditions": dict(conditions) if conditions else None,
            "front": [model.name for model, is_on in zip(ranked, front, strict=True) if is_on],
        },
        tables=(
            _model_table(ranked, front),
            _accuracy_table(ranked),
            *([speed_table({model.name: model.speed for model in ranked}, what="model")] if conditions else []),
            *([_published_table()] if published else []),
        ),
        figures=(*_figure(ranked, front, images, cost), *([_published_figure()] if published else [])),
        verdict=tuple(tradeoff_verdict(ranked, front, cost)),
    )  # fmt: skip


def _order(model: Contender, axis: Axis) -> tuple[bool, float]:
    """The best cost first, what was not measured last."""
    value = axis.value(model)
    return value is None, 0.0 if value is None else (-value if axis.more_is_better else value)


def _model_table(models: Sequence[Contender], front: Sequence[bool | None]) -> Table:
    rows = [
        (
            model.name, spelled(model.size), model.parameters,
            None if model.macs is None else model.macs / 1e9, model.speed and model.speed.images_per_s,
            model.speed and model.speed.memory_mb, model.top1, None if is_on is None else ("yes" if is_on else "no"),
        )
        for model, is_on in zip(models, front, strict=True)
    ]  # fmt: skip
    costs = {"parameters": ",", "GMACs": ".3g", "images/s": ",.1f", "MiB": ",.1f"}
    columns = {"model": "", "size": "", **costs, "top1": ".1%", "front": ""}
    return Table.of("models", "Cost and accuracy", columns, rows)


def _accuracy_table(models: Sequence[Contender]) -> Table:
    intervals = [wilson_interval(model.right, model.images) for model in models]
    rows = [
        (model.name, model.kind, model.head, model.top1, interval.low, interval.high, model.right)
        for model, interval in zip(models, intervals, strict=True)
    ]
    columns = {"model": "", "kind": "", "head": "", **dict.fromkeys(("top1", "low", "high"), ".1%"), "right": ","}
    return Table.of("accuracy", "Top-1 of the deciding head", columns, rows)


def _figure(
    models: Sequence[Contender], front: Sequence[bool | None], images: str, cost: Cost
) -> list[AnyFigure]:  # fmt: skip
    """A mark for each model whose cost is known, kinds apart, and the front as a line."""
    axis = AXES[cost]
    kinds = sorted({model.kind for model in models}, reverse=True)  # transformers, convnets, others
    clouds = [cloud for kind in kinds if (cloud := _cloud(models, kind, axis)).x]
    if not clouds:
        return []
    best = [
        (value, 100 * model.top1)
        for model, is_on in zip(models, front, strict=True)
        if is_on and (value := axis.value(model)) is not None
    ]
    line = stairs(best)
    if len(line) > 1:
        clouds.append(Cloud("Pareto front", tuple(x for x, _ in line), tuple(y for _, y in line), line=True))
    return [
        Points(
            name="models", title=f"Accuracy on {images} against {axis.label}, with 95% intervals",
            x_label=axis.label + (" (measured here)" if cost in ("throughput", "memory") else ""),
            y_label="top-1 accuracy (%)", clouds=tuple(clouds), log_x=True,
        )
    ]  # fmt: skip


def _cloud(models: Sequence[Contender], kind: str, axis: Axis) -> Cloud:
    chosen = [(value, model) for model in models if model.kind == kind and (value := axis.value(model)) is not None]
    intervals = [wilson_interval(model.right, model.images) for _, model in chosen]
    return Cloud(
        label=kind,
        x=tuple(value for value, _ in chosen),
        y=tuple(100 * model.top1 for _, model in chosen),
        names=tuple(model.name for _, model in chosen),
        intervals=tuple((100 * interval.low, 100 * interval.high) for interval in intervals),
    )


def stairs(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(cost, accuracy) of undominated models -> the edge of what they dominate, corners between them."""
    ordered = sorted(set(front))
    found = ordered[:1]
    for (x, y), (next_x, next_y) in itertools.pairwise(ordered):
        # Where accuracy falls with more of the cost, more is better: the edge goes down first, then across.
        found += [(x, next_y) if next_y < y else (next_x, y), (next_x, next_y)]
    return found


def _published_table() -> Table:
    front = pareto_front([(row.images_per_s, row.imagenet) for row in TABLE5], more_is_better=True)
    rows = (
        (
            row.model, row.millions, row.image_size, row.images_per_s, row.imagenet, row.real, row.v2,
            "yes" if on else "no",
        )
        for row, on in zip(TABLE5, front, strict=True)
    )  # fmt: skip
    accuracies = dict.fromkeys(("top1", "real", "v2"), ".1f")
    columns = {"model": "", "millions": "", "size": "", "images/s": ",.1f", **accuracies, "front": ""}
    return Table.of("published", f"The paper's Table 5, ImageNet ({V100})", columns, rows)


def _published_figure() -> Points:
    """Apart from ours, because images per second of another machine cannot be compared."""
    families = list(dict.fromkeys(row.family for row in TABLE5))
    clouds = []
    for family in families:
        rows = sorted((row for row in TABLE5 if row.family == family), key=lambda row: row.images_per_s)
        clouds.append(
            Cloud(
                family, tuple(row.images_per_s for row in rows), tuple(row.imagenet for row in rows),
                tuple(row.mark for row in rows), published=True,
            )
        )  # fmt: skip
    return Points(
        name="published", title=f"The paper's Table 5 and Figure 1 ({V100}): not this machine's numbers",
        x_label="images/s (V100)", y_label="top-1 accuracy on ImageNet (%)", clouds=tuple(clouds), log_x=True,
    )  # fmt: skip


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
