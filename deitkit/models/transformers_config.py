"""transformers' config.json of a DeiT or ViT -> what is known of the model. Reads no weights.

Its layer norms have an epsilon of 1e-12 by default where timm's, with which the authors trained, have 1e-6: logits
agree to about the sixth digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered
from deitkit.models.description import IMAGENET, Known
from deitkit.models.folder import Deviation, Finite, ModelInfo, read_config, read_info
from deitkit.models.shapes import mlp_ratio
from deitkit.recipe.schema import Data
from deitkit.records import read_json

FAMILIES = ("deit", "vit")
PROCESSOR = "preprocessor_config.json"
MENDED = "copy it again"
# By transformers' class: whether a distillation token has a head, or any token has one. Others have none.
CLASSIFIERS = ("DeiTForImageClassificationWithTeacher", "DeiTForImageClassification", "ViTForImageClassification")
ACTIVATIONS = {"gelu": None, "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
               "relu": "relu", "silu": "silu"}  # fmt: skip
Count = Annotated[int, Field(ge=1, le=100_000)]
Triple = tuple[float, float, float]
Sides = Count | tuple[Count, Count]


@with_config(ConfigDict(extra="allow"))
class TransformersConfig(TypedDict, total=False):
    """The fields that say how a DeiT or ViT of transformers is built; what is missing has transformers' default."""

    model_type: str
    architectures: list[str] | None
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Count
    image_size: Sides
    patch_size: Sides
    num_channels: Literal[3]
    qkv_bias: bool
    hidden_act: str
    id2label: dict[str, str]
    num_labels: Count


@with_config(ConfigDict(extra="allow"))
class Processor(TypedDict, total=False):
    """What a preprocessor_config.json says of the pixels."""

    image_mean: tuple[Finite, Finite, Finite]
    image_std: tuple[Deviation, Deviation, Deviation]


def is_transformers(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of transformers' making."""
    return "architecture" not in config and ("model_type" in config or "architectures" in config)


def known_of_transformers(folder: Path, reference: str, processor: Path | None) -> Known:
    """From the config.json of a model folder of transformers, and its preprocessor's where there is one.

    Raises:
        DeitkitError: it is damaged, or of another family than DeiT and ViT.
    """
    config = read_json(folder / "config.json", TransformersConfig, remedy=MENDED)
    family, activation = config.get("model_type") or _family(config), config.get("hidden_act", "gelu")
    if family not in FAMILIES or activation not in ACTIVATIONS:
        named = f"a {family}" if family not in FAMILIES else f"a {family} with the activation {activation}"
        raise DeitkitError(
            f"{reference} is a model of Hugging Face transformers, {named}: of those, deitkit reads DeiT and ViT",
            value=reference,
            remedy="timm has the same weights of most models: `python -c 'import timm; print(timm.list_pretrained())'`",
        )
    kind = next(iter(config.get("architectures") or [""]))
    labels, own = config.get("id2label", {}), read_info(read_config(folder))
    classes = (len(labels) or config.get("num_labels", 2)) if kind in CLASSIFIERS else 0
    size, names = _pair(config.get("image_size", 224)), _class_names(labels) if classes else None
    arguments: dict[str, Any] = {
        "num_classes": classes, "img_size": list(size), **_options(config), **_tokens(family, kind)
    }  # fmt: skip
    if ACTIVATIONS[activation] is not None:
        arguments["act_layer"] = ACTIVATIONS[activation]
    distilled = "_distilled" if family == "deit" and "reg_tokens" not in arguments else ""
    (mean, std), notes = _pixels(processor)
    if own is not None:
        if len(own.class_names) != classes:
            what = f"{reference}: deitkit.class_names are {len(own.class_names)}, id2label has {classes}"
            raise DeitkitError(what, value=reference, remedy=MENDED)
        names, notes = own.class_names, ()
    info = own or ModelInfo(
        names or numbered(classes), size, mean, std, Data().crop_ratio, Data().interpolation,
        dataset=IMAGENET if names == imagenet_names() else "",
    )  # fmt: skip
    return Known(
        reference, f"deit_base{distilled}_patch16_224", arguments, size, names, info if classes else None, notes
    )


def _family(config: TransformersConfig) -> str:
    """The family by the class's name, where model_type does not say it."""
    kind = next(iter(config.get("architectures") or ["?"]))
    return next((family for family in FAMILIES if kind.lower().startswith(f"{family}for")), kind)


def _options(config: TransformersConfig) -> dict[str, Any]:
    """timm's arguments for the sizes."""
    width, patch = config.get("hidden_size", 768), _pair(config.get("patch_size", 16))
    hidden = config.get("intermediate_size", 3072)
    return {
        "patch_size": patch[0] if patch[0] == patch[1] else list(patch), "embed_dim": width,
        "depth": config.get("num_hidden_layers", 12), "num_heads": config.get("num_attention_heads", 12),
        **({} if hidden == 4 * width else {"mlp_ratio": mlp_ratio(hidden, width)}),
        **({} if config.get("qkv_bias", True) else {"qkv_bias": False}),
    }  # fmt: skip


def _tokens(family: str, kind: str) -> dict[str, Any]:
    """A distillation token that nothing reads acts as a register (see `namings`)."""
    return {"reg_tokens": 1} if family == "deit" and kind == "DeiTForImageClassification" else {}


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


def _class_names(labels: Mapping[str, str]) -> tuple[str, ...] | None:
    """The classes in the order of the logits; None where they are numbers or not told apart. ImageNet's are wnids, as
    everywhere."""
    try:
        names = tuple(labels[key] for key in sorted(labels, key=int))
    except ValueError:
        return None
    if len(names) == len(imagenet_names()) and names[0].startswith("tench") and names[-1].startswith("toilet"):
        return imagenet_names()
    unnamed = len(set(names)) < len(names) or all(name == f"LABEL_{index}" for index, name in enumerate(names))
    return None if unnamed or not names else names


def _pixels(processor: Path | None) -> tuple[tuple[Triple, Triple], tuple[str, ...]]:
    """(mean, std), and whether they are only supposed."""
    found: Processor = read_json(processor, Processor, remedy=MENDED) if processor is not None else {}
    if "image_mean" in found and "image_std" in found:
        return (found["image_mean"], found["image_std"]), ()
    return (Data().mean, Data().std), (f"no {PROCESSOR} says its mean and std: ImageNet's were taken",)
