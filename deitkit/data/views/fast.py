"""Plans to pixels with libjpeg-turbo, torch and OpenCV: the fast backend, for the same plans as the reference.

A JPEG is decoded to the same pixels. Resizing differs from Pillow's by roundings (a PSNR of 53 dB or more, 73 in the
median of 200 photographs), colours by at most 1 of 255; see tests/data/views/test_fast.py. What libjpeg-turbo does not
read, or refuses, Pillow reads; rotation, and geometry of a bilinear recipe, is Pillow's as well.
"""

from __future__ import annotations

import io
from typing import cast

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch.nn.functional import interpolate

from deitkit.data.views import augment
from deitkit.data.views.augment import INTERPOLATIONS, Pixels, Reading, apply_operation, centre_of, orientation_of
from deitkit.data.views.operations import COLOURS, MOVES
from deitkit.data.views.plan import Plan


def load_rgb(image: Image.Image, name: str, reading: Reading) -> Pixels:
    """An opened image -> [H, W, 3].

    Raises:
        UnreadableImage: it is broken.
    """
    # CMYK and pictures that must be turned are left to Pillow.
    is_plain = image.format == "JPEG" and image.mode in ("RGB", "L") and orientation_of(image, name, reading) == 1
    pixels = _decoded(image) if is_plain else None
    return np.array(augment.load_rgb(image, name, reading)) if pixels is None else pixels


def _decoded(image: Image.Image) -> Pixels | None:
    """None where libjpeg-turbo finds anything amiss: Pillow reads the file or says what is wrong with it."""
    content = cast(io.BytesIO, image.fp).getbuffer()  # type: ignore[attr-defined]
    try:
        return cast(Pixels, simplejpeg.decode_jpeg(content, "RGB"))
    except ValueError:
        return None


def make_view(
    pixels: Pixels, plan: Plan, *, size: tuple[int, int], interpolation: str, fill: tuple[int, int, int]
) -> Pixels:
    """Crop, resize, flip and augment pixels [H, W, 3]: [3, H, W] of the view's size. Erasing comes later."""
    top, left, height, width = plan.crop
    view = _resized(pixels[top : top + height, left : left + width], size, interpolation)
    if plan.flip:
        view = cast(Pixels, cv2.flip(view, 1))
    for name, argument in plan.operations:
        if name in COLOURS:
            view = COLOURS[name](view, 0.0 if argument is None else argument)
        elif name in MOVES and interpolation == "bicubic" and argument is not None:
            view = MOVES[name](view, argument, fill)
        else:
            resample = INTERPOLATIONS[interpolation]
            view = np.asarray(apply_operation(Image.fromarray(view), name, argument, fill=fill, resample=resample))
    return view.transpose(2, 0, 1)


def evaluation_view(pixels: Pixels, size: tuple[int, int], crop_ratio: float, interpolation: str) -> Pixels:
    """As the reference's, of pixels [H, W, 3]: resized, then the centre: [3, H, W]."""
    resized, (top, left) = centre_of((pixels.shape[1], pixels.shape[0]), size, crop_ratio)
    whole = _resized(pixels, resized[::-1], interpolation)
    return whole[top : top + size[0], left : left + size[1]].transpose(2, 0, 1)


def _resized(pixels: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    pixels = np.ascontiguousarray(pixels)  # else torch copies it into another order, and the result back
    if pixels.shape[:2] == size:
        return pixels
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = interpolate(image, size, mode=interpolation, antialias=True, align_corners=False)
    return cast(Pixels, resized[0].permute(1, 2, 0).contiguous().numpy())
