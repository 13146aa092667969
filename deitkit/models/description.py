"""What is known of a model without opening it: by timm's or transformers' description of it, or by its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import timm
import timm.models
from timm.data.imagenet_info import infer_imagenet_subset
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered, synsets
from deitkit.models.folder import ModelInfo, parse_config, read_info
from deitkit.models.shapes import Shapes, differences, read_shapes
from deitkit.models.student import CONFIG_SOURCES, SOURCES, refuse_sources
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


def known_of_own(config: Mapping[str, Any], origin: str, *, where: str = "") -> Known:
    """From what deitkit wrote of a model, into a config.json or a file of weights; `where` is that place.

    Raises:
        DeitkitError: it is damaged, or would have timm read other weights.
    """
    refuse_other_weights(config, where or origin)
    info = read_info(config)
    if info is None or "architecture" not in config:
        raise DeitkitError(f"{where or origin} names no model", value=origin, remedy="copy it again")
    arguments = dict(config.get("model_args", {}))
    _refuse_two_stories(arguments, info, where or origin)
    return Known(origin, config["architecture"], arguments, info.size, info.class_names, info)


def refuse_other_weights(config: Mapping[str, Any], where: str) -> None:
    """What was received may send timm to other files, which it may execute.

    Raises:
        DeitkitError: it does.
    """
    for table, names in (("model_args", SOURCES), ("pretrained_cfg", CONFIG_SOURCES)):
        values = config.get(table, {})
        if not isinstance(values, dict):
            raise DeitkitError(f"{where}: {table} is no table", value=where, remedy="copy it again")
        refuse_sources(values, f"{where}: {table}", names)
    if "pretrained_cfg" not in config:  # timm's older form: one table
        refuse_sources(config, where, CONFIG_SOURCES)


def _refuse_two_stories(arguments: Mapping[str, Any], info: ModelInfo, where: str) -> None:
    """Raise where deitkit's own description says two things of the classes or of the input."""
    classes, side = arguments.get("num_classes"), arguments.get("img_size")
    # A negative number of heads or layers fits the weights and fails in the middle of an answer.
    problems = [f"model_args.{name} is {value}" for name, value in arguments.items() if _is_negative(value)]
    if classes is not None and classes != len(info.class_names):
        problems.append(f"deitkit.class_names are {len(info.class_names)}, model_args.num_classes is {classes!r}")
    if side is not None and side != info.size[0] and side != list(info.size) and not arguments.get("dynamic_img_size"):
        problems.append(f"deitkit.size is {list(info.size)}, model_args.img_size {side!r}")
    if problems:
        what = f"{where} is damaged: it says two things of one, or an impossible one"
        raise DeitkitError(what, value=where, problems=problems, remedy="copy it again")


def _is_negative(value: object) -> bool:
    return isinstance(value, int | float) and value < 0


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
    """What a file alone says: everything, where deitkit exported it; else an architecture by name, where the shapes fit
    it, or a transformer by its tensors' shapes, and no class names."""
    if content.about is not None:
        return replace(known_of_own(parse_config(content.about, reference), reference), notes=content.notes)
    named, shapes = content.architecture, read_shapes(content.state)
    if named is not None and timm.is_model(named):
        known = _known_by_name(named, content.state, shapes, reference)
        if shapes.architecture is None or not differences(content.state, named, known.arguments):
            return replace(known, notes=content.notes)
    notes = (*content.notes, *shapes.notes)
    return Known(reference, shapes.architecture, shapes.arguments, shapes.size, notes=notes)


def _known_by_name(named: str, state: Mapping[str, Tensor], shapes: Shapes, reference: str) -> Known:
    config = timm.models.get_pretrained_cfg(named) or timm.models.PretrainedCfg()
    heads = config.classifier if isinstance(config.classifier, tuple) else (config.classifier,)
    head = state.get(f"{heads[0]}.weight")
    arguments = {} if head is None else {"num_classes": head.shape[0]}
    if shapes.size is None:
        return Known(reference, named, arguments, config.input_size[1:])
    return Known(reference, named, {**arguments, "img_size": list(shapes.size)}, shapes.size)
