"""Views as a teacher wants them: pixels come out as its own framework would have made them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deitkit.teachers.facts import ONES, ZEROS, Input, Triple
from deitkit.teachers.views import Adapter, adaptations

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def adapted(pixels: Tensor, wanted: Input) -> Tensor:
    """Pixels of 0..255 as the student sees them, and then as the teacher does."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    answer: Tensor = Adapter(wanted, mean=MEAN, std=STD)((pixels / 255 - mean) / std)
    return answer


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (2, 3, 20, 30)).float()


def test_nothing_is_done_where_nothing_differs() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert Adapter(Input(mean=MEAN, std=STD), mean=MEAN, std=STD)(images) is images
    assert not adaptations(Input(mean=MEAN, std=STD), mean=MEAN, std=STD, size=(8, 8))


def test_integer_pixels_come_back_exactly(pixels: Tensor) -> None:
    wanted = Input(mean=ZEROS, std=ONES, values="0..255", integer=True)
    assert torch.equal(adapted(pixels, wanted), pixels.to(torch.uint8))


def test_caffes_reversed_pixels_minus_its_mean(pixels: Tensor) -> None:
    mean: Triple = (104.0, 117.0, 123.0)
    expected = pixels.flip(1) - torch.tensor(mean).view(1, 3, 1, 1)
    wanted = Input(mean=mean, std=ONES, channels="bgr", values="0..255")
    torch.testing.assert_close(adapted(pixels, wanted), expected, rtol=0, atol=1e-3)


def test_grey_is_pillows(pixels: Tensor) -> None:
    wanted = Input(mean=ZEROS, std=ONES, channels="grey", values="0..255", integer=True)
    for image, grey in zip(pixels, adapted(pixels, wanted), strict=True):
        array = image.permute(1, 2, 0).to(torch.uint8).numpy()
        pillows = np.asarray(Image.fromarray(array).convert("L")).astype(int)
        assert np.abs(grey[0].numpy().astype(int) - pillows).max() <= 1


@pytest.mark.parametrize("size", [(10, 12), (50, 40), (40, 15)], ids=["smaller", "larger", "both"])
def test_resizing_is_pillows_bicubic(pixels: Tensor, size: tuple[int, int]) -> None:
    pixels = (pixels / 4 + 96).round()  # neither black nor white: Pillow clips between its two passes
    wanted = Input(size=size, mean=ZEROS, std=ONES, values="0..255", integer=True)
    for image, resized in zip(pixels, adapted(pixels, wanted), strict=True):
        array = image.permute(1, 2, 0).to(torch.uint8).numpy()
        pillows = np.asarray(Image.fromarray(array).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(resized.permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


def test_everything_that_is_done_is_said() -> None:
    wanted = Input(size=(24, 24), mean=ZEROS, std=ONES, channels="bgr", values="0..255", integer=True)
    said = " ".join(adaptations(wanted, mean=MEAN, std=STD, size=(32, 32)))
    for word in ("normalised", "from 32x32 to 24x24", "BGR", "uint8"):
        assert word in said
