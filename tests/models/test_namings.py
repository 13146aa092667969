"""Weights under the names of other projects and trainers: read, the logits are the original's; or refused by kind."""

from __future__ import annotations

import json
import pathlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from deitkit.errors import DeitkitError
from deitkit.models.load import load_classifier, load_info, load_model, upscale
from deitkit.models.namings import timms_names
from deitkit.models.start import start_from
from deitkit.models.student import build_student
from deitkit.models.weight_files import read_weights, read_weights_file
from deitkit.models.weights import describe
from deitkit.recipe.schema import Model

PLAIN, DISTILLED, DEIT3 = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"
ARGUMENTS: dict[str, Any] = {
    "img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3, "num_classes": 3
}  # fmt: skip
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def original(architecture: str = PLAIN, **options: Any) -> nn.Module:
    """A small network of timm's, every tensor of it random."""
    network = timm.create_model(architecture, **{**ARGUMENTS, **options})
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return network.eval()


def renamed(state: dict[str, Tensor], *words: tuple[str, str]) -> dict[str, Tensor]:
    """A state dict with these words in its keys replaced, one after the other."""
    for old, new in words:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers' DeiTForImageClassificationWithTeacher writes it."""
    split = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[key.replace("attn.qkv", f"attention.attention.{name}")] = part.clone()
        else:
            split[key] = value
    trunk = renamed(
        split, ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"), ("attn.proj", "attention.output.dense"),
        ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("blocks", "encoder.layer"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"), ("dist_token", "embeddings.distillation_token"),
    )  # fmt: skip
    trunk = {f"layernorm.{key[5:]}" if key.startswith("norm.") else key: value for key, value in trunk.items()}
    heads = (("deit.head_dist", "distillation_classifier"), ("deit.head", "cls_classifier"))
    return renamed({f"deit.{key}": value for key, value in trunk.items()}, *heads)


def as_mmpretrain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As mmpretrain's converters write DeiT and, with its LayerScale, DeiT III."""
    words = renamed(
        state, ("patch_embed.proj", "patch_embed.projection"), ("blocks.", "layers."), ("norm", "ln"),
        ("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1"), ("ls1.gamma", "attn.gamma1.weight"),
        ("ls2.gamma", "ffn.gamma2.weight"),
    )  # fmt: skip
    words = {key.replace("ln.", "ln1.", 1) if key.startswith("ln.") else key: value for key, value in words.items()}
    return renamed({f"backbone.{key}": value for key, value in words.items()}, ("backbone.head", "head.layers.head"))


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def logits(path: Path) -> Tensor:
    """What the model that is read answers to IMAGES; of two heads the mean, as timm's distilled models give it."""
    with torch.no_grad():
        return load_model(path).student(IMAGES).average_logits()


def assert_equal_logits(path: Path, network: nn.Module, atol: float = 0) -> None:
    with torch.no_grad():
        torch.testing.assert_close(logits(path), network(IMAGES), rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        (PLAIN, {}), (DISTILLED, {}), (DEIT3, {}), (PLAIN, {"reg_tokens": 4}),
        (PLAIN, {"reg_tokens": 4, "no_embed_class": True}), (PLAIN, {"class_token": False, "global_pool": "avg"}),
        (PLAIN, {"global_pool": "avg"}), (PLAIN, {"global_pool": "avg", "fc_norm": False, "class_token": False}),
        (PLAIN, {"qkv_bias": False, "mlp_ratio": 3.3}), (PLAIN, {"qk_norm": True, "num_heads": 6}),
    ],
)  # fmt: skip
def test_the_shapes_of_any_plain_transformer_say_how_it_is_built(
    tmp_path: Path, architecture: str, options: dict[str, Any]
) -> None:
    network = original(architecture, **options)
    assert_equal_logits(saved(network.state_dict(), tmp_path / "w.pth"), network)


