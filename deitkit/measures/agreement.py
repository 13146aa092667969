"""How far two classifiers' decisions agree, as numbers: kinds of pairs, kappas, tests, intervals. Builds no table.

Legend: N images; decisions are the most probable classes. Sources: Cohen, A coefficient of agreement for nominal
scales, 1960 (kappa); Geirhos, Meding and Wichmann, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and
humans by measuring error consistency, 2020; McNemar, 1947, corrected for continuity by Edwards, 1948; Holm, 1979;
Wilson, 1927; Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on
paired data, 2012.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError

CONFIDENCE = 0.95
FEW_DISCORDANT = 25  # below so many images that one alone has right, McNemar's test is exact
Decisions = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Both ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Kinds:
    """Images by how two classifiers' decisions stand to each other and to the label; the five add up to all."""

    both_right: int
    only_a: int
    only_b: int
    wrong_same: int  # both wrong, the same class
    wrong_differently: int

    @property
    def images(self) -> int:
        return self.both_right + self.only_a + self.only_b + self.wrong_same + self.wrong_differently

    @property
    def different(self) -> int:
        return self.only_a + self.only_b + self.wrong_differently


@dataclass(frozen=True)
class McNemar:
    """The probability of a difference in accuracy at least so great between two equally good classifiers."""

    p: float
    test: Literal["exact binomial", "chi-squared, corrected"]


def kinds(a: Decisions, b: Decisions, labels: Decisions) -> Kinds:
    """Decisions a [N], b [N] and labels [N] -> counts of the five kinds."""
    refuse_unequal_lengths({"a": a, "b": b, "labels": labels})
    right_a, right_b, same = a == labels, b == labels, a == b
    both_right, wrong_same = int((right_a & right_b).sum()), int((same & ~right_a).sum())
    only_a, only_b = int(right_a.sum()) - both_right, int(right_b.sum()) - both_right
    return Kinds(both_right, only_a, only_b, wrong_same, len(a) - both_right - only_a - only_b - wrong_same)


def cohen_kappa(a: Decisions, b: Decisions) -> float | None:
    """Agreement of decisions a [N], b [N] beyond what classifiers with the same class frequencies have by chance.

    kappa = (p_o - p_e) / (1 - p_e); p_o the share of equal decisions, p_e = sum over the classes of the product of
    both frequencies. None where both always say the same one class.
    """
    classes = 1 + int(max(a.max(initial=0), b.max(initial=0)))
    frequencies = [np.bincount(each, minlength=classes) / max(1, len(a)) for each in (a, b)]
    return number_or_none(beyond_chance((a == b).mean(), frequencies[0] @ frequencies[1]))


def error_consistency(pair: Kinds) -> float | None:
    """Whether two classifiers err on the same images, beyond what their accuracies make them by chance.

    kappa = (c_obs - c_exp) / (1 - c_exp); c_obs the share of images that both have right or both wrong, and
    c_exp = acc_a acc_b + (1 - acc_a) (1 - acc_b). 0: independent errors; 1: the same; None where nobody errs.
    """
    right_a = (pair.both_right + pair.only_a) / pair.images
    right_b = (pair.both_right + pair.only_b) / pair.images
    observed = 1 - (pair.only_a + pair.only_b) / pair.images
    return number_or_none(beyond_chance(observed, right_a * right_b + (1 - right_a) * (1 - right_b)))


def beyond_chance(
    observed: NDArray[np.floating] | float, expected: NDArray[np.floating] | float
) -> NDArray[np.float64]:
    """(observed - expected) / (1 - expected), element by element; NaN where chance alone agrees always."""
    left = 1 - np.asarray(expected, dtype=np.float64)
    certain = left < 1e-12  # chance agreement of 1, up to rounding
    return np.where(certain, np.nan, (observed - np.asarray(expected)) / np.where(certain, 1.0, left))


def number_or_none(value: NDArray[np.float64]) -> float | None:
    """A number as JSON can hold it: None for NaN."""
    return None if np.isnan(value) else float(value)


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """Two-sided test whether two classifiers differ in accuracy, from the images that one alone has right.

    Exact, binomial with one half, for fewer than 25 of them; else chi-squared with the correction for continuity.
    """
    discordant = only_a + only_b
    if discordant < FEW_DISCORDANT:
        tail = sum(math.comb(discordant, k) for k in range(min(only_a, only_b) + 1)) / 2**discordant
        return McNemar(min(1.0, 2 * tail), "exact binomial")
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / discordant
    return McNemar(math.erfc(math.sqrt(statistic / 2)), "chi-squared, corrected")  # 1 degree of freedom


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of any false alarm stays what one test's would be."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def wilson_interval(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for the rate count / total: holds near 0 and 1 too."""
    z = _quantile(confidence)
    rate, shrink = count / total, 1 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total)) / shrink
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def paired_interval(gained: int, lost: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Bonett and Price's interval for the paired difference (gained - lost) / total: has a width at 0 of 10, too."""
    z, up, down = _quantile(confidence), (gained + 1) / (total + 2), (lost + 1) / (total + 2)
    half = z * math.sqrt((up + down - (up - down) ** 2) / (total + 2))
    return Interval(max(-1.0, up - down - half), min(1.0, up - down + half))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def refuse_unequal_lengths(arrays: dict[str, Decisions]) -> None:
    """Raise unless all have one entry an image, and there is an image."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DeitkitError(
            "decisions and labels of different numbers of images cannot be compared",
            problems=[f"{name}: {length:,}" for name, length in lengths.items()],
            remedy="bring them to the same images first: deitkit.predictions.align.align",
        )
    if not all(lengths.values()):
        raise DeitkitError("there is nothing to compare: no image was given", remedy="name a run with predictions")
