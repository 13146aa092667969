"""Runs made of files alone: nothing is trained."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from deitkit.predictions.table import Predictions, head_predictions
from deitkit.recipe.load import load_recipe, override
from deitkit.report import build_page
from deitkit.runs.folder import Run
from tests.report.reading import Reader, read

# What a careless page would take for markup.
NAMES = ('<script>alert("cat")</script>', "dog & 'puppy'", '"><img src=x onerror=alert(1)>', "owl")
HEADS = ("class", "distillation", "fused")
MakeRun = Callable[..., Run]


def predictions(
    classifier: str, folder: Path | None, heads: Sequence[str] = HEADS, *, images: int = 60,
    names: Sequence[str] = NAMES, seed: int = 0, **changes: Any,
) -> Predictions:  # fmt: skip
    """Random answers, right for about two thirds of the images, which lie in the folder."""
    labels = np.arange(images) % len(names)
    generator = np.random.default_rng(seed)
    logits = {head: generator.normal(size=(images, len(names))) + 2 * np.eye(len(names))[labels] for head in heads}
    tables = {head: np.exp(values) / np.exp(values).sum(1, keepdims=True) for head, values in logits.items()}
    ids = [f"val/{number:04d}.png" for number in range(images)]
    settings: dict[str, Any] = {"dataset": "folder", "split": "val", "fingerprint": "f00d", "class_names": tuple(names)}
    return Predictions(
        **settings | changes,
        classifier=classifier,
        ids=ids,
        labels=labels,
        heads={head: head_predictions(head, table) for head, table in tables.items()},
        paths=None if folder is None else [str(folder / name) for name in ids],
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 noisy images of 300 x 200 pixels, which compress badly."""
    folder, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    (folder / "val").mkdir()
    for number in range(60):
        noise = generator.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG", compress_level=1)
        (folder / f"val/{number:04d}.png").write_bytes(file.getvalue())
    return folder


def metrics(epochs: int) -> list[dict[str, Any]]:
    """What a training of that many epochs logs, with everything that a distillation watches."""
    lines: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        loss, good = 2.0 / epoch, 1 - 0.5 / epoch
        lines.append(
            {"step": 10 * epoch, "epoch": float(epoch), "lr": 1e-3 / epoch, "loss": loss, "loss_label": loss + 0.1,
             "loss_distillation": loss - 0.1, "grad_norm": 2.0, "images_per_s": 300.0, "data_wait_s": 0.5,
             "seconds": 10.0}
        )  # fmt: skip
        lines.append(
            {"step": 10 * epoch, "epoch": float(epoch), "top1": dict.fromkeys(HEADS, good), "teacher_top1": 0.9,
             "agreement": {"teacher": dict.fromkeys(HEADS, good), "heads": 0.8},
             "token_cosine": {"last_block": 0.9, "final_norm": 0.95}}
        )  # fmt: skip
    return lines


def build_run(
    root: Path, pictures: Path, name: str, *, heads: Sequence[str] = HEADS, finished: bool = True, epochs: int = 5,
    seed: int = 0, predicted: bool = True, teacher: str = "", settings: dict[str, Any] | None = None, **changes: Any,
) -> Run:  # fmt: skip
    """A run in `root`: a distilled student, or with `heads=("class",)` a teacher; parts may be left out."""
    given = {"data.dataset": "folder", "data.path": str(pictures), "train.epochs": 5, **(settings or {})}
    distilled = "distillation" in heads
    if distilled:
        given["teacher.model"] = teacher or str(root / "teacher")
    shipped = load_recipe("quickstart/student" if distilled else "quickstart/teacher")
    recipe = override(shipped, given, origin="command line")
    environment = {
        "command": ["deitkit", "distill", "--recipe", "quickstart/student", "-o", name], "python": "3.11.7",
        "versions": {"deitkit": "0.1.0", "torch": "2.8.0"}, "device": "cpu",
    }  # fmt: skip
    run = Run.create(root / name, recipe, environment=environment, overwrite=False)
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in metrics(epochs)))
    if finished:
        run.model.mkdir()
        (run.model / "config.json").write_text("{}")
        weights = {"a.weight": np.zeros((3, 4), np.float32), "bn.running_mean": np.zeros(7, np.float32)}
        save_file(weights, run.model / "model.safetensors")
        run.write_json("result.json", {"top1": dict.fromkeys(heads, 0.9), "images": 60, "seconds": 3725.0})
    if predicted and finished:
        table = predictions(name, pictures, heads, seed=seed, **changes)
        table.save(run.predictions / "folder-val.parquet")
    return run


@pytest.fixture
def make_run(tmp_path: Path, pictures: Path) -> MakeRun:
    """Builds runs in tmp_path."""
    return partial(build_run, tmp_path, pictures)


@pytest.fixture
def student(make_run: MakeRun) -> Run:
    """A distilled student, its teacher beside it."""
    make_run("teacher", heads=("class",), seed=1)
    return make_run("student")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Run:
    """A student beside its teacher, that no test changes."""
    root = tmp_path_factory.mktemp("runs")
    build_run(root, pictures, "teacher", heads=("class",), seed=1)
    return build_run(root, pictures, "student")


@pytest.fixture(scope="module")
def html(shown: Run) -> str:
    return build_page([shown.path]).html


@pytest.fixture(scope="module")
def page(html: str) -> Reader:
    return read(html)
