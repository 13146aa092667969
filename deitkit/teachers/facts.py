"""What is known of a teacher: what it says of itself, what its input must be, and what it came to be. Runs nothing.

What a teacher does not say the recipe's [teacher] may. For a single teacher the recipe has the last word; in a mixture
its keys only fill the gaps, for they are about every member.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from deitkit.catalog import IMAGENET_MEAN, IMAGENET_STD
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

Kind = Literal["model", "onnx", "factory", "mixture"]
Channels = Literal["rgb", "bgr", "grey"]
Values = Literal["0..1", "0..255"]
Scores = Literal["logits", "probabilities"]
Triple = tuple[float, float, float]
Value = TypeVar("Value")

ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class Said(schema.RecipeTable):
    """What a teacher says of itself; None where it does not. Meanings are those of the recipe's [teacher]."""

    class_names: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    mean: schema.Triple | None = None
    std: schema.Triple | None = None
    image_size: Annotated[int, Field(ge=1)] | schema.Size | None = None
    channels: Literal["rgb", "bgr"] | None = None
    input: Values | None = None
    scores: Scores | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) px."""
        return pair(self.image_size)


def read_said(values: Mapping[str, Any], *, reference: str) -> Said:
    """What stands in a teacher's metadata or attributes.

    Raises:
        DeitkitError: a value that cannot be what its name says.
    """
    try:
        return Said.model_validate(dict(values))
    except ValidationError as error:
        raise DeitkitError(
            f"{reference} says of itself what cannot be",
            value=reference,
            problems=[f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()],
            remedy="class_names is a list of names, mean and std are three numbers each, image_size is one or two",
        ) from error


@dataclass(frozen=True)
class Input:
    """What a classifier takes. A pixel is scaled to `values`, put in the order of `channels`, then `mean` is
    subtracted and `std` divided; `size` is (height, width) px, None: as the views come."""

    size: tuple[int, int] | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    channels: Channels = "rgb"
    values: Values = "0..1"
    integer: bool = False  # uint8, and so not normalised

    def normalisation(self) -> str:
        """In words."""
        if (self.mean, self.std) == (ZEROS, ONES):
            return f"pixels of {self.values}"
        return f"pixels of {self.values}, mean {spelled(self.mean)}, std {spelled(self.std)}"


@dataclass(frozen=True)
class TeacherFacts:
    """What a teacher came to be. `notes` say what was adapted or assumed, a sentence each.

    `class_names` are in the data's order, as its answers are; `size` is (height, width) px; `fingerprint` is a sha256
    over weights and whatever else changes its answers. A mixture's own facts stand in its `members`.
    """

    reference: str
    kind: Kind
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    parameters: int | None
    fingerprint: str
    scores: Scores
    size: tuple[int, int] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    channels: Channels | None = None
    input: Values | None = None
    members: tuple[TeacherFacts, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        return tuple(member.reference for member in self.members) or (self.reference,)


def settle_input(
    said: Said, spec: schema.TeacherTable, *, reference: str, fixed: bool, integer: bool, grey: bool
) -> tuple[Input, tuple[str, ...]]:
    """A classifier's input by what it says and what the recipe says, with notes on what was assumed.

    `fixed`: it runs at its own size only; `integer`: it takes uint8; `grey`: one channel.

    Raises:
        DeitkitError: the two contradict each other.
    """
    size = said.size if fixed else settle(said.size, pair(spec.image_size), spec)
    if fixed and _is_alone(spec) and pair(spec.image_size) not in (None, size):
        raise DeitkitError(
            f"teacher {reference} takes {shown(size)} px only, teacher.image_size says {shown(pair(spec.image_size))}",
            value=spec.image_size,
            remedy=f"leave teacher.image_size out (images are resized to {shown(size)} px), or upscale the teacher: "
            "deitkit upscale TEACHER --to SIZE",
        )
    mean, std = settle(said.mean, spec.mean, spec), settle(said.std, spec.std, spec)
    if integer and (mean or std) and (mean, std) != (ZEROS, ONES):
        raise DeitkitError(
            f"teacher {reference} takes uint8 pixels, which cannot be normalised",
            value=reference,
            remedy="leave teacher.mean and teacher.std out: such a model normalises for itself",
        )
    values: Values = "0..255" if integer else settle(said.input, spec.input, spec) or "0..1"
    channels: Channels = "grey" if grey else settle(said.channels, spec.channels, spec) or "rgb"
    notes = []
    if mean is None and std is None and not integer:
        raw = grey or values == "0..255"
        mean, std = (ZEROS, ONES) if raw else (IMAGENET_MEAN, IMAGENET_STD)
        assumed = f"raw pixels of {values} were" if raw else "ImageNet's was"
        notes.append(f"it does not say its normalisation: {assumed} assumed (teacher.mean, teacher.std)")
    if std is not None and min(std) <= 0:
        raise DeitkitError(f"teacher {reference}: std {spelled(std)} must be above 0", value=std)
    settled = Input(size, mean or ZEROS, std or ONES, channels, values, integer)
    return settled, (*notes, *_overruled(said, spec))


def settle(own: Value | None, recipe: Value | None, spec: schema.TeacherTable) -> Value | None:
    """The recipe has the last word on a single teacher; in a mixture it fills gaps."""
    first, second = (recipe, own) if _is_alone(spec) else (own, recipe)
    return second if first is None else first


def _is_alone(spec: schema.TeacherTable) -> bool:
    return len(spec.models) == 1


def _overruled(said: Said, spec: schema.TeacherTable) -> list[str]:
    """Where recipe and teacher say different things."""
    notes = []
    for key in ("mean", "std", "image_size", "channels", "input", "scores"):
        own, recipe = getattr(said, key), getattr(spec, key)
        if key == "image_size":
            own, recipe = pair(own), pair(recipe)
        if own is not None and recipe is not None and own != recipe:
            winner = "the recipe's counts" if _is_alone(spec) else "its own counts in a mixture"
            notes.append(f"teacher.{key} is {recipe} in the recipe and {own} in the teacher: {winner}")
    return notes


def pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) px of one number or two."""
    return (size, size) if isinstance(size, int) else size


def shown(size: tuple[int, int] | None) -> str:
    return "any size" if size is None else f"{size[0]}x{size[1]}"


def spelled(values: Triple) -> str:
    return ", ".join(f"{value:g}" for value in values)


def digest(facts: Mapping[str, Any]) -> str:
    """sha256 over facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
