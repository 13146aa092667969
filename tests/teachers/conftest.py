"""Teachers of every kind, tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import Student, build_student
from deitkit.recipe.load import validate
from deitkit.recipe.schema import Data, Model, Recipe

NAMES = tuple("0123456789")
OWN = Data(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

WriteFactory = Callable[[str], str]


def recipe(teacher: object, *, data: dict[str, Any] | None = None, **keys: Any) -> Recipe:
    """A distillation on 32 px images; `keys` go into [teacher]."""
    values = {
        "model": {"name": "deit_nano", "distilled": True},
        "teacher": {"model": str(teacher) if isinstance(teacher, Path) else teacher, **keys},
        "data": {"dataset": "digits", **(data or {})},
    }
    return validate(values, name="test", origins={}, given=frozenset({"teacher.model"}))


def seen(pixels: Tensor, spec: Recipe) -> Tensor:
    """Pixels of 0..1 as the student sees them."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.data.mean, spec.data.std))
    return (pixels - mean) / std


@pytest.fixture
def convnet() -> Student:
    student = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10).train()
    student(torch.randn(8, 3, 32, 32))  # batch norms that know something
    return student.eval()


@pytest.fixture
def folder(convnet: Student, tmp_path: Path) -> Path:
    save_model(tmp_path / "teacher", convnet, ModelInfo.of(OWN, (32, 32), NAMES))
    return tmp_path / "teacher"


@pytest.fixture
def write_factory(tmp_path: Path) -> WriteFactory:
    """Source of a file with a function `make` -> its reference."""

    def write(source: str) -> str:
        path = tmp_path / "own_teacher.py"
        path.write_text("import torch\nfrom torch import nn\n\n" + source)
        return f"{path}:make"

    return write
