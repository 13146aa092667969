"""Which of its three splits a data set has, and holding images out: stratified, keyed by a seed of its own.

No training seed moves an image across, and an image's own name decides on its side, so that others may come later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from deitkit.catalog import DATASETS
from deitkit.data.draws import Domain, words
from deitkit.data.source import Images, Indices, Source, Subset, subset
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

TEST_SERVES = "the test images serve as validation images"  # a note: whoever chooses by them reads it
DEFAULT_FRACTION = 0.1  # of one's own images, where no validation images are there
_FIRST_OF_A_CLASS = 0.25  # a class whose share is this many images holds out one


class MissingSplit(DeitkitError):
    """A split that the data do not have."""


class NoValidation(MissingSplit):
    """Images that have no validation split, where no fraction of them is to be held out."""


@dataclass(frozen=True)
class HeldOut:
    """Indices that stay for training and indices held out, each ascending."""

    train: Indices
    val: Indices

    @classmethod
    def of(cls, is_out: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> HeldOut:
        return cls(train=np.flatnonzero(~is_out), val=np.flatnonzero(is_out))


def stratified_split(labels: Indices, fraction: float, *, seed: int = 0) -> HeldOut:
    """Hold out ceil(fraction * N) images by their place, every class by its share (largest remainders take the rest).

    Every class keeps at least one image for training, so a tiny class may hold out none. `data.split_rule = "place"`:
    how earlier versions drew, and how the bundled digits are held out.
    """
    counts = np.bincount(labels)
    shares = counts * fraction
    held = np.floor(shares).astype(np.int64)
    missing = int(np.ceil(np.round(len(labels) * fraction, 9))) - int(held.sum())
    held[np.argsort(held - shares, kind="stable")[:missing]] += 1
    held = np.minimum(held, np.maximum(counts - 1, 0))
    draws = words(seed, Domain.SPLIT, 0, [0], lanes=len(labels))[0]
    return HeldOut.of(_ranks(draws, labels) < held[labels])


def split_by_name(ids: Sequence[str], labels: Indices, fraction: float, *, seed: int = 0) -> HeldOut:
    """Hold out of every class its share, rounded: the images whose names have the smallest hashes.

    A class holds out one where its share is a quarter of an image, and keeps at least one. Where that holds out none
    at all, ceil(fraction * N) images go whatever their class. An image added later moves few others across.
    """
    counts = np.bincount(labels)
    shares = np.round(counts * fraction, 9)
    held = np.maximum(np.floor(shares + 0.5), shares >= _FIRST_OF_A_CLASS).astype(np.int64)
    held = np.minimum(held, np.maximum(counts - 1, 0))
    keys = name_keys(ids, seed=seed)
    ranks = _ranks(keys, labels)
    if not held.any():
        may_go = np.where(ranks < counts[labels] - 1, keys, np.iinfo(np.uint64).max)
        number = min(int(np.ceil(len(labels) * fraction)), int((ranks < counts[labels] - 1).sum()))
        is_out = np.zeros(len(labels), dtype=np.bool_)
        is_out[np.argsort(may_go, kind="stable")[:number]] = True
        return HeldOut.of(is_out)
    return HeldOut.of(ranks < held[labels])


def fold_by_name(ids: Sequence[str], labels: Indices, folds: int, fold: int, *, seed: int = 0) -> HeldOut:
    """Hold out fold `fold` of 1..`folds`: every image is in one of them, and every class spread over all."""
    ranks = _ranks(name_keys(ids, seed=seed), labels)
    first = np.cumsum(np.bincount(labels)) - np.bincount(labels)  # so that small classes do not all end in fold 1
    return HeldOut.of((ranks + first[labels]) % folds == fold - 1)


def split_by_group(
    groups: Sequence[str], labels: Indices, fraction: float, *, seed: int = 0, folds: int = 0, fold: int = 1
) -> HeldOut:
    """Hold out whole groups (patients, animals, plots), so that none is on both sides: about each class's share.

    Groups come in the order of their names' hashes; each goes where it brings the classes nearer to their shares. With
    `folds` every group is in exactly one of them.
    """
    names, group = np.unique(np.array(groups, dtype=object), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max(initial=0)) + 1))
    np.add.at(counts, (group, labels), 1)
    parts = folds or 2
    wanted = np.array([1 / folds] * folds if folds else [1 - fraction, fraction])[:, None] * counts.sum(axis=0)
    filled = np.zeros_like(wanted)
    part_of = np.zeros(len(names), dtype=np.int64)
    for index in np.argsort(name_keys([str(name) for name in names], seed=seed), kind="stable").tolist():
        gains = np.abs(filled + counts[index] - wanted).sum(axis=1) - np.abs(filled - wanted).sum(axis=1)
        part_of[index] = int(np.argmin(np.round(gains, 9)[::-1]))
        part_of[index] = parts - 1 - part_of[index]  # where both are equal, the held-out part is filled first
        filled[part_of[index]] += counts[index]
    return HeldOut.of(part_of[group] == (fold - 1 if folds else 1))


def name_keys(names: Sequence[str], *, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A 64-bit hash of each name [N], keyed by the seed."""
    key = seed.to_bytes(8, "little")
    digests = (blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=key).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _ranks(keys: np.ndarray[tuple[int], np.dtype[np.uint64]], labels: Indices) -> Indices:
    """The place of each image among those of its class, by ascending key [N]."""
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[np.lexsort((keys, labels))] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def open_split(
    there: Collection[str], part: Callable[[str], Source], data: schema.Data, split: str, *, root: object
) -> Source:
    """One of train, val and test of data that have the splits `there`; `part` opens one of those.

    Without validation images a part of train is held out for choosing, never the test images. Only for published data,
    whose papers evaluate on test, and by the rule of earlier versions does test serve as val; so it does alone.

    Raises:
        MissingSplit: the data have no such split.
    """
    if split == "test":
        if "test" in there:
            return part("test")
        raise MissingSplit(
            f"{root} has no test images", value=split, choices=there, remedy="`--split val`, or add a test split"
        )
    test_serves = data.dataset in DATASETS or data.split_rule == "place" or "train" not in there
    val = "val" if "val" in there else "test" if "test" in there and test_serves else ""
    if val and "train" in there:
        refuse_fraction(data, str(root), val)
    if split == "val" and val:
        serves = val == "test" and "train" in there
        return renamed_split(part(val), "val", note=TEST_SERVES if serves else "")
    if "train" not in there:
        raise MissingSplit(
            f"{root} has no training images: there is {val}, but no train beside it",
            value=root,
            remedy="lay it out as ROOT/train/CLASS/IMAGE and ROOT/val/CLASS/IMAGE",
        )
    return part("train") if val else hold_out(part("train"), data, split, root=root)


