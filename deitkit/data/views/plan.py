"""Views as plans: what happens to an image before it is pixels, with every argument final.

The distributions are those of the reference (DeiT Sec. 5.2, Table 9), as timm implements them: random resized crop,
flip, RandAugment (`rand-m9-mstd0.5-inc1`) or AutoAugment (`original`), random erasing. Decodes and touches no image.
Plans are drawn for many views at once; every decision has lanes of its own, so no draw shifts another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from deitkit.data.draws import Domain, to_uniforms, words
from deitkit.recipe import schema

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TRIES = 10  # of a crop or an erasing box that may not fit
LAYERS = 2  # operations per view
NO_OPERATION = -1
ERASE_AREA = (0.02, 1 / 3)  # of the view
ERASE_ASPECT = (0.3, 1 / 0.3)  # height / width

# Lanes of the counter. A new decision is added at the end: what stands here never moves.
_FLIP, _NOISE, _SUBPOLICY, _ERASE = range(4)
_OPERATION = 4  # per layer: choice, whether, magnitude, sign
_CROP = _OPERATION + 4 * LAYERS  # per try: area, aspect, top, left
_ERASE_BOX = _CROP + 4 * TRIES  # per try: area, aspect, top, left
_LANES = _ERASE_BOX + 4 * TRIES

# level 0..1 and sign [n] -> final argument [n]
Argument = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Operation:
    """A row of timm's NAME_TO_OP; `argument` is None where it takes none."""

    name: str
    argument: Argument | None = None
    is_integer: bool = False


def _signed(maximum: float) -> Argument:
    return lambda level, sign: sign * (level * maximum)


def _increasing(level: Floats, sign: Floats) -> Floats:
    return np.maximum(0.1, 1.0 + sign * (level * 0.9))


def _solarize(level: Floats, _: Floats) -> Floats:
    return np.minimum(256, np.floor(level * 256))


# The order is part of the stream: RandAugment draws one of the first 15, uniformly.
OPERATIONS = (
    Operation("AutoContrast"),
    Operation("Equalize"),
    Operation("Invert"),
    Operation("Rotate", _signed(30.0)),  # degrees
    Operation("PosterizeIncreasing", lambda level, _: 4 - np.floor(level * 4), is_integer=True),  # bits kept
    Operation("SolarizeIncreasing", lambda level, sign: 256 - _solarize(level, sign), is_integer=True),  # threshold
    Operation("SolarizeAdd", lambda level, _: np.minimum(128, np.floor(level * 110)), is_integer=True),
    Operation("ColorIncreasing", _increasing),
    Operation("ContrastIncreasing", _increasing),
    Operation("BrightnessIncreasing", _increasing),
    Operation("SharpnessIncreasing", _increasing),
    Operation("ShearX", _signed(0.3)),
    Operation("ShearY", _signed(0.3)),
    Operation("TranslateXRel", _signed(0.45)),  # of the width
    Operation("TranslateYRel", _signed(0.45)),  # of the height
    Operation("PosterizeOriginal", lambda level, _: np.floor(level * 4) + 4, is_integer=True),
    Operation("Solarize", _solarize, is_integer=True),
    Operation("Color", lambda level, _: level * 1.8 + 0.1),
    Operation("Contrast", lambda level, _: level * 1.8 + 0.1),
    Operation("Sharpness", lambda level, _: level * 1.8 + 0.1),
)
RAND_OPERATIONS = 15
RAND_PROBABILITY = 0.5  # of each layer

