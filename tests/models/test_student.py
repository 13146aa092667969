"""The student against timm's own models and the paper's numbers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from deitkit.errors import DeitkitError
from deitkit.models.student import Heads, build_student, count_parameters
from deitkit.recipe.schema import Model

# Closed form, checked against timm 1.0.31 (the same numbers stand in the shared facts).
PARAMETERS = {
    "deit_tiny": 5_717_416,
    "deit_tiny_distilled": 5_910_800,
    "deit_small": 22_050_664,
    "deit_small_distilled": 22_436_432,
    "deit_base": 86_567_656,
    "deit_base_distilled": 87_338_192,
    "deit_base_384": 86_859_496,
    "deit_base_distilled_384": 87_630_032,
    "regnety_160": 83_590_140,
}


def model_named(name: str) -> Model:
    if name.startswith("regnety"):
        return Model(name=f"timm:{name}", drop_path=0.0)
    plain = name.removesuffix("_384").removesuffix("_distilled")
    return Model(name=plain, distilled="distilled" in name, image_size=384 if name.endswith("_384") else None)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_equal_the_papers_to_the_unit(name: str) -> None:
    assert count_parameters(model_named(name), 1000) == PARAMETERS[name]


def test_the_transcribed_counts_are_the_shared_facts(shared_facts: Path) -> None:
    facts = tomllib.loads((shared_facts / "paper.toml").read_text())["parameters"]
    assert all(facts[name] == count for name, count in PARAMETERS.items())


@pytest.mark.parametrize(
    ("name", "distilled", "theirs"),
    [
        ("deit_tiny", False, "deit_tiny_patch16_224"),
        ("deit_small", True, "deit_small_distilled_patch16_224"),
        ("deit_base", True, "deit_base_distilled_patch16_224"),
    ],
)
def test_state_dict_keys_and_shapes_are_timms(name: str, distilled: bool, theirs: str) -> None:
    with torch.device("meta"):
        ours = build_student(Model(name=name, distilled=distilled), 1000).network.state_dict()
        reference = timm.create_model(theirs).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in reference.items()}


def test_logits_equal_timms_for_equal_weights() -> None:
    student = build_student(Model(name="deit_tiny", distilled=True, image_size=32, drop_path=0.0), 10).eval()
    reference = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, num_classes=10).eval()
    reference.load_state_dict(student.network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(student(images).average_logits(), reference(images))
    reference.set_distilled_training(True)
    reference.train()
    classes, distillation = reference(images)
    heads = student.train()(images)
    torch.testing.assert_close(heads.classes, classes)
    torch.testing.assert_close(heads.distillation, distillation)


def test_initial_weights_are_truncated_normals_with_std_002() -> None:
    network = build_student(Model(name="deit_small", distilled=True), 1000, seed=3).network
    for name in ("cls_token", "dist_token", "pos_embed", "blocks.3.attn.qkv.weight", "blocks.5.mlp.fc1.weight"):
        weights = network.get_parameter(name)
        assert weights.std().item() == pytest.approx(0.02, rel=0.2), name
        assert weights.abs().max().item() <= 2.0, name


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    first = build_student(Model(name="deit_nano", distilled=True), 10, seed=1).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second = build_student(Model(name="deit_nano", distilled=True), 10, seed=1).state_dict()
    other = build_student(Model(name="deit_nano", distilled=True), 10, seed=2).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["network.pos_embed"], other["network.pos_embed"])


def test_fusion_is_the_mean_of_the_softmaxes_and_may_differ_from_the_mean_of_logits() -> None:
    heads = Heads(torch.tensor([[5.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.5, 0.0]]))
    expected = (heads.classes.softmax(-1) + heads.distillation.softmax(-1)) / 2
    torch.testing.assert_close(heads.fused(), expected)
    assert heads.fused().sum().item() == pytest.approx(1.0)
    apart = Heads(torch.tensor([[10.0, 0.0, 9.0]]), torch.tensor([[0.0, 3.0, 0.1]]))
    assert apart.fused().argmax() != apart.average_logits().argmax()


def test_tokens_lead_to_the_heads() -> None:
    student = build_student(Model(name="deit_nano", distilled=True, image_size=24), 10).eval()
    images = torch.randn(3, 3, 24, 24)
    tokens, heads, network = student.tokens(images), student(images), student.network
    assert tokens.names == ("class", "distillation")
    assert tokens.layers.shape == (4, 2, 3, 64)
    torch.testing.assert_close(network.head(tokens.normed[0]), heads.classes)
    torch.testing.assert_close(network.head_dist(tokens.normed[1]), heads.distillation)
    torch.testing.assert_close(network.norm(tokens.layers[-1]), tokens.normed)
    torch.testing.assert_close(tokens.input[1], network.dist_token[0, 0] + network.pos_embed[0, 1])


def test_a_convnet_has_no_tokens_and_says_so() -> None:
    student = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10)
    with pytest.raises(DeitkitError, match="no class token"):
        student.tokens(torch.randn(1, 3, 32, 32))


def test_an_unknown_timm_name_suggests_the_nearest() -> None:
    with pytest.raises(DeitkitError, match="Did you mean resnet50"):
        build_student(Model(name="timm:resnet5O", drop_path=0.0), 10)


def test_options_reach_timm_and_wrong_ones_are_refused() -> None:
    wide = build_student(Model(name="deit_nano", options={"embed_dim": 96}), 10)
    assert wide.network.embed_dim == 96
    with pytest.raises(DeitkitError, match="refuses"):
        build_student(Model(name="deit_nano", options={"no_such_option": 1}), 10)


def test_non_square_images_are_welcome() -> None:
    student = build_student(Model(name="deit_nano", image_size=(16, 32)), 10).eval()
    assert student(torch.randn(1, 3, 16, 32)).classes.shape == (1, 10)


@pytest.mark.parametrize(
    "options",
    [{"depth": -1}, {"patch_size": 0}, {"num_heads": 0}, {"act_layer": "nope"}, {"embed_dim": -3}],
    ids=str,
)
def test_options_that_the_architecture_refuses_are_the_users_to_mend(options: dict[str, Any]) -> None:
    with pytest.raises(DeitkitError, match="refuses"):
        build_student(Model(name="deit_nano", options=options), 3)


def test_a_transformer_of_timms_is_built_for_another_size_than_its_own() -> None:
    student = build_student(Model(name="timm:vit_tiny_patch16_224", image_size=64), 3)
    assert student(torch.zeros(1, 3, 64, 64)).classes.shape == (1, 3)


def test_images_of_other_channels_are_refused_before_training() -> None:
    with pytest.raises(DeitkitError, match="in_chans is 1"):
        build_student(Model(name="deit_nano", options={"in_chans": 1}), 2)


def test_a_distillation_token_beside_registers_is_refused() -> None:
    with pytest.raises(DeitkitError, match="beside register tokens"):
        build_student(Model(name="deit_nano", distilled=True, options={"reg_tokens": 4}), 2)


def test_a_class_token_without_a_position_enters_as_it_is() -> None:
    model = build_student(Model(name="deit_nano", options={"no_embed_class": True}), 2).eval()
    tokens = model.tokens(torch.zeros(1, 3, *Model(name="deit_nano").size))
    assert torch.equal(tokens.input, tokens.embedding)
