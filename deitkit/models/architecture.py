"""The [model] table of a recipe after its start weights: which architecture they are. Reads no weights but a file's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deitkit.catalog import MODELS
from deitkit.errors import DeitkitError
from deitkit.models.description import Known
from deitkit.recipe.schema import Model

# What the catalog's variants differ in; every other argument is an option of its own.
SIZES = ("embed_dim", "depth", "num_heads", "patch_size")
# Arguments that other keys of the recipe decide.
DECIDED = {"num_classes", "img_size", "drop_path_rate", "drop_rate", "proj_drop_rate", "pos_drop_rate"}


@dataclass(frozen=True)
class Adopted:
    """Dotted recipe keys that make [model] the start weights' architecture.

    `distilled` says whether the weights have a distillation token; whether the student has one, the recipe decides.
    """

    changes: dict[str, Any]
    distilled: bool

    def summary(self) -> str:
        """`deit_nano {'patch_size': 2} at 16x16 px`."""
        options = f" {self.changes['model.options']}" if self.changes["model.options"] else ""
        size = self.changes.get("model.image_size")
        return f"{self.changes['model.name']}{options}" + (f" at {size[0]}x{size[1]} px" if size else "")


def adopt_known(known: Known, model: Model) -> Adopted:
    """The architecture of start weights that `describe` looked at, at the recipe's image size where it names one, else
    at theirs.

    Raises:
        DeitkitError: a file does not say what it is.
    """
    if known.architecture is None:
        raise DeitkitError(
            f"{known.origin} does not say which architecture it is",
            value=known.origin,
            problems=known.notes,
            remedy="--model timm:ARCHITECTURE (model.name), or a model of deitkit's such as --model deit_small",
        )
    size = model.size if model.image_size is not None else known.size
    name, options = recipe_model(known, size)
    changes: dict[str, Any] = {"model.name": name, "model.options": options}
    if model.image_size is None and size is not None:
        changes["model.image_size"] = list(size)
    return Adopted(changes, known.distilled)


def recipe_model(known: Known, size: tuple[int, int] | None) -> tuple[str, dict[str, Any]]:
    """`model.name` and `model.options` that build this architecture for an input size."""
    return _catalog_model(known) or _timm_model(known, size)


def _catalog_model(known: Known) -> tuple[str, dict[str, Any]] | None:
    """The catalog's variant that differs least, with the differences as options; None for other families."""
    match = re.fullmatch(r"(deit_(?:tiny|small|base))(?:_distilled)?_patch16_(?:224|384)", known.architecture or "")
    if match is None:
        return None
    family = MODELS[match[1]]
    built = {key: known.arguments.get(key, getattr(family, key)) for key in SIZES}
    variants = {name: _differences(built, vars(variant)) for name, variant in MODELS.items()}
    name = min(variants, key=lambda name: len(variants[name]))
    return name, variants[name] | _own(known.arguments, beside=set(SIZES))


def _differences(built: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in built.items() if variant[key] != value}


def _timm_model(known: Known, size: tuple[int, int] | None) -> tuple[str, dict[str, Any]]:
    """An architecture of timm's; one that is built for an input size is built for this one."""
    options = _own(known.arguments, beside=set())
    if "img_size" in known.arguments and size is not None:
        options["img_size"] = list(size)
    return f"timm:{known.architecture}", options


def _own(arguments: Mapping[str, Any], *, beside: set[str]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in DECIDED | beside}
