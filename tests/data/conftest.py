"""Recipes and image folders for the tests of the data package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.recipe.schema import Data, Model, Recipe, Stream, Train


@pytest.fixture
def digits_recipe() -> Callable[..., Recipe]:
    """A recipe of the quickstart's size on digits; tables can be replaced."""

    def build(*, batch_size: int = 32, repeats: int = 3, mix_group: int | None = 4, seed: int = 7, **tables) -> Recipe:
        tables = {
            "model": Model(name="deit_nano", image_size=16),
            "data": Data(dataset="digits"),
            "stream": Stream(batch_size=batch_size, repeats=repeats, mix_group=mix_group),
            "train": Train(seed=seed),
        } | tables
        return Recipe(**tables)

    return build


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes images: `{"train/cat": 3}` makes three of different sizes in that folder."""

    def build(folders: dict[str, int], *, suffix: str = ".png") -> Path:
        root = tmp_path / "images"
        root.mkdir(exist_ok=True)
        generator = np.random.default_rng(0)
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = generator.integers(0, 256, size=(20 + index, 30 - index % 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{index:03d}{suffix}")
        return root

    return build
