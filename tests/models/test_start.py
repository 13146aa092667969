"""Starting from earlier weights: what is loaded, resized, permuted, copied, new and ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered
from deitkit.models.description import Known
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.positions import resample_pos_embed
from deitkit.models.start import Transfer, start_from, start_notes
from deitkit.models.student import Student, build_student
from deitkit.models.weights import Weights, open_reference
from deitkit.recipe.schema import Data, Model

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghij")
HEAD = ("head.weight", "head.bias")
HEAD_DIST = ("head_dist.weight", "head_dist.bias")


def nano(*, distilled: bool = True, size: int = 24, seed: int = 0, classes: int = 10, patch: int = 4) -> Student:
    model = Model(name="deit_nano", distilled=distilled, image_size=size, options={"patch_size": patch})
    return build_student(model, classes, seed=seed).eval()


def weights_of(student: Student, names: tuple[str, ...] | None = DIGITS, size: tuple[int, int] = (24, 24)) -> Weights:
    """A student's weights as `open_reference` gives them."""
    info = ModelInfo.of(Data(), size, names or numbered(student.num_classes))
    known = Known("earlier", student.architecture, student.arguments, size, names, info)
    state = {key: value.clone() for key, value in student.network.state_dict().items()}
    return Weights(known, state)


def start(student: Student, weights: Weights, names: tuple[str, ...] = DIGITS, **more: str) -> Transfer:
    transfer = start_from(student, weights, class_names=names, mode="bicubic", **more)  # type: ignore[arg-type]
    of_target = [*transfer.loaded, *transfer.resized, *transfer.permuted, *transfer.copied, *transfer.new]
    assert sorted(of_target) == sorted(student.network.state_dict())
    taken = {*transfer.loaded, *transfer.resized, *transfer.permuted}
    assert taken | set(transfer.ignored) == set(weights.state) and not taken & set(transfer.ignored)
    return transfer


# The same model


@pytest.mark.parametrize("distilled", [True, False])
def test_the_same_model_gives_the_same_logits(tmp_path: Path, distilled: bool) -> None:
    earlier = nano(distilled=distilled)
    save_model(tmp_path / "model", earlier, ModelInfo.of(Data(), (24, 24), DIGITS))
    student = nano(distilled=distilled, seed=9)
    transfer = start(student, open_reference(str(tmp_path / "model")))
    images = torch.randn(2, 3, 24, 24)
    assert torch.equal(student(images).average_logits(), earlier(images).average_logits())
    assert transfer.summary() == f"{len(transfer.loaded)} tensors loaded"


def test_half_precision_weights_start_a_full_precision_student() -> None:
    weights = weights_of(nano())
    halves = Weights(weights.known, {key: value.half() for key, value in weights.state.items()})
    student = nano(size=32, seed=9)
    start(student, halves)
    assert student.network.pos_embed.dtype == torch.float32
    torch.testing.assert_close(student.network.norm.weight, weights.state["norm.weight"], atol=1e-3, rtol=0)


# Classes


def test_other_class_names_give_a_new_head_even_when_their_number_is_equal() -> None:
    student = nano(seed=9)
    fresh = student.network.head.weight.detach().clone()
    transfer = start(student, weights_of(nano()), (*LETTERS[:9], "3"))
    assert set(transfer.new) == {*HEAD, *HEAD_DIST} == set(transfer.ignored)
    assert torch.equal(student.network.head.weight, fresh)
    assert transfer.notes == ("the head is new: the weights have 10 classes, the data 10, 1 of the same name",)


def test_the_same_classes_in_another_order_keep_the_head_row_by_row() -> None:
    earlier, student = nano(), nano(seed=9)
    order = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
    transfer = start(student, weights_of(earlier), tuple(DIGITS[place] for place in order))
    assert set(transfer.permuted) == {*HEAD, *HEAD_DIST} and transfer.new == ()
    images = torch.randn(2, 3, 24, 24)
    ours, theirs = student(images), earlier(images)
    torch.testing.assert_close(ours.classes, theirs.classes[:, list(order)])
    torch.testing.assert_close(ours.distillation, theirs.distillation[:, list(order)])
    assert "another order" in transfer.summary()


def test_a_head_of_unnamed_classes_is_new(tmp_path: Path) -> None:
    save_file(nano().network.state_dict(), tmp_path / "w.safetensors")
    transfer = start(nano(seed=9), open_reference(str(tmp_path / "w.safetensors")))
    assert set(transfer.new) == {*HEAD, *HEAD_DIST}
    assert "the names of the weights' 10 classes are unknown" in transfer.summary()


