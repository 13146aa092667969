"""Sentences about counts worked out by hand, against scipy's tests: nothing is claimed that chance may have made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from deitkit.measures.agreement import Interval, PairCounts, mcnemar, pair_kinds
from deitkit.measures.clusters import Errors, count_errors
from deitkit.measures.words import (
    beside_words,
    chance_words,
    class_gain_words,
    listed,
    p_words,
    pair_words,
    rate_words,
    span,
    weak_classes,
    weak_words,
)

NAMES = ("Animal", "Flowers", "Tools")


def errors_of(*classes: dict[int, int]) -> Errors:
    """What is said of each class's images: {said: images}."""
    labels = [label for label, said in enumerate(classes) for count in said.values() for _ in range(count)]
    decisions = [answer for said in classes for answer, count in said.items() for _ in range(count)]
    return count_errors(np.array(decisions), np.array(labels), classes=len(classes))


# Rates


def test_a_rate_has_wilsons_interval_in_whole_per_cent_or_tenths_where_it_is_narrow() -> None:
    assert rate_words(22, 31) == "22 of 31 right (53 to 84 %)"
    assert rate_words(9_700, 10_000) == "9,700 of 10,000 right (96.6 to 97.3 %)"
    assert rate_words(0, 3) == "0 of 3 right (0 to 56 %)"
    assert span(Interval(0.5, 0.54)) == "50.0 to 54.0 %"


def test_small_p_values_are_not_spelled_out() -> None:
    assert (p_words(0.0004), p_words(0.0123)) == ("p < 0.001", "p = 0.012")


def test_names_are_listed_as_people_do() -> None:
    assert (listed(["a"]), listed(["a", "b"]), listed("abc")) == ("a", "a and b", "a, b and c")


def test_accuracy_that_the_commonest_class_alone_may_have_is_said() -> None:
    mixed = errors_of({0: 6, 1: 4}, {0: 5, 1: 5})  # 11 of 20, 10 of 20 are Animal
    assert chance_words(11, mixed, NAMES) == "Always saying Animal may be as good: 10 of 20 are."
    good = errors_of({0: 10}, {1: 9, 0: 1})
    assert chance_words(19, good, NAMES) == ""
    assert chance_words(3, errors_of({0: 3}, {}), NAMES) == "", "one class leaves nothing to guess"


# Two classifiers


def test_who_is_right_more_often_is_claimed_only_beyond_chance() -> None:
    clear = PairCounts(both_right=60, only_a=3, only_b=25, wrong_same=6, wrong_differently=6)
    p = mcnemar(3, 25).p
    words = pair_words("student", "teacher", clear, p=p)
    assert words.startswith("teacher is right more often than student: 25 to 3 images that one alone has right, +22.0")
    assert words == pair_words("teacher", "student", PairCounts(60, 25, 3, 6, 6), p=p), "whoever is named first"


def test_too_few_images_say_what_is_left_open() -> None:
    words = pair_words("a", "b", PairCounts(8, 2, 0, 0, 0), p=mcnemar(2, 0).p)
    # Bonett and Price by hand: (3 - 1) / 12 +- 1.96 sqrt((4 / 12 - 1 / 36) / 12)
    assert words == (
        "Too few images to tell whether a or b is right more often: 2 to 0 images that one alone has right"
        " (-14.6 to +47.9 points for a)."
    )
    same = pair_words("a", "b", PairCounts(8, 0, 0, 2, 0), p=1.0)
    assert "both have the same images right (-" in same


def test_a_difference_that_many_tests_may_have_made_is_not_claimed() -> None:
    pair = PairCounts(60, 25, 3, 6, 6)
    words = pair_words("a", "b", pair, p=0.3)  # corrected
    assert words.startswith("Too few images to tell") and "(p = 0.3 for a)" in words


def test_classes_that_are_gained_and_lost_are_named_with_their_images() -> None:
    labels = np.repeat([0, 1, 2], 20)
    a, b = labels.copy(), labels.copy()
    b[:12], a[20:32] = 2, 2  # a alone has 12 of Animal, b alone 12 of Flowers
    words = class_gain_words("a", "b", pair_kinds(a, b, labels), labels, NAMES)
    assert words == (
        "By class, a gains on Animal (12 to 0) and loses on Flowers (0 to 12) against b (images that one alone has"
        " right)."
    )
    b[:12], a[20:32] = 0, 1
    b[0] = 1
    assert class_gain_words("a", "b", pair_kinds(a, b, labels), labels, NAMES) == "", "one image proves nothing"


# Classes


def test_a_weak_class_is_named_with_what_it_is_taken_for() -> None:
    errors = errors_of({0: 2, 1: 5, 2: 2}, {1: 11}, {2: 11})
    assert weak_words(errors, NAMES) == "Weak: Animal (2 of 9 right), mostly taken for Flowers."
    often = errors_of({0: 2, 1: 3, 2: 4}, {1: 11}, {2: 11})
    assert "mostly taken for Tools" in weak_words(often, NAMES)
    tie = errors_of({0: 2, 1: 4, 2: 4}, {1: 11}, {2: 11})
    assert weak_words(tie, NAMES) == "Weak: Animal (2 of 10 right).", "no class is said where two are as common"


def test_weak_classes_are_those_of_fishers_test_corrected_by_holm() -> None:
    errors = errors_of({0: 12, 1: 8}, {1: 19, 0: 1}, {2: 15, 0: 5})
    wrong, total = np.array([8, 1, 5]), 60
    p = [fisher_exact([[w, 20 - w], [14 - w, total - 20 - (14 - w)]], alternative="greater").pvalue for w in wrong]
    expected = [index for index in range(3) if p[index] * 3 < 0.05]  # Holm's first step
    assert [each.label for each in weak_classes(errors)] == expected
    assert p[0] < 0.05 and not expected, "one test alone would have called it weak"


def test_too_few_images_of_a_class_are_said_with_its_interval() -> None:
    words = weak_words(errors_of({0: 3, 1: 1}, {1: 4}, {2: 4}), NAMES)
    assert words == (
        "Too few images to call a class weaker than the others: the lowest is Animal, 3 of 4 right (30 to 95 %)."
    )
    assert weak_words(errors_of({0: 3}, {1: 4}), NAMES) == "", "without errors no class is weak"


# Several ways beside one


@pytest.mark.parametrize(("won", "lost", "opening"), [
    (14, 0, "Right more often than 224 px: x (+"), (0, 14, "Right less often than 224 px: x (-"),
    (2, 1, "Too few images to tell from 224 px: x (-"),
])  # fmt: skip
def test_others_beside_a_base_are_better_worse_or_open(won: int, lost: int, opening: str) -> None:
    base = np.zeros(60, dtype=bool)
    base[20:40] = True
    other = base.copy()
    other[:won], other[20 : 20 + lost] = True, False
    (words,) = beside_words("224 px", base, {"x": other})
    assert words.startswith(opening)


def test_many_tries_beside_a_base_are_corrected() -> None:
    base = np.zeros(100, dtype=bool)
    one = base.copy()
    one[:7] = True  # exact p of 7 to 0 is 0.016
    assert beside_words("a", base, {"x": one})[0].startswith("Right more often")
    many = {f"try {number}": base for number in range(9)} | {"x": one}
    assert beside_words("a", base, many)[0].startswith("Too few images to tell from a: x (p = 0.16)")
