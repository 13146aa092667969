"""Throughput of architectures against timm's own figures of them and the paper's table."""

from __future__ import annotations

import json

import pytest
import timm

from deitkit.cli.app import run
from deitkit.speed.throughput import IN_THE_PAPER, published

Capture = pytest.CaptureFixture[str]
FAST = ("--seconds", "0.05", "--device", "cpu", "--batch-size", "2")


def test_architectures_are_measured_at_each_size_and_precision(capsys: Capture) -> None:
    words = ("deit_nano", "timm:resnet10t", "--sizes", "32,64", "--amp", "fp32,bf16", *FAST, "--json")
    assert run(["benchmark", "throughput", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["model"], row["size"][0], row["precision"]): row for row in found["models"]}
    assert len(rows) == 2 * 2 * 2
    network = timm.create_model("resnet10t")
    for row in rows.values():
        assert row["speed"]["images_per_s"] > 0 and row["speed"]["batch_size"] == 2 and not row["compiled"]
    small, large = (rows["timm:resnet10t", size, "fp32"] for size in (32, 64))
    assert small["parameters"] == sum(each.numel() for each in network.parameters())
    assert large["macs"] == pytest.approx(4 * small["macs"], rel=0.02)  # convolutions go with the pixels


@pytest.mark.parametrize(
    ("name", "size", "images_per_s"),
    [
        ("deit_tiny", 224, 2536.5), ("deit_base", 384, 85.87), ("timm:regnety_160.deit_in1k", 224, 334.7),
        ("timm:deit_small_distilled_patch16_224", 224, 936.2), ("deit_base", 320, 134.13), ("timm:resnet50", 192, None),
        ("deit_nano", 32, None), ("timm:efficientnet_b4", 380, 349.4),
    ],
)  # fmt: skip
def test_the_papers_number_stands_beside_its_model_at_its_size_alone(
    name: str, size: int, images_per_s: float | None
) -> None:
    assert published(name, (size, size)) == images_per_s


def test_every_name_of_the_papers_models_is_one_of_timms() -> None:
    made_by_384 = {name for name in IN_THE_PAPER if name.endswith("384") and name not in timm.list_models()}
    assert set(IN_THE_PAPER) - made_by_384 <= set(timm.list_models())


def test_an_architecture_that_does_not_exist_or_fit_is_refused(capsys: Capture) -> None:
    assert run(["benchmark", "throughput", "timm:resnet10000", *FAST]) == 2
    assert "resnet10000" in capsys.readouterr().err
    assert run(["benchmark", "throughput", "deit_tiny", "--sizes", "8", *FAST]) == 2
    assert "cannot run at 8x8 px" in capsys.readouterr().err
    assert run(["benchmark", "throughput", "deit_tiny", "--sizes", "big", *FAST]) == 2
    assert "big" in capsys.readouterr().err
