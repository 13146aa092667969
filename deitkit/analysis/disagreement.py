"""Who decides differently from whom: the paper's Table 4 for any classifiers. Runs no model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.alignment import align
from deitkit.analysis.report import Matrix, Report, Table
from deitkit.catalog import TABLE4_CLASSIFIERS, TABLE4_MATRIX
from deitkit.errors import DeitkitError
from deitkit.predictions import Predictions

GROUND_TRUTH = "ground truth"
CONFIDENCE = 0.95
# What Table 4 calls the heads of a distilled model.
TABLE4_HEADS = {"class": "class", "distillation": "distillation", "fused": "class+distillation"}


@dataclass(frozen=True, eq=False)
class Classifier:
    """A name and its decisions [N], the most probable classes.

    `table4` is what the paper's Table 4 calls such a classifier, if it has one.
    """

    name: str
    top1: NDArray[np.int64]
    table4: str = ""


@dataclass(frozen=True)
class Interval:
    """Both ends of a confidence interval of a rate."""

    low: float
    high: float


def disagreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Decisions a [N], b [N] -> the fraction of images that they decide differently."""
    return float((a != b).mean())


def wilson_interval(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for the rate count / total (E. B. Wilson, 1927): holds near 0 and 1 too."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, shrink = count / total, 1 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total)) / shrink
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def compare(predictions: Sequence[Predictions]) -> Report:
    """Every head of every classifier, on the images that all of them have."""
    aligned = align(predictions)
    first = aligned[0]
    return disagreement_report(classifiers(aligned), first.labels, images=f"{first.dataset}/{first.split}")


def classifiers(aligned: Sequence[Predictions]) -> list[Classifier]:
    """Every head of aligned predictions as a classifier of its own."""
    found = []
    for predictions in aligned:
        for head in predictions.heads:
            if "distillation" in predictions.heads:
                name, table4 = f"{predictions.classifier} {head}", TABLE4_HEADS.get(head, "")
            else:
                name, table4 = predictions.classifier, str(predictions.settings.get("family", ""))
            found.append(Classifier(name, predictions.top1(head), table4))
    return found


def disagreement_report(
    classifiers: Sequence[Classifier], labels: NDArray[np.int64], *, images: str = "images"
) -> Report:
    """The matrix of Table 4 for these classifiers and the labels [N], with counts, intervals and the paper's rates."""
    if not classifiers or not len(labels):
        missing = "image" if classifiers else "classifier"
        raise DeitkitError(f"there is nothing to compare: no {missing} was given", remedy="name a run with predictions")
    everyone = [Classifier(GROUND_TRUTH, labels, "groundtruth"), *classifiers]
    names = tuple(each.name for each in everyone)
    rates = tuple(tuple(disagreement(a.top1, b.top1) for b in everyone) for a in everyone)
    published = published_rates([each.table4 for each in everyone])
    return Report(
        name="disagreement",
        title=f"Different decisions on {len(labels):,} images of {images}",
        definitions={
            "rate": "the fraction of images for which two classifiers' most probable classes differ;"
            " against the ground truth it is the top-1 error",
            "interval": f"{CONFIDENCE:.0%} Wilson score interval of the rate",
            "paper": "Table 4: ImageNet validation, DeiT-B distilled from RegNetY-16GF; other data and models differ",
        },
        sources=("Touvron et al., Training data-efficient image transformers, 2020, Table 4",),
        numbers={
            "images": len(labels),
            "accuracy": {each.name: 1 - rate for each, rate in zip(classifiers, rates[0][1:], strict=True)},
        },
        tables=(_matrix_table(names, rates), _pairs_table(everyone, published)),
        figures=(
            Matrix(
                name="matrix",
                title=f"Different decisions, {images}",
                labels=names,
                values=_percent(rates),
                unit=f"images decided differently (% of {len(labels):,})",
                references=tuple(tuple(None if v is None else 100 * v for v in row) for row in published),
                references_title="in brackets: the paper's Table 4, ImageNet"
                if any(value is not None for row in published for value in row)
                else "",
            ),
        ),
    )


def published_rates(table4: Sequence[str]) -> tuple[tuple[float | None, ...], ...]:
    """Names in Table 4 -> its rates, None on the diagonal and where a name is unknown or claimed twice."""
    claims = Counter(table4)
    places = [
        TABLE4_CLASSIFIERS.index(name) if name in TABLE4_CLASSIFIERS and claims[name] == 1 else None for name in table4
    ]
    return tuple(
        tuple(TABLE4_MATRIX[a][b] if a is not None and b is not None and a != b else None for b in places)
        for a in places
    )


def _percent(rates: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(100 * rate for rate in row) for row in rates)


def _matrix_table(names: tuple[str, ...], rates: tuple[tuple[float, ...], ...]) -> Table:
    return Table(
        name="matrix",
        title="Rate of different decisions",
        columns=("classifier", *names),
        rows=tuple((name, *row) for name, row in zip(names, rates, strict=True)),
        formats=dict.fromkeys(names, ".1%"),
    )


def _pairs_table(everyone: Sequence[Classifier], published: tuple[tuple[float | None, ...], ...]) -> Table:
    rows = []
    for (i, a), (j, b) in combinations(enumerate(everyone), 2):
        count, total = int((a.top1 != b.top1).sum()), len(a.top1)
        interval = wilson_interval(count, total)
        rows.append((a.name, b.name, count, total, count / total, interval.low, interval.high, published[i][j]))
    return Table(
        name="pairs",
        title=f"Pairs, with {CONFIDENCE:.0%} intervals",
        columns=("a", "b", "different", "images", "rate", "low", "high", "paper"),
        rows=tuple(rows),
        formats={"different": ",", "images": ","} | dict.fromkeys(("rate", "low", "high", "paper"), ".1%"),
    )
