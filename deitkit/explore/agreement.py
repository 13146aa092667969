"""How the answers to an image stand to its label and to each other: from label strings alone. Knows no fiftyone.

Legend: N images; a column is a list [N] with None where there is nothing, found by its path in the dataset. Kinds of
pairs are those of `deitkit.measures.agreement`: the five of them add up to all images that both have answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deitkit.explore.record import ACCEPTED, GROUND_TRUTH, Record, identifier
from deitkit.measures.agreement import (
    ALL_RIGHT,
    NOTHING,
    SOME_RIGHT,
    WRONG_ALIKE,
    WRONG_DIFFERENTLY,
    count_right,
    kinds_of_all,
    known,
    named_pair_kinds,
    optional,
)
from deitkit.measures.arrays import Decisions
from deitkit.models.forms import TOKEN_HEADS

AGREEMENT = "agreement"
CLASSIFIERS_RIGHT = "classifiers_right"
BOTH_RIGHT, BOTH_ALIKE, BOTH_DIFFERENTLY = "both right", "both wrong alike", "both wrong differently"
ACCEPTED_PATH = f"{ACCEPTED}.classifications.label"


Column = list[Any]


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
        if each.fields.keys() >= {*TOKEN_HEADS}:
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
        derived[AGREEMENT] = kinds_of_all(answers, truth)
    if CLASSIFIERS_RIGHT in fields:
        derived[CLASSIFIERS_RIGHT] = count_right([said[each.decisive] for each in record.classifiers], truth)
    for a, b, field in record.pairs:
        derived[field] = _named(said[a.decisive], said[b.decisive], truth, names=(a.name, b.name))
    for each in record.classifiers:
        if heads_field(each.name) in fields:
            first, second = (said[each.fields[head]] for head in TOKEN_HEADS)
            derived[heads_field(each.name)] = _named(first, second, truth, names=TOKEN_HEADS)
    return derived


def _named(a: Decisions, b: Decisions, truth: Decisions, *, names: tuple[str, str]) -> Column:
    """The kind of each image [N] in words; None where an answer or the label is missing."""
    words = (BOTH_RIGHT, only(names[0]), only(names[1]), BOTH_ALIKE, BOTH_DIFFERENTLY)
    return named_pair_kinds(a, b, truth, names=words)


def _accepted(said: Column, accepted: Column) -> Column:
    """Whether the answer is among the accepted labels; None where no label is, so that nothing is judged."""
    return [own in labels if own is not None and labels else None for own, labels in zip(said, accepted, strict=True)]
