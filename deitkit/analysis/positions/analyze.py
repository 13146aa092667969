"""A run or model -> what each interpolation keeps of its position embedding: what `deitkit analyze positions` shows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.errors import one_of
from deitkit.models.reference import Reference
from deitkit.predictions.find import data_settings, open_for

if TYPE_CHECKING:
    from deitkit.analysis.report import Report

logger = logging.getLogger(__name__)


def analyze(
    model: str | Path, *, sizes: Sequence[tuple[int, int]] = (), modes: Sequence[str] = (), accuracy: bool = True,
    limit: int | None = None, dataset: str = "", data: str | Path = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """A transformer's position embedding at other image `sizes` (height, width) px, by each of the `modes`.

    Without sizes those of Table 10, scaled; without modes all. With `accuracy` the model classifies at most `limit`
    images of the split at each size; without, no image is read. Definitions and sources stand in the report.

        deitkit.analyze_positions("runs/mine", sizes=[(160, 160), (320, 320)])

    Raises:
        DeitkitError: the model has no position embedding, a size is no multiple of its patch, or a mode is unknown.
    """
    from deitkit.analysis.positions.measure import measure_accuracy, measure_positions
    from deitkit.analysis.positions.report import positions_report
    from deitkit.data.open import spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_model
    from deitkit.models.positions import POSITION_MODES

    parsed, loaded, picked = Reference.parse(str(model)), load_model(str(model)), pick_device(device)
    chosen = [one_of(mode, POSITION_MODES, what="mode") for mode in modes] or POSITION_MODES
    measures = measure_positions(loaded, sizes, modes=chosen, name=parsed.short(1))
    if not accuracy:
        return positions_report(measures)
    settings = data_settings(parsed.home, dataset=dataset, data=str(data))
    source, classes = open_for(loaded, settings, split)
    found = []
    for one in measure_accuracy(
        loaded, measures, spread_over(source, limit), device=picked, reading=Reading.of(settings), classes=classes
    ):
        found.append(one)
        heads = ", ".join(f"{head} {right / one.images:.1%}" for head, right in one.right.items())
        logger.info(f"{one.size[0]}x{one.size[1]} px, {one.mode}: {heads}")
    return positions_report(replace(measures, accuracy=found), images=f"{source.dataset}/{split}")
