"""Holding images out: stratified, keyed by a seed of its own, so that no training seed moves an image across."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deitkit.data.sources.base import Indices
from deitkit.data.stream import Domain, words


@dataclass(frozen=True)
class Held:
    """Indices that stay for training and indices held out, each ascending."""

    train: Indices
    val: Indices


def stratified_split(labels: Indices, fraction: float, *, seed: int = 0) -> Held:
    """Hold out ceil(fraction * N) images, every class by its share (largest remainders take the rest).

    Every class keeps at least one image for training, so a tiny class may hold out none.
    """
    counts = np.bincount(labels)
    shares = counts * fraction
    held = np.floor(shares).astype(np.int64)
    missing = int(np.ceil(np.round(len(labels) * fraction, 9))) - int(held.sum())
    held[np.argsort(held - shares, kind="stable")[:missing]] += 1
    held = np.minimum(held, np.maximum(counts - 1, 0))
    draws = words(seed, Domain.SPLIT, 0, [0], lanes=len(labels))[0]
    order = np.lexsort((draws, labels))
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    rank_in_class[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = rank_in_class < held[labels]
    return Held(train=np.flatnonzero(~out), val=np.flatnonzero(out))
