"""Round trips: what was exported, read back by its place alone, decides every image as its model does."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import deitkit
from deitkit.cli.app import run
from deitkit.errors import DeitkitError, is_installed
from deitkit.models.export.wanted import ENDINGS, FORMAT_NAMES, PACKAGES
from deitkit.models.folder import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.predictions.find import predictions_of
from deitkit.recipe.schema import Data, Model

TINY = {"embed_dim": 24, "depth": 1, "num_heads": 2}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def need_packages(to: str) -> None:
    for package in PACKAGES.get(to, ("", ()))[1]:  # type: ignore[call-overload]
        if not is_installed(package):
            pytest.skip(f"{package} is not installed")


def decisions(word: str, dataset: str, data: str = "") -> dict[str, NDArray[np.int64]]:
    (table,) = predictions_of([word], dataset=dataset, data=data, device="cpu")
    return {head: table.top1(head) for head in table.heads}


def assert_same(word: str, other: str, dataset: str, data: str = "") -> None:
    own, theirs = decisions(word, dataset, data), decisions(other, dataset, data)
    assert own.keys() == theirs.keys() and len(own) == 3
    for head, chosen in own.items():
        np.testing.assert_array_equal(theirs[head], chosen, err_msg=head)


@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_every_format_decides_the_digits_as_the_model_does(to: str) -> None:
    need_packages(to)
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True, options=TINY), 10, seed=5)
    save_model(Path("student"), student, ModelInfo.of(Data(dataset="digits"), (16, 16), tuple("0123456789")))
    done = deitkit.export("student", to)
    assert done.checked.images == 32 and done.checked.what == "32 images of digits/val"
    assert_same("student", str(done.path), "digits")


def test_without_images_it_is_checked_on_noise_and_wrong_ones_are_an_error() -> None:
    student = build_student(Model(name="deit_nano", image_size=16, options=TINY), 2)
    save_model(Path("student"), student, ModelInfo.of(Data(dataset="folder"), (16, 16), ("a", "b")))
    assert deitkit.export("student", "safetensors").checked.what == "32 images of noise"
    with pytest.raises(DeitkitError, match="does not know 10 of the data's 10 classes"):
        deitkit.export("student", "safetensors", dataset="digits", output="other.safetensors")
    assert not Path("other.safetensors").exists()


# Trained models, on all test images

SHORT = ["-j", "0", "--device", "cpu", "--set", "schedule.warmup_epochs=0"]


def trained(folder: Path, *words: str) -> str:
    """A student that learned from a teacher for a few epochs, with the data of these words; the place of its run."""
    teacher, student = str(folder / "teacher"), str(folder / "student")
    assert run(["pretrain", "-r", "quickstart/teacher", "-o", teacher, *SHORT, *words]) == 0
    taught = ["--teacher", teacher, "--set", "teacher.check=false"]
    assert run(["distill", "-r", "quickstart/student", *taught, "-o", student, *SHORT, *words]) == 0
    return student


@pytest.fixture(scope="module")
def quickstarts_student(tmp_path_factory: pytest.TempPathFactory) -> str:
    return trained(tmp_path_factory.mktemp("quickstart"), "--epochs", "3")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[str, str]:
    """A student of CIFAR-10, and a folder whose validation images are all 10,000 test images."""
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(shared_data / "cifar10" / "cifar10-test.tar.gz") as archive:
        archive.extractall(root, filter="data")
    (root / "all").mkdir()
    for split in ("train", "val"):
        (root / "all" / split).symlink_to(root / "test")
    size = ["--set", "model.image_size=32", "--epochs", "1"]
    return trained(root, "--data", str(root / "test"), *size), str(root / "all")


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_the_quickstarts_student_decides_its_test_images_alike(to: str, quickstarts_student: str) -> None:
    need_packages(to)
    done = deitkit.export(quickstarts_student, to, output=f"it{ENDINGS[to]}")  # type: ignore[index]
    assert_same(quickstarts_student, str(done.path), "digits")


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMAT_NAMES)
def test_a_model_of_cifar10_decides_its_10_000_test_images_alike(to: str, cifar: tuple[str, str]) -> None:
    need_packages(to)
    student, data = cifar
    (table,) = predictions_of([student], dataset="folder", data=data, device="cpu")
    assert len(table.ids) == 10_000
    done = deitkit.export(student, to, output=f"it{ENDINGS[to]}")  # type: ignore[index]
    assert_same(student, str(done.path), "folder", data)
