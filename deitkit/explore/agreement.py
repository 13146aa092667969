"""How the answers to an image stand to its label and to each other: from label strings alone. Knows no fiftyone.

Legend: N images; a column is a list [N] with None where there is nothing, found by its path in the dataset. Kinds of
pairs are those of `deitkit.measures.agreement`: the five of them add up to all images that both have answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.explore.record import ACCEPTED, GROUND_TRUTH, Record, identifier

AGREEMENT = "agreement"
CLASSIFIERS_RIGHT = "classifiers_right"
ALL_RIGHT, SOME_RIGHT = "all right", "some right"
WRONG_ALIKE, WRONG_DIFFERENTLY = "all wrong alike", "all wrong differently"
BOTH_RIGHT, BOTH_ALIKE, BOTH_DIFFERENTLY = "both right", "both wrong alike", "both wrong differently"
ACCEPTED_PATH = f"{ACCEPTED}.classifications.label"

NOTHING = -1
HEADS = ("class", "distillation")

Column = list[Any]
Decisions = NDArray[np.int64]  # NOTHING where there is none


def only(name: str) -> str:
    """The kind of a pair where this one alone is right. No comma: the App would colour its halves."""
    return f"only {name} right"


def heads_field(classifier: str) -> str:
    """The field that says how a classifier's two heads stand to each other."""
    return identifier(f"{classifier}_heads")


def described(record: Record) -> dict[str, str]:
    """The fields of agreement that these classifiers have, and what each says."""
    fields = {}
    if len(record.answers) > 1:
        fields[AGREEMENT] = (
            f"How all answers (every head of every classifier) stand to the label: {ALL_RIGHT}, {SOME_RIGHT},"
            f" {WRONG_ALIKE} (they agree, the label differs) or {WRONG_DIFFERENTLY}"
        )
    if len(record.classifiers) > 1:
        fields[CLASSIFIERS_RIGHT] = (
            f"How many of the {len(record.classifiers)} classifiers' decisions are the label; of a distilled model it"
            " is the fused one"
        )
    for a, b, field in record.pairs:
        fields[field] = f"How the decisions of {a.name} and {b.name} stand to the label and to each other"
    for each in record.classifiers:
        if each.fields.keys() >= {*HEADS}:
            fields[heads_field(each.name)] = f"How both heads of {each.name} stand to the label and to each other"
    return fields


def derive(columns: Mapping[str, Column], record: Record) -> dict[str, Column]:
    """Labels as columns -> the columns that follow from them: `described`, and FIELD.right (FIELD.accepted)."""
    number: dict[str | None, int] = {None: NOTHING}
    truth, *answers = (
        np.array([number.setdefault(label, len(number)) for label in columns[f"{field}.label"]], dtype=np.int64)
        for field in (GROUND_TRUTH, *record.answers)
    )
    said = dict(zip(record.answers, answers, strict=True))
    derived = {f"{field}.right": optional(own == truth, known(own, truth)) for field, own in said.items()}
    if ACCEPTED_PATH in columns:
        derived |= {f"{field}.accepted": _accepted(columns[f"{field}.label"], columns[ACCEPTED_PATH]) for field in said}
    fields = described(record)
    if AGREEMENT in fields:
        derived[AGREEMENT] = agreement(answers, truth)
    if CLASSIFIERS_RIGHT in fields:
        derived[CLASSIFIERS_RIGHT] = count_right([said[each.decisive] for each in record.classifiers], truth)
    for a, b, field in record.pairs:
        derived[field] = pair_kinds(said[a.decisive], said[b.decisive], truth, names=(a.name, b.name))
    for each in record.classifiers:
        if heads_field(each.name) in fields:
            first, second = (said[each.fields[head]] for head in HEADS)
            derived[heads_field(each.name)] = pair_kinds(first, second, truth, names=HEADS)
    return derived


def agreement(answers: Sequence[Decisions], truth: Decisions) -> Column:
    """Answers [N] each, labels [N] -> the kind of each image, by the answers that it has; None where it has none."""
    said = np.stack(answers)
    there = np.stack([known(own, truth) for own in answers])
    right = there & (said == truth)
    first = said[there.argmax(axis=0), np.arange(len(truth))]
    alike = ((said == first) | ~there).all(axis=0)
    kinds = np.where(alike, WRONG_ALIKE, WRONG_DIFFERENTLY)
    kinds = np.where(right.any(axis=0), SOME_RIGHT, kinds)
    kinds = np.where((right | ~there).all(axis=0), ALL_RIGHT, kinds)
    return optional(kinds, np.asarray(there.any(axis=0)))


def count_right(decisions: Sequence[Decisions], truth: Decisions) -> Column:
    """Decisions [N] each, labels [N] -> how many are right; None where there is none."""
    there = np.stack([known(own, truth) for own in decisions])
    right = there & (np.stack(decisions) == truth)
    return optional(right.sum(axis=0), np.asarray(there.any(axis=0)))


def pair_kinds(a: Decisions, b: Decisions, truth: Decisions, *, names: tuple[str, str]) -> Column:
    """Decisions a [N], b [N] and labels [N] -> one of five kinds for each image; None where one of them is missing."""
    right_a, right_b = a == truth, b == truth
    kinds = np.where(a == b, BOTH_ALIKE, BOTH_DIFFERENTLY).astype(object)
    kinds[right_a & right_b] = BOTH_RIGHT
    kinds[right_a & ~right_b] = only(names[0])
    kinds[right_b & ~right_a] = only(names[1])
    return optional(kinds, known(a, truth) & known(b, truth))


def known(said: Decisions, truth: Decisions) -> NDArray[np.bool_]:
    """Where there are both an answer and a label: [N]."""
    return np.asarray((said != NOTHING) & (truth != NOTHING))


def optional(values: NDArray[Any], there: NDArray[np.bool_]) -> Column:
    """The values [N] as plain Python, None where they are not there."""
    return [value if is_there else None for value, is_there in zip(values.tolist(), there.tolist(), strict=True)]


def _accepted(said: Column, accepted: Column) -> Column:
    """Whether the answer is among the accepted labels; None where no label is, so that nothing is judged."""
    return [own in labels if own is not None and labels else None for own, labels in zip(said, accepted, strict=True)]
