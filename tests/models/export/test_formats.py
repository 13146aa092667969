"""Every format but ONNX, opened by the library that it is for, and read back by deitkit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from deitkit.errors import DeitkitError
from deitkit.models.export.check import Samples
from deitkit.models.export.formats import FORMATS
from deitkit.models.export.heads import with_head
from deitkit.models.export.wanted import FORMAT_NAMES, FormatName, Wanted
from deitkit.models.load import LoadedModel, ModelInfo, load_classifier, load_model
from deitkit.models.student import build_student
from deitkit.predictions.classify import classify
from deitkit.recipe.schema import Data, Model
from tests.models.export.conftest import NAMES

OTHERS: tuple[FormatName, ...] = tuple(name for name in FORMAT_NAMES if name != "onnx")


def written(model: LoadedModel, to: FormatName, folder: Path) -> Path:
    if to == "hf":
        pytest.importorskip("transformers")
    path = folder / f"it{Wanted(to).ending}"
    FORMATS[to].write(model, path, Wanted(to))
    return path


@pytest.mark.parametrize("to", OTHERS)
@pytest.mark.parametrize("head", ["", "class", "distillation"])
def test_a_format_keeps_every_logit_and_everything_that_is_known(
    to: FormatName, head: str, distilled: LoadedModel, samples: Samples, tmp_path: Path
) -> None:
    model = with_head(distilled, head)
    path = written(model, to, tmp_path)
    with torch.inference_mode():
        own, theirs = model.student(samples.images), FORMATS[to].answer(path, samples.images)
        again = load_classifier(str(path))
        back = again.student(samples.images)
    for name, logits in own.logits().items():
        torch.testing.assert_close(theirs.logits()[name], logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(back.logits()[name], logits, atol=1e-5, rtol=0)
    assert back.logits().keys() == own.logits().keys()
    assert again.info == model.info


def test_a_fitted_fusion_and_odd_class_names_travel(distilled: LoadedModel, tmp_path: Path) -> None:
    from dataclasses import replace

    from deitkit.models.student import FittedFusion

    fusion = FittedFusion("weighted_softmax", 0.75, (1.5, 0.5), "digits/val", "abc")
    info = replace(distilled.info, fusion=fusion, class_names=("a b", "größe", '"quoted"', "x/y"))
    model = replace(distilled, info=info)
    for to in ("safetensors", "timm"):
        assert load_model(str(written(model, to, tmp_path))).info == info


# timm, torch and transformers alone


def test_timm_opens_the_folder_by_its_own_name_for_it(distilled: LoadedModel, samples: Samples, tmp_path: Path) -> None:
    folder = written(distilled, "timm", tmp_path)
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        averaged = distilled.student(samples.images).average_logits()
        torch.testing.assert_close(network(samples.images), averaged)
    assert network.pretrained_cfg["mean"] == pytest.approx(distilled.info.mean)


def test_a_program_runs_for_any_batch_without_deitkit(distilled: LoadedModel, samples: Samples, tmp_path: Path) -> None:
    program = torch.export.load(written(distilled, "torch", tmp_path))
    assert not any("deitkit" in str(node.target) for node in program.graph.nodes)
    for batch in (1, 3):
        found = program.module()(samples.images[:batch])
        own = distilled.student(samples.images[:batch])
        torch.testing.assert_close(found["distillation_logits"], own.distillation)
        torch.testing.assert_close(found["probabilities"], own.fused())


def test_a_program_of_another_making_is_not_executed(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "other.pt2")
    with pytest.raises(DeitkitError, match="program of another making"):
        load_model(str(tmp_path / "other.pt2"))


@pytest.mark.parametrize("head", ["", "class"])
def test_transformers_pipeline_gives_the_same_best_classes(head: str, distilled: LoadedModel, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = with_head(distilled, head)
    folder = written(model, "hf", tmp_path)
    generator = torch.Generator().manual_seed(4)
    images = []
    # Resized to 24 x 18, 18 x 48 and 18 x 18 px: an odd margin is halved to another side than Pillow's users do.
    for number, (height, width) in enumerate(((40, 30), (30, 80), (18, 18))):
        pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy()
        images.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(images[-1])
    theirs = transformers.pipeline("image-classification", model=str(folder))([str(path) for path in images], top_k=4)
    averaging = LoadedModel(model.student, _averaging(model.info), "")
    for answers, own in zip(theirs, classify(averaging, images, device="cpu"), strict=True):
        guesses = own.heads["fused" if model.student.distilled else "class"]
        assert [each["label"] for each in answers] == [guess.name for guess in guesses]
        assert [each["score"] for each in answers] == pytest.approx([guess.confidence for guess in guesses], abs=0.05)


def _averaging(info: ModelInfo) -> ModelInfo:
    """transformers averages logits, where the paper adds softmaxes."""
    from dataclasses import replace

    return replace(info, fusion="average_logits")


def test_a_plain_model_is_transformers_vit_and_a_convnet_is_none(
    plain: LoadedModel, samples: Samples, tmp_path: Path
) -> None:
    folder = written(plain, "hf", tmp_path)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["ViTForImageClassification"]
    torch.testing.assert_close(
        FORMATS["hf"].answer(folder, samples.images).classes, plain.student(samples.images).classes
    )
    convnet = build_student(Model(name="timm:resnet10t", drop_path=0.0), len(NAMES))
    other = LoadedModel(convnet, ModelInfo.of(Data(), (32, 32), NAMES), "convnet")
    with pytest.raises(DeitkitError, match="transformers' DeiT is a transformer") as caught:
        FORMATS["hf"].write(other, tmp_path / "no", Wanted("hf"))
    assert "--to timm" in caught.value.remedy and not (tmp_path / "no").exists()