# AutoAugment's ImageNet policy (Cubuk et al. 2019, Table 9): operation, probability, magnitude, for both layers.
AUTO_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("PosterizeOriginal", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("PosterizeOriginal", 0.6, 7), ("PosterizeOriginal", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("PosterizeOriginal", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("PosterizeOriginal", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)
_INDEX = {operation.name: index for index, operation in enumerate(OPERATIONS)}
_AUTO_OPERATIONS = np.array([[_INDEX[name] for name, _, _ in row] for row in AUTO_POLICY])
_AUTO_PROBABILITIES = np.array([[probability for _, probability, _ in row] for row in AUTO_POLICY])
_AUTO_MAGNITUDES = np.array([[float(magnitude) for _, _, magnitude in row] for row in AUTO_POLICY])


@dataclass(frozen=True)
class Plan:
    """One view. Boxes are (top, left, height, width) in pixels: the crop's of the image, the erasing's of the view.
    An erasing box of height 0 erases nothing; an operation that takes no argument has None."""

    crop: tuple[int, int, int, int]
    flip: bool
    operations: tuple[tuple[str, float | int | None], ...]
    erase: tuple[int, int, int, int]
    noise_key: int


@dataclass(frozen=True)
class Plans:
    """n views: crop [n, 4], flip [n], ops [n, 2] (rows of OPERATIONS or -1), op_args [n, 2], erase [n, 4] (height 0:
    none), noise_key [n]."""

    crop: npt.NDArray[np.int32]
    flip: npt.NDArray[np.bool_]
    ops: npt.NDArray[np.int8]
    op_args: Floats
    erase: npt.NDArray[np.int32]
    noise_key: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.flip)

    @property
    def erased(self) -> list[int]:
        """The views that have an erasing box."""
        erased: list[int] = np.flatnonzero(self.erase[:, 2]).tolist()
        return erased

    def __getitem__(self, index: int) -> Plan:
        top, left, height, width = self.crop[index].tolist()
        erase_top, erase_left, erase_height, erase_width = self.erase[index].tolist()
        operations = zip(self.ops[index].tolist(), self.op_args[index].tolist(), strict=True)
        return Plan(
            crop=(top, left, height, width),
            flip=bool(self.flip[index]),
            operations=tuple(_named(op, argument) for op, argument in operations if op != NO_OPERATION),
            erase=(erase_top, erase_left, erase_height, erase_width),
            noise_key=int(self.noise_key[index]),
        )


def _named(index: int, argument: float) -> tuple[str, float | int | None]:
    operation = OPERATIONS[index]
    if operation.argument is None:
        return operation.name, None
    return operation.name, int(argument) if operation.is_integer else argument


def draw_plans(
    augment: schema.Augment,
    size: tuple[int, int],
    heights: npt.ArrayLike,
    widths: npt.ArrayLike,
    *,
    seed: int,
    epoch: int,
    images: npt.ArrayLike,
    repeat: npt.ArrayLike,
) -> Plans:
    """Plans of the views of `images` [n], `heights` x `widths` pixels, in their `repeat` ([n] or one for all).

    `size` is the view's (height, width) in pixels.
    """
    bits = words(seed, Domain.PLAN, epoch, images, repeat=repeat, lanes=_LANES)
    draws = to_uniforms(bits)
    heights, widths = np.asarray(heights, dtype=np.int64), np.asarray(widths, dtype=np.int64)
    ops, op_args = _draw_operations(augment, draws)
    return Plans(
        crop=_draw_crops(augment, heights, widths, draws[:, _CROP:_ERASE_BOX].reshape(-1, TRIES, 4)),
        flip=draws[:, _FLIP] < augment.hflip,
        ops=ops,
        op_args=op_args,
        erase=_draw_erasing(size, draws[:, _ERASE] < augment.erasing, draws[:, _ERASE_BOX:].reshape(-1, TRIES, 4)),
        noise_key=bits[:, _NOISE],
    )


def _draw_crops(augment: schema.Augment, heights: Integers, widths: Integers, draws: Floats) -> npt.NDArray[np.int32]:
    """Random resized crops: the first of ten boxes that fits, or the largest central box of an allowed aspect.

    draws [n, 10, 4] -> boxes [n, 4]. A box of no pixels does not fit (torchvision's rule; timm would fail).
    """
    image_heights, image_widths = heights[:, None], widths[:, None]
    areas = _between(*augment.crop_scale, draws[..., 0]) * (image_heights * image_widths)
    aspects = np.exp(_between(*_logs(augment.crop_aspect), draws[..., 1]))
    box_widths, box_heights = _rounded(np.sqrt(areas * aspects)), _rounded(np.sqrt(areas / aspects))
    fits = (box_widths <= image_widths) & (box_heights <= image_heights) & (np.minimum(box_widths, box_heights) > 0)
    tops = np.floor(draws[..., 2] * (image_heights - box_heights + 1)).astype(np.int64)
    lefts = np.floor(draws[..., 3] * (image_widths - box_widths + 1)).astype(np.int64)
    chosen = _first(np.stack([tops, lefts, box_heights, box_widths], axis=-1), fits)
    central = _central_crops(augment.crop_aspect, heights, widths)
    return np.where(fits.any(axis=1, keepdims=True), chosen, central).astype(np.int32)


def _central_crops(aspect: tuple[float, float], heights: Integers, widths: Integers) -> Integers:
    """The largest central box [n, 4] whose width / height is allowed."""
    box_heights = np.minimum(heights, np.maximum(1, _rounded(widths / aspect[0])))
    box_widths = np.minimum(widths, np.maximum(1, _rounded(heights * aspect[1])))
    return np.stack([(heights - box_heights) // 2, (widths - box_widths) // 2, box_heights, box_widths], axis=-1)


def _draw_erasing(size: tuple[int, int], erases: npt.NDArray[np.bool_], draws: Floats) -> npt.NDArray[np.int32]:
    """The first of ten boxes that is smaller than the view in both directions; draws [n, 10, 4] -> boxes [n, 4]."""
    height, width = size
    areas = _between(*ERASE_AREA, draws[..., 0]) * (height * width)
    aspects = np.exp(_between(*_logs(ERASE_ASPECT), draws[..., 1]))
    box_heights, box_widths = _rounded(np.sqrt(areas * aspects)), _rounded(np.sqrt(areas / aspects))
    fits = (box_heights < height) & (box_widths < width)
    tops = np.floor(draws[..., 2] * (height - box_heights + 1)).astype(np.int64)
    lefts = np.floor(draws[..., 3] * (width - box_widths + 1)).astype(np.int64)
    chosen = _first(np.stack([tops, lefts, box_heights, box_widths], axis=-1), fits)
    is_box = erases & fits.any(axis=1) & (chosen[:, 2:].min(axis=1) > 0)
    return np.where(is_box[:, None], chosen, 0).astype(np.int32)


def _draw_operations(augment: schema.Augment, draws: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Operations [n, 2] and their final arguments [n, 2]."""
    layers = draws[:, _OPERATION:_CROP].reshape(-1, LAYERS, 4)
    if augment.policy is None:
        return np.full(layers.shape[:2], NO_OPERATION, dtype=np.int8), np.zeros(layers.shape[:2])
    if augment.policy == "rand":
        chosen = np.floor(layers[..., 0] * RAND_OPERATIONS).astype(np.int64)
        applied = layers[..., 1] < RAND_PROBABILITY
        magnitudes = np.full(chosen.shape, augment.magnitude)
    else:
        row = np.floor(draws[:, _SUBPOLICY] * len(AUTO_POLICY)).astype(np.int64)
        chosen, magnitudes = _AUTO_OPERATIONS[row], _AUTO_MAGNITUDES[row]
        applied = layers[..., 1] < _AUTO_PROBABILITIES[row]
    if augment.magnitude_std > 0:
        magnitudes = magnitudes + augment.magnitude_std * ndtri(layers[..., 2])
    levels = np.clip(magnitudes, 0.0, 10.0) / 10.0
    signs = np.where(layers[..., 3] > 0.5, -1.0, 1.0)
    arguments = np.zeros(chosen.shape)
    for index, operation in enumerate(OPERATIONS):
        if operation.argument is not None:
            own = chosen == index
            arguments[own] = operation.argument(levels[own], signs[own])
    return np.where(applied, chosen, NO_OPERATION).astype(np.int8), np.where(applied, arguments, 0.0)


def _logs(bounds: tuple[float, float]) -> tuple[float, float]:
    return math.log(bounds[0]), math.log(bounds[1])


def _between(low: float, high: float, draws: Floats) -> Floats:
    return low + (high - low) * draws


def _rounded(values: npt.NDArray[np.floating]) -> Integers:
    rounded: Integers = np.rint(values).astype(np.int64)
    return rounded


def _first(boxes: Integers, fits: npt.NDArray[np.bool_]) -> Integers:
    """boxes [n, tries, 4], fits [n, tries] -> the first box that fits [n, 4] (the first of all where none does)."""
    chosen: Integers = boxes[np.arange(len(boxes)), fits.argmax(axis=1)]
    return chosen
