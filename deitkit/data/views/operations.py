"""RandAugment's and AutoAugment's operations on arrays, as Pillow computes them: look-up tables, OpenCV and torch.

Each takes pixels [H, W, 3] uint8 and its final argument (any, where it has none). What only moves pixels along one
axis (shear, translate) is resampled with the cubic kernel of Pillow's transforms (a = -1, Keys 1981); what differs is
roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from deitkit.data.views.augment import Pixels

LEVELS = np.arange(256)
# Pillow's "smooth", of which `Sharpness` is a mixture with the image itself.
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
# The values that Pillow cuts off lie just below whole numbers, where floats may fall on either side.
TOLERANCE = 1e-3


def auto_contrast(pixels: Pixels, _: float) -> Pixels:
    """Each channel stretched to the whole range."""
    counts = _counts(pixels)
    tables = []
    for channel in counts:
        (found,) = channel.nonzero()
        low, high = int(found[0]), int(found[-1])
        scale = 255.0 / (high - low) if high > low else 1.0
        stretched = (LEVELS * scale - low * scale) if high > low else LEVELS
        tables.append(np.clip(stretched.astype(np.int64), 0, 255))
    return _looked_up(pixels, np.stack(tables, axis=-1))


def equalize(pixels: Pixels, _: float) -> Pixels:
    """Each channel with as equal a histogram as its levels allow."""
    tables = []
    for channel in _counts(pixels):
        used = channel[channel.nonzero()]
        step = int(used.sum() - used[-1]) // 255
        before = np.cumsum(channel) - channel
        tables.append(np.clip((step // 2 + before) // step, 0, 255) if len(used) > 1 and step else LEVELS)
    return _looked_up(pixels, np.stack(tables, axis=-1))


def invert(pixels: Pixels, _: float) -> Pixels:
    return np.invert(pixels)


def posterize(pixels: Pixels, bits: float) -> Pixels:
    """The upper `bits` of each value; 8 or more are all."""
    kept = min(8, int(bits))
    return pixels & np.uint8(0xFF & (0xFF << (8 - kept)))


def solarize(pixels: Pixels, threshold: float) -> Pixels:
    """Values from the threshold on are inverted."""
    return _looked_up(pixels, np.where(threshold > LEVELS, LEVELS, 255 - LEVELS))


def solarize_add(pixels: Pixels, add: float) -> Pixels:
    """Values below 128 are raised."""
    return _looked_up(pixels, np.where(LEVELS < 128, np.minimum(255, LEVELS + int(add)), LEVELS))


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """A mixture with black."""
    return _looked_up(pixels, _blended(0, factor))


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """A mixture with the mean of its grey."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return _looked_up(pixels, _blended(int(cv2.mean(grey)[0] + 0.5), factor))


def color(pixels: Pixels, factor: float) -> Pixels:
    """A mixture with its own grey."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _mixed(cast(Pixels, grey), pixels, factor)


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """A mixture with its smoothed self, whose border is not smoothed."""
    smooth = pixels.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, SMOOTH)[1:-1, 1:-1]
    return _mixed(smooth, pixels, factor)


def shear_x(pixels: Pixels, factor: float, fill: tuple[int, int, int]) -> Pixels:
    return _slid(pixels, factor * (np.arange(len(pixels)) + 0.5), fill)


def shear_y(pixels: Pixels, factor: float, fill: tuple[int, int, int]) -> Pixels:
    return _turned(shear_x(_turned(pixels), factor, fill))


def translate_x(pixels: Pixels, share: float, fill: tuple[int, int, int]) -> Pixels:
    return _slid(pixels, np.full(len(pixels), share * pixels.shape[1]), fill)


def translate_y(pixels: Pixels, share: float, fill: tuple[int, int, int]) -> Pixels:
    return _turned(translate_x(_turned(pixels), share, fill))


COLOURS: dict[str, Callable[[Pixels, float], Pixels]] = {
    "AutoContrast": auto_contrast, "Equalize": equalize, "Invert": invert, "SolarizeAdd": solarize_add,
    "PosterizeIncreasing": posterize, "PosterizeOriginal": posterize, "SolarizeIncreasing": solarize,
    "Solarize": solarize, "ColorIncreasing": color, "Color": color, "ContrastIncreasing": contrast,
    "Contrast": contrast, "BrightnessIncreasing": brightness, "Brightness": brightness,
    "SharpnessIncreasing": sharpness, "Sharpness": sharpness,
}  # fmt: skip
# With the cubic kernel alone: a bilinear recipe's are Pillow's.
MOVES: dict[str, Callable[[Pixels, float, tuple[int, int, int]], Pixels]] = {
    "ShearX": shear_x, "ShearY": shear_y, "TranslateXRel": translate_x, "TranslateYRel": translate_y,
}  # fmt: skip


def _counts(pixels: Pixels) -> npt.NDArray[np.int64]:
    """Of each level of each channel: [3, 256]."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.stack(counts).reshape(3, 256).astype(np.int64)


