"""Made-up predictions of real image files, and FiftyOne with a MongoDB of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.errors import DeitkitError
from deitkit.explore import build_dataset, connect
from deitkit.predictions.table import Predictions, head_predictions

IMAGES, CLASSES = 24, 3

Build = Callable[..., Any]


@pytest.fixture(scope="session")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """fiftyone with a database of its own, or a skip that says why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("mongodb")))
        # A mongod that somebody runs already is shared, its databases are not.
        database = f"deitkit-tests-{os.getpid()}"
        patch.setenv("FIFTYONE_DATABASE_NAME", database)
        patch.setenv("FIFTYONE_DATABASE_VALIDATION", "false")
        try:
            package = connect()
        except DeitkitError as error:
            pytest.skip(str(error))
        yield package
        if package.config.database_name == database:
            package.core.odm.drop_database()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A dataset's name that no other test uses."""
    return f"test-{re.sub('[^a-z0-9]+', '-', request.node.nodeid.lower())}"[-90:]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"{number:02d}.png" for number in range(IMAGES)]
    for number, file in enumerate(files):
        Image.new("L", (32, 32), number * 10).save(file)
    return files


def predictions(classifier: str, *heads: str, seed: int, classes: int = CLASSES, logits: bool = False) -> Predictions:
    """Random answers to all images; logits on request, of which they are the softmax (but the fused)."""
    random = np.random.default_rng(seed)
    given = {}
    for head in heads:
        probabilities = random.dirichlet(np.ones(classes), IMAGES)
        own = logits and head != "fused"  # which has none of its own
        given[head] = head_predictions(head, probabilities, np.log(probabilities) if own else None)
    return Predictions(
        dataset="shades",
        split="val",
        fingerprint="f00d",
        classifier=classifier,
        class_names=("dark", "grey", "light")[:classes],
        ids=[f"shade/{number:02d}" for number in range(IMAGES)],
        labels=np.arange(IMAGES) % classes,
        heads=given,
    )


def student(seed: int = 1, **options: Any) -> Predictions:
    return predictions("student", "class", "distillation", "fused", seed=seed, **options)


def teacher(seed: int = 2, **options: Any) -> Predictions:
    return predictions("teacher", "class", seed=seed, **options)


def twin(seed: int = 3, **options: Any) -> Predictions:
    return predictions("twin", "class", seed=seed, **options)


@pytest.fixture(scope="session")
def shown(fiftyone: ModuleType, files: list[Path]) -> Any:
    """A dataset of a student, its teacher and a twin, to be read and not changed."""
    tables = (student(), teacher(), twin())
    return build_dataset(
        tables, "test-shown", image_of=lambda row: files[row], teacher="teacher", command="deitkit explore runs/student"
    )


@pytest.fixture
def build(fiftyone: ModuleType, files: list[Path], name: str) -> Build:
    """build_dataset of the given predictions under the test's name."""

    def built(*tables: Predictions, **options: Any) -> Any:
        return build_dataset(tables, name, **({"image_of": lambda row: files[row]} | options))

    return built
