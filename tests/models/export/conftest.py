"""Tiny models to export, with weights far enough from their start that every tensor matters."""

from __future__ import annotations

import pytest
import torch

from deitkit.models.export.check import Samples
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

NAMES = ("ant", "bee", "cat", "dog")
SIZE = (16, 16)


def tiny(*, distilled: bool) -> LoadedModel:
    torch.manual_seed(1)
    shape = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=shape), len(NAMES))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    info = ModelInfo.of(Data(dataset="folder", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)), SIZE, NAMES)
    return LoadedModel(student.eval(), info, "tiny")


@pytest.fixture(scope="session")
def distilled() -> LoadedModel:
    return tiny(distilled=True)


@pytest.fixture(scope="session")
def plain() -> LoadedModel:
    return tiny(distilled=False)


@pytest.fixture(scope="session")
def samples() -> Samples:
    return Samples(torch.randn(5, 3, *SIZE, generator=torch.Generator().manual_seed(2)), (), "5 images of noise")
