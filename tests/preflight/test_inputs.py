"""Other ways of giving pixels, against the teachers' own adapter."""

from __future__ import annotations

import pytest
import torch

from deitkit.catalog import IMAGENET_MEAN, IMAGENET_STD
from deitkit.preflight.inputs import Way, other_ways, shown_as
from deitkit.teachers.facts import Input
from deitkit.teachers.views import Adapter

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PLAIN = Input()
CAFFE = Input(None, (103.5, 116.3, 123.7), (1.0, 1.0, 1.0), "bgr", "0..255")
IMAGES = torch.randn((4, 3, 6, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("now", [PLAIN, CAFFE, Input(None, MEAN, STD, "grey")], ids=["plain", "caffe", "grey"])
def test_a_network_is_given_what_the_other_way_would_give(now: Input) -> None:
    ways = other_ways(now, mean=MEAN, std=STD)
    assert len(ways) >= 5
    for way in ways:
        shown = shown_as(IMAGES, way, now=now, mean=MEAN, std=STD)
        given = Adapter(now, mean=MEAN, std=STD)(shown)
        wanted = Adapter(way.input, mean=MEAN, std=STD)(IMAGES)
        assert torch.allclose(given, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())), way.name


def test_the_way_as_it_is_is_not_tried_again() -> None:
    names = [way.name for way in other_ways(PLAIN, mean=IMAGENET_MEAN, std=IMAGENET_STD)]
    assert "ImageNet's mean and std" not in names and "the data's mean and std" not in names
    assert names[0] == "BGR instead of RGB"


def test_the_same_numbers_in_another_scale_are_the_same_way() -> None:
    scaled = Input(None, tuple(255 * m for m in IMAGENET_MEAN), tuple(255 * s for s in IMAGENET_STD), "rgb", "0..255")  # type: ignore[arg-type]
    names = [way.name for way in other_ways(scaled, mean=MEAN, std=STD)]
    assert "ImageNet's mean and std" not in names


def test_a_network_of_whole_numbers_normalises_for_itself() -> None:
    assert other_ways(Input(None, values="0..255", integer=True), mean=MEAN, std=STD) == []


def test_settings_name_what_differs_alone() -> None:
    reversed_, *_ = other_ways(Input(None, (0.5,) * 3, (0.5,) * 3), mean=MEAN, std=STD)
    assert reversed_.settings(Input(None, (0.5,) * 3, (0.5,) * 3)) == ("teacher.channels=bgr",)
    way = Way("", Input(None, (0.0,) * 3, (1.0,) * 3, "rgb", "0..255"))
    assert way.settings(PLAIN) == (
        "'teacher.mean=[0, 0, 0]'", "'teacher.std=[1, 1, 1]'", "teacher.input=0..255"
    )  # fmt: skip
