"""Whether runs differ by more than chance: kept predictions on the same images, compared image by image with the first
run's. Runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deitkit.errors import DeitkitError
from deitkit.measures.agreement import count_pairs, mcnemar, paired_interval
from deitkit.predictions.align import align
from deitkit.predictions.table import Predictions, decisive


@dataclass(frozen=True)
class PairedGain:
    """What a run gains over the baseline in top-1 on `images` images, from -1 to 1.

    `low` and `high`: the 95 % interval of Bonett and Price (2012). `p`: the probability of so great a difference
    between two that are equally good (McNemar 1947).
    """

    name: str
    head: str
    images: int
    gain: float
    low: float
    high: float
    p: float


def paired_with_baseline(folders: Sequence[Path]) -> list[PairedGain]:
    """Each run but the first against the first, by the head that decides; those without predictions on the same images
    are left out."""
    gains = []
    for folder in folders[1:]:
        for path in sorted((folders[0] / "predictions").glob("*.parquet")):
            other = folder / "predictions" / path.name
            if not other.is_file():
                continue
            try:
                tables = align([Predictions.load(path), Predictions.load(other)])
            except DeitkitError:  # of other images under the same name: nothing to compare
                continue
            gains.append(_gain(str(folder), *tables))
            break
    return gains


def _gain(name: str, first: Predictions, second: Predictions) -> PairedGain:
    pair = count_pairs(first.top1(decisive(first)), second.top1(decisive(second)), first.labels)
    interval = paired_interval(pair.only_b, pair.only_a, pair.images)
    return PairedGain(
        name=name, head=decisive(second), images=pair.images, gain=(pair.only_b - pair.only_a) / pair.images,
        low=interval.low, high=interval.high, p=mcnemar(pair.only_a, pair.only_b).p,
    )  # fmt: skip
