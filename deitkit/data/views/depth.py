"""Grey of more than 8 bits made 8: by the range that the file declares, or else by the one that it holds.

Pillow's own conversions clip: 16 bits become white, 32 bits black or white, 12 bits kept in 16 nearly black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_MAX_SAMPLE_VALUE = 281  # the tag of a TIFF that declares the largest value
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give


def is_deep(mode: str) -> bool:
    """Whether a mode of Pillow's has grey values beyond 255."""
    return mode in ("I", "F") or mode.startswith("I;")


def to_8_bits(image: Image.Image) -> Image.Image:
    """An image of deep grey as 8 bits of grey; any other as it is."""
    if not is_deep(image.mode):
        return image
    values = np.asarray(image)
    low, high = _range(image, values)
    if (low, high) == (0, 65535):
        return Image.fromarray((values.astype(np.int64) >> 8).astype(np.uint8))  # the upper 8 bits, unrounded
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def described(image: Image.Image) -> str:
    """How an image of deep grey is read."""
    kind = "floating-point" if image.mode == "F" else "32-bit" if image.mode == "I" else "16-bit"
    low, high = _range(image, np.asarray(image))
    depth = next((bits for bits in _DEPTHS if (low, high) == (0, 2**bits - 1)), None)
    return f"{kind} grey, read as {f'{depth} bits' if depth else f'the range {low:g} to {high:g}'}"


def _range(image: Image.Image, values: npt.NDArray[Any]) -> tuple[float, float]:
    """The values that become 0 and 255: of the declared maximum, of the next usual depth, or those that occur."""
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    if not finite.size:
        return 0, 1
    low, high = float(finite.min()), float(finite.max())
    declared = _declared(image)
    if declared is not None and low >= 0 and high <= declared:
        return 0, declared
    if low >= 0 and image.mode == "F" and high <= 1:
        return 0, 1
    if low >= 0 and high < 2**16:
        return 0, next(2**bits - 1 for bits in _DEPTHS if high < 2**bits)
    return low, high


def _declared(image: Image.Image) -> float | None:
    """The largest value that a TIFF says it has."""
    tags = getattr(image, "tag_v2", None)
    value = tags.get(_MAX_SAMPLE_VALUE) if tags is not None else None
    value = value[0] if isinstance(value, tuple) and value else value
    return float(value) if isinstance(value, int | float) and value > 0 else None
