"""Starting a new model from earlier weights, and what became of every tensor (DeiT Sec. 3-4). Opens no data.

Position embeddings are resampled to another grid, the patch embedding to another patch size; a classifier is kept
only where the classes are the same by name, its rows in the data's order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.architecture import recipe_model
from deitkit.models.class_names import imagenet_names, numbered
from deitkit.models.positions import resample_pos_embed
from deitkit.models.student import Student
from deitkit.models.weights import Weights, open_reference
from deitkit.recipe.schema import Data, PositionMode

Fate = Literal["loaded", "resized", "permuted", "copied", "new"]
Distillation = Literal["class", "fresh"]
TOLD_NAMES = 4
IMAGENET_CLASSES = 1000
PATCHES = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor when earlier weights started a new model.

    Each of the model's tensors is in one of the first five; `ignored` are those of the weights that went nowhere.
    """

    loaded: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    permuted: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Counts and names in one line, and what is behind them in another."""
        names = {fate: keys for fate, keys in self.as_dict().items() if keys and fate not in ("loaded", "notes")}
        line = f"{len(self.loaded)} tensors loaded"
        line += "".join(f", {len(keys)} {fate} ({_shortened(keys)})" for fate, keys in names.items())
        return "\n  ".join([line, "; ".join(self.notes)] if self.notes else [line])

    def as_dict(self) -> dict[str, list[str]]:
        """For JSON: fate -> keys, and the notes."""
        return {name: list(getattr(self, name)) for name in self.__dataclass_fields__}


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD_NAMES} more" if len(names) > TOLD_NAMES else ""
    return ", ".join(names[:TOLD_NAMES]) + more


@dataclass
class _Fitting:
    """Tensors on their way from `source` into `target`, and the fate of each."""

    source: Mapping[str, Tensor]
    target: Mapping[str, Tensor]
    placed: dict[str, Tensor] = field(default_factory=dict)
    fates: dict[str, Fate] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def place(self, key: str, value: Tensor, fate: Fate) -> None:
        """Take the value for this key, where it fits."""
        if self.target[key].shape == value.shape:
            self.placed[key] = value
            self.fates[key] = fate

    @property
    def gains_token(self) -> bool:
        return "dist_token" in self.target and "dist_token" not in self.source

    @property
    def loses_token(self) -> bool:
        return "dist_token" in self.source and "dist_token" not in self.target

    def keys(self, fate: Fate) -> tuple[str, ...]:
        return tuple(key for key in self.target if self.fates.get(key, "new") == fate)


def start_from(
    student: Student,
    reference: str | Weights,
    *,
    class_names: tuple[str, ...],
    mode: PositionMode,
    distillation: Distillation = "class",
) -> Transfer:
    """Load earlier weights into `student`, whose classes are `class_names`.

    A distillation token that the weights lack starts, with its position and head, as a copy of the class token's, or
    "fresh".

    Raises:
        DeitkitError: the reference is refused or not at hand, or its weights are another architecture's.
    """
    if distillation not in get_args(Distillation):
        raise DeitkitError("unknown start.distillation", value=distillation, choices=get_args(Distillation))
    weights = reference if isinstance(reference, Weights) else open_reference(reference)
    fitting = _Fitting(weights.state, student.network.state_dict(), notes=list(weights.known.notes))
    classifier = classifier_keys(student)
    _fit_classifier(fitting, weights, classifier, class_names)
    _fit_patches(fitting)
    _fit_positions(fitting, weights.grid, student, mode=mode, distillation=distillation)
    special = {*classifier, PATCHES, "pos_embed"}
    for key in fitting.target:
        if key in fitting.source and key not in special:
            fitting.place(key, fitting.source[key], "loaded")
    _refuse_other_architecture(weights, fitting, beside=classifier)
    _fit_token(fitting, distillation)
    student.network.load_state_dict({**fitting.target, **fitting.placed})
    used = {key for key, fate in fitting.fates.items() if fate != "copied"}
    return Transfer(
        **{fate: fitting.keys(fate) for fate in get_args(Fate)},
        ignored=tuple(key for key in fitting.source if key not in used),
        notes=tuple(fitting.notes),
    )


def start_notes(weights: Weights, data: Data) -> list[str]:
    """What start weights and recipe disagree about without being wrong: the normalisation."""
    info = weights.known.info
    if info is None:
        return []
    pairs = {"mean": (info.mean, data.mean), "std": (info.std, data.std)}
    return [
        f"the start weights {weights.known.origin} were trained with {name} {_numbers(theirs)}, the recipe normalises "
        f"with {_numbers(ours)}: --set 'data.{name}=[{_numbers(theirs)}]' keeps theirs"
        for name, (theirs, ours) in pairs.items()
        if any(abs(a - b) > 5e-4 for a, b in zip(theirs, ours, strict=True))
    ]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


# The parts that may change on the way


def _fit_classifier(
    fitting: _Fitting, weights: Weights, classifier: Sequence[str], class_names: tuple[str, ...]
) -> None:
    """Rows of the classifier in the data's order, or none of them."""
    heads = [key for key in classifier if key in fitting.source]
    outputs = fitting.source[heads[0]].shape[0] if heads else 0
    theirs = weights.known.class_names
    unnamed = outputs == IMAGENET_CLASSES and theirs in (None, numbered(IMAGENET_CLASSES))
    if unnamed and set(class_names) == set(imagenet_names()):
        fitting.notes.append("1,000 unnamed classes taken as ImageNet's")
        theirs = imagenet_names()
    if theirs is None or len(theirs) != outputs or sorted(theirs) != sorted(class_names):
        fitting.notes.append(_why_new(theirs, outputs, class_names))
        return
    same = theirs == class_names
    if not same:
        fitting.notes.append("the classes are the same in another order: the head's rows were put into the data's")
    place = {name: row for row, name in enumerate(theirs)}
    rows = torch.tensor([place[name] for name in class_names])
    for key in heads:
        fitting.place(key, fitting.source[key].index_select(0, rows), "loaded" if same else "permuted")