def _looked_up(pixels: Pixels, table: npt.NDArray[np.integer]) -> Pixels:
    """Every value by the table [256], or by its channel's [256, 3]."""
    return cast(Pixels, cv2.LUT(pixels, table.astype(np.uint8).reshape(1, 256, -1)))


def _blended(other: int, factor: float) -> npt.NDArray[np.int64]:
    """[256]: where values go that are mixed with one other, fractions cut off."""
    blended: npt.NDArray[np.int64] = np.clip(
        other + np.float32(factor) * (LEVELS - other).astype(np.float32), 0, 255
    ).astype(np.int64)
    return blended


def _mixed(other: Pixels, pixels: Pixels, factor: float) -> Pixels:
    """other + factor * (pixels - other), fractions cut off: OpenCV rounds, so half is taken off before."""
    return cast(Pixels, cv2.addWeighted(pixels, factor, other, 1.0 - factor, TOLERANCE - 0.5))


def _turned(pixels: Pixels) -> Pixels:
    return cast(Pixels, cv2.transpose(pixels))


def _slid(pixels: Pixels, shifts: npt.NDArray[np.floating], fill: tuple[int, int, int]) -> Pixels:
    """Row y shows at x what lay at x + shifts[y]; what lies outside is `fill`."""
    height, width, channels = pixels.shape
    whole = np.floor(shifts).astype(np.int64)
    taps = _taps(pixels, whole).view(height, -1)
    weights = _cubic(torch.from_numpy(shifts - whole)[:, None].float())
    values = width * channels
    moved = taps[:, :values] * weights[0]
    for tap, weight in enumerate(weights[1:], start=1):
        moved.addcmul_(taps[:, tap * channels : tap * channels + values], weight)
    view = moved.add_(TOLERANCE).clamp_(0, 255).to(torch.uint8).view(height, width, channels).numpy()
    beyond = np.floor(shifts + 0.5).astype(np.int64)
    for start, stop, reach in _runs(beyond):
        if reach:
            view[start:stop, slice(max(0, width - reach), None) if reach > 0 else slice(-reach)] = fill
    return cast(Pixels, view)


def _taps(pixels: Pixels, whole: npt.NDArray[np.int64]) -> torch.Tensor:
    """[H, W + 3, 3] float32: from one left of where each row begins on; edges repeat."""
    height, width, _ = pixels.shape
    reach = int(np.abs(whole).max()) + 2
    wide = cv2.copyMakeBorder(pixels, 0, 0, reach, reach, cv2.BORDER_REPLICATE)
    taps = np.empty((height, width + 3, 3), dtype=np.uint8)
    for start, stop, first in _runs(whole):
        taps[start:stop] = wide[start:stop, reach + first - 1 : reach + first + width + 2]
    return torch.from_numpy(taps).float()


def _runs(values: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Neighbours of one value: (start, stop, value)."""
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(values)], values[starts].tolist(), strict=True))


def _cubic(share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights of the four values around a place `share` right of the second (a = -1)."""
    square, cube = share**2, share**3
    return 2 * square - share - cube, 1 - 2 * square + cube, share + square - cube, cube - square
