"""Attention maps against the softmax written out, rollout against whole matrices, and what stands in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deitkit.analysis.attention.measure import (
    AttentionLook,
    Maps,
    attention_maps,
    look_at,
    patch_distances,
    rollout,
    unfused,
)
from deitkit.analysis.attention.report import Grids, attention_report, overlay
from deitkit.analysis.report import Panels
from deitkit.analysis.save import save_report
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import Student, build_student, rebuild_student
from deitkit.recipe.schema import Data, Model

CPU = torch.device("cpu")


def student(*, distilled: bool = True, heads: int = 3, **options: Any) -> Student:
    """A random student of two layers for 16x24 px: grid 4x6; its attention is made far from even."""
    model = Model(
        name="deit_nano", image_size=(16, 24), distilled=distilled,
        options={"embed_dim": 48, "depth": 2, "num_heads": heads, **options},
    )  # fmt: skip
    built = build_student(model, 5)
    with torch.no_grad():
        for block in built.network.blocks:
            block.attn.qkv.weight.mul_(20)
    return built.eval()


def softmax_written_out(built: Student, images: Tensor) -> list[Tensor]:
    """Each layer's softmax(q k / sqrt(d)) [B, heads, S, S], from the blocks' inputs and weights."""
    network, found = built.network, []
    x = network._pos_embed(network.patch_embed(images))
    for block in network.blocks:
        attn = block.attn
        values = torch.nn.functional.linear(block.norm1(x), attn.qkv.weight, attn.qkv.bias)
        width = values.shape[-1] // 3
        q, k = (
            values[..., part * width : (part + 1) * width].unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
            for part in (0, 1)
        )
        q, k = attn.q_norm(q), attn.k_norm(k)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / (width // attn.num_heads) ** 0.5
        found.append(torch.softmax(scores, dim=-1))
        x = block(x)
    return found


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 24)


# Maps


@pytest.mark.parametrize(
    ("distilled", "heads", "options"), [(True, 3, {}), (False, 1, {}), (True, 4, {"qk_norm": True})]
)
def test_maps_are_the_softmax_of_queries_and_keys(
    images: Tensor, distilled: bool, heads: int, options: dict[str, Any]
) -> None:
    built = student(distilled=distilled, heads=heads, **options)
    maps = attention_maps(built, images)
    count = 2 if distilled else 1
    assert (maps.names, maps.grid) == (("class", "distillation")[:count], (4, 6))
    assert maps.weights.shape == (2, heads, 2, count, 24)
    for layer, expected in enumerate(softmax_written_out(built, images)):
        torch.testing.assert_close(maps.weights[layer], expected[:, :, :count, count:].transpose(0, 1))
        torch.testing.assert_close(maps.mean[layer], expected.mean(dim=1))


def test_looking_changes_neither_logits_nor_flags_nor_mode(images: Tensor) -> None:
    built = student()
    built.network.blocks[1].attn.fused_attn = False
    before = [block.attn.fused_attn for block in built.network.blocks]
    expected = built(images)
    built.train()
    maps = attention_maps(built, images)
    assert built.training
    assert [block.attn.fused_attn for block in built.network.blocks] == before
    torch.testing.assert_close(maps.decisions.classes, expected.classes)
    assert not any(block.attn.attn_drop._forward_pre_hooks for block in built.network.blocks)
    assert torch.equal(built.eval()(images).classes, expected.classes)


def test_flags_hooks_and_mode_come_back_after_an_error() -> None:
    built = student().train()
    before = [block.attn.fused_attn for block in built.network.blocks]
    with pytest.raises(AssertionError):
        attention_maps(built, torch.randn(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="inside"), unfused(built.network):
        raise RuntimeError("inside")
    assert [block.attn.fused_attn for block in built.network.blocks] == before
    assert not any(block.attn.attn_drop._forward_pre_hooks for block in built.network.blocks)
    assert built.training


def test_distance_is_the_attention_weighted_mean_over_pairs_of_patches(images: Tensor) -> None:
    built = student()
    maps, expected = attention_maps(built, images), softmax_written_out(built, images)
    places = [(4 * row, 4 * column) for row in range(4) for column in range(6)]
    weights = expected[1][0, 2, 2:, 2:].detach().numpy()
    total = sum(
        weights[i, j] * np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(places) for j, b in enumerate(places)
    )
    assert maps.distance[1, 2, 0].item() == pytest.approx(total / weights.sum(), rel=1e-5)


def test_distances_of_oblong_patches_are_pixels() -> None:
    found = patch_distances((2, 2), (3, 4))
    assert found.tolist() == [[0, 4, 3, 5], [4, 0, 5, 3], [3, 5, 0, 4], [5, 3, 4, 0]]


# Rollout


def test_rollout_is_the_product_of_the_layers_with_their_residuals(images: Tensor) -> None:
    built = student()
    maps = attention_maps(built, images)
    product = np.eye(26)
    for layer in softmax_written_out(built, images):
        mixed = 0.5 * layer[1].mean(0).detach().double().numpy() + 0.5 * np.eye(26)
        product = (mixed / mixed.sum(1, keepdims=True)) @ product
    np.testing.assert_allclose(rollout(maps)[1], product[:2, 2:], rtol=1e-4)


def test_a_token_that_reads_itself_alone_reaches_no_patch() -> None:
    alone = torch.eye(6).expand(3, 1, 6, 6)
    maps = Maps(("class", "distillation"), (2, 2), torch.zeros(3, 1, 1, 2, 4), alone, torch.zeros(3, 1, 1), None)  # type: ignore[arg-type]
    assert rollout(maps).abs().sum() == 0


# The report


def look(built: Student, name: str = "cats/01.png", **more: Any) -> AttentionLook:
    info = ModelInfo.of(Data(), (16, 24), ("ant", "bee", "cat", "dog", "owl"))
    view = np.random.default_rng(0).integers(0, 256, (3, 16, 24), dtype=np.uint8)
    return look_at(LoadedModel(built, info, "student"), view, device=CPU, name=name, **more)


def test_a_look_holds_the_maps_and_decisions_of_its_image() -> None:
    built = student()
    found = look(built)
    info = ModelInfo.of(Data(), (16, 24), ("ant",))
    normalised = torch.from_numpy(found.picture.transpose(2, 0, 1))[None] / 255 - torch.tensor(info.mean).view(3, 1, 1)
    normalised = normalised / torch.tensor(info.std).view(3, 1, 1)
    maps = attention_maps(built, normalised)
    np.testing.assert_allclose(found.weights.reshape(2, 3, 2, 24), maps.weights[:, :, 0], rtol=1e-4)
    np.testing.assert_allclose(found.rolled.reshape(2, 24), rollout(maps)[0], rtol=1e-4)
    best = built(normalised).classes.softmax(-1).max(-1)
    assert found.decisions["class"] == (
        ("ant", "bee", "cat", "dog", "owl")[best.indices],
        pytest.approx(best.values.item()),
    )
    assert found.decisions.keys() == {"class", "distillation", "fused"}


def test_figures_are_named_after_the_images_and_show_both_tokens_and_their_difference(tmp_path: Path) -> None:
    built = student()
    report = attention_report([look(built), look(built, label="cat")], classifier="student", grids=Grids((2,), (1, 3)))
    pictures = {figure.name: figure for figure in report.figures if isinstance(figure, Panels)}
    kinds = ("rollout", "layers", "layer2", "head1", "head3")
    assert set(pictures) == {f"{name}_{kind}" for name in ("cats_01", "cats_01_2") for kind in kinds}
    rolled = pictures["cats_01_rollout"]
    assert [panel.title for panel in rolled.rows[0]] == ["image", "class", "distillation", "difference"]
    first = look(built)
    np.testing.assert_allclose(rolled.rows[0][3].values, 100 * (first.rolled[0] - first.rolled[1]))
    assert [len(row) for row in pictures["cats_01_layers"].rows] == [2, 2, 2]
    assert [len(row) for row in pictures["cats_01_layer2"].rows] == [3, 3, 3]
    assert all(path.is_file() for path in save_report(report, tmp_path))


def test_deep_models_are_shown_in_bands_and_grids_of_all_heads_on_one_scale() -> None:
    built = student(depth=8)
    report = attention_report([look(built)], classifier="deep", grids=Grids(tokens=("distillation",)))
    pictures = {figure.name: figure for figure in report.figures if isinstance(figure, Panels)}
    assert [len(row) for row in pictures["cats_01_layers"].rows] == [6, 6, 6, 2, 2, 2]
    grid = pictures["cats_01_distillation_grid"]
    assert [len(row) for row in grid.rows] == [3] * 8
    np.testing.assert_allclose(grid.rows[7][2].values, 100 * look(built).weights[7, 2, 1])


def test_tables_are_means_over_the_images_of_cosines_shares_and_distances() -> None:
    built = student()
    looks = [look(built), look(built)]
    images_, layers, heads = attention_report(looks, classifier="student").tables
    assert len(images_.rows) == 2 and len(heads.rows) == 6
    weights = looks[0].weights[1].reshape(3, 2, 24)
    a, b = weights[:, 0].ravel(), weights[:, 1].ravel()
    expected = (
        2,
        a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        weights[:, 0].sum(1).mean(),
        weights[:, 1].sum(1).mean(),
    )
    assert layers.rows[1][:4] == pytest.approx(expected)
    assert layers.rows[1][4] == pytest.approx(looks[0].distance[1].mean())
    shares = [each.ravel() / each.sum() for each in looks[0].rolled]
    assert images_.rows[0][-1] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)


def test_a_plain_model_shows_its_class_token_alone() -> None:
    report = attention_report([look(student(distilled=False))], classifier="twin")
    pictures = [figure for figure in report.figures if isinstance(figure, Panels)]
    assert [panel.title for panel in pictures[0].rows[0]] == ["image", "class"]
    assert report.tables[1].rows[0][1] is None


def test_an_overlay_is_darkest_at_the_least_and_brightest_at_the_greatest_weight() -> None:
    weights = np.array([[0.0, 0.2, 0.1], [0.4, 0.3, 0.2]])
    picture = np.full((4, 6, 3), 128, dtype=np.uint8)
    sums = overlay(picture, weights).astype(int).sum(axis=2)
    assert sums.shape == (4, 6)
    assert np.unravel_index(sums.argmin(), sums.shape)[0] < 2 and (sums[:2, :2] == sums.min()).all()
    assert (sums[2:, :2] == sums.max()).all()


# Bad input


def test_a_convnet_is_refused(images: Tensor) -> None:
    with pytest.raises(DeitkitError, match="resnet10t has no class token"):
        attention_maps(rebuild_student("resnet10t", {"num_classes": 2}), images)


def test_attention_of_another_kind_is_refused(images: Tensor) -> None:
    other = rebuild_student("vit_tiny_patch16_224", {"num_classes": 2, "img_size": (16, 32)})
    other.network.blocks[1].attn = torch.nn.Identity()
    with pytest.raises(DeitkitError, match="without timm's plain self-attention"):
        attention_maps(other, images)


def test_absent_layers_heads_and_tokens_are_refused() -> None:
    plain = look(student(distilled=False))
    for grids, words in (
        (Grids(layers=(3,)), "no layer 3"), (Grids(heads=(0,)), "no head 0"),
        (Grids(tokens=("distillation",)), "no distillation token"),
    ):  # fmt: skip
        with pytest.raises(DeitkitError, match=words):
            attention_report([plain], classifier="twin", grids=grids)
    with pytest.raises(DeitkitError, match="no image to look at"):
        attention_report([], classifier="twin")
