"""Whether a classifier's outputs stand in another order than the data's classes. Ours; runs no model.

Two kinds of order are tried. Those that go wrong in practice (off by one, reversed, sorted as text, by name) are fixed
beforehand, so even one image a class can tell. Any other is the best one-to-one matching between labels and outputs
(Kuhn 1955, on the confusion matrix), fitted on one half of the images and judged on the other, so that a matching
which only fits noise never counts. Legend: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deitkit.measures.arrays import Labels
from deitkit.measures.scores import SIGNIFICANCE, Comparison, TeacherAnswers, compare, skill

CLEAR_GAIN = 0.05  # another order has to be better by five points
# A random head on good features can be matched, too, but gives several classes the same output.
PERMUTED_SKILL = 0.5
ONE_TO_ONE = 0.8


@dataclass(frozen=True, eq=False)
class Order:
    """outputs [K]: the output that stands for each class of the data; -1 where nothing is known of a class."""

    name: str
    outputs: Labels


@dataclass(frozen=True)
class OrderFinding:
    """The best other order: `top1` is its accuracy, `comparison` against the order as it is.

    `pairs` are the first classes that it moves: (the data's name, the name of the output that answers for it).
    `is_matched`: it was fitted, on halves that did not judge it. `one_to_one`: the different outputs that classes are
    most often answered with, over the classes. `outputs` as in `Order`.
    """

    name: str
    top1: float
    skill: float
    comparison: Comparison
    is_matched: bool
    one_to_one: float
    moved: int
    pairs: tuple[tuple[str, str], ...]
    outputs: tuple[int, ...]

    @property
    def is_permuted(self) -> bool:
        """Whether the classes are in this order beyond doubt."""
        return self.skill >= PERMUTED_SKILL and (self.one_to_one >= ONE_TO_ONE or not self.is_matched)


def usual_orders(class_names: Sequence[str]) -> list[Order]:
    """Orders in which classifiers and data differ in practice; the identity is left out."""
    count = len(class_names)
    places = np.arange(count)
    as_text = np.argsort([str(place) for place in range(count)], kind="stable")
    by_name = np.argsort(np.array(class_names), kind="stable")
    without_case = np.array(sorted(range(count), key=lambda place: class_names[place].casefold()))
    found = [
        Order("shifted by one: each class answers one output late", (places + 1) % count),
        Order("shifted by one: each class answers one output early", (places - 1) % count),
        Order("reversed", places[::-1].copy()),
        Order("numbers sorted as text (0, 1, 10, 11, ..., 2)", np.argsort(as_text)),
        Order("numbers sorted, where the data sorts them as text (0, 1, 10, 11, ..., 2)", as_text),
        Order("sorted by name", np.argsort(by_name)),
        Order("sorted by name without regard to case", np.argsort(without_case)),
    ]
    distinct = {order.outputs.tobytes(): order for order in reversed(found)}
    return [order for order in reversed(distinct.values()) if (order.outputs != places).any()]


def best_matching(labels: Labels, decisions: Labels, *, outputs: int) -> Labels:
    """The one-to-one matching that most of these answers agree with: the output of each class [K], where K is
    `outputs`. A class without an image here keeps its own output, or has -1 where another class took that.

    Equally good matchings are decided in favour of the order as it is.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while to import: only where it is needed

    seen, row = np.unique(labels, return_inverse=True)
    answered, column = np.unique(np.concatenate([decisions[decisions >= 0], seen]), return_inverse=True)
    column = column[: int((decisions >= 0).sum())]
    confusion = np.zeros((len(seen), len(answered)))
    np.add.at(confusion, (row[decisions >= 0], column), 1.0)
    confusion += np.equal.outer(seen, answered) / (2.0 * len(labels) + 1)  # together less than one image
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    matching = np.arange(outputs)
    matching[np.isin(matching, answered[columns])] = -1
    matching[seen[rows]] = answered[columns]
    return matching


def find_order(answers: TeacherAnswers, class_names: Sequence[str], *, outputs: int) -> OrderFinding | None:
    """Another order of the classes that fits clearly better than the one as it is; None where there is none.

    Clearly: by five points of accuracy or more, and by an exact McNemar test at 0.001, shared among all orders tried.
    `outputs` is the number of the classifier's; those of the data's classes come first.
    """
    names = list(class_names) + [f"output {place}" for place in range(len(class_names), outputs)]
    labels, decisions = answers.labels, answers.decisions
    usual = usual_orders(class_names)
    level = SIGNIFICANCE / (len(usual) + 1)
    chance = float(np.bincount(labels).max() / len(labels))
    one_to_one = _one_to_one(labels, decisions)

    def judged(order: Order, decided: Labels, *, is_matched: bool) -> OrderFinding:
        hits = decided == decisions
        comparison = compare(answers.right, hits & (decisions >= 0))
        known = order.outputs[: len(class_names)]
        moved = np.flatnonzero((known != np.arange(len(known))) & (known >= 0))
        pairs = tuple((names[place], names[known[place]]) for place in moved[:5])
        top1 = float(hits.mean())
        return OrderFinding(
            order.name, top1, skill(top1, chance), comparison, is_matched, one_to_one, len(moved), pairs,
            tuple(known.tolist()),
        )  # fmt: skip

    findings = [judged(order, order.outputs[labels], is_matched=False) for order in usual]
    whole = Order("another order", best_matching(labels, decisions, outputs=outputs))
    findings.append(judged(whole, _cross_matched(labels, decisions, outputs=outputs), is_matched=True))
    clear = [each for each in findings if each.comparison.gain >= CLEAR_GAIN and each.comparison.p < level]
    # a usual order that is as good explains more than a matching
    return max(clear, key=lambda each: each.top1 + 0.02 * (not each.is_matched), default=None)


def _one_to_one(labels: Labels, decisions: Labels) -> float:
    """How many different outputs the classes [of those with images] are most often answered with, a class each."""
    modes = {int(np.bincount(decisions[labels == label] + 1).argmax()) for label in np.unique(labels)}
    return len(modes) / len(np.unique(labels))


def _cross_matched(labels: Labels, decisions: Labels, *, outputs: int) -> Labels:
    """For each image [N] the output that its class is matched to by the other half of the images."""
    rank = np.empty(len(labels), dtype=np.int64)
    rank[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    half = rank % 2 == 0  # every class's images in turn
    expected = np.empty(len(labels), dtype=np.int64)
    for fitted in (half, ~half):
        if not fitted.any():  # a single image has no other half
            expected[~fitted] = labels[~fitted]
            continue
        matching = best_matching(labels[fitted], decisions[fitted], outputs=outputs)
        unseen = ~np.isin(labels, labels[fitted])
        expected[~fitted] = np.where(unseen, labels, matching[labels])[~fitted]
    return expected
