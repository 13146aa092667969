"""What is known of a model without opening it: by timm's description of it, or by its tensors' names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import timm.models
from timm.data.imagenet_info import infer_imagenet_subset
from torch import Tensor

from deitkit.catalog import MODELS
from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered, synsets
from deitkit.models.folder import ModelInfo
from deitkit.models.positions import count_prefix, guess_grid
from deitkit.models.weight_files import WeightsFile
from deitkit.recipe.schema import Data

IMAGENET = "imagenet"
MOST_CLASSES = 10_000_000
IMAGENET_TAG = re.compile(r"in(1|12|21|22)k")


@dataclass(frozen=True)
class Known:
    """What is known of a model without its weights; None where it is not.

    `architecture` and `arguments` rebuild it in timm, `size` is (height, width) px, `notes` are worth saying.
    """

    origin: str
    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    class_names: tuple[str, ...] | None = None
    info: ModelInfo | None = None
    notes: tuple[str, ...] = ()

    @property
    def distilled(self) -> bool:
        return "_distilled" in (self.architecture or "")


def known_of_config(config: Mapping[str, Any], origin: str, architecture: str, arguments: Mapping[str, Any]) -> Known:
    """From timm's description of weights: classes and protocol."""
    names, size = _class_names(config), (int(config["input_size"][1]), int(config["input_size"][2]))
    classes = int(config.get("num_classes") or 0)
    if not 0 <= classes <= MOST_CLASSES:
        raise DeitkitError(f"{origin}: num_classes is {classes}", value=classes, remedy="copy its config.json again")
    info = ModelInfo(
        class_names=names or numbered(classes),
        size=size,
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        crop_ratio=Data().crop_ratio,  # one protocol for all; timm's crop_pct differs from model to model
        interpolation=str(config.get("interpolation") or "bicubic"),
        dataset=IMAGENET if names == imagenet_names() else "",
    )
    built = {
        "num_classes": classes,
        **({"img_size": list(size)} if config.get("fixed_input_size") else {}),
        **arguments,
    }
    return Known(origin, architecture, built, size, names, info)


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names in the config, or the wnids of the ImageNet that timm's tag names, or None."""
    labels = config.get("label_names")
    if isinstance(labels, (list, tuple)) and len(labels) == config.get("num_classes"):
        return tuple(map(str, labels))
    subset = infer_imagenet_subset(dict(config))
    if subset is None or not IMAGENET_TAG.search(str(config.get("tag") or "")):
        return None
    return synsets(subset)


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def known_of_file(content: WeightsFile, reference: str) -> Known:
    """What a file alone says: an architecture by name, or a transformer by its tensors' shapes; no class names."""
    shaped = transformer_of(content.state)
    if content.architecture is None or not timm.is_model(content.architecture):
        architecture, arguments, size = shaped or (None, {}, None)
        return Known(reference, architecture, arguments, size, notes=content.notes)
    config = timm.models.get_pretrained_cfg(content.architecture) or timm.models.PretrainedCfg()
    heads = config.classifier if isinstance(config.classifier, tuple) else (config.classifier,)
    head = content.state.get(f"{heads[0]}.weight")
    arguments = {} if head is None else {"num_classes": head.shape[0]}
    if shaped is None:
        return Known(reference, content.architecture, arguments, config.input_size[1:], notes=content.notes)
    return Known(
        reference, content.architecture, {**arguments, "img_size": list(shaped[2])}, shaped[2], notes=content.notes
    )


def transformer_of(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], tuple[int, int]] | None:
    """timm's architecture, arguments and input size of a DeiT, read off its shapes; None where it is none."""
    try:
        patch = state["patch_embed.proj.weight"].shape[-1]
        classes, width = state["head.weight"].shape
        grid = guess_grid(state)
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    except (KeyError, ValueError):
        return None
    if grid is None:
        return None
    heads = next((known.num_heads for known in MODELS.values() if known.embed_dim == width), max(1, width // 64))
    size = (grid[0] * patch, grid[1] * patch)
    kind = "_distilled" if count_prefix(state) == 2 else ""
    return f"deit_base{kind}_patch16_224", {
        "num_classes": classes, "img_size": list(size), "patch_size": patch, "embed_dim": width, "depth": depth,
        "num_heads": heads,
    }, size  # fmt: skip
