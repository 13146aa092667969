"""What workers make: the views of a unit of the stream, or of evaluation images. Mixes and normalises nothing.

Pickled into worker processes. What comes out depends on recipe, seed and files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from deitkit.data.open import Source, image_name
from deitkit.data.views.augment import Pixels, Reading, UnreadableImage, erasing_noise, open_image, size_of
from deitkit.data.views.backends import backend_of, shown_for_evaluation
from deitkit.data.views.balance import MOST_TIMES, BalancedDraw
from deitkit.data.views.plan import Plan, Plans, draw_plans
from deitkit.data.views.stream import Indices, StreamShape, Unit, group_order, set_images
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Recipe


class EvalBatch(NamedTuple):
    """indices [B], images [B, 3, H, W] float32 normalised, labels [B]."""

    indices: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


class UnitViews(NamedTuple):
    """A unit as a worker makes it: images [V, 3, H, W] uint8, labels [V], erase [V, 4] (top, left, height, width;
    height 0: none), noise: the erased pixels of all views, one after the other; decoded: how many images; replaced:
    which of them others stood in for."""

    images: torch.Tensor
    labels: torch.Tensor
    erase: torch.Tensor
    noise: torch.Tensor
    decoded: int
    replaced: tuple[str, ...]


@dataclass(frozen=True)
class UnitMaker:
    """Unit -> its views, group by group, each in the group's own order.

    `unreadable` maps images that this process has found to be broken to their names.
    """

    source: Source
    recipe: Recipe
    shape: StreamShape
    unreadable: dict[int, str] = field(default_factory=dict, compare=False)

    @cached_property
    def draw(self) -> BalancedDraw | None:
        """What evens out the classes; None where each image stands once in an epoch."""
        balance = self.recipe.data.balance
        return None if balance == "none" else BalancedDraw.of(self.source, balance)

    def __call__(self, unit: Unit) -> UnitViews:
        """The unit's views; where the recipe says so, the next readable image stands in for an unreadable one.

        A unit is made anew when a broken image shows itself, so what comes out does not depend on what was known.
        """
        while True:
            try:
                return self._make(unit)
            except _BrokenAt as broken:
                if self.recipe.data.bad_images == "error":
                    raise broken.error from broken
                self.unreadable[broken.index] = str(broken.error.value)

    def _make(self, unit: Unit) -> UnitViews:
        images, before = self._drawn(unit)
        orders = [group_order(self.shape, self.recipe.train.seed, unit, group) for group in unit.groups]
        shown = np.array([self._stand_in(index) for index in images.tolist()])
        files = [self._open(index) for index in shown.tolist()]
        plans = self._plans(unit, files, images, before, orders)
        places = np.argsort(orders, axis=1)
        views = np.empty((len(plans), len(images), *self.recipe.model.size, 3), dtype=np.uint8)
        for position in reversed(range(len(images))):
            # let go before the next: large photographs fill the memory
            image = self._load(files.pop(), int(shown[position]))
            for group, place in enumerate(places[:, position].tolist()):
                views[group, place] = view_of(image, plans[group][place], self.recipe).transpose(1, 2, 0)
        noise = [erasing_noise(drawn[index]).ravel() for drawn in plans for index in drawn.erased]
        return UnitViews(
            images=torch.from_numpy(views).flatten(0, 1).permute(0, 3, 1, 2),
            labels=torch.from_numpy(np.concatenate([self.source.labels[shown[order]] for order in orders])),
            erase=torch.from_numpy(np.concatenate([drawn.erase for drawn in plans])),
            noise=torch.from_numpy(np.concatenate([np.empty(0, dtype=np.float32), *noise])),
            decoded=len(images),
            replaced=tuple(self.unreadable[index] for index in images.tolist() if index in self.unreadable),
        )

    def _drawn(self, unit: Unit) -> tuple[Indices, Indices]:
        """The images [G] of the unit's set, and how often each stood in the epoch before."""
        seed, group = self.recipe.train.seed, self.shape.mix_group
        if self.draw is None:
            return set_images(self.shape, seed, unit), np.zeros(group, dtype=np.int64)
        first = unit.image_set * group
        return self.draw.images(seed, unit.epoch, np.arange(first, first + group))

    def _stand_in(self, index: int) -> int:
        """The image itself, or the next one that is not known to be broken."""
        for step in range(len(self.source)):
            other = (index + step) % len(self.source)
            if other not in self.unreadable:
                return other
        raise DeitkitError("no image can be read", remedy="`deitkit data verify` says what is wrong with each")

    def _open(self, index: int) -> tuple[Image.Image, tuple[int, int]]:
        """The image with its header read, and its (height, width)."""
        name, reading = image_name(self.source, index), Reading.of(self.recipe.data)
        try:
            image = open_image(self.source.read(index), name, reading)
            return image, size_of(image, name, reading)
        except UnreadableImage as error:
            raise _BrokenAt(index, error) from error

    def _load(self, file: tuple[Image.Image, tuple[int, int]], index: int) -> Any:
        """The image as the recipe's backend takes it."""
        load = backend_of(self.recipe.stream.backend).load_rgb
        try:
            return load(file[0], image_name(self.source, index), Reading.of(self.recipe.data))
        except UnreadableImage as error:
            raise _BrokenAt(index, error) from error

    def _plans(
        self, unit: Unit, files: list[tuple[Image.Image, tuple[int, int]]], images: Indices, before: Indices,
        orders: list[Indices],
    ) -> list[Plans]:  # fmt: skip
        """One group's plans an entry, in the group's order."""
        sizes = np.array([size for _, size in files])
        repeats = self.shape.repeats
        return [
            draw_plans(
                self.recipe.augment,
                self.recipe.model.size,
                sizes[order, 0],
                sizes[order, 1],
                seed=self.recipe.train.seed,
                epoch=unit.epoch,
                images=images[order],
                repeat=(before[order] * repeats + group % repeats) % MOST_TIMES,
            )
            for group, order in zip(unit.groups, orders, strict=True)
        ]


