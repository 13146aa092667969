"""scikit-learn's bundled handwritten digits: 1,797 real images of 8 x 8 pixels, one fifth held out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from deitkit import schema
from deitkit.data.sources.base import Indices, LabelSets, Source, fingerprint, subset
from deitkit.data.sources.split import stratified_split

VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Digits:
    """All digits; `files` are PNGs of the data set's 17 grey values, spread over 0..255."""

    files: tuple[bytes, ...]
    labels: Indices
    split: str = "train"
    dataset: str = "digits"
    class_names: tuple[str, ...] = tuple("0123456789")
    accepted: LabelSets | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def ids(self) -> list[str]:
        return [f"digits/{index:04d}" for index in range(len(self.files))]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        return self.files[index]

    def path(self, index: int) -> Path | None:
        return None


def open_digits(data: schema.Data, split: str) -> Source:
    """The held-out images are the same in every run, whatever its seed."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bundled = load_digits()
    pixels = np.round(bundled.images * (255 / 16)).astype(np.uint8)
    files = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    digits = Digits(tuple(files), bundled.target.astype(np.int64))
    held = stratified_split(digits.labels, data.val_fraction or VAL_FRACTION, seed=data.split_seed)
    return subset(digits, held.val if split == "val" else held.train, split)
