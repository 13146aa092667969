"""Holding images out: stratified, keyed by a seed of its own, so that no training seed moves an image across."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deitkit.data.draws import Domain, words
from deitkit.data.source import Indices, Source, subset
from deitkit.errors import DeitkitError
from deitkit.recipe import schema


class NoValidation(DeitkitError):
    """Images that have no validation split, where no fraction of them is to be held out."""


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


def hold_out(images: Source, data: schema.Data, split: str, *, root: object) -> Source:
    """One split of images that have none of their own: all of them, or parts of `data.val_fraction`.

    Raises:
        NoValidation: held-out images are wanted where none are held out.
        DeitkitError: every class has only one image.
    """
    if data.val_fraction is None:
        if split == "train":
            return images
        raise NoValidation(
            f"{root} has no validation images",
            value=root,
            remedy="hold a part of the training images out: --val-fraction 0.1; or measure on the training images "
            "themselves: --set data.validate_on=train (`deitkit evaluate`: --split train)",
        )
    held = stratified_split(images.labels, data.val_fraction, seed=data.split_seed)
    if not len(held.val):
        raise DeitkitError(
            f"no image of {root} can be held out: every class keeps at least one for training",
            value=data.val_fraction,
            remedy="add images, or measure on the training images themselves: --set data.validate_on=train",
        )
    return subset(images, held.val if split == "val" else held.train, split)


def refuse_fraction(data: schema.Data, root: Path | str, val: str) -> None:
    """Nothing is held out where a validation split `val` exists.

    Raises:
        DeitkitError: the recipe asks for a fraction all the same.
    """
    if data.val_fraction is not None:
        raise DeitkitError(
            f"data.val_fraction is {data.val_fraction:g}, but {root} has a split of its own: {val}",
            value=data.val_fraction,
            remedy=f"--set data.val_fraction=false uses {val}",
        )