def view_of(image: Any, plan: Plan, recipe: Recipe) -> Pixels:
    """[3, H, W] uint8 of an image that the recipe's backend has loaded.

    What geometric operations lay bare has the mean colour, as in timm.
    """
    red, green, blue = (round(255 * value) for value in recipe.data.mean)
    return backend_of(recipe.stream.backend).make_view(
        image, plan, size=recipe.model.size, interpolation=recipe.data.interpolation, fill=(red, green, blue)
    )


class _BrokenAt(Exception):
    """An image of the source turned out to be broken."""

    def __init__(self, index: int, error: UnreadableImage) -> None:
        super().__init__(index)
        self.index, self.error = index, error


@dataclass(frozen=True)
class EvalMaker:
    """Indices [B] -> their views, uint8; fewer where unreadable images are left out."""

    source: Source
    size: tuple[int, int]
    crop_ratio: float
    interpolation: str
    reading: Reading

    def __call__(self, indices: Sequence[int]) -> EvalBatch:
        seen = {index: view for index in indices if (view := self._view(index)) is not None}
        chosen = np.fromiter(seen, dtype=np.int64)
        views = np.empty((len(seen), *self.size, 3), dtype=np.uint8)
        for place, view in enumerate(seen.values()):
            views[place] = view.transpose(1, 2, 0)
        return EvalBatch(
            indices=torch.from_numpy(chosen),
            images=torch.from_numpy(views).permute(0, 3, 1, 2),
            labels=torch.from_numpy(self.source.labels[chosen]),
        )

    def _view(self, index: int) -> Pixels | None:
        try:
            return shown_for_evaluation(
                self.source.read(index), image_name(self.source, index), self.reading, size=self.size,
                crop_ratio=self.crop_ratio, interpolation=self.interpolation,
            )  # fmt: skip
        except UnreadableImage:
            if self.reading.leave_out_unreadable:
                return None
            raise
