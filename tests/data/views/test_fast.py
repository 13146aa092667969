"""The fast backend's pixels against the reference's for equal plans, and files that libjpeg-turbo refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deitkit.data.draws import uniforms
from deitkit.data.views import augment, fast
from deitkit.data.views.augment import AS_IT_LIES, Reading, open_image
from deitkit.data.views.backends import backend_of
from deitkit.data.views.operations import COLOURS, MOVES
from deitkit.data.views.plan import OPERATIONS, Plan, draw_plans
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Augment
from tests.data.views.test_augment import FILL, encoded, picture

# Operations whose pixels are the reference's own; those of the others differ by at most one level.
EXACT = {
    "AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "PosterizeOriginal", "SolarizeIncreasing",
    "Solarize", "SolarizeAdd", "ContrastIncreasing", "Contrast", "BrightnessIncreasing",
}  # fmt: skip


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    """In dB."""
    error = np.mean((found.astype(float) - expected) ** 2)
    return 10 * np.log10(255**2 / error) if error else np.inf


def arguments(name: str) -> list[float | int | None]:
    """From hardly any effect to nearly the strongest, in both directions; none that ends a row on a pixel's edge."""
    operation = next(each for each in OPERATIONS if each.name == name)
    if operation.argument is None:
        return [None]
    levels = np.linspace(0.0031, 0.9937, 7)
    drawn = [operation.argument(levels, np.full(7, sign)) for sign in (-1.0, 1.0)]
    return [int(value) if operation.is_integer else float(value) for value in np.unique(np.concatenate(drawn))]


def by_both(image: Image.Image, name: str, argument: float | int | None) -> tuple[np.ndarray, np.ndarray]:
    plan = Plan(
        (0, 0, image.height, image.width), flip=False, operations=((name, argument),), erase=(0,) * 4, noise_key=0
    )
    size = (image.height, image.width)
    found = fast.make_view(np.array(image), plan, size=size, interpolation="bicubic", fill=FILL)
    return found, augment.make_view(image, plan, size=size, interpolation="bicubic", fill=FILL)


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (60, 33), (1, 7), (5, 1)])
def test_an_operation_is_the_references_or_one_level_off(name, height, width):
    for argument in arguments(name):
        found, expected = by_both(picture(height, width), name, argument)
        off = np.abs(found.astype(int) - expected)
        assert off.max() <= (0 if name in EXACT else 1), argument
        if height * width > 1000:
            assert psnr(found, expected) >= 60, argument  # fewer than one value in fifteen is off


def test_every_operation_but_rotation_has_a_fast_form():
    names = {operation.name for operation in OPERATIONS}
    assert names - set(COLOURS) - set(MOVES) == {"Rotate"}


@pytest.mark.parametrize("image", [Image.new("RGB", (9, 9), "gray"), picture(40, 40).point(lambda value: value // 9)])
def test_pictures_of_few_levels(image):
    for name in ("AutoContrast", "Equalize", "ContrastIncreasing"):
        found, expected = by_both(image, name, None if name[0] != "C" else 1.7)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_views_are_nearly_the_references(interpolation):
    image, count = picture(90, 120), 200
    plans = draw_plans(
        Augment(erasing=0.0), (48, 40), np.full(count, 90), np.full(count, 120), seed=0, epoch=0,
        images=np.arange(count), repeat=0,
    )  # fmt: skip
    ratios = []
    for index in range(count):
        settings = {"size": (48, 40), "interpolation": interpolation, "fill": FILL}
        expected = augment.make_view(image, plans[index], **settings)
        found = fast.make_view(np.array(image), plans[index], **settings)
        assert (found.shape, found.dtype) == ((3, 48, 40), np.uint8)
        ratios.append(psnr(found, expected))
    assert np.median(ratios) > 55
    assert np.mean(np.array(ratios) < 35) < 0.05  # thresholds turn roundings into jumps, and equalising widens them


@pytest.mark.parametrize("size", [(24, 24), (96, 96), (24, 48), (33, 32)])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (61, 47), (3, 200), (33, 32)])
def test_evaluation_views_are_nearly_the_references(height, width, size):
    image = picture(height, width)
    expected = augment.evaluation_view(image, size, 0.875, "bicubic")
    found = fast.evaluation_view(np.array(image), size, 0.875, "bicubic")
    assert found.shape == expected.shape
    assert psnr(found, expected) > 50


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("reading", [AS_IT_LIES, Reading(exif_orientation=True)])
@pytest.mark.parametrize("tag", [1, 6])
def test_a_jpeg_has_pillows_pixels(tmp_path, mode, reading, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    picture(41, 60).convert(mode).save(tmp_path / "x.jpg", quality=80, exif=exif)
    content = (tmp_path / "x.jpg").read_bytes()
    expected = np.asarray(augment.load_rgb(open_image(content, "x", reading), "x", reading))
    assert np.array_equal(fast.load_rgb(open_image(content, "x", reading), "x", reading), expected)


def test_what_libjpeg_refuses_pillow_reads_or_names():
    whole, read = bytearray(encoded(picture(), "JPEG")), 0
    spots = (uniforms(0, 0, 0, np.arange(60), lanes=1)[:, 0] * (len(whole) - 620)).astype(int) + 620
    for spot in spots:
        damaged = bytes(whole[:spot]) + b"\x5a" + bytes(whole[spot + 1 :])
        found: list[object] = []
        for backend in ("pil", "fast"):
            try:
                loaded = backend_of(backend).load_rgb(open_image(damaged, "x"), "x", AS_IT_LIES)
                found.append(np.asarray(loaded).tobytes())
            except DeitkitError as error:
                found.append(str(error))
        assert found[0] == found[1]
        read += isinstance(found[0], bytes)
    assert read > 0
    for end in (len(whole) - 2, len(whole) // 2):
        with pytest.raises(DeitkitError, match="x"):
            fast.load_rgb(open_image(bytes(whole[:end]), "x"), "x", AS_IT_LIES)


def test_other_kinds_of_files_are_pillows():
    for kind in ("PNG", "WEBP", "GIF"):
        content = encoded(picture(), kind)
        expected = np.asarray(augment.load_rgb(open_image(content, "x"), "x"))
        assert np.array_equal(fast.load_rgb(open_image(content, "x"), "x", AS_IT_LIES), expected)


def test_real_photographs_are_decoded_alike(shared_data):
    files = sorted((shared_data / "imagenet" / "sample200").rglob("*.JPEG"))[::20]
    assert files
    for path in files:
        expected = augment.load_rgb(open_image(path.read_bytes(), path.name), path.name)
        found = fast.load_rgb(open_image(path.read_bytes(), path.name), path.name, AS_IT_LIES)
        assert np.array_equal(found, expected), path
        views = [
            backend.evaluation_view(image, (224, 224), 0.875, "bicubic")
            for backend, image in ((fast, found), (augment, expected))
        ]
        assert psnr(*views) > 50, path


def test_a_broken_orientation_tag_is_told_by_name(monkeypatch):
    def broken(self: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    reading = Reading(exif_orientation=True, backend="fast")
    with pytest.raises(DeitkitError, match="cannot read image x: not a TIFF file"):
        fast.load_rgb(open_image(encoded(picture(), "JPEG"), "x"), "x", reading)
