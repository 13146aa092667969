"""The guided start: three questions, a recipe that explains itself, and a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run
from deitkit.training.suggest import suggest
from tests.cli.terminal import Terminal


@pytest.mark.parametrize("convnet", [False, True])
def test_a_suggested_recipe_loads_and_says_why(convnet: bool, tmp_path: Path) -> None:
    text = suggest("pretrain", Data(dataset="digits", crop_ratio=1.0), minutes=1, convnet=convnet, device="cpu")
    (tmp_path / "mine.toml").write_text(text)
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert recipe.train.epochs >= 2
    assert "measured here" in recipe.origin("train.epochs")
    assert all(recipe.origin(key).startswith("ours") for key in ("model.name", "stream.batch_size", "optim.lr"))


@pytest.mark.slow
def test_deitkit_alone_on_a_terminal_asks_writes_a_recipe_and_runs_it(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.expect("Where are your images?")
    terminal.answer("nowhere")
    terminal.expect("does not exist")
    terminal.expect("Where are your images?")
    terminal.answer("digits")
    terminal.expect("1,437 training images of 10 classes")
    terminal.expect("What do you want?")
    terminal.answer("2")
    terminal.expect("teacher already?")
    terminal.answer("n")
    terminal.expect("How many minutes")
    terminal.answer("0.2")
    terminal.expect("Top-1 of runs/my_recipe", seconds=240)
    assert terminal.process.wait(timeout=30) == 0
    assert (tmp_path / "my_recipe.toml").is_file()
    student = Run.open(tmp_path / "runs" / "my_recipe")
    assert (student.result() or {})["top1"].keys() == {"class", "distillation", "fused"}