@pytest.mark.parametrize("names", [None, numbered(1000)], ids=["unnamed", "numbered"])
def test_a_thousand_unnamed_classes_are_imagenets_in_the_order_of_the_wnids(names: tuple[str, ...] | None) -> None:
    earlier, student = nano(classes=1000), nano(classes=1000, seed=9)
    assert list(imagenet_names()) == sorted(imagenet_names())
    transfer = start(student, weights_of(earlier, names), imagenet_names()[::-1])
    assert set(transfer.permuted) == {*HEAD, *HEAD_DIST}
    assert torch.equal(student.network.head.weight, earlier.network.head.weight.flip(0))
    assert "1,000 unnamed classes taken as ImageNet's" in transfer.notes


def test_a_thousand_unnamed_classes_are_not_those_of_other_data() -> None:
    transfer = start(nano(seed=9), weights_of(nano(classes=1000), None))
    assert set(transfer.new) == {*HEAD, *HEAD_DIST}


def test_weights_without_a_head_start_a_student_with_a_new_one() -> None:
    weights = weights_of(nano(distilled=False))
    for key in HEAD:
        del weights.state[key]
    transfer = start(nano(distilled=False, seed=9), weights)
    assert set(transfer.new) == set(HEAD)
    assert "the weights have none" in transfer.notes[0]


@pytest.mark.parametrize(("name", "head"), [("timm:regnety_002", "head.fc"), ("timm:resnet10t", "fc")])
def test_a_convnet_keeps_its_body_under_other_classes(name: str, head: str) -> None:
    earlier = build_student(Model(name=name, drop_path=0.0), 10, seed=1).train()
    earlier(torch.randn(4, 3, 32, 32))  # batch norms that know something
    student = build_student(Model(name=name, drop_path=0.0), 3, seed=9)
    transfer = start(student, weights_of(earlier.eval()), ("x", "y", "z"))
    assert set(transfer.new) == {f"{head}.weight", f"{head}.bias"}
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(student.eval().network.forward_features(images), earlier.network.forward_features(images))


# The distillation token


def test_a_plain_models_class_token_starts_the_distillation_token() -> None:
    plain, student = nano(distilled=False), nano(seed=9)
    transfer = start(student, weights_of(plain))
    assert set(transfer.copied) == {"dist_token", *HEAD_DIST}
    assert (transfer.resized, transfer.new, transfer.ignored) == (("pos_embed",), (), ())
    positions = student.network.pos_embed
    assert torch.equal(positions[:, 0], positions[:, 1])
    assert torch.equal(positions[:, 1:], plain.network.pos_embed)
    heads = student(torch.randn(2, 3, 24, 24))
    torch.testing.assert_close(heads.classes, heads.distillation)
    assert "its position and its head start as copies of the class token's" in transfer.summary()


def test_a_fresh_distillation_token_keeps_the_students_own() -> None:
    student, untouched = nano(seed=9), nano(seed=9)
    transfer = start(student, weights_of(nano(distilled=False)), distillation="fresh")
    assert set(transfer.new) == {"dist_token", *HEAD_DIST} and transfer.copied == ()
    for key in ("dist_token", *HEAD_DIST):
        assert torch.equal(student.network.state_dict()[key], untouched.network.state_dict()[key])
    assert torch.equal(student.network.pos_embed[:, 1], untouched.network.pos_embed[:, 1])
    assert "start fresh" in transfer.summary()


def test_a_copied_token_under_other_classes_has_new_heads() -> None:
    student = nano(seed=9)
    transfer = start(student, weights_of(nano(distilled=False)), LETTERS)
    assert transfer.copied == ("dist_token",)
    assert set(transfer.new) == {*HEAD, *HEAD_DIST}
    assert "the distillation token and its position start as copies" in transfer.summary()


def test_a_distilled_models_token_is_left_out_of_a_plain_student() -> None:
    earlier, student = nano(), nano(distilled=False, seed=9)
    transfer = start(student, weights_of(earlier))
    assert set(transfer.ignored) == {"dist_token", *HEAD_DIST}
    positions = earlier.network.pos_embed
    assert torch.equal(student.network.pos_embed, torch.cat([positions[:, :1], positions[:, 2:]], dim=1))
    assert transfer.notes == ("the distillation token, its position and its head were left out",)


def test_an_unknown_start_of_the_token_is_refused() -> None:
    with pytest.raises(DeitkitError, match=r"start\.distillation") as caught:
        start(nano(), weights_of(nano(distilled=False)), distillation="teacher")
    assert caught.value.choices == ("class", "fresh")


# Resolution and patches