def _why_new(theirs: tuple[str, ...] | None, outputs: int, class_names: tuple[str, ...]) -> str:
    if not outputs:
        return "the head is new: the weights have none"
    if theirs is None or len(theirs) != outputs:
        return f"the head is new: the names of the weights' {outputs:,} classes are unknown"
    common = len(set(theirs) & set(class_names))
    return (
        f"the head is new: the weights have {outputs:,} classes, the data {len(class_names):,}, "
        f"{f'{common:,}' if common else 'none'} of the same name"
    )


def _fit_patches(fitting: _Fitting) -> None:
    """The patch embedding at another patch size: the pseudo-inverse of resizing the patch (FlexiViT, eq. 4)."""
    if PATCHES not in fitting.source or PATCHES not in fitting.target:
        return
    value, wanted = fitting.source[PATCHES], fitting.target[PATCHES]
    old, new = list(value.shape[2:]), list(wanted.shape[2:])
    if old == new or value.ndim != 4 or value.shape[:2] != wanted.shape[:2]:
        fitting.place(PATCHES, value, "loaded")
        return
    fitting.place(PATCHES, resample_patch_embed(value, new), "resized")
    fitting.notes.append(f"patch embedding resampled from {old[0]}x{old[1]} to {new[0]}x{new[1]} px")


def _fit_positions(
    fitting: _Fitting,
    grid: tuple[int, int] | None,
    student: Student,
    *,
    mode: PositionMode,
    distillation: Distillation,
) -> None:
    """The position embedding on the student's grid, with a row for each of the student's prefix tokens."""
    value, wanted = fitting.source.get("pos_embed"), fitting.target.get("pos_embed")
    if value is None or wanted is None:
        return
    size = getattr(getattr(student.network, "patch_embed", None), "grid_size", None)
    if grid is None or size is None or value.ndim != 3:
        fitting.place("pos_embed", value, "loaded")
        return
    new_grid = (int(size[0]), int(size[1]))
    prefix = value.shape[1] - grid[0] * grid[1]
    same = grid == new_grid
    fitted = resample_pos_embed(value, grid, new_grid, prefix_tokens=prefix, mode=mode)
    if fitting.gains_token and prefix:
        row = fitted[:, :1] if distillation == "class" else wanted[:, 1:2].to(fitted)
        fitted = torch.cat([fitted[:, :1], row, fitted[:, 1:]], dim=1)
    elif fitting.loses_token and prefix:
        fitted = torch.cat([fitted[:, :1], fitted[:, 2:]], dim=1)
    elif not prefix:  # a position of zeros is none
        fitted = F.pad(fitted, (0, 0, max(0, wanted.shape[1] - fitted.shape[1]), 0))
    same &= fitted.shape == value.shape
    fitting.place("pos_embed", fitted, "loaded" if same else "resized")
    if grid != new_grid:
        fitting.notes.append(
            f"position embedding resampled from {grid[0]}x{grid[1]} to {new_grid[0]}x{new_grid[1]} patches ({mode})"
        )


def _fit_token(fitting: _Fitting, distillation: Distillation) -> None:
    """The distillation token and its head, where one side has none."""
    if fitting.loses_token:
        fitting.notes.append("the distillation token, its position and its head were left out")
    if not fitting.gains_token:
        return
    if distillation == "fresh":
        fitting.notes.append("the distillation token, its position and its head start fresh")
        return
    fitting.place("dist_token", fitting.placed["cls_token"], "copied")
    for part in ("weight", "bias"):
        if f"head.{part}" in fitting.placed:
            fitting.place(f"head_dist.{part}", fitting.placed[f"head.{part}"], "copied")
    kept = "head.weight" in fitting.placed
    parts = (
        "the distillation token, its position and its head start as copies"
        if kept
        else "the distillation token and its position start as copies"
    )
    fitting.notes.append(f"{parts} of the class token's")


def _refuse_other_architecture(weights: Weights, fitting: _Fitting, *, beside: Sequence[str]) -> None:
    """Raise unless every tensor of the target, those `beside` and a gained token left out, comes from the weights."""
    source, target = fitting.source, fitting.target
    expected = {*beside, "dist_token"} if fitting.gains_token else {*beside}
    wanted = [key for key in target if key not in fitting.placed and key not in expected]
    other = [
        f"{key}: {tuple(source[key].shape)}, expected {tuple(target[key].shape)}" for key in wanted if key in source
    ]
    missing = [f"{key}: missing" for key in wanted if key not in source and not key.endswith("num_batches_tracked")]
    if other or missing:
        raise DeitkitError(
            f"the weights in {weights.known.origin} are another architecture's",
            value=weights.known.origin,
            problems=[*other[:5], *missing[:5]],
            remedy=_how_to_build(weights),
        )


def _how_to_build(weights: Weights) -> str:
    if weights.known.architecture is None:
        return "set model.name and model.options to those of the weights' model"
    name, options = recipe_model(weights.known, weights.known.size)
    told = ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    return f"--set model.name={name} --set 'model.options={{{told}}}' makes the model theirs"


def classifier_keys(student: Student) -> list[str]:
    """State-dict keys of the classifier head(s)."""
    names = student.network.pretrained_cfg.get("classifier") or "head"
    prefixes = ({names} if isinstance(names, str) else set(names)) | ({"head_dist"} if student.distilled else set())
    return [key for key in student.network.state_dict() if key.rsplit(".", 1)[0] in prefixes]
