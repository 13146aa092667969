"""What counts allow one to say, in words: how often right, who is right more often, which classes are weak.

Nothing is claimed that chance alone shows in 5 of 100 cases or more: then the words say what the 95 % interval leaves
open. Source: Fisher, On the interpretation of chi-squared from contingency tables, 1922 (exact test, for weak classes).
Measures in numbers: `deitkit.measures.agreement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deitkit.measures.agreement import (
    CONFIDENCE,
    Interval,
    PairCounts,
    PairKind,
    exact_mcnemar,
    holm,
    mcnemar,
    paired_interval,
    wilson_interval,
)
from deitkit.measures.arrays import Hits, Labels
from deitkit.measures.clusters import Errors

CHANCE = 1 - CONFIDENCE  # how often chance alone may give what is claimed
MOST_NAMED = 3  # classes in a sentence
NARROW = 0.05  # width of an interval below which its ends get a decimal


def rate_words(right: int, images: int) -> str:
    """`22 of 31 right (53 to 84 %)`, with Wilson's interval."""
    return f"{right:,} of {images:,} right ({span(wilson_interval(right, images))})"


def span(interval: Interval) -> str:
    """`53 to 84 %`; a narrow interval has a decimal."""
    digits = 1 if interval.high - interval.low < NARROW else 0
    return f"{100 * interval.low:.{digits}f} to {100 * interval.high:.{digits}f} %"


def points(interval: Interval) -> str:
    """`-0.4 to +2.1 points`: both ends of a difference of rates."""
    return f"{_ends(interval)} points"


