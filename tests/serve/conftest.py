"""A served model of random weights, and pictures for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.models.folder import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

CLASSES = ("ant", "bee", "cat")


def encoded(seed: int = 0, *, side: int = 20, kind: str = "PNG") -> bytes:
    """A picture of noise as a file's bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder with three classes and both heads."""
    folder = tmp_path_factory.mktemp("served") / "student"
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), len(CLASSES), seed=0)
    save_model(folder, student, ModelInfo.of(Data(dataset="folder", crop_ratio=1.0), (16, 16), CLASSES))
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(encoded(seed))
    return paths
