"""The handwritten digits as a student's recipe sees them, and its teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deitkit.data.open import Source, open_source
from deitkit.preflight import Findings, Verdict, check, judge, open_subject
from deitkit.preflight.check import Extent
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Recipe

TEACHERS = Path(__file__).with_name("digit_teachers.py")
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def digits() -> tuple[Source, Source]:
    """Training and held-out images."""
    data = recipe_with("right").data
    return open_source(data, "train"), open_source(data, "val")


@pytest.fixture(scope="session")
def put_to_the_test(digits: tuple[Source, Source]) -> Callable[..., tuple[Findings, Verdict]]:
    """The name of a function of digit_teachers -> what is found, and the verdict."""

    def run(teacher: str, **options: object) -> tuple[Findings, Verdict]:
        changes = options.pop("changes", {})
        recipe = recipe_with(teacher, **changes)  # type: ignore[arg-type]
        train, held_out = digits
        found = check(
            open_subject(recipe, held_out.class_names, device=CPU), recipe, train=train, held_out=held_out, device=CPU,
            extent=Extent(images=0, views=64), **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return found, judge(found)

    return run


def recipe_with(teacher: str, **changes: object) -> Recipe:
    """quickstart/student with a function of digit_teachers as its teacher."""
    return load_recipe(
        "quickstart/student", {"teacher.model": f"{TEACHERS}:{teacher}", **changes}, origin="test"
    )  # fmt: skip
