"""A transformer as a folder of Hugging Face transformers: weights, config and image processor.

Both heads: `DeiTForImageClassificationWithTeacher`. One head of a distilled model: `DeiTForImageClassification`, whose
second token no head reads. A plain DeiT has no second token, as in `ViTForImageClassification`: the authors' own plain
models lie on the hub as that. `deitkit.models.transformers_config` reads such folders.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.export.timm import AVERAGED
from deitkit.models.export.wanted import Wanted
from deitkit.models.folder import config_of
from deitkit.models.load import LoadedModel, ModelInfo, grid_of
from deitkit.models.student import Heads
from deitkit.models.transformers_config import PROCESSOR

ACTIVATIONS = {
    "GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh", "QuickGELU": "quick_gelu", "ReLU": "relu", "SiLU": "silu",
}  # fmt: skip
RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
# timm's names -> transformers', behind the family's prefix but for the heads.
KEYS = (
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"pos_embed", "embeddings.position_embeddings"), (r"cls_token", "embeddings.cls_token"),
    (r"(?:dist|reg)_token", "embeddings.distillation_token"), (r"norm\.(\w+)", r"layernorm.\1"),
    (r"blocks\.(\d+)\.norm1\.(\w+)", r"encoder.layer.\1.layernorm_before.\2"),
    (r"blocks\.(\d+)\.norm2\.(\w+)", r"encoder.layer.\1.layernorm_after.\2"),
    (r"blocks\.(\d+)\.attn\.(query|key|value)\.(\w+)", r"encoder.layer.\1.attention.attention.\2.\3"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"encoder.layer.\1.intermediate.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"encoder.layer.\1.output.dense.\2"),
)  # fmt: skip


def write(model: LoadedModel, folder: Path, wanted: Wanted) -> None:
    """Write weights, config and image processor.

    Raises:
        DeitkitError: it is no transformer as transformers' DeiT and ViT are built.
    """
    _refuse_others(model)
    family, kind = _kind(model)
    tensors = transformers_state(model, family)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    about = {"architectures": [kind], "model_type": family, **_config(model)}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / PROCESSOR).write_text(json.dumps(_processor(model.info), indent=2) + "\n", encoding="utf-8")


def answer(folder: Path, images: Tensor) -> Heads:
    """images [B, 3, H, W] -> Heads, by the model that transformers itself opens."""
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found = AutoModelForImageClassification.from_pretrained(folder).eval()(pixel_values=images)
    if hasattr(found, "cls_logits"):
        return Heads(found.cls_logits, found.distillation_logits)
    return Heads(found.logits)


def notes(model: LoadedModel) -> tuple[str, ...]:
    height, width = model.info.size
    return (
        *((AVERAGED.format("transformers"),) if model.student.distilled else ()),
        *(("transformers resizes for views that are not square in another way",) if height != width else ()),
    )


def _kind(model: LoadedModel) -> tuple[str, str]:
    """transformers' family and class."""
    if model.student.distilled:
        return "deit", "DeiTForImageClassificationWithTeacher"
    if model.student.network.num_prefix_tokens > 1:
        return "deit", "DeiTForImageClassification"
    return "vit", "ViTForImageClassification"


def _refuse_others(model: LoadedModel) -> None:
    network = model.student.network
    is_vit = isinstance(network, VisionTransformer) and network.cls_token is not None and network.pos_embed is not None
    if not is_vit:
        raise DeitkitError(
            f"{model.origin} is a {model.student.architecture}: transformers' DeiT is a transformer with a class token",
            value=model.origin,
            remedy="--to timm, or --to onnx",
        )
    other = {
        "pooled patches": network.global_pool != "token", "registers": network.num_prefix_tokens > 2,
        f"the activation {_activation(network)}": _activation(network) not in ACTIVATIONS,
    }  # fmt: skip
    other |= {f"{key}": True for key in network.state_dict() if not _is_known(key)}
    if told := [what for what, is_so in other.items() if is_so]:
        raise DeitkitError(
            f"{model.origin} has what transformers' DeiT has not: {', '.join(told[:3])}",
            value=model.origin,
            remedy="--to timm, or --to onnx",
        )


def _activation(network: Any) -> str:
    return type(network.blocks[0].mlp.act).__name__


def _is_known(key: str) -> bool:
    part = key.replace("attn.qkv.", "attn.query.")
    return key.startswith("head") or any(re.fullmatch(ours, part) for ours, _ in KEYS)


def transformers_state(model: LoadedModel, family: str) -> dict[str, Tensor]:
    """The state dict under transformers' names: queries, keys and values apart, a position for every token."""
    network = model.student.network
    names = {"head": "cls_classifier", "head_dist": "distillation_classifier"}
    heads = names if model.student.distilled else {"head": "classifier"}
    found: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        module, _, part = key.rpartition(".")
        if module in heads:
            found[f"{heads[module]}.{part}"] = value
        elif key == "pos_embed" and network.no_embed_class:  # a position of zeros is none
            found["pos_embed"] = torch.nn.functional.pad(value, (0, 0, network.num_prefix_tokens, 0))
        elif module.endswith(".qkv"):
            for name, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{module.removesuffix('qkv')}{name}.{part}"] = piece
        else:
            found[key] = value
    return {_renamed(key, family): value.detach().cpu().clone().contiguous() for key, value in found.items()}


def _renamed(key: str, family: str) -> str:
    for ours, theirs in KEYS:
        if re.fullmatch(ours, key):
            return f"{family}.{re.sub(ours, theirs, key)}"
    return key


def _config(model: LoadedModel) -> dict[str, Any]:
    """What rebuilds the network there; what deitkit says of it stands beside."""
    network, info = model.student.network, model.info
    block, (height, width) = network.blocks[0], info.size
    patch = height // grid_of(model.student)[0], width // grid_of(model.student)[1]
    names = dict(enumerate(info.class_names))
    return {
        "hidden_size": network.embed_dim, "num_hidden_layers": len(network.blocks),
        "num_attention_heads": block.attn.num_heads, "intermediate_size": block.mlp.fc1.out_features,
        "hidden_act": ACTIVATIONS[_activation(network)], "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "layer_norm_eps": network.norm.eps,
        "image_size": height if height == width else [height, width],
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch), "num_channels": 3,
        "qkv_bias": block.attn.qkv.bias is not None, "id2label": {str(index): name for index, name in names.items()},
        "label2id": {name: index for index, name in names.items()},
        "deitkit": config_of(model.student, info)["deitkit"],
    }  # fmt: skip


def _processor(info: ModelInfo) -> dict[str, Any]:
    """deitkit's evaluation view in transformers' words: the short side resized, the centre cropped.

    CLIP's processor, because the older one of DeiT squeezes images into a square.
    """
    height, width = info.size
    return {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": max(int(side / info.crop_ratio) for side in info.size)},
        "resample": RESAMPLE[info.interpolation], "do_center_crop": True,
        "crop_size": {"height": height, "width": width}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(info.mean), "image_std": list(info.std),
    }  # fmt: skip