def test_another_resolution_resamples_the_position_embedding_alone() -> None:
    student = nano(size=32, seed=9)
    transfer = start(student, weights_of(nano()))
    assert (transfer.resized, transfer.new, transfer.ignored) == (("pos_embed",), (), ())
    expected = resample_pos_embed(nano().network.pos_embed.detach(), (6, 6), (8, 8), prefix_tokens=2)
    torch.testing.assert_close(student.network.pos_embed.detach(), expected)
    assert "from 6x6 to 8x8 patches (bicubic)" in transfer.summary()


def test_a_grid_of_as_many_patches_in_another_shape_is_resampled_too() -> None:
    model = Model(name="deit_nano", image_size=(16, 36), distilled=True)
    transfer = start(nano(seed=9), weights_of(build_student(model, 10), size=(16, 36)))
    assert transfer.resized == ("pos_embed",)


def test_plain_weights_at_another_resolution_start_a_distilled_student() -> None:
    plain, student = nano(distilled=False), nano(size=32, seed=9)
    start(student, weights_of(plain))
    expected = resample_pos_embed(plain.network.pos_embed.detach(), (6, 6), (8, 8), prefix_tokens=1)
    torch.testing.assert_close(student.network.pos_embed.detach()[:, 1:], expected)


def test_larger_patches_see_in_an_enlarged_image_what_the_old_ones_saw() -> None:
    earlier, student = nano(), nano(size=48, patch=8, seed=9)
    transfer = start(student, weights_of(earlier))
    assert transfer.resized == ("patch_embed.proj.weight",)
    images = torch.randn(2, 3, 24, 24)
    patches = F.unfold(images, 4, stride=4).transpose(1, 2).reshape(-1, 3, 4, 4)
    larger = F.interpolate(patches, size=(8, 8), mode="bicubic", antialias=True, align_corners=False)

    def embedded(model: Student, pixels: Tensor) -> Tensor:
        vectors: Tensor = model.network.patch_embed.proj(pixels)
        return vectors.flatten(1)

    torch.testing.assert_close(embedded(student, larger), embedded(earlier, patches), rtol=1e-4, atol=1e-4)
    assert "patch embedding resampled from 4x4 to 8x8 px" in transfer.summary()


def test_smaller_patches_resample_both_embeddings() -> None:
    transfer = start(nano(patch=2, seed=9), weights_of(nano()))
    assert set(transfer.resized) == {"patch_embed.proj.weight", "pos_embed"}


# Refused, and said


def test_another_architectures_weights_are_refused_with_what_would_build_theirs(tmp_path: Path) -> None:
    wide = build_student(Model(name="deit_nano", options={"embed_dim": 96}), 10)
    save_file(wide.network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DeitkitError, match="another architecture") as caught:
        start_from(nano(distilled=False, size=32), str(tmp_path / "w.safetensors"), class_names=DIGITS, mode="bicubic")
    assert "cls_token: (1, 1, 96), expected (1, 1, 64)" in caught.value.problems
    save_model(tmp_path / "model", wide, ModelInfo.of(Data(), (32, 32), DIGITS))
    with pytest.raises(DeitkitError, match="another architecture") as caught:
        start_from(nano(distilled=False, size=32), str(tmp_path / "model"), class_names=DIGITS, mode="bicubic")
    assert "--set model.name=deit_nano --set 'model.options={embed_dim = 96}'" in caught.value.remedy


def test_a_convnets_weights_start_no_transformer() -> None:
    convnet = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10)
    with pytest.raises(DeitkitError, match="another architecture") as caught:
        start(nano(), weights_of(convnet))
    assert "cls_token: missing" in caught.value.problems


def test_a_long_list_is_shortened_in_words_and_whole_in_json() -> None:
    transfer = Transfer(loaded=("a",), ignored=tuple("bcdefgh"), notes=("one", "two"))
    assert transfer.summary() == "1 tensors loaded, 7 ignored (b, c, d, e and 3 more)\n  one; two"
    assert json.loads(json.dumps(transfer.as_dict()))["ignored"] == list("bcdefgh")


def test_another_normalisation_than_the_weights_is_said() -> None:
    known = Known("earlier", info=ModelInfo.of(Data(mean=(0.5, 0.5, 0.5)), (24, 24), DIGITS))
    (note,) = start_notes(Weights(known, {}), Data())
    assert "trained with mean 0.5, 0.5, 0.5, the recipe normalises with 0.485, 0.456, 0.406" in note
    assert "--set 'data.mean=[0.5, 0.5, 0.5]'" in note


@pytest.mark.parametrize("info", [None, ModelInfo.of(Data(crop_ratio=1.0), (24, 24), DIGITS)], ids=["unknown", "same"])
def test_the_same_or_an_unknown_normalisation_is_no_news(info: ModelInfo | None) -> None:
    assert start_notes(Weights(Known("earlier", info=info), {}), Data()) == []
