"""Position embeddings, model folders, weights files and upscaling."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, ModelInfo, load_info, load_model, save_model, upscale
from deitkit.models.positions import POSITION_MODES, guess_grid, mean_norm, resample_pos_embed
from deitkit.models.student import Student, build_student
from deitkit.models.weight_files import read_weights
from deitkit.recipe.schema import Data, Model

DIGITS = tuple("0123456789")


def nano(*, distilled: bool = True, size: int = 24, seed: int = 0, classes: int = 10) -> Student:
    return build_student(Model(name="deit_nano", distilled=distilled, image_size=size), classes, seed=seed).eval()


def info(size: int = 24, names: tuple[str, ...] = DIGITS) -> ModelInfo:
    return ModelInfo.of(Data(), (size, size), names)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_prefix_tokens_survive_resampling(prefix: int) -> None:
    pos_embed = torch.randn(1, prefix + 36, 8)
    resampled = resample_pos_embed(pos_embed, (6, 6), (9, 4), prefix_tokens=prefix)
    assert resampled.shape == (1, prefix + 36, 8)
    assert torch.equal(resampled[:, :prefix], pos_embed[:, :prefix])


@pytest.mark.parametrize("mode", POSITION_MODES)
def test_resampling_equals_timms_with_the_same_arguments(mode: str) -> None:
    pos_embed = torch.randn(1, 2 + 14 * 14, 16)
    ours = resample_pos_embed(pos_embed, (14, 14), (24, 20), prefix_tokens=2, mode=mode)  # type: ignore[arg-type]
    theirs = resample_abs_pos_embed(
        pos_embed, [24, 20], [14, 14], num_prefix_tokens=2, interpolation=mode.partition("-")[0],
        antialias=mode.endswith("antialias"),
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mode", POSITION_MODES)
def test_the_same_grid_is_a_bit_exact_copy(mode: str) -> None:
    pos_embed = torch.randn(1, 1 + 49, 8)
    assert torch.equal(resample_pos_embed(pos_embed, (7, 7), (7, 7), prefix_tokens=1, mode=mode), pos_embed)  # type: ignore[arg-type]


def test_bicubic_keeps_the_norm_better_than_bilinear() -> None:
    pos_embed = torch.randn(1, 1 + 14 * 14, 768)
    before = mean_norm(pos_embed, prefix_tokens=1)
    kept = {
        mode: mean_norm(resample_pos_embed(pos_embed, (14, 14), (24, 24), prefix_tokens=1, mode=mode), prefix_tokens=1)
        / before
        for mode in POSITION_MODES
    }
    # Known of independent embeddings enlarged from 14x14 to 24x24: bicubic 86 %, bilinear 68 %.
    assert kept["bicubic"] == pytest.approx(0.86, abs=0.02)
    assert kept["bilinear"] == pytest.approx(0.68, abs=0.02)
    assert kept["nearest"] == pytest.approx(1.0, abs=0.02)


def test_a_wrong_grid_is_refused() -> None:
    with pytest.raises(DeitkitError, match="position embedding has 37 rows"):
        resample_pos_embed(torch.randn(1, 37, 8), (5, 5), (7, 7), prefix_tokens=1)


def test_a_model_folder_comes_back_whole_and_loads_in_timm(tmp_path: Path) -> None:
    student, images = nano(), torch.randn(2, 3, 24, 24)
    save_model(tmp_path / "model", student, info())
    loaded = load_model(tmp_path / "model")
    assert loaded.info == info()
    assert torch.equal(loaded.student(images).classes, student(images).classes)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    assert torch.equal(theirs(images), student(images).average_logits())


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    save_model(tmp_path / "model", nano(seed=1), info())
    save_model(tmp_path / "model", nano(seed=2), info())
    assert torch.equal(load_model(tmp_path / "model").student.network.pos_embed, nano(seed=2).network.pos_embed)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_upscaling_changes_only_the_position_embedding() -> None:
    model = LoadedModel(nano(), info(), "nano")
    larger, report = upscale(model, (32, 48), mode="bicubic")
    assert (report.grid, report.new_grid) == ((6, 6), (8, 12))
    assert set(report.norm_after) == set(POSITION_MODES)
    before, after = model.student.network.state_dict(), larger.student.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key != "pos_embed")
    assert larger.student(torch.randn(1, 3, 32, 48)).distillation is not None
    assert larger.info.size == (32, 48)


def test_upscaling_to_the_same_size_changes_no_bit() -> None:
    model = LoadedModel(nano(), info(), "nano")
    same, _ = upscale(model, (24, 24), mode="bilinear")
    assert torch.equal(same.student.network.pos_embed, model.student.network.pos_embed)


def test_upscaling_a_convnet_is_refused() -> None:
    convnet = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10)
    with pytest.raises(DeitkitError, match="no position embeddings"):
        upscale(LoadedModel(convnet, info(), "convnet"), (32, 32), mode="bicubic")


def test_upscaling_to_no_multiple_of_the_patch_names_the_nearest() -> None:
    with pytest.raises(DeitkitError, match="--to 32"):
        upscale(LoadedModel(nano(), info(), "nano"), (31, 31), mode="bicubic")


class Payload:
    """A pickle that would create a file when loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_pickle_of_foreign_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    torch.save({"model": Payload(target)}, tmp_path / "weights.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(target)))
    for name in ("weights.pth", "plain.pth"):
        with pytest.raises(DeitkitError, match=r"foreign code.* and was not executed"):
            read_weights(tmp_path / name)
    assert not target.exists()


def test_a_damaged_weights_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json")
    with pytest.raises(DeitkitError, match=r"w\.safetensors is damaged"):
        read_weights(tmp_path / "w.safetensors")


def test_a_weights_file_is_read_off_its_shapes_and_upscales(tmp_path: Path) -> None:
    student = nano()
    save_file(student.network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 24, 24)
    assert torch.equal(model.student(images).classes, student(images).classes)
    larger, _ = upscale(model, (32, 32), mode="bicubic")
    assert larger.info.size == (32, 32)


def test_a_convnets_weights_file_has_no_positions(tmp_path: Path) -> None:
    convnet = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10)
    save_file(convnet.network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DeitkitError, match="no vision transformer"):
        load_model(tmp_path / "w.safetensors")


def test_a_file_alone_has_no_classes_or_protocol_to_tell(tmp_path: Path) -> None:
    save_file(nano().network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DeitkitError, match="class names and protocol are unknown"):
        load_info(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("prefix", "size"), [(0, None), (1, None), (2, None), (2, (24, 32)), (6, (24, 24))])
def test_the_grid_is_found_behind_any_prefix(prefix: int, size: tuple[int, int] | None) -> None:
    rows, columns = (size[0] // 4, size[1] // 4) if size else (6, 6)
    state = {
        "pos_embed": torch.zeros(1, prefix + rows * columns, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 4, 4),
        **{key: torch.zeros(1, 1, 8) for key in ("cls_token", "dist_token")[:prefix]},
    }  # fmt: skip
    assert guess_grid(state, size=size) == (rows, columns)


def test_patches_that_form_no_square_have_no_guess() -> None:
    state = {"pos_embed": torch.zeros(1, 48, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 4, 4)}
    assert guess_grid(state) is None
