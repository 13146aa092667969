"""An evaluation of every answer, for the App's Model Evaluation panel: fiftyone's own, made anew where answers changed.

fiftyone holds a whole evaluation in memory, some 1.2 kB an image, so that more than MOST images are left out: whether
an answer is right stands in its label, too. A note that a user wrote on an evaluation goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deitkit.explore.appearance import arrangement_kept
from deitkit.explore.record import GROUND_TRUTH, Record, eval_key

MOST = 500_000  # images: 0.6 GB


def evaluate(
    dataset: Any, record: Record, *, changed: set[str], advance: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Evaluate the answers that changed, and those that have no evaluation; the keys of what was made."""
    there: set[str] = set(dataset.list_evaluations())
    fields = [field for field in record.answers if {field, GROUND_TRUTH} & changed or eval_key(field) not in there]
    if not fields or len(dataset) > MOST:
        return []
    advance(0, len(fields))
    with arrangement_kept(dataset):  # an old evaluation takes its field out of the sidebar, too
        for number, field in enumerate(fields, 1):
            if eval_key(field) in there:
                dataset.delete_evaluation(eval_key(field))
            _evaluate(dataset, field)
            advance(number, len(fields))
    return [eval_key(field) for field in fields]


def _evaluate(dataset: Any, field: str) -> None:
    import fiftyone

    key = eval_key(field)
    answered = dataset.exists(f"{field}.label")
    view = dataset if len(answered) == len(dataset) else answered
    if not dataset.has_field(key):
        dataset.add_sample_field(key, fiftyone.BooleanField, description=f"Whether {field} is the label")
    view.evaluate_classifications(field, gt_field=GROUND_TRUTH, eval_key=key, method="simple", progress=False)
    dataset.clear_cache()
