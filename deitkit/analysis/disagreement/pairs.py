"""Tables of all pairs of classifiers: how often, how and how surely they differ. Reads no predictions.

The measures and their sources stand in `agreement`, the resamples in `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from deitkit.analysis.report import Bars, Series, Table
from deitkit.measures.agreement import (
    CONFIDENCE,
    FEW_DISCORDANT,
    Interval,
    PairCounts,
    cohen_kappa,
    count_pairs,
    error_consistency,
    holm,
    mcnemar,
    wilson_interval,
)
from deitkit.measures.arrays import Decisions
from deitkit.measures.bootstrap import Resamples, resample

GROUND_TRUTH = "ground truth"
SHARE = ".1%"
KAPPA = ".3f"
KINDS = ("both right", "only a", "only b", "both wrong, same", "both wrong, differently")
DEFINITIONS = {
    "kappa": "Cohen's kappa of the decisions: (p_o - p_e) / (1 - p_e), p_o the share of equal decisions, p_e what the"
    " two frequencies of classes make it by chance; empty where it is not defined",
    "error consistency": "the same formula on right or wrong alone: p_o the share of images that both have right or"
    " both wrong, p_e what the two accuracies make it by chance; 0 independent errors, 1 the same errors",
    "both wrong": "the same way: the same wrong class; differently: two wrong classes",
    "p": "McNemar's two-sided test of equal accuracy, from the images that one alone has right: exact binomial below"
    f" {FEW_DISCORDANT} of them, else chi-squared corrected for continuity; p (Holm) is corrected for all pairs",
}
SOURCES = (
    "Cohen, A coefficient of agreement for nominal scales, 1960",
    "Geirhos, Meding and Wichmann, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by"
    " measuring error consistency, 2020",
    "McNemar, Note on the sampling error of the difference between correlated proportions, 1947; Edwards, 1948",
    "Holm, A simple sequentially rejective multiple test procedure, 1979",
    "Efron, Bootstrap methods: another look at the jackknife, 1979 (percentile intervals)",
)


@dataclass(frozen=True, eq=False)
class ComparedClassifier:
    """A name and its decisions [N], the most probable classes.

    `table4` is what the paper's Table 4 calls such a classifier, if it has one.
    """

    name: str
    top1: Decisions
    table4: str = ""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two of the classifiers, their places in the matrix, and how their decisions stand to each other."""

    a: ComparedClassifier
    b: ComparedClassifier
    places: tuple[int, int]
    kinds: PairCounts

    @property
    def with_ground_truth(self) -> bool:
        return self.places[0] == 0


def pair_tables(
    everyone: Sequence[ComparedClassifier],
    published: Sequence[Sequence[float | None]],
    *,
    resamples: int,
    seed: int,
) -> tuple[Table, ...]:
    """`pairs`, `kinds`, `kappa` and `mcnemar`; the first of `everyone` is the ground truth."""
    labels = everyone[0].top1
    pairs = [
        Pair(a, b, (i, j), count_pairs(a.top1, b.top1, labels))
        for (i, a), (j, b) in combinations(enumerate(everyone), 2)
    ]
    drawn = resample(np.stack([each.top1 for each in everyone]), labels, resamples=resamples, seed=seed)
    between = [pair for pair in pairs if not pair.with_ground_truth]
    title = f"{CONFIDENCE:.0%} intervals: Wilson's, and from {resamples:,} bootstrap resamples"
    return (
        _rates(pairs, drawn, published, title=f"Pairs, with {title}"),
        _kinds(between),
        _kappas(pairs, drawn, title=f"Agreement beyond chance, with {CONFIDENCE:.0%} bootstrap intervals"),
        _tests(between),
    )


def kinds_figure(
    others: Sequence[ComparedClassifier], reference: ComparedClassifier, labels: Decisions, *, images: str
) -> Bars:
    """Each classifier beside one: the kinds of images that not both have right, in % of all."""
    counted = [count_pairs(reference.top1, each.top1, labels) for each in others]
    series = {
        f"only {reference.name} right": [each.only_a for each in counted],
        f"{reference.name} wrong, the other right": [each.only_b for each in counted],
        "both wrong, the same class": [each.wrong_same for each in counted],
        "both wrong, different classes": [each.wrong_differently for each in counted],
    }
    return Bars(
        name="kinds",
        title=f"Beside {reference.name}: images that not both have right, {images}",
        x_label="",
        y_label=f"images (% of {len(labels):,})",
        ticks=tuple(each.name for each in others),
        series=tuple(
            Series(label, tuple(100 * count / len(labels) for count in counts)) for label, counts in series.items()
        ),
    )


def _rates(
    pairs: Sequence[Pair], drawn: Resamples, published: Sequence[Sequence[float | None]], *, title: str
) -> Table:
    rows = []
    for pair in pairs:
        count, total, (i, j) = pair.kinds.different, pair.kinds.images, pair.places
        wilson, bootstrap = wilson_interval(count, total), drawn.rate(i, j)
        rows.append(
            (pair.a.name, pair.b.name, count, total, count / total, *_ends(wilson), *_ends(bootstrap), published[i][j])
        )
    shares = dict.fromkeys(("rate", "low", "high", "bootstrap low", "bootstrap high", "paper"), SHARE)
    return Table.of("pairs", title, {"a": "", "b": "", "different": ",", "images": ",", **shares}, rows, filled=True)


def _kinds(pairs: Sequence[Pair]) -> Table:
    rows = (
        (pair.a.name, pair.b.name, own.both_right, own.only_a, own.only_b, own.wrong_same, own.wrong_differently)
        for pair, own in ((pair, pair.kinds) for pair in pairs)
    )
    return Table.of("kinds", "Images by who is right", {"a": "", "b": "", **dict.fromkeys(KINDS, ",")}, rows)


def _kappas(pairs: Sequence[Pair], drawn: Resamples, *, title: str) -> Table:
    """The ground truth never errs, so with it there is no consistency of errors."""
    rows: list[tuple[Any, ...]] = []
    for pair in pairs:
        ends = _ends(drawn.kappa(*pair.places))
        row = (pair.a.name, pair.b.name, cohen_kappa(pair.a.top1, pair.b.top1), *ends)
        if pair.with_ground_truth:
            rows.append((*row, None, None, None))
        else:
            rows.append((*row, error_consistency(pair.kinds), *_ends(drawn.error_consistency(*pair.places))))
    kappas = dict.fromkeys(("kappa", "low", "high", "error consistency", "its low", "its high"), KAPPA)
    return Table.of("kappa", title, {"a": "", "b": "", **kappas}, rows)


def _tests(pairs: Sequence[Pair]) -> Table:
    found = [mcnemar(pair.kinds.only_a, pair.kinds.only_b) for pair in pairs]
    corrected = holm([each.p for each in found])
    rows = (
        (pair.a.name, pair.b.name, pair.kinds.only_a, pair.kinds.only_b, each.p, p, each.test)
        for pair, each, p in zip(pairs, found, corrected, strict=True)
    )
    columns = {"a": "", "b": "", "only a right": ",", "only b right": ",", "p": ".2g", "p (Holm)": ".2g", "test": ""}
    return Table.of("mcnemar", f"McNemar's test of equal accuracy, {len(pairs)} pairs", columns, rows)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)
