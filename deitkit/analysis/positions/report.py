"""A model's position embedding before and after resampling, as tables and figures (paper Sec. 3). Runs no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.positions.measure import AS_TRAINED, PositionMeasures, Positions
from deitkit.analysis.positions.verdict import positions_verdict
from deitkit.analysis.report import AnyFigure, Curves, Panel, Panels, Report, Series, Table
from deitkit.analysis.speed import spelled
from deitkit.measures.agreement import wilson_interval

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
