"""Predictions that a test can shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from deitkit.predictions.table import Predictions, head_predictions

MakePredictions = Callable[..., Predictions]


@pytest.fixture
def decided() -> MakePredictions:
    """Predictions whose heads decide as given: {"class": [2, 0, 1]}."""

    def build(
        classifier: str,
        decisions: Mapping[str, Sequence[int]],
        labels: Sequence[int],
        *,
        class_names: Sequence[str] = ("cat", "dog", "owl"),
        **changes: Any,
    ) -> Predictions:
        values: dict[str, Any] = {
            "dataset": "pets",
            "split": "val",
            "fingerprint": "f00d",
            "classifier": classifier,
            "class_names": tuple(class_names),
            "ids": [f"image {row}" for row in range(len(labels))],
            "labels": np.array(labels, dtype=np.int64),
            "heads": {
                head: head_predictions(head, np.eye(len(class_names))[list(top1)] * 0.9)
                for head, top1 in decisions.items()
            },
        }
        return Predictions(**(values | changes))

    return build