def renamed_split(source: Source, split: str, *, note: str = "") -> Source:
    """The same images as another split."""
    if source.split == split and not note:
        return source
    if not isinstance(source, Images | Subset):
        raise TypeError(f"a {type(source).__name__} cannot be another split")
    return noted(replace(source, split=split), *([note] if note else []))


def noted(source: Source, *notes: str) -> Source:
    """The same images with more to say of them."""
    if isinstance(source, Subset):
        return replace(source, own_notes=(*source.own_notes, *notes))
    if isinstance(source, Images):
        return replace(source, notes=(*source.notes, *notes))
    raise TypeError(f"a {type(source).__name__} has no notes")


def held_out_fraction(data: schema.Data) -> float | None:
    """Which part is held out where no validation images are there: `data.val_fraction`, or a tenth of one's own."""
    if data.val_fraction is not None:
        return data.val_fraction
    keeps_all = data.dataset in DATASETS or data.split_rule == "place" or data.validate_on == "train"
    return None if keeps_all else DEFAULT_FRACTION


def hold_out(
    images: Source, data: schema.Data, split: str, *, root: object, groups: Sequence[str] | None = None
) -> Source:
    """One split of images that have none of their own: all of them, or parts drawn by the rules of `data`.

    `groups` [N] say which images belong together, where a table has such a column.

    Raises:
        NoValidation: held-out images are wanted where none are held out.
        DeitkitError: every class has only one image.
    """
    fraction = held_out_fraction(data)
    if fraction is None and data.folds is None:
        if split == "train":
            return images
        raise NoValidation(
            f"{root} has no validation images",
            value=root,
            remedy="hold a part of the training images out: --val-fraction 0.1; or measure on the training images "
            "themselves: --set data.validate_on=train (`deitkit evaluate`: --split train)",
        )
    held = _drawn(images, data, fraction or DEFAULT_FRACTION, groups)
    if not len(held.val) or not len(held.train):
        if split == "train" and data.val_fraction is None and data.folds is None:
            return images
        raise DeitkitError(
            f"no image of {root} can be held out: every class keeps at least one for training"
            if groups is None
            else f"no group of {root} can be held out: there are {len(set(groups)):,}",
            value=fraction,
            remedy="add images, or measure on the training images themselves: --set data.validate_on=train",
        )
    said = _said(data, len(held.val), len(images), fraction)
    return noted(subset(images, held.val if split == "val" else held.train, split), said)


def _drawn(images: Source, data: schema.Data, fraction: float, groups: Sequence[str] | None) -> HeldOut:
    folds, fold, seed = data.folds or 0, data.fold or 1, data.split_seed
    if groups is not None:
        return split_by_group(groups, images.labels, fraction, seed=seed, folds=folds, fold=fold)
    if data.group_column is not None:
        raise DeitkitError(
            f"data.group_column is {data.group_column!r}, but only tables have columns",
            value=data.group_column,
            remedy="name the table of images: --data TABLE.csv",
        )
    if folds:
        return fold_by_name(images.ids, images.labels, folds, fold, seed=seed)
    if data.split_rule == "place":
        return stratified_split(images.labels, fraction, seed=seed)
    return split_by_name(images.ids, images.labels, fraction, seed=seed)


def _said(data: schema.Data, held: int, images: int, fraction: float | None) -> str:
    """What is held out, and how."""
    share = f"fold {data.fold} of {data.folds}" if data.folds else f"{fraction:g} of each class"
    how = f"whole groups of {data.group_column!r}, " if data.group_column else ""
    rule = "by place" if data.split_rule == "place" and not (data.folds or data.group_column) else "by name"
    return (
        f"{held:,} of {images:,} images are held out for validation ({share}, {how}drawn {rule}, seed "
        f"{data.split_seed}): they choose the model, so they say more of it than of other images"
    )


def refuse_fraction(data: schema.Data, root: Path | str, val: str) -> None:
    """Nothing is held out where a validation split `val` exists.

    Raises:
        DeitkitError: the recipe asks for a fraction all the same.
    """
    for key, value in (("val_fraction", data.val_fraction), ("folds", data.folds)):
        if value is not None:
            raise DeitkitError(
                f"data.{key} is {value:g}, but {root} has a split of its own: {val}",
                value=value,
                remedy=f"--set data.{key}=false uses {val}",
            )