def _ends(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def p_words(p: float) -> str:
    """`p = 0.012`, or that it is below 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def is_chance(p: float, interval: Interval) -> bool:
    """Whether chance may well have made a paired difference: by the test, or by the interval around it."""
    return p >= CHANCE or interval.low <= 0 <= interval.high


def open_words(p: float, interval: Interval) -> str:
    """What is left open where chance may have made a difference: its interval, or the p-value where that, corrected for
    several tests, is the more cautious of both."""
    return points(interval) if interval.low <= 0 <= interval.high else p_words(p)


def chance_words(right: int, errors: Errors, class_names: Sequence[str]) -> str:
    """That always naming the commonest class may be as good (binomial test), or nothing where it is not."""
    from scipy.stats import binomtest  # takes seconds to import: only where it is needed

    images, commonest = int(errors.images_of.sum()), int(errors.images_of.argmax())
    count = int(errors.images_of[commonest])
    if count == images or binomtest(right, images, count / images, alternative="greater").pvalue < CHANCE:
        return ""
    return f"Always saying {class_names[commonest]} may be as good: {count:,} of {images:,} are."


def pair_words(a: str, b: str, pair: PairCounts, *, p: float) -> str:
    """Who of two classifiers is right more often, by the p-value of McNemar's test, corrected for all that are made."""
    gain = (pair.only_a - pair.only_b) / pair.images
    interval = paired_interval(pair.only_a, pair.only_b, pair.images)
    alone = f"{pair.only_a:,} to {pair.only_b:,} images that one alone has right"
    if is_chance(p, interval):
        what = f"Too few images to tell whether {a} or {b} is right more often"
        same = "both have the same images right" if pair.only_a + pair.only_b == 0 else alone
        return f"{what}: {same} ({open_words(p, interval)} for {a})."
    if gain < 0:
        mirrored = PairCounts(pair.both_right, pair.only_b, pair.only_a, pair.wrong_same, pair.wrong_differently)
        return pair_words(b, a, mirrored, p=p)
    return f"{a} is right more often than {b}: {alone}, {100 * gain:+.1f} points ({_ends(interval)}), {p_words(p)}."


# Classes


@dataclass(frozen=True)
class ClassErrors:
    """A class by number: its right and all images, and what it is taken for most often (None: no one class), how
    often."""

    label: int
    right: int
    images: int
    taken_for: int | None
    times: int


def weak_classes(errors: Errors) -> list[ClassErrors]:
    """Classes that are less often right than all others together, the worst first.

    Fisher's exact test, one-sided, corrected by Holm for the number of classes that have images.
    """
    from scipy.stats import hypergeom

    present = np.flatnonzero(errors.images_of)
    if len(present) < 2:
        return []
    wrong, images = _wrong_of(errors)[present], errors.images_of[present]
    p_values = hypergeom.sf(wrong - 1, images.sum(), wrong.sum(), images)
    chosen = [label for label, p in zip(present.tolist(), holm(p_values.tolist()), strict=True) if p < CHANCE]
    return sorted((class_errors(errors, label) for label in chosen), key=lambda each: each.right / each.images)


def class_errors(errors: Errors, label: int) -> ClassErrors:
    """What is said of the images of one class."""
    own = errors.label == label
    said, times = errors.said[own], errors.images[own]
    images = int(errors.images_of[label])
    most = int(times.max(initial=0))
    alone = said[times == most] if most else said
    return ClassErrors(label, images - int(times.sum()), images, int(alone[0]) if len(alone) == 1 else None, most)


def weak_words(errors: Errors, class_names: Sequence[str]) -> str:
    """`Weak: Animal (2 of 9 right), mostly taken for Flowers.`, or how good the worst class is that cannot be told from
    the others; nothing where there are no errors, or no two classes."""
    present = np.flatnonzero(errors.images_of)
    if not errors.total or len(present) < 2:
        return ""
    if weak := weak_classes(errors):
        named = "; ".join(_class_words(each, class_names) for each in weak[:MOST_NAMED])
        more = f"; and {len(weak) - MOST_NAMED:,} more" if len(weak) > MOST_NAMED else ""
        return f"Weak: {named}{more}."
    share = _wrong_of(errors)[present] / errors.images_of[present]
    worst = class_errors(errors, int(present[np.lexsort((-errors.images_of[present], -share))[0]]))
    return (
        "Too few images to call a class weaker than the others: the lowest is"
        f" {class_names[worst.label]}, {rate_words(worst.right, worst.images)}."
    )


def _wrong_of(errors: Errors) -> np.ndarray:
    """Wrong decisions of each class [K]."""
    return np.bincount(errors.label, errors.images, minlength=len(errors.images_of)).astype(np.int64)


def _class_words(weak: ClassErrors, class_names: Sequence[str]) -> str:
    words = f"{class_names[weak.label]} ({weak.right:,} of {weak.images:,} right)"
    if weak.taken_for is None:
        return words
    how = "mostly" if 2 * weak.times > weak.images - weak.right else "most often"
    return f"{words}, {how} taken for {class_names[weak.taken_for]}"


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def class_gain_words(a: str, b: str, kinds: Labels, labels: Labels, class_names: Sequence[str]) -> str:
    """On which classes a is right more often than b, and on which less, or nothing: `kinds` [N] are `pair_kinds`.

    McNemar's exact test of each class, corrected by Holm for the number of classes on which they differ.
    """
    alone = [
        np.bincount(labels[kinds == kind], minlength=len(class_names)) for kind in (PairKind.ONLY_A, PairKind.ONLY_B)
    ]
    differ = np.flatnonzero(alone[0] + alone[1]).tolist()
    counts = [(int(alone[0][label]), int(alone[1][label])) for label in differ]
    sure = holm([exact_mcnemar(*each) for each in counts])
    found = [(label, *each) for label, each, p in zip(differ, counts, sure, strict=True) if p < CHANCE]
    found.sort(key=lambda each: each[2] - each[1])
    named = {label: f"{class_names[label]} ({won:,} to {lost:,})" for label, won, lost in found}
    gained = [named[label] for label, won, lost in found if won > lost]
    lost_on = [named[label] for label, won, lost in reversed(found) if lost > won]
    parts = [f"{verb} on {_few(names)}" for verb, names in (("gains", gained), ("loses", lost_on)) if names]
    return f"By class, {a} {' and '.join(parts)} against {b} (images that one alone has right)." if parts else ""


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return listed([*names[:MOST_NAMED], *([f"{more:,} more class{'es' * (more > 1)}"] if more > 0 else [])])


# Several ways beside one


def beside_words(base: str, hits: Hits, others: Mapping[str, Hits]) -> list[str]:
    """Which of the others are right more often than the base, which less, and which cannot be told; all hits [N] are of
    the same images, in the same order. McNemar's test, corrected by Holm for all of them."""
    pairs = {name: (int((own & ~hits).sum()), int((hits & ~own).sum())) for name, own in others.items()}
    sure = holm([mcnemar(*pair).p for pair in pairs.values()])
    groups: dict[str, list[tuple[float, str]]] = {"better": [], "worse": [], "open": []}
    for (name, (won, lost)), p in zip(pairs.items(), sure, strict=True):
        interval, gain = paired_interval(won, lost, len(hits)), (won - lost) / len(hits)
        kind = "open" if is_chance(p, interval) else "better" if gain > 0 else "worse"
        groups[kind].append((gain, f"{name} ({open_words(p, interval) if kind == 'open' else points(interval)})"))
    openings = {
        "better": f"Right more often than {base}", "worse": f"Right less often than {base}",
        "open": f"Too few images to tell from {base}",
    }  # fmt: skip
    return [f"{openings[kind]}: {_few_of(found)}." for kind, found in groups.items() if found]


def _few_of(found: Sequence[tuple[float, str]]) -> str:
    """Those of the greatest difference first."""
    names = [words for _, words in sorted(found, key=lambda each: -abs(each[0]))]
    more = len(names) - 2 * MOST_NAMED
    return listed([*names[: 2 * MOST_NAMED], *([f"{more:,} more"] if more > 0 else [])])
