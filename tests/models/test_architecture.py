"""A recipe's [model] after its start weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from deitkit.errors import DeitkitError
from deitkit.models.architecture import adopt_known
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.start import start_from
from deitkit.models.student import build_student
from deitkit.models.weights import describe
from deitkit.recipe.load import load_recipe, override
from deitkit.recipe.schema import Data, Model

NAMES = tuple("0123456789")


@pytest.mark.parametrize(
    "model",
    [
        Model(name="deit_nano", image_size=24, distilled=True),
        Model(name="deit_nano", image_size=16, options={"patch_size": 2}),
        Model(name="deit_tiny_patch4", image_size=(16, 24), options={"depth": 2}),
        Model(name="deit_tiny", image_size=32, options={"depth": 1, "init_values": 0.1}),
        Model(name="timm:resnet10t", drop_path=0.0),
        Model(name="timm:test_vit", drop_path=0.0, options={"img_size": 32}),
    ],
    ids=lambda model: f"{model.name}-{model.options}",
)
def test_what_is_adopted_builds_the_same_network_and_starts_from_it(tmp_path: Path, model: Model) -> None:
    earlier = build_student(model, 10)
    size = (32, 32) if model.name == "timm:test_vit" else model.size
    save_model(tmp_path / "model", earlier, ModelInfo.of(Data(), size, NAMES))
    base = load_recipe("finetune/deit_base_384", {"model.image_size": False})
    adopted = adopt_known(describe(str(tmp_path / "model")), base.model)
    assert adopted.distilled == model.distilled
    recipe = override(base, adopted.changes)
    assert recipe.model.size == size
    student = build_student(recipe.model.model_copy(update={"distilled": model.distilled}), 10, seed=9)
    transfer = start_from(student, str(tmp_path / "model"), class_names=NAMES, mode="bicubic")
    assert (transfer.resized, transfer.new, transfer.ignored) == ((), (), ())


@pytest.mark.parametrize(
    ("reference", "name", "size", "distilled"),
    [
        ("timm:deit_small_distilled_patch16_224.fb_in1k", "deit_small", [224, 224], True),
        ("timm:deit_base_patch16_384.fb_in1k", "deit_base", [384, 384], False),
        ("timm:regnety_160.deit_in1k", "timm:regnety_160", [224, 224], False),
    ],
)
def test_published_models_are_adopted_without_a_download(
    reference: str, name: str, size: list[int], distilled: bool
) -> None:
    adopted = adopt_known(describe(reference), Model(name="deit_nano"))
    assert adopted.changes == {"model.name": name, "model.options": {}, "model.image_size": size}
    assert adopted.distilled == distilled


def test_the_recipes_own_image_size_stays() -> None:
    model = Model(name="deit_base", image_size=384)
    assert "model.image_size" not in adopt_known(describe("timm:deit_tiny_patch16_224.fb_in1k"), model).changes
    adopted = adopt_known(describe("timm:vit_small_patch16_224.augreg_in1k"), model)
    assert adopted.changes["model.options"] == {"img_size": [384, 384]}


@pytest.mark.parametrize("variant", ["tiny", "small", "base"])
def test_a_file_is_adopted_by_its_shapes(tmp_path: Path, variant: str) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(f"deit_{variant}_patch16_224").state_dict()
    save_file(
        {key: torch.zeros(value.shape, dtype=torch.float16) for key, value in shapes.items()},
        tmp_path / "w.safetensors",
    )
    adopted = adopt_known(describe(str(tmp_path / "w.safetensors")), Model(name="deit_nano"))
    assert adopted.summary() == f"deit_{variant} at 224x224 px"


def test_a_convnets_file_does_not_say_what_it_is(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DeitkitError, match="does not say which architecture") as caught:
        adopt_known(describe(str(tmp_path / "w.safetensors")), Model(name="deit_nano"))
    assert "--model timm:ARCHITECTURE" in caught.value.remedy
