"""What a classifier's answers say of it, in sentences: how often right, where weak, which labels to check.

`deitkit evaluate`, the analyses and the report begin with them. Runs no model; the figures are those of `Predictions`,
the words `deitkit.measures.words`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from deitkit.measures.clusters import Errors, count_errors
from deitkit.measures.words import chance_words, rate_words, weak_words
from deitkit.predictions.table import Predictions, decisive

IN_SAMPLE = "These are images to train on: of a model that has learned from them, this says nothing of new ones."
LABELS_VIEW = "labels to check"  # the saved view of `deitkit explore`


def table_verdict(table: Predictions) -> list[str]:
    """What the decisive head's answers say."""
    head = decisive(table)
    errors = count_errors(table.top1(head), table.labels, classes=len(table.class_names))
    found = accuracy_verdict(errors, table.class_names, head=head if len(table.heads) > 1 else "")
    return [*found, *([IN_SAMPLE] if table.split == "train" else [])]


def accuracy_verdict(errors: Errors, class_names: tuple[str, ...], *, head: str = "") -> list[str]:
    """How often right, whether chance may be as good, and else where weak; the `head` is named where it is one of
    several."""
    images = int(errors.images_of.sum())
    right, by = images - errors.total, f" by the {head} head" if head else ""
    rest = chance_words(right, errors, class_names) or weak_words(errors, class_names)
    return [f"{rate_words(right, images)}{by}.", *filter(None, [rest])]


def labels_words(doubted: int, command: str) -> list[str]:
    """`7 labels to check: deitkit ...`, or nothing."""
    return [f"{doubted:,} label{'s' * (doubted > 1)} to check: {command}"] if doubted else []


def command_words(
    verb: str, *references: str, dataset: str = "", data: str = "", split: str = "val", more: Sequence[str] = ()
) -> str:
    """`deitkit VERB REFERENCE ...` as a shell takes it, on the images that were named."""
    given = {"--dataset": dataset, "--data": data, "--split": "" if split == "val" else split}
    words = [word for flag, value in given.items() if value for word in (flag, value)]
    return shlex.join(["deitkit", *verb.split(), *references, *words, *more])
