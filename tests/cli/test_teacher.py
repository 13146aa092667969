"""`deitkit teacher check` through the command line's own function, on real images."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from deitkit.cli.app import run
from deitkit.cli.options import DataOptions
from deitkit.cli.teacher import by_size, resolve
from deitkit.errors import DeitkitError
from tests.preflight.conftest import TEACHERS

FAST = ["--views", "64", "--set", "stream.repeats=1", "--set", "model.name=deit_nano", "--device", "cpu"]
EXAMPLES = Path(__file__).parents[2] / "examples"


def checked(*words: str) -> int:
    return run(["teacher", "check", *words, *FAST])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first digits as compressed JPEGs of 32 px in folders, train and val."""
    root = tmp_path_factory.mktemp("digits")
    bundled = load_digits()
    for index in range(400):
        place = root / ("val" if index % 4 == 0 else "train") / str(bundled.target[index])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.round(bundled.images[index] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(pixels).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        image.save(place / f"{index}.jpg", quality=75, subsampling=2)
    return root


def test_a_good_teacher_is_shown_in_tables_with_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(f"{TEACHERS}:right", "--dataset", "digits") == 0
    shown = capsys.readouterr()
    assert "Fit to teach? YES" in shown.out
    for words in ("top-1", "calibration error (ECE)", "On the training views", "0 to 255, not normalised", "images/s"):
        assert words in shown.out
    assert "360 held-out images" in shown.err


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("shifted", "shifted by one"), ("random_head", "random head"), ("unnormalised", "--set teacher.input=0..255"),
        ("breaks", "NaN or infinity"),
    ],
)  # fmt: skip
def test_a_bad_teacher_ends_with_2_and_a_reason(teacher: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(f"{TEACHERS}:{teacher}", "--dataset", "digits") == 2
    shown = capsys.readouterr().out
    assert "Fit to teach? NO" in shown and words in shown


def test_json_and_the_file_say_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "check.json"
    assert checked(f"{TEACHERS}:right", "--dataset", "digits", "--json", "-o", str(file), "--limit", "100") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(file.read_text())
    assert printed["verdict"] == "probably" and printed["findings"]["held_out"]["images"] == 100
    assert {"views", "inputs", "cost", "order", "compression"} <= set(printed["findings"])


def test_small_images_are_seen_in_their_own_size_and_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(f"{TEACHERS}:right", "--data", str(folder), "--json", "--stated", "99.9") in (0, 2)
    shown = capsys.readouterr()
    found = json.loads(shown.out)["findings"]
    assert "short side is 32 px" in shown.err
    assert [view["kind"] for view in found["views"]] == ["augmented", "mixed"] and found["views"][1]["two_labels"] > 0
    assert found["compression"]["quality"] == 75 and found["compression"]["sampling"] == "4:2:0"
    assert found["stated"]["high"] < 0 and found["held_out"]["images"] == 100
    assert any(size["is_recompressed"] for size in found["sizes"])


def test_data_without_training_images_shows_views_of_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "val").symlink_to(folder / "val")
    words = ["--dataset", "cifar10", "--data", str(tmp_path / "only")]
    code = checked(f"{TEACHERS}:right", *words)
    assert code in (0, 2)
    assert "views are made of the held-out images" in capsys.readouterr().err


def test_validating_on_training_images_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = str(folder / "val")
    assert checked(f"{TEACHERS}:right", "--data", only, "--set", "data.validate_on=train", "--limit", "50") in (0, 2)
    assert "says little" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused_with_the_remedy(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / "1.png")
    assert checked(f"{TEACHERS}:right", "--data", str(tmp_path)) == 2
    assert "other classes" in capsys.readouterr().err


def test_no_data_and_no_run_is_an_error_that_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(f"{TEACHERS}:right") == 2
    assert "on which images?" in capsys.readouterr().err


def test_a_stated_accuracy_is_in_percent(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(f"{TEACHERS}:right", "--dataset", "digits", "--stated", "0.93") == 2
    assert "1" in capsys.readouterr().err


@pytest.mark.slow
def test_ten_points_lost_to_compression_are_explained(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ResNet-20 of others, stated with 91.73 %, on recompressed test images: 81 %, and ImageNet's mean is right."""
    with tarfile.open(shared_data / "cifar10" / "cifar10-test.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    weights = shared_data / "teachers" / "resnet20_cifar10.safetensors"
    teacher = f"{EXAMPLES / 'cifar_resnet.py'}:resnet20?weights={weights}"
    words = ["--dataset", "cifar10", "--data", str(tmp_path), "--stated", "91.73", "--limit", "2000", "--json"]
    assert checked(teacher, *words) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    (explanation,) = found["stated"]["explanations"]
    assert "compression" in explanation and "quality about 75" in explanation and "4:2:0" in explanation
    assert -0.125 < found["stated"]["measured"] - 0.9173 < -0.085
    top1 = {trial["way"]["name"]: trial["top1"] for trial in found["inputs"]}
    assert found["held_out"]["top1"] - 0.01 < top1["CIFAR-10's mean and std"] < found["held_out"]["top1"]
    assert top1["BGR instead of RGB"] < found["held_out"]["top1"] - 0.05


# Which recipe


def settled(teachers: list[str], *, recipe: str = "", **images: Any) -> Any:
    return resolve(teachers, DataOptions(**images), recipe=recipe)


def test_several_teachers_are_a_mixture_and_set_has_the_last_word() -> None:
    recipe = settled(["a", "b"], recipe="quickstart/student", sets=["teacher.mixture=[1.0, 2.0]", "mix.prob=0.5"])
    assert recipe.teacher.models == ["a", "b"] and recipe.teacher.mixture == [1.0, 2.0] and recipe.mix.prob == 0.5


def test_digits_have_a_recipe_of_their_own_and_large_images_the_papers(tmp_path: Path) -> None:
    assert settled(["T"], dataset="digits").name == "quickstart/student"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (300, 200)).save(tmp_path / split / name / "1.png")
    large = settled(["T"], data=str(tmp_path))
    assert large.name == "distill/deit_tiny" and large.model.size == (224, 224) and large.data.dataset == "folder"


def test_small_images_get_patches_of_4_px(folder: Path) -> None:
    name, changes = by_size({"data.dataset": "folder", "data.path": str(folder)})
    assert name == "distill/deit_tiny" and changes["model.image_size"] == 32
    recipe = settled(["T"], data=str(folder), image_size=64)
    assert recipe.model.size == (64, 64) and recipe.data.crop_ratio == 1.0


def test_a_run_brings_its_own_data() -> None:
    with pytest.raises(DeitkitError, match="runs/nothing does not exist"):
        settled(["runs/nothing"])
    with pytest.raises(DeitkitError, match="on which images"):
        settled(["timm:resnet50.a1_in1k"])
