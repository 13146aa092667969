"""Position embeddings before and after resampling, in tables, figures and words (paper Sec. 3). Runs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.positions.measure import AS_TRAINED, Accuracy, PositionMeasures, Positions
from deitkit.analysis.report import AnyFigure, Curves, Panel, Panels, Report, Series, Table
from deitkit.analysis.speed import Size, spelled
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.arrays import Hits
from deitkit.measures.words import beside_words, listed, rate_words

SHOWN = 5  # patches along a side whose similarity maps are drawn


def positions_report(measures: PositionMeasures, *, images: str = "images") -> Report:
    """One model's position embedding; accuracy stands in it where it was measured."""
    height, width = measures.size
    return Report(
        name="positions",
        title=f"Position embedding of {measures.classifier}, trained at {height}x{width} px",
        definitions=DEFINITIONS,
        sources=("Touvron et al., Training data-efficient image transformers, 2020, Sec. 3 and Table 10",),
        numbers={
            "size": list(measures.size),
            "grid": list(measures.trained.grid),
            "mean_norm": float(measures.trained.norms().mean()),
            "images": measures.accuracy[0].images if measures.accuracy else 0,
        },
        tables=(_norm_table(measures), *([_accuracy_table(measures, images)] if measures.accuracy else [])),
        figures=tuple(_figures(measures, images)),
        verdict=tuple(positions_verdict(measures)),
    )


DEFINITIONS = {
    "norm": "L2 norm of a patch's position vector; mean, least and greatest over the patches",
    "kept": "mean norm after resampling, relative to the embedding as trained",
    "similarity": "cosine of one patch's position vector with every patch's",
    "mode": "how the grid of vectors is resampled; none antialiases but bicubic-antialias, no corners are aligned, and"
    " prefix tokens stay apart. The paper chose bicubic, because bilinear lowers norms and accuracy",
    "accuracy": "top-1 at that size without any fine-tuning, every weight but the position embedding unchanged",
    "interval": "95% Wilson score interval of the accuracy of the deciding head: fused, or class where it is alone",
}


def _norm_table(measures: PositionMeasures) -> Table:
    before = float(measures.trained.norms().mean())
    rows = []
    for size, versions in measures.resampled.items():
        for positions in versions:
            norms = positions.norms()
            grid, mean = f"{norms.shape[0]}x{norms.shape[1]}", float(norms.mean())
            rows.append(
                (spelled(size), grid, positions.mode, mean, mean / before, float(norms.min()), float(norms.max()))
            )
    norms_kept = {"mean_norm": ".3f", "kept": ".1%", "min_norm": ".3f", "max_norm": ".3f"}
    columns = {"size": "", "grid": "", "mode": "", **norms_kept}
    return Table.of("norms", "Norms of the patches' position vectors", columns, rows)


def _accuracy_table(measures: PositionMeasures, images: str) -> Table:
    heads = tuple(measures.accuracy[0].right)
    rows = []
    for found in measures.accuracy:
        interval = wilson_interval(found.right[heads[-1]], found.images)
        shares = (found.right[head] / found.images for head in heads)
        rows.append((spelled(found.size), found.mode, *shares, interval.low, interval.high, found.images))
    columns = {"size": "", "mode": "", **dict.fromkeys((*heads, "low", "high"), ".1%"), "images": ","}
    return Table.of("accuracy", f"Top-1 on {images} without fine-tuning", columns, rows)


def _figures(measures: PositionMeasures, images: str) -> list[AnyFigure]:
    trained, others = measures.trained, [size for size in measures.resampled if size != measures.size]
    places = [np.unique(np.linspace(0, side - 1, min(SHOWN, side)).round().astype(int)) for side in trained.grid]
    found: list[AnyFigure] = [
        Panels(
            name="similarity",
            title=f"One patch's position vector and every other's, grid {trained.grid[0]}x{trained.grid[1]} as trained",
            rows=tuple(
                tuple(
                    Panel(f"row {row + 1}, column {column + 1}", trained.similarity(row, column))
                    for column in places[1]
                )
                for row in places[0]
            ),
            unit="cosine similarity",
            diverging=True,
        )
    ]
    if others:
        title = "before and after each interpolation"
        found += [
            Panels(
                name="resampled_norms", title=f"Norms {title}", unit="L2 norm of a patch's position vector",
                rows=tuple(_row(measures, size, Positions.norms) for size in others),
            ),
            Panels(
                name="resampled_similarity", title=f"The central patch's position vector and every other's, {title}",
                unit="cosine similarity", diverging=True,
                rows=tuple(_row(measures, size, _central_similarity) for size in others),
            ),
            _curves(measures, "kept", "Mean norm of the position vectors, as trained: 100 %", "mean norm kept (%)"),
        ]  # fmt: skip
    if others and measures.accuracy:
        title = f"Top-1 on {measures.accuracy[0].images:,} images of {images} without fine-tuning"
        found.append(_curves(measures, "accuracy", title, "top-1 accuracy (%)"))
    return found


def _central_similarity(positions: Positions) -> NDArray[np.float64]:
    return positions.similarity(positions.grid[0] // 2, positions.grid[1] // 2)


def _row(
    measures: PositionMeasures, size: tuple[int, int], show: Callable[[Positions], NDArray[np.float64]]
) -> tuple[Panel, ...]:
    """The embedding as trained, and after each mode at one size."""
    versions = [measures.trained, *measures.resampled[size]]
    sizes = [measures.size, *(size for _ in versions[1:])]
    return tuple(
        Panel(f"{positions.mode}, {spelled(each)} px", show(positions))
        for each, positions in zip(sizes, versions, strict=True)
    )


def _curves(measures: PositionMeasures, name: str, title: str, y_label: str) -> Curves:
    """A mode each by size; at the model's own size all are the embedding as trained."""
    modes = next(
        [each.mode for each in versions] for size, versions in measures.resampled.items() if size != measures.size
    )
    return Curves(
        name=name,
        title=title,
        x_label="image size (px)",
        y_label=y_label,
        ticks=tuple(spelled(size) for size in measures.resampled),
        series=tuple(
            Series(mode, tuple(_point(measures, size, mode, name) for size in measures.resampled)) for mode in modes
        ),
    )


def _point(measures: PositionMeasures, size: tuple[int, int], mode: str, name: str) -> float:
    """Mean norm kept, or the deciding head's accuracy, in per cent."""
    mode = AS_TRAINED if size == measures.size else mode
    if name == "kept":
        positions = next(each for each in measures.resampled[size] if each.mode == mode)
        return 100 * float(positions.norms().mean() / measures.trained.norms().mean())
    found = next(each for each in measures.accuracy if (each.size, each.mode) == (size, mode))
    return 100 * [*found.right.values()][-1] / found.images


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
