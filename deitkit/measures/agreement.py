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
from enum import IntEnum
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Decisions

CONFIDENCE = 0.95
MOST_CLASSES_WITHOUT_TOP5 = 10  # of so few, nearly every classifier has the label among its five best
ALL_RIGHT, SOME_RIGHT = "all right", "some right"
WRONG_ALIKE, WRONG_DIFFERENTLY = "all wrong alike", "all wrong differently"
NOTHING = -1  # a decision, or a label, that is not there
FEW_DISCORDANT = 25  # below so many images that one alone has right, McNemar's test is exact
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Interval:
    """Both ends of a confidence interval."""

    low: float
    high: float


class PairKind(IntEnum):
    """How two classifiers' decisions on an image stand to each other and to its label."""

    BOTH_RIGHT = 0
    ONLY_A = 1
    ONLY_B = 2
    WRONG_ALIKE = 3  # both wrong, the same class
    WRONG_DIFFERENTLY = 4


@dataclass(frozen=True)
class PairCounts:
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


def pair_kinds(a: Decisions, b: Decisions, labels: Decisions) -> NDArray[np.int64]:
    """Decisions a [N], b [N] and labels [N] -> the `PairKind` of each image [N]."""
    right_a, right_b = a == labels, b == labels
    wrong = np.where(a == b, PairKind.WRONG_ALIKE, PairKind.WRONG_DIFFERENTLY)
    right = [right_a & right_b, right_a, right_b]
    return np.select(right, [PairKind.BOTH_RIGHT, PairKind.ONLY_A, PairKind.ONLY_B], wrong).astype(np.int64)


def count_pairs(a: Decisions, b: Decisions, labels: Decisions) -> PairCounts:
    """Decisions a [N], b [N] and labels [N] -> counts of the five kinds."""
    refuse_unequal_lengths({"a": a, "b": b, "labels": labels})
    return PairCounts(*np.bincount(pair_kinds(a, b, labels), minlength=len(PairKind)).tolist())


def cohen_kappa(a: Decisions, b: Decisions) -> float | None:
    """Agreement of decisions a [N], b [N] beyond what classifiers with the same class frequencies have by chance.

    kappa = (p_o - p_e) / (1 - p_e); p_o the share of equal decisions, p_e = sum over the classes of the product of
    both frequencies. None where both always say the same one class.
    """
    classes = 1 + int(max(a.max(initial=0), b.max(initial=0)))
    frequencies = [np.bincount(each, minlength=classes) / max(1, len(a)) for each in (a, b)]
    return number_or_none(beyond_chance((a == b).mean(), frequencies[0] @ frequencies[1]))


def error_consistency(pair: PairCounts) -> float | None:
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
        return McNemar(exact_mcnemar(only_a, only_b), "exact binomial")
    statistic = max(0, abs(only_a - only_b) - 1) ** 2 / discordant
    return McNemar(math.erfc(math.sqrt(statistic / 2)), "chi-squared, corrected")  # 1 degree of freedom


def exact_mcnemar(only_a: int, only_b: int, *, alternative: Alternative = "two-sided") -> float:
    """p-value of the exact test, binomial with one half; "greater" asks whether a is more accurate than b."""
    from scipy.stats import binomtest  # takes seconds to import: only where it is needed

    discordant = only_a + only_b
    return float(binomtest(only_a, discordant, alternative=alternative).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of any false alarm stays what one test's would be."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def wilson_interval(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for the rate count / total: holds near 0 and 1 too."""
    from scipy.stats import binomtest

    bounds = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def paired_interval(gained: int, lost: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Bonett and Price's interval for the paired difference (gained - lost) / total: has a width at 0 of 10, too."""
    z, up, down = NormalDist().inv_cdf((1 + confidence) / 2), (gained + 1) / (total + 2), (lost + 1) / (total + 2)
    half = z * math.sqrt((up + down - (up - down) ** 2) / (total + 2))
    return Interval(max(-1.0, up - down - half), min(1.0, up - down + half))


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


# Of each image, where answers may be missing


def kinds_of_all(answers: Sequence[Decisions], truth: Decisions) -> list[Any]:
    """Answers [N] each, labels [N] -> ALL_RIGHT, SOME_RIGHT, WRONG_ALIKE or WRONG_DIFFERENTLY for each image, by the
    answers that it has; None where it has none."""
    said = np.stack(answers)
    there = np.stack([known(own, truth) for own in answers])
    right = there & (said == truth)
    first = said[there.argmax(axis=0), np.arange(len(truth))]  # who answers first; where none does, none of it counts
    alike = ((said == first) | ~there).all(axis=0)
    kinds = np.where(alike, WRONG_ALIKE, WRONG_DIFFERENTLY)
    kinds = np.where(right.any(axis=0), SOME_RIGHT, kinds)
    kinds = np.where((right | ~there).all(axis=0), ALL_RIGHT, kinds)
    return optional(kinds, np.asarray(there.any(axis=0)))


def count_right(decisions: Sequence[Decisions], truth: Decisions) -> list[Any]:
    """Decisions [N] each, labels [N] -> how many are right; None where there is none."""
    there = np.stack([known(own, truth) for own in decisions])
    right = there & (np.stack(decisions) == truth)
    return optional(right.sum(axis=0), np.asarray(there.any(axis=0)))


def named_pair_kinds(a: Decisions, b: Decisions, truth: Decisions, *, names: Sequence[str]) -> list[Any]:
    """Decisions a [N], b [N], labels [N] -> its one of `names`, in `PairKind`'s order; None without both."""
    kinds = np.array(names, dtype=object)[pair_kinds(a, b, truth)]
    return optional(kinds, known(a, truth) & known(b, truth))


def known(said: Decisions, truth: Decisions) -> NDArray[np.bool_]:
    """Where there are both an answer and a label: [N]."""
    return np.asarray((said != NOTHING) & (truth != NOTHING))


def optional(values: NDArray[Any], there: NDArray[np.bool_]) -> list[Any]:
    """The values [N] as plain Python, None where they are not there."""
    return [value if is_there else None for value, is_there in zip(values.tolist(), there.tolist(), strict=True)]
