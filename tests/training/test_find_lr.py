"""The range test: where a known curve falls most steeply, and that trying leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deitkit.cli.app import run
from deitkit.cli.find_lr import bars
from deitkit.recipe.schema import Recipe
from deitkit.training.find_lr import find_rate, judge
from tests.training.test_fit import tiny
from tests.training.test_own import a_run, images

RATES = np.geomspace(1e-7, 1.0, 100).tolist()


def falling(*, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses of a sigmoid fall around 1e-4 and a rise from 1e-2 on, over batches of unlike difficulty."""
    log = np.log10(RATES)
    change = -1.0 / (1 + np.exp(-4 * (log + 4))) + np.where(log > -2, (log + 2) ** 2, 0.0)
    difficulty = 2.0 + noise * np.random.default_rng(0).standard_normal(len(RATES))
    return difficulty + change, difficulty


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_suggestion_is_where_the_loss_falls_most_steeply_however_unlike_the_batches(noise: float) -> None:
    spec = tiny(optim={"lr": 1.0, "lr_scaling": "batch/512"}, stream={"batch_size": 192})
    found = judge(RATES, *falling(noise=noise), spec, diverged=False)
    assert found.steepest == pytest.approx(1e-4, rel=0.5)
    assert found.lowest == pytest.approx(1e-2, rel=1.0)
    assert found.lr == pytest.approx(found.steepest / (192 / 512), rel=0.05)  # as the recipe counts it


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    flat = np.full(100, 2.0)
    found = judge(RATES, flat + np.linspace(0, 1, 100), flat, tiny(), diverged=False)
    assert (found.lr, found.steepest, found.lowest) == (None, None, None)


def test_a_real_test_falls_before_it_rises() -> None:
    spec: Recipe = tiny(
        stream={"repeats": 1, "batch_size": 64, "mix_group": 16}, train={"accumulation": 1}, mix={"prob": 0.0},
        augment={"policy": None, "erasing": 0.0, "crop_scale": (0.6, 1.0)}, loss={"second_token": "teacher"},
        model={"name": "timm:resnet10t", "distilled": False, "options": {"channels": [8, 8, 16, 16], "stem_width": 8}},
    )  # fmt: skip
    found = find_rate(spec, device=torch.device("cpu"), workers=0, steps=50)
    assert found.steepest is not None
    assert found.lowest is not None
    assert 1e-6 < found.steepest <= found.lowest < 1.0
    assert found.smoothed[-1] > min(found.smoothed) < found.smoothed[0]


def test_a_bar_is_as_high_as_its_value() -> None:
    assert bars([0, 7, 15], height=2) == ["  █", "▁██"]
    assert bars([0, 7, 15], height=2, unicode=False) == ["  #", "###"]
    assert bars([1.0, 1.0], height=1) == ["▁▁"]


def test_the_verb_suggests_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, start = images(tmp_path / "data", 20), a_run(tmp_path / "start", image_size=16)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deitkit.training.find_lr.STEPS", 15)
    before = sorted(tmp_path.rglob("*"))
    words = ["finetune", "--data", str(data), "--from", str(start), "--find-lr", "-j", "0", "--device", "cpu", "--json"]
    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["range_test"]["rates"]) == len(found["range_test"]["smoothed"]) == 15
    assert sorted(tmp_path.rglob("*")) == before