@pytest.mark.parametrize("before", ["module.", "model._orig_mod.", "backbone.", "net.module.", "my_own.vit."])
def test_whatever_a_trainer_put_before_the_names_is_taken_off(tmp_path: Path, before: str) -> None:
    network = original()
    state = {f"{before}{key}": value for key, value in network.state_dict().items()}
    state |= {"val_acc.tp": torch.zeros(3), "criterion.weight": torch.ones(3)}
    path = saved({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, tmp_path / "w.ckpt")
    assert_equal_logits(path, network)
    told = " ".join(describe(str(path)).notes)
    assert before.replace("_orig_mod.", "") in told and "val_acc.tp" in told


def test_of_two_networks_in_one_state_dict_one_is_taken_and_said() -> None:
    state = {
        f"{before}{key}": value for before in ("student.", "ema.") for key, value in original().state_dict().items()
    }
    found = timms_names(state)
    assert found.state.keys() == original().state_dict().keys()
    assert "'student.' was taken, not 'ema.'" in found.notes[0]


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "model.net."])
def test_a_convnets_names_lose_what_stands_before_them(before: str) -> None:
    state = timm.create_model("resnet10t", num_classes=2).state_dict()
    wrapped = {f"{before}{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(2)}
    assert timms_names(wrapped).state.keys() - {"loss.weight"} == state.keys()


@pytest.mark.parametrize(
    ("entries", "taken"),
    [(("state_dict", "model"), ""), (("model_ema",), ""), (("teacher", "student"), "'teacher' was taken")],
)
def test_a_state_dict_is_found_however_deep_it_lies(tmp_path: Path, entries: tuple[str, ...], taken: str) -> None:
    network = original()
    content: Any = network.state_dict()
    if taken:
        content = dict.fromkeys(entries, content)
    else:
        for entry in reversed(entries):
            content = {entry: content, "epoch": 3}
    path = saved(content, tmp_path / "w.pth")
    assert_equal_logits(path, network)
    assert taken in " ".join(describe(str(path)).notes)


def test_numbers_beside_the_tensors_are_left_out_and_said(tmp_path: Path) -> None:
    network = original()
    path = saved(OrderedDict(network.state_dict()) | {"_extra_state": None, "step": 7}, tmp_path / "w.pth")
    assert_equal_logits(path, network)
    assert "2 entries without a tensor" in describe(str(path)).notes[0]


# Other projects' names


@pytest.mark.parametrize("lightning", ["", "model."])
def test_transformers_names_are_translated(tmp_path: Path, lightning: str) -> None:
    network = original(DISTILLED)
    state = {f"{lightning}{key}": value for key, value in as_transformers(network.state_dict()).items()}
    save_file(state, tmp_path / "w.safetensors")
    assert_equal_logits(tmp_path / "w.safetensors", network)


def test_a_distillation_token_without_a_head_is_kept_as_a_register(tmp_path: Path) -> None:
    network: Any = original(DISTILLED)
    state = renamed(as_transformers(network.state_dict()), ("cls_classifier", "classifier"))
    state = {key: value for key, value in state.items() if "distillation_classifier" not in key}
    with torch.no_grad():
        expected = network.head(network.forward_features(IMAGES)[:, 0])
    assert torch.equal(logits(saved(state, tmp_path / "w.pth")), expected)


@pytest.mark.parametrize("architecture", [PLAIN, DISTILLED, DEIT3])
def test_mmpretrains_names_are_translated(tmp_path: Path, architecture: str) -> None:
    network = original(architecture)
    path = saved({"meta": {"epoch": 3}, "state_dict": as_mmpretrain(network.state_dict())}, tmp_path / "w.pth")
    assert_equal_logits(path, network)
    assert "mmpretrain's names" in " ".join(describe(str(path)).notes)


def test_torchvisions_names_are_translated(tmp_path: Path) -> None:
    network = torchvision.models.VisionTransformer(32, 8, 2, 3, 192, 400, num_classes=3).eval()
    nn.init.normal_(network.heads.head.weight)
    # torchvision scales in another order: the last digits differ.
    assert_equal_logits(saved(network.state_dict(), tmp_path / "w.pth"), network, atol=1e-5)


def test_dinov2s_registers_and_deit_iiis_gammas_are_translated(tmp_path: Path) -> None:
    network = original(reg_tokens=4, no_embed_class=True, init_values=0.1)
    state, place = network.state_dict(), torch.randn(1, 1, 192)
    theirs = renamed(dict(state), ("reg_token", "register_tokens"), ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"))
    theirs |= {"pos_embed": torch.cat([place, state["pos_embed"]], dim=1), "cls_token": state["cls_token"] - place}
    path = saved({**theirs, "mask_token": torch.zeros(1, 192)}, tmp_path / "w.pth")
    assert_equal_logits(path, network, atol=1e-5)


@pytest.fixture
def hugging_face(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A model folder of transformers and the network in it."""
    network, folder = original(DISTILLED, num_heads=6), tmp_path / "hf"
    folder.mkdir()
    save_file(as_transformers(network.state_dict()), folder / "model.safetensors")
    config = {
        "architectures": ["DeiTForImageClassificationWithTeacher"], "model_type": "deit", "hidden_size": 192,
        "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 768, "image_size": 32, "patch_size": 8,
        "id2label": {"0": "cat", "1": "dog", "2": "owl"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder, network


def test_a_model_folder_of_transformers_brings_its_heads_classes_and_pixels(
    hugging_face: tuple[Path, nn.Module],
) -> None:
    folder, network = hugging_face
    assert_equal_logits(folder, network)
    info = load_info(folder)
    assert (info.class_names, info.size) == (("cat", "dog", "owl"), (32, 32))
    assert info.mean == info.std == (0.5, 0.5, 0.5)
    student = build_student(Model(name="deit_tiny", distilled=True, image_size=32, options=_options(folder)), 3)
    transfer = start_from(student, str(folder), class_names=("owl", "dog", "cat"), mode="bicubic")
    assert (transfer.new, transfer.ignored) == ((), ()) and "head.weight" in transfer.permuted


def _options(folder: Path) -> dict[str, Any]:
    arguments = describe(str(folder)).arguments
    return {key: arguments[key] for key in ("patch_size", "depth", "num_heads")}


@pytest.mark.parametrize(
    ("change", "match"),
    [({"model_type": "swin"}, "a swin"), ({"hidden_act": "mish"}, "the activation mish"),
     ({"hidden_size": "wide"}, "hidden_size"), ({"num_channels": 1}, "num_channels")],
)  # fmt: skip
def test_other_models_of_transformers_are_refused_by_name(
    hugging_face: tuple[Path, nn.Module], change: dict[str, Any], match: str
) -> None:
    path = hugging_face[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DeitkitError, match=match):
        describe(str(hugging_face[0]))


# Heads, sizes and numbers


@pytest.mark.parametrize("architecture", [PLAIN, DISTILLED, DEIT3])
def test_a_backbone_without_a_head_starts_a_student_and_the_head_is_new(tmp_path: Path, architecture: str) -> None:
    path = saved(original(architecture, num_classes=0).state_dict(), tmp_path / "w.pth")
    known = describe(str(path))
    assert known.architecture is not None and known.arguments["num_classes"] == 0
    options = {key: value for key, value in known.arguments.items() if key in ("init_values", "no_embed_class")}
    model = Model(name="deit_tiny", image_size=48, options={"depth": 2, "patch_size": 8, **options})
    student = build_student(model.model_copy(update={"distilled": known.distilled}), 5)
    transfer = start_from(student, str(path), class_names=tuple("abcde"), mode="bicubic")
    assert {key.partition(".")[0] for key in transfer.new} <= {"head", "head_dist"}
    with pytest.raises(DeitkitError, match="has no head"):
        upscale(load_model(path), (48, 48), mode="bicubic")
    with pytest.raises(DeitkitError, match="answers nothing"):
        load_classifier(path)


def test_a_distilled_student_starts_from_weights_whose_class_token_has_no_position(tmp_path: Path) -> None:
    network = original(DEIT3)
    path = saved(network.state_dict(), tmp_path / "w.pth")
    options = {"depth": 2, "patch_size": 8, "init_values": 0.1, "no_embed_class": True}
    student = build_student(Model(name="deit_tiny", distilled=True, image_size=32, options=options), 3)
    start_from(student, str(path), class_names=("a", "b", "c"), mode="bicubic")
    assert torch.equal(student.network.pos_embed[:, :2], torch.zeros(1, 2, 192))
    assert torch.equal(student.network.pos_embed[:, 2:], network.state_dict()["pos_embed"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    network = original().to(dtype)
    path = saved(network.state_dict(), tmp_path / "w.pth")
    assert_equal_logits(path, network.float())


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = original().state_dict()
    state["blocks.0.attn.qkv.weight"] = state["blocks.0.attn.qkv.weight"].to(torch.int8)
    with pytest.raises(DeitkitError, match="quantised"):
        read_weights(saved(state, tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("key", "told"),
    [("blocks.0.attn.proj_l.weight", "no part"), ("attn_pool.latent", "no part"), ("rel_pos_bias.table", "no part")],
)
def test_a_network_that_only_resembles_a_plain_transformer_is_not_taken_for_one(
    tmp_path: Path, key: str, told: str
) -> None:
    path = saved(original().state_dict() | {key: torch.ones(2, 2)}, tmp_path / "w.pth")
    known = describe(str(path))
    assert known.architecture is None and told in known.notes[-1] and key in known.notes[-1]
    with pytest.raises(DeitkitError, match=key):
        load_model(path)


# What a file is


def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    state = original().state_dict()
    save_file(state, tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert read_weights(tmp_path / name).keys() == state.keys()


def test_numpys_numbers_and_paths_are_met_by_stand_ins_and_nothing_else_is(tmp_path: Path) -> None:
    beside = {
        "best_acc": np.float64(71.5), "history": np.arange(3), "rng": np.random.get_state(),
        "path": pathlib.PurePosixPath("/x/y"), "windows": pathlib.PureWindowsPath("C:/x"), "here": Path("x"),
    }  # fmt: skip
    network = original()
    for zipped in (True, False):
        content = {"model": network.state_dict(), **beside}
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert_equal_logits(tmp_path / "w.pth", network)
    with pytest.raises(DeitkitError, match=r"foreign code \(numpy\S*poly1d\)"):
        read_weights(saved({**content, "fit": np.poly1d([1, 2])}, tmp_path / "other.pth"))


def test_a_whole_pickled_module_is_refused_by_its_class(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match=r"foreign code \(timm") as caught:
        read_weights(saved(original(), tmp_path / "w.pth"))
    assert "state_dict()" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "web page"), (b"\n<html lang='en'>", "web page"), (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"), (b"\x1f\x8b\x08" + bytes(20), "compressed"),
        (b'{"weight_map": {}}', "JSON"), (bytes(257) + b"ustar\x0000", "tar archive"),
    ],
)  # fmt: skip
def test_what_holds_no_weights_is_refused_by_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DeitkitError, match=what):
            read_weights_file(tmp_path / name)


def test_torchscript_and_numpys_archives_are_refused_by_what_they_are(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    np.savez(tmp_path / "jax.npz", kernel=np.ones(2))
    for name, what in (("script.pt", "TorchScript"), ("jax.npz", "npz")):
        with pytest.raises(DeitkitError, match=what):
            read_weights(tmp_path / name)


def test_what_a_file_holds_instead_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="no state dict but 'epoch', 'optimizer'"):
        read_weights(saved({"epoch": 3, "optimizer": {}}, tmp_path / "w.pth"))
