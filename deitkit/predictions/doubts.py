"""Predictions that also say which labels the decisive head doubts, by confident learning. Decides nothing else.

The logits that this needs are held for a moment and let go where nobody asked for them; where they would be too many,
nothing is said of labels (`deitkit analyze errors` keeps them). The measure: `deitkit.measures.label_errors`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from deitkit.data.open import Source
from deitkit.measures.label_errors import find_label_errors
from deitkit.models.load import ModelInfo
from deitkit.models.student import Student
from deitkit.predictions.fusion import with_fused_logits
from deitkit.predictions.predict import predict
from deitkit.predictions.table import Predictions, decisive

MOST_LOGITS = 2**25  # of both heads, held for the doubts alone: 128 MiB
LEAST_RIGHT = 0.7  # a classifier that is right less often doubts mostly for its own errors


def predict_kept(
    student: Student, info: ModelInfo, source: Source, *, keep_logits: bool = False, **options: Any
) -> Predictions:
    """`deitkit.predictions.predict.predict`, with its options, and the labels that are doubted."""
    few = 2 * len(source) * len(info.class_names) <= MOST_LOGITS
    table = with_doubts(predict(student, info, source, keep_logits=keep_logits or few, **options))
    return table if keep_logits else without_logits(table)


def with_doubts(table: Predictions) -> Predictions:
    """The same with the labels that its decisive head doubts, or without any where that says nothing: the model learned
    from these images, there is one class, or it is wrong too often. Without logits as it is."""
    head = decisive(table)
    logits = with_fused_logits(table).heads[head].logits
    if logits is None:
        return table
    tells = table.split != "train" and len(table.class_names) > 1
    if not tells or table.accuracy(head) < LEAST_RIGHT:
        return replace(table, doubted=None)
    doubted = np.zeros(len(table.ids), dtype=np.bool_)
    doubted[find_label_errors(logits, table.labels).rows] = True
    return replace(table, doubted=doubted)


def without_logits(table: Predictions) -> Predictions:
    return replace(table, heads={name: replace(head, logits=None) for name, head in table.heads.items()})
