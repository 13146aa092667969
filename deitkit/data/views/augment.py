"""Plans to pixels with Pillow and timm's operation functions: the reference backend. Draws no random decision.

What odd files become: grey, palette, CMYK and transparent images are converted to RGB (transparency dropped), deeper
grey becomes 8 bits (`deitkit.data.views.depth`), an animation is its first frame, a wrong extension does not matter.
Files that are cut short, damaged, empty or larger than the limit are `UnreadableImage`.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from deitkit.data.views.depth import to_8_bits
from deitkit.data.views.plan import Plan
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

Pixels = npt.NDArray[np.uint8]

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypmif1", b"ftypmsf1")
TURNED = (5, 6, 7, 8)  # orientation tags that swap height and width
# A decoder may raise anything on broken bytes.
_BROKEN = Exception
# Pillow warns where we refuse: the limit is a recipe's value and is named.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Reading:
    """How image files are read: by their orientation tag or as they lie (torchvision's way), and up to which size.

    `leave_out_unreadable` is for evaluation: such images are left out, not an error; `backend` makes its views.
    """

    exif_orientation: bool = False
    max_pixels: int = 89_478_485
    leave_out_unreadable: bool = False
    backend: schema.BackendName = "pil"

    @classmethod
    def of(cls, data: schema.Data, backend: schema.BackendName = "pil") -> Reading:
        return cls(data.exif_orientation, data.max_pixels, data.bad_images != "error", backend)


AS_IT_LIES = Reading()


class UnreadableImage(DeitkitError):
    """A file that is no whole image; `value` is its name."""

    reason = ""


def _unreadable(name: str, reason: str, *, remedy: str = "") -> UnreadableImage:
    error = UnreadableImage(
        f"cannot read image {name}: {reason}",
        value=name,
        remedy=remedy
        or "`deitkit data verify` lists all such files: repair them or take them out; or do without them: "
        "--set data.on_bad_image=leave_out; or, where a run or a tape has begun, let others stand in: "
        "--set data.on_bad_image=replace",
    )
    error.reason = reason
    return error


def open_image(data: bytes, name: str, reading: Reading = AS_IT_LIES) -> Image.Image:
    """Read the header: the size is known, the pixels are not decoded yet."""
    return open_file(io.BytesIO(data), name, reading)


def open_file(file: BinaryIO, name: str, reading: Reading = AS_IT_LIES) -> Image.Image:
    """As `open_image`, from a file that stays open: no more is read than the header."""
    start = file.read(12)
    if not start:
        raise _unreadable(name, "the file is empty")
    if start[4:] in HEIC:  # its brand; Pillow would only say that it knows no such kind
        _learn_heic(name)
    file.seek(0)
    try:
        image = Image.open(file)
    except UnidentifiedImageError as error:  # its text names the buffer's address
        raise _unreadable(name, "not an image of a known kind") from error
    except _BROKEN as error:
        raise _unreadable(name, str(error)) from error
    if image.width * image.height > reading.max_pixels:
        raise _unreadable(
            name,
            f"{image.width} x {image.height} pixels are more than data.max_pixels = {reading.max_pixels}: a "
            "decompression bomb?",
            remedy=f"take it out, or raise the limit: --set data.max_pixels={image.width * image.height}",
        )
    return image


def _learn_heic(name: str) -> None:
    """Pillow reads HEIC with another package alone."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        remedy = "pip install pillow-heif, or convert it to JPEG, or take it out"
        raise _unreadable(name, "HEIC, which Pillow reads with the package pillow-heif alone", remedy=remedy) from error
    register_heif_opener()


def size_of(image: Image.Image, name: str, reading: Reading = AS_IT_LIES) -> tuple[int, int]:
    """(height, width) in pixels, as the image will be seen."""
    turned = orientation_of(image, name, reading) in TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


def orientation_of(image: Image.Image, name: str, reading: Reading) -> int:
    """The image's tag, as far as it is heeded; 1 says that the image lies as it is seen.

    Raises:
        UnreadableImage: its tags are broken.
    """
    if not reading.exif_orientation:
        return 1
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except _BROKEN as error:
        raise _unreadable(name, str(error)) from error


def load_rgb(image: Image.Image, name: str, reading: Reading = AS_IT_LIES) -> Image.Image:
    """Decode an opened image as RGB; transparency is dropped, deeper grey becomes 8 bits."""
    try:
        if reading.exif_orientation:
            image = ImageOps.exif_transpose(image)
        image = to_8_bits(image)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except _BROKEN as error:
        raise _unreadable(name, str(error)) from error


def decode(data: bytes, name: str, reading: Reading = AS_IT_LIES) -> Image.Image:
    """An encoded image file -> RGB.

    Raises:
        UnreadableImage: not an image, a broken one, or one of more pixels than the limit; `name` is said.
    """
    return load_rgb(open_image(data, name, reading), name, reading)


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
    from timm.data.auto_augment import NAME_TO_OP  # torch with it, which whoever only reads images does without

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
    resized, (top, left) = centre_of(image.size, size, crop_ratio)
    if resized != image.size:
        image = image.resize(resized, INTERPOLATIONS[interpolation])
    view = image.crop((left, top, left + size[1], top + size[0]))
    return np.array(view).transpose(2, 0, 1)


def centre_of(
    image: tuple[int, int], size: tuple[int, int], crop_ratio: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the view of `size` (height, width) lies in an image (width, height): the size to which the image is
    resized, (width, height), and the view's (top, left) there."""
    height, width = (math.floor(side / crop_ratio) for side in size)
    if height * image[0] >= width * image[1]:
        resized = (height * image[0] // image[1], height)
    else:
        resized = (width, width * image[1] // image[0])
    return resized, (round((resized[1] - size[0]) / 2), round((resized[0] - size[1]) / 2))
