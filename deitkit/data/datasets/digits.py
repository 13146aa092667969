"""scikit-learn's bundled handwritten digits: 1,797 real images of 8 x 8 pixels, one fifth held out."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from deitkit.data.formats.split import stratified_split
from deitkit.data.source import Images, Source, subset
from deitkit.recipe import schema

VAL_FRACTION = 0.2


@dataclass(frozen=True, kw_only=True)
class Digits(Images):
    """All digits; `files` are PNGs of the data set's 17 grey values, spread over 0..255."""

    files: tuple[bytes, ...]

    def read(self, index: int) -> bytes:
        return self.files[index]


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
    digits = Digits(
        dataset="digits",
        split="train",
        class_names=tuple("0123456789"),
        labels=bundled.target.astype(np.int64),
        ids=[f"digits/{index:04d}" for index in range(len(files))],
        files=tuple(files),
    )
    held = stratified_split(digits.labels, data.val_fraction or VAL_FRACTION, seed=data.split_seed)
    return subset(digits, held.val if split == "val" else held.train, split)
