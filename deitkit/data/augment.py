"""Plans to pixels with Pillow and timm's operation functions: the reference backend. Draws no random decision.

An image's orientation tag is not applied, as in the reference's loader (torchvision).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from timm.data.auto_augment import NAME_TO_OP

from deitkit.data.plan import Plan
from deitkit.errors import DeitkitError

Pixels = npt.NDArray[np.uint8]

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# What Pillow raises for broken files, besides its own classes of these.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)


def open_image(data: bytes, name: str) -> Image.Image:
    """Read the header: the size is known, the pixels are not decoded yet."""
    if not data:
        raise _unreadable(name, "the file is empty")
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:  # its text names the buffer's address
        raise _unreadable(name, "not an image of a known kind") from error
    except _BROKEN as error:
        raise _unreadable(name, str(error)) from error


def load_rgb(image: Image.Image, name: str) -> Image.Image:
    """Decode an opened image as RGB; transparency is dropped, 16 bits of grey become 8."""
    try:
        if image.mode.startswith("I;16"):  # Pillow's own conversion clips: nearly all pixels become white
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except _BROKEN as error:
        raise _unreadable(name, str(error)) from error


def decode(data: bytes, name: str) -> Image.Image:
    """An encoded image file -> RGB.

    Raises:
        DeitkitError: not an image, a broken one, or one so large that it must be an attack; `name` is said.
    """
    return load_rgb(open_image(data, name), name)


def _unreadable(name: str, reason: str) -> DeitkitError:
    return DeitkitError(
        f"cannot read image {name}: {reason}", value=name, remedy="repair the file or take it out of the folder"
    )


def make_view(
    image: Image.Image, plan: Plan, *, size: tuple[int, int], interpolation: str, fill: tuple[int, int, int]
) -> Pixels:
    """Crop, resize, flip and augment an RGB image: [3, H, W]. Erasing comes after normalisation, not here.

    `fill` is the colour of what a geometric operation lays bare.
    """
    resample = INTERPOLATIONS[interpolation]
    top, left, height, width = plan.crop
    image = image.crop((left, top, left + width, top + height)).resize((size[1], size[0]), resample)
    if plan.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, argument in plan.operations:
        image = apply_operation(image, name, argument, fill=fill, resample=resample)
    return np.asarray(image).transpose(2, 0, 1)


def apply_operation(
    image: Image.Image,
    name: str,
    argument: float | None,
    *,
    fill: tuple[int, int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """timm's operation of that name with an explicit argument."""
    if argument == 0 and name.startswith("Posterize"):  # no bits left; Pillow 13 refuses what older ones made black
        return Image.new(image.mode, image.size)
    arguments = () if argument is None else (argument,)
    operation = cast(Callable[..., Image.Image], NAME_TO_OP[name])
    return operation(image, *arguments, fillcolor=fill, resample=resample)


def erasing_noise(plan: Plan) -> npt.NDArray[np.float32]:
    """The plan's own standard normal pixels: [3, height, width] of its erasing box."""
    generator = np.random.Generator(np.random.Philox(key=plan.noise_key))
    return generator.standard_normal((3, *plan.erase[2:]), dtype=np.float32)


def evaluation_view(image: Image.Image, size: tuple[int, int], crop_ratio: float, interpolation: str) -> Pixels:
    """Resize so that the short side is floor(size / crop_ratio), then crop the centre: [3, H, W].

    A view that is not square is cut from the smallest resized image that holds both of its resized sides.
    """
    height, width = (math.floor(side / crop_ratio) for side in size)
    if height * image.width >= width * image.height:
        resized = (height * image.width // image.height, height)
    else:
        resized = (width, width * image.height // image.width)
    if resized != image.size:
        image = image.resize(resized, INTERPOLATIONS[interpolation])
    top, left = round((resized[1] - size[0]) / 2), round((resized[0] - size[1]) / 2)
    view = image.crop((left, top, left + size[1], top + size[0]))
    return np.ascontiguousarray(np.asarray(view).transpose(2, 0, 1))
