"""One image file looked at: whether it can be read, what is odd about it, and a digest of its pixels. Changes nothing.

What odd images become in training is said in `deitkit.data.views.augment`; here they are only named.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from deitkit.data.open import Source, image_name
from deitkit.data.views.augment import AS_IT_LIES, Reading, load_rgb, open_image
from deitkit.data.views.depth import described, is_deep
from deitkit.errors import DeitkitError

TINY_SIDE = 8  # pixels: below, an image holds hardly anything to classify
DIGEST_BYTES = 16
UNREADABLE = "unreadable"

_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
_EXTENSIONS = {
    "JPEG": _JPEG,
    "MPO": _JPEG,  # a photograph with a preview or a second eye behind it
    "PNG": frozenset({".png", ".apng"}),
    "WEBP": frozenset({".webp"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "GIF": frozenset({".gif"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm"}),
    "AVIF": frozenset({".avif"}),
    "JPEG2000": frozenset({".jp2", ".j2k", ".jpx"}),
    "HEIF": frozenset({".heic", ".heif"}),
}
_KNOWN_EXTENSIONS = frozenset().union(*_EXTENSIONS.values())
_ODD_MODES = {
    "1": ("grey", "black and white"), "L": ("grey", "grey"), "P": ("palette", "palette"), "PA": ("alpha", "PA"),
    "LA": ("alpha", "grey and alpha"), "La": ("alpha", "La"), "RGBA": ("alpha", "RGBA"), "RGBa": ("alpha", "RGBa"),
    "CMYK": ("CMYK", "four inks, converted without a colour profile"),
}  # fmt: skip
_WITH_FRAMES = frozenset({"GIF", "PNG", "TIFF", "WEBP"})
_PNG_BIT_DEPTH = 24  # where a PNG file says how many bits a value has


class Remark(NamedTuple):
    """Something to know of an image; `kind` is "unreadable" or one of a few words for what is odd."""

    kind: str
    detail: str


class Inspection(NamedTuple):
    """One image: `remarks` on it; width and height in pixels, 0 where it cannot be read; digest of its RGB pixels."""

    remarks: tuple[Remark, ...]
    width: int = 0
    height: int = 0
    digest: bytes = b"\0" * DIGEST_BYTES


def inspect(source: Source, index: int, reading: Reading = AS_IT_LIES) -> Inspection:
    """Decode one image fully; nothing that its bytes do raises."""
    name = image_name(source, index)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            data = source.read(index)
            image = open_image(data, name, reading)
            pixels = load_rgb(image, name, reading)
        except DeitkitError as error:
            return Inspection((Remark(UNREADABLE, error.what.removeprefix(f"cannot read image {name}: ")),))
        except Exception as error:  # a decoder may raise anything on broken bytes: here that is a finding
            return Inspection((Remark(UNREADABLE, f"{type(error).__name__}: {error}"),))
        path = source.path(index)
        odd = [
            *_oddities(image, data, suffix=path.suffix.lower() if path else ""),
            *_tags(image, data, applied=reading.exif_orientation),
        ]
    digest = blake2b(np.array(pixels.size).tobytes() + pixels.tobytes(), digest_size=DIGEST_BYTES).digest()
    return Inspection((*odd, *_warned(said)), *pixels.size, digest)


def _oddities(image: Image.Image, data: bytes, *, suffix: str) -> Iterator[Remark]:
    """What header and name tell of a decoded image; suffix is empty where it has no file of its own."""
    kind, mode = image.format or "image", image.mode
    if suffix in _KNOWN_EXTENSIONS and suffix not in _EXTENSIONS.get(kind, ()):
        yield Remark("extension", f"{kind} named {suffix}")
    if mode in _ODD_MODES:
        yield Remark(*_ODD_MODES[mode])
    elif is_deep(mode):
        yield Remark("16-bit", described(image))
    elif mode != "RGB":
        yield Remark("colour", f"mode {mode}")
    if kind == "PNG" and mode.startswith("RGB") and data[_PNG_BIT_DEPTH] == 16:
        yield Remark("16-bit", "16 bits a channel, the upper 8 are used")
    if mode in ("L", "P", "RGB") and "transparency" in image.info:
        yield Remark("alpha", "one colour or more is transparent")
    if min(image.size) < TINY_SIDE:
        yield Remark("tiny", f"{image.width} x {image.height} pixels")


def _tags(image: Image.Image, data: bytes, *, applied: bool) -> Iterator[Remark]:
    """What stands beside the pixels: orientation and further frames. Broken tags leave the pixels readable."""
    try:
        orientation = image.getexif().get(Base.Orientation, 1)
        if orientation != 1:
            yield Remark("orientation", f"EXIF orientation {orientation}, {'applied' if applied else 'not applied'}")
        if image.format in _WITH_FRAMES and (frames := getattr(Image.open(io.BytesIO(data)), "n_frames", 1)) > 1:
            yield Remark("animated", f"{frames} frames, the first is used")
    except Exception as error:  # as above: whatever a decoder raises
        yield Remark("warning", f"{type(error).__name__}: {error}")


def _warned(said: Sequence[warnings.WarningMessage]) -> list[Remark]:
    """What Pillow complained of, once each; its own pixel limit is not ours."""
    silent = (ResourceWarning, Image.DecompressionBombWarning, DeprecationWarning)
    texts = [str(warning.message) for warning in said if not issubclass(warning.category, silent)]
    return [Remark("warning", text) for text in dict.fromkeys(texts)]
