"""`deitkit data preview`: files, their pixels, and what cannot be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.data.views.loader import TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.recipe.load import load_recipe

Capture = pytest.CaptureFixture[str]


def answer(capsys: Capture, *words: object) -> Any:
    """What `deitkit data preview WORDS --json` prints."""
    assert run(["data", "preview", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: Capture, *words: str) -> str:
    assert run(["data", "preview", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["images", "views", "mixes"])
def test_a_sheet_of_every_kind_is_a_png(capsys: Capture, tmp_path: Path, kind: str) -> None:
    words = ["digits", "--kind", kind, "--count", "2", "--set", "model.image_size=32"]
    found = answer(capsys, *words)
    assert found == {
        "file": f"preview-digits-{kind}.png", "kind": kind, "recipe": "finetune/own", "seed": 0, "epoch": 0
    }  # fmt: skip
    with Image.open(tmp_path / found["file"]) as sheet:
        assert sheet.format == "PNG"
    assert "exists" in refusal(capsys, *words)
    assert run(["data", "preview", *words, "--overwrite", "--seed", "1"]) == 0
    assert "seed 1, epoch 0; wrote" in capsys.readouterr().err


def test_a_generic_recipe_is_fitted_to_the_images(capsys: Capture, tmp_path: Path) -> None:
    for index in range(12):
        path = tmp_path / "few" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (20 * index, 0, 0)).save(path)
    assert answer(capsys, "few", "--kind", "mixes", "--set", "model.image_size=32")["recipe"] == "finetune/own"


def test_the_pixels_of_a_sheet_of_mixes_are_those_of_training(capsys: Capture, tmp_path: Path) -> None:
    sets = [
        "stream.batch_size=32", "stream.mix_group=8", "stream.repeats=1", "model.image_size=96", "train.seed=5",
        "augment.erasing=0.0",
    ]  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    answer(
        capsys, "digits", "--kind", "mixes", "-r", "pretrain/deit_tiny", "--count", 1, "--epoch", 3,
        "-o", "sub/sheet.png", *words,
    )  # fmt: skip
    changes = {"data.dataset": "digits", "stream.batch_size": 32, "stream.mix_group": 8, "stream.repeats": 1}
    changes |= {"model.image_size": 96, "train.seed": 5, "augment.erasing": 0.0}
    recipe = load_recipe("pretrain/deit_tiny", changes)
    source = open_source(recipe.data, "train")
    shape = plan_stream(len(source), recipe.stream, mixing=True)
    step = 3 * shape.steps_per_epoch
    ((batch,),) = TrainLoader(source, recipe, shape).steps(step, step + 1)
    mean, std = (np.array(values)[:, None, None] for values in (recipe.data.mean, recipe.data.std))
    sheet = np.asarray(Image.open(tmp_path / "sub/sheet.png")).astype(float)
    for place in range(8):
        seen = 255 * (batch.images[place].numpy() * std + mean)
        left, top = 8 + place * 104, 31
        drawn = sheet[top : top + 96, left : left + 96].transpose(2, 0, 1)
        assert np.abs(drawn - seen.clip(0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--kind", "mixed"], "Did you mean mixes?"),
        (["digits", "-o", "sheet.jpg"], "no .png file"),
        (
            ["digits", "--kind", "mixes", "-r", "pretrain/deit_tiny", "--set", "stream.batch_size=4096"],
            "fewer than one",
        ),
        (["digits", "-r", "pretrain/deit_tinny"], "Did you mean pretrain/deit_tiny?"),
        (["digits", "--set", "mix.probb=1"], "mix.probb: unknown key"),
    ],
)
def test_what_cannot_be_drawn_is_said(capsys: Capture, words: list[str], message: str) -> None:
    assert message in refusal(capsys, *words)
    assert not list(Path().glob("*.png"))
