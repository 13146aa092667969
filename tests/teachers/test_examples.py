"""Classifiers that others trained, as teachers: the examples' factories reproduce what was measured elsewhere."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deitkit.data.views.augment import evaluation_view
from deitkit.models.class_names import imagenet_names
from deitkit.recipe.load import validate
from deitkit.recipe.schema import Recipe
from deitkit.teachers import Teacher, open_teacher

EXAMPLES = Path(__file__).parents[2] / "examples"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CIFAR_MEAN, CIFAR_STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def cifar(reference: str, **teacher: object) -> Recipe:
    values = {
        "model": {"name": "deit_nano"}, "teacher": {"model": reference, **teacher},
        "data": {"dataset": "cifar10", "mean": MEAN, "std": STD},
    }  # fmt: skip
    return validate(values, name="test", origins={}, given=frozenset({"teacher.model"}))


def resnet(depth: int, shared_data: Path) -> str:
    weights = shared_data / "teachers" / f"resnet{depth}_cifar10.safetensors"
    return f"{EXAMPLES / 'cifar_resnet.py'}:resnet{depth}?weights={weights}"


def count_right(teacher: Teacher, pixels: Tensor, labels: Tensor) -> int:
    """Right answers to pixels [N, 3, H, W] of 0..255, normalised as the student's."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    right = 0
    for part, own in zip(pixels.split(200), labels.split(200), strict=True):
        right += int((teacher((part / 255 - mean) / std, group=len(part)).argmax(dim=1) == own).sum())
    return right


def stacked(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def jpegs(shared_data: Path) -> tuple[Tensor, Tensor]:
    """CIFAR-10's 10,000 test images, as recompressed JPEGs, and their labels."""
    images, labels = [], []
    with tarfile.open(shared_data / "cifar10" / "cifar10-test.tar.gz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                images.append(Image.open(io.BytesIO(file.read())))
                labels.append(CIFAR10.index(Path(member.name).parent.name))
    return stacked(images), torch.tensor(labels)


@pytest.mark.parametrize(("depth", "right", "parameters"), [(20, 97, 269_722), (56, 99, 853_018)])
def test_cifar_resnets_know_a_hundred_lossless_images(
    depth: int, right: int, parameters: int, shared_data: Path
) -> None:
    files = sorted((shared_data / "cifar10" / "lossless100").glob("*.png"))
    labels = torch.tensor([CIFAR10.index(path.stem.rstrip("0123456789")) for path in files])
    teacher = open_teacher(cifar(resnet(depth, shared_data)), CIFAR10)
    assert count_right(teacher, stacked([Image.open(path) for path in files]), labels) == right
    assert teacher.facts.parameters == parameters


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "right", "wrongly_normalised"), [(20, 8103, 8073), (56, 8320, 8273)])
def test_cifar_resnets_reproduce_their_count_as_a_factory_and_as_onnx(
    depth: int, right: int, wrongly_normalised: int, shared_data: Path, tmp_path: Path,
    jpegs: tuple[Tensor, Tensor],
) -> None:  # fmt: skip
    reference, exported = resnet(depth, shared_data), str(tmp_path / "exported.onnx")
    assert count_right(open_teacher(cifar(reference), CIFAR10), *jpegs) == right
    wrong = cifar(reference, mean=CIFAR_MEAN, std=CIFAR_STD)
    assert count_right(open_teacher(wrong, CIFAR10), *jpegs) == wrongly_normalised
    script = [sys.executable, str(EXAMPLES / "export_teacher_to_onnx.py"), reference, exported, "--image-size", "32"]
    subprocess.run(script, check=True, capture_output=True)
    teacher = open_teacher(cifar(exported), CIFAR10)
    assert teacher.facts.class_names == CIFAR10 and not teacher.facts.notes
    assert abs(count_right(teacher, *jpegs) - right) <= 3


@pytest.mark.slow
def test_squeezenet_knows_most_of_200_imagenet_images(shared_data: Path) -> None:
    weights = shared_data / "teachers" / "squeezenet1_0_imagenet.safetensors"
    reference = f"{EXAMPLES / 'squeezenet.py'}:squeezenet?weights={weights}"
    values = {"model": {"name": "deit_tiny"}, "teacher": {"model": reference}}
    teacher = open_teacher(
        validate(values, name="test", origins={}, given=frozenset({"teacher.model"})), imagenet_names()
    )
    assert any("ImageNet's" in note for note in teacher.facts.notes)
    files = sorted((shared_data / "imagenet" / "sample200").glob("*/*"))
    views = [evaluation_view(Image.open(path).convert("RGB"), (224, 224), 0.875, "bilinear") for path in files]
    labels = torch.tensor([imagenet_names().index(path.parent.name) for path in files])
    # 61.9 % of the thousand images that these are a fifth of; three standard errors are 10 points.
    assert 104 <= count_right(teacher, torch.from_numpy(np.stack(views)), labels) <= 144
