"""Figures of errors: reliability, where the confidences are, what the surest answers are worth, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deitkit.analysis.errors.heads import HeadErrors
from deitkit.analysis.report import AnyFigure, Bars, Cloud, Matrix, Points, Series
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.calibration import risk_coverage
from deitkit.measures.clusters import Clusters

DRAWN = 20  # classes of a matrix
COVERAGE = 20  # points of a curve
FEW = 10  # images, whose accuracy is mostly chance


def curves(heads: Sequence[HeadErrors], listed: HeadErrors, *, images: str) -> list[AnyFigure]:
    """What all heads can be compared by."""
    return [_reliability(heads, listed, images), _confidences(heads, images), _coverage(heads, images)]


def _reliability(heads: Sequence[HeadErrors], listed: HeadErrors, images: str) -> Points:
    clouds = []
    fewest = FEW if any(head.calibration.reliability.counts.max() >= FEW for head in heads) else 1
    for head in heads:
        found = head.calibration.reliability
        places = np.flatnonzero(found.counts >= fewest)
        counts, right = found.counts[places], np.rint(found.accuracy * found.counts)[places].astype(np.int64)
        cloud = Cloud(
            f"{head.name}, ECE {found.ece:.1%}",
            tuple((100 * found.confidence[places]).tolist()),
            tuple((100 * found.accuracy[places]).tolist()),
        )
        if head is listed:
            ends = [wilson_interval(*pair) for pair in zip(right.tolist(), counts.tolist(), strict=True)]
            cloud = replace(
                cloud,
                names=tuple(f"{count:,}" for count in counts.tolist()),
                intervals=tuple((100 * each.low, 100 * each.high) for each in ends),
            )
        clouds.append(cloud)
    return Points(
        name="reliability",
        title=f"Reliability on {images}; above the dashed line: underconfident;\n"
        f"numbers and bars: images in a bin of {listed.name}, and the interval of their accuracy"
        + (f"; bins of fewer than {FEW} are in the table alone" if fewest > 1 else ""),
        x_label="mean confidence of a bin (%)",
        y_label="accuracy in the bin (%)",
        clouds=tuple(clouds),
        joined=True,
        diagonal=True,
    )


def _confidences(heads: Sequence[HeadErrors], images: str) -> Bars:
    """Bins up to the first in which any head has images are left out."""
    counts = np.stack([head.calibration.reliability.counts for head in heads])
    edges = 100 * heads[0].calibration.reliability.edges
    first = int(np.flatnonzero(counts.sum(axis=0))[0])
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    return Bars(
        name="confidences",
        title=f"Where the confidences are, {images}",
        x_label="confidence (%)",
        y_label=f"images (% of {counts[0].sum():,})",
        ticks=tuple(f"{edges[place]:.3g} to {edges[place + 1]:.3g}" for place in range(first, counts.shape[1])),
        series=tuple(Series(head.name, tuple(own[first:].tolist())) for head, own in zip(heads, shares, strict=True)),
    )


def _coverage(heads: Sequence[HeadErrors], images: str) -> Points:
    clouds = []
    for head in heads:
        accuracy = risk_coverage(head.confidence, head.hits)
        kept = np.unique(np.ceil(len(accuracy) * np.arange(1, COVERAGE + 1) / COVERAGE).astype(np.int64))
        clouds.append(
            Cloud(head.name, tuple((100 * kept / len(accuracy)).tolist()), tuple((100 * accuracy[kept - 1]).tolist()))
        )
    return Points(
        name="coverage",
        title=f"What the most confident answers are worth, {images}",
        x_label="most confident images kept (%)",
        y_label="accuracy on them (%)",
        clouds=tuple(clouds),
        joined=True,
    )


def confusions(head: HeadErrors, found: Clusters, class_names: Sequence[str], *, images: str) -> Matrix | None:
    """Wrong decisions between classes in the order of clusters; of many classes those of the largest clusters."""
    if not head.errors.total:
        return None
    chosen = _in_order(head, found)
    shown = 100 * head.errors.between(chosen) / np.maximum(head.errors.images_of[chosen], 1)[:, None]
    inside = int(head.errors.between(chosen).sum())
    which = (
        ""
        if len(chosen) == len(class_names)
        else f"\n{len(chosen)} of {len(class_names):,} classes, with {inside:,} of {head.errors.total:,} errors"
    )
    return Matrix(
        name="confusion",
        title=f"What {head.name} confuses on {images}, classes in the order of the clusters{which}",
        labels=tuple(class_names[index] for index in chosen),
        values=tuple(tuple(row) for row in shown.tolist()),
        unit="% of the label's images; right decisions left out",
        x_label="decision",
        cell=".3g",
        y_label="label",
    )


def _in_order(head: HeadErrors, found: Clusters) -> np.ndarray:
    """Cluster by cluster, as long as whole ones fit; then the classes of most errors, up to as many as are drawn."""
    chosen: list[int] = []
    for cluster in found.clusters:
        if len(chosen) + len(cluster.classes) <= DRAWN:
            chosen += cluster.classes
    errors = head.errors
    counts = sum(np.bincount(each, errors.images, len(errors.images_of)) for each in (errors.label, errors.said))
    rest = [index for index in np.argsort(-np.asarray(counts), kind="stable").tolist() if index not in set(chosen)]
    if not chosen or len(errors.images_of) <= DRAWN:
        chosen += rest[: DRAWN - len(chosen)]
    return np.array(chosen)
