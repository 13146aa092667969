"""Pixels against torchvision and timm for equal arguments, and broken images."""

from __future__ import annotations

import csv
import io
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data.auto_augment import NAME_TO_OP, AugmentOp
from torchvision.transforms import functional as F
from torchvision.transforms import v2

from deitkit.data.views.augment import apply_operation, decode, erasing_noise, evaluation_view, make_view
from deitkit.data.views.plan import OPERATIONS, Plan, draw_plans
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Augment
from tests.data.significance import assert_plausible

FILL = (124, 116, 104)
RESAMPLE = Image.Resampling.BICUBIC


def picture(height: int = 45, width: int = 60) -> Image.Image:
    """A photograph's smoothness with some noise: operations on pure noise would hide mistakes."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 7 + channel) * np.cos(columns / 9 - channel) for channel in range(3)]
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(waves, -1) * 90 + 128 + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_views_are_timms_for_equal_arguments(interpolation):
    image, count = picture(), 300
    plans = draw_plans(
        Augment(erasing=0.0), (24, 32), np.full(count, 45), np.full(count, 60),
        seed=0, epoch=0, images=np.arange(count), repeat=0,
    )  # fmt: skip
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    mode = {"bicubic": v2.InterpolationMode.BICUBIC, "bilinear": v2.InterpolationMode.BILINEAR}[interpolation]
    for index in range(count):
        plan = plans[index]
        expected = F.resized_crop(image, *plan.crop, [24, 32], mode)
        if plan.flip:
            expected = F.hflip(expected)
        for name, argument in plan.operations:
            if name == "PosterizeIncreasing" and argument == 0:
                expected = Image.new("RGB", expected.size)
                continue
            arguments = () if argument is None else (argument,)
            expected = NAME_TO_OP[name](expected, *arguments, fillcolor=FILL, resample=resample)
        view = make_view(image, plan, size=(24, 32), interpolation=interpolation, fill=FILL)
        assert np.array_equal(view, np.asarray(expected).transpose(2, 0, 1)), plan


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_does_what_timms_transform_does(operation, monkeypatch):
    image = picture()
    for magnitude, draw in ((0.0, 0.2), (3.7, 0.8), (9.0, 0.2), (9.9, 0.8)):
        hparams = {"img_mean": FILL, "interpolation": RESAMPLE}
        monkeypatch.setattr(random, "random", lambda value=draw: value)
        expected = AugmentOp(operation.name, prob=1.0, magnitude=magnitude, hparams=hparams)(image)
        argument = None
        if operation.argument is not None:
            argument = operation.argument(np.array([magnitude / 10]), np.array([1.0 if draw < 0.5 else -1.0]))[0]
            argument = int(argument) if operation.is_integer else argument
        found = apply_operation(image, operation.name, argument, fill=FILL, resample=RESAMPLE)
        assert np.array_equal(np.asarray(found), np.asarray(expected)), magnitude


def test_posterizing_to_no_bits_is_black():
    for name in ("PosterizeIncreasing", "PosterizeOriginal"):
        black = apply_operation(picture(), name, 0, fill=FILL, resample=RESAMPLE)
        assert not np.asarray(black).any()
    assert black.size == (60, 45)


def test_erasing_noise_is_standard_normal_and_keyed():
    plan = Plan((0, 0, 1, 1), flip=False, operations=(), erase=(1, 2, 60, 70), noise_key=2**63 + 5)
    noise = erasing_noise(plan)
    assert (noise.shape, noise.dtype) == ((3, 60, 70), np.float32)
    assert np.array_equal(noise, erasing_noise(plan))
    other = erasing_noise(Plan((0, 0, 1, 1), flip=False, operations=(), erase=(1, 2, 60, 70), noise_key=5))
    assert_plausible(
        {
            "normal": stats.kstest(noise.ravel(), "norm").pvalue,
            "keys": stats.pearsonr(noise.ravel(), other.ravel()).pvalue,
            "channels": stats.pearsonr(noise[0].ravel(), noise[1].ravel()).pvalue,
        }
    )


@pytest.mark.parametrize("ratio", [0.875, 0.9, 1.0])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (61, 47), (8, 8), (3, 200), (33, 32), (256, 255)])
@pytest.mark.parametrize("size", [24, 32, 96])
def test_an_evaluation_view_is_torchvisions(height, width, size, ratio):
    image = picture(height, width)
    resized = F.resize(image, [math.floor(size / ratio)], v2.InterpolationMode.BICUBIC)
    expected = np.asarray(F.center_crop(resized, [size, size])).transpose(2, 0, 1)
    assert np.array_equal(evaluation_view(image, (size, size), ratio, "bicubic"), expected)


@pytest.mark.parametrize("size", [(24, 48), (48, 24), (30, 32)])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (61, 47), (8, 8), (3, 200), (200, 3)])
def test_an_oblong_evaluation_view_is_filled_by_the_image(height, width, size):
    white = Image.new("RGB", (width, height), "white")
    view = evaluation_view(white, size, 0.875, "bilinear")
    assert view.shape == (3, *size)
    assert view.min() == 255


def test_broken_images_are_refused_by_name():
    whole = encoded(picture(), "JPEG")
    for data, reason in (
        (b"", "the file is empty"),
        (b"just some text", "not an image"),
        (whole[: len(whole) // 2], "[Tt]runcated"),
        (encoded(picture())[:-60], ""),
    ):
        with pytest.raises(DeitkitError, match=rf"cannot read image cats/tom\.jpg: .*{reason}"):
            decode(data, "cats/tom.jpg")


def test_sixteen_bits_of_grey_become_eight():
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    pixels = np.asarray(decode(encoded(Image.fromarray(ramp)), "x.png"))
    assert np.array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = decode(encoded(picture().convert(mode), kind), "x")
    assert (image.mode, image.size) == ("RGB", (60, 45))


def test_the_broken_collection_is_read_or_refused_as_expected(shared_data):
    folder = shared_data / "broken"
    with (folder / "expected.csv").open() as file:
        rows = list(csv.DictReader(file))
    refused = 0
    for row in rows:
        data = (folder / row["file"]).read_bytes()
        if row["pillow_convert_RGB"].startswith("decodes"):
            if row["file"].startswith("huge"):
                continue  # 120 megapixels
            image = decode(data, row["file"])
            mean = float(row["pillow_convert_RGB"].rpartition(" ")[2])
            if row["file"] != "gray16.png":  # whose mean of 255 is Pillow's clipping
                assert np.asarray(image).mean() == pytest.approx(mean, abs=0.051)
        else:
            refused += 1
            with pytest.raises(DeitkitError, match=row["file"]):
                decode(data, row["file"])
    assert refused == 9
    assert 50 < np.asarray(decode((folder / "gray16.png").read_bytes(), "gray16.png")).mean() < 200


def test_views_of_every_readable_shape_have_the_asked_size(shared_data):
    for name in ("extreme_aspect_2000x3.jpg", "tiny_1x1.jpg", "cmyk.jpg", "animated_gif.jpg", "rgba.png"):
        image = decode((shared_data / "broken" / name).read_bytes(), name)
        plans = draw_plans(
            Augment(), (32, 32), [image.height] * 20, [image.width] * 20,
            seed=0, epoch=0, images=np.arange(20), repeat=0,
        )  # fmt: skip
        for index in range(20):
            view = make_view(image, plans[index], size=(32, 32), interpolation="bicubic", fill=FILL)
            assert (view.shape, view.dtype) == ((3, 32, 32), np.uint8)
        assert torch.from_numpy(evaluation_view(image, (32, 32), 0.875, "bicubic")).shape == (3, 32, 32)
