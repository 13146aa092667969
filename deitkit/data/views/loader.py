"""Loaders: units of the stream to mixed, normalised batches on the device, and evaluation images in order.

Workers decode and augment; normalising, erasing and mixing happen on the device. What a batch holds depends on the
recipe and the seed alone, never on the workers, the ranks or where training began.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deitkit.data.open import Source
from deitkit.data.views.augment import AS_IT_LIES, Reading
from deitkit.data.views.mix import cached, draw_mix, mix_groups
from deitkit.data.views.pool import Pool, keep_freed_memory, refuse_little_shared_memory
from deitkit.data.views.stream import StreamShape, Unit, units
from deitkit.data.views.workers import EvalBatch, EvalMaker, UnitMaker, UnitViews
from deitkit.recipe.schema import Recipe


@dataclass(frozen=True)
class Batch:
    """One part of a step on the device: whole mix groups.

    images [B, 3, H, W] float32, normalised and mixed; labels [B]; partners [B], the mixed-in images' labels;
    lam [B] float32, the labels' share; group is G; `replaced` names the unreadable images that others stood in for.
    """

    images: torch.Tensor
    labels: torch.Tensor
    partners: torch.Tensor
    lam: torch.Tensor
    group: int
    replaced: tuple[str, ...] = ()

    def targets(self, num_classes: int, smoothing: float) -> torch.Tensor:
        """Label distributions [B, K]: both labels by their shares, each smoothed by spreading `smoothing` over K."""
        off = smoothing / num_classes
        on = 1.0 - smoothing + off
        own, partner = (
            torch.full((len(labels), num_classes), off, device=labels.device).scatter_(1, labels[:, None], on)
            for labels in (self.labels, self.partners)
        )
        lam = self.lam[:, None]
        return own * lam + partner * (1.0 - lam)


class TrainLoader:
    """The stream's batches from any step on, for one rank.

    `decoded` counts images decoded, `data_wait_s` the seconds that training waited for workers.
    """

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
        shape: StreamShape,
        *,
        rank: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
        start_method: str | None = None,
    ) -> None:
        self.recipe, self.shape, self.rank = recipe, shape, rank
        self.device = torch.device(device)
        self.decoded = 0
        self.data_wait_s = 0.0
        keep_freed_memory()
        refuse_little_shared_memory(workers, sample_bytes=unit_bytes(recipe, shape), held=units_at_once(shape))
        maker = UnitMaker(source, recipe, shape)
        _ = maker.draw  # a class without images is told before a worker starts
        self._pool = Pool(maker, workers, self.device, start_method)
        self._mean, self._std = per_channel(recipe.data.mean, self.device), per_channel(recipe.data.std, self.device)

    def steps(self, start_step: int, stop_step: int) -> Generator[list[Batch], None, None]:
        """For each global step the rank's parts, one for each accumulation step. Workers live until the last."""
        steps = range(start_step, stop_step)
        views = self._pool.map(unit for step in steps for part in self._parts(step) for unit in part)
        try:
            for step in steps:
                yield [self._batch(part, views) for part in self._parts(step)]
        finally:
            views.close()

    def _parts(self, step: int) -> list[list[Unit]]:
        epoch, step_in_epoch = divmod(step, self.shape.steps_per_epoch)
        first = self.rank * self.shape.accumulation
        return [
            units(self.shape, epoch=epoch, step=step_in_epoch, part=part)
            for part in range(first, first + self.shape.accumulation)
        ]

    def _batch(self, part: list[Unit], views: Iterator[UnitViews]) -> Batch:
        """The next units, joined on the device, normalised, erased and mixed: their groups are whole."""
        recipe, group = self.recipe, self.shape.mix_group
        made = [self._wait_for(views) for _ in part]
        pixels, labels, noise = (
            _joined([getattr(unit, name).to(self.device, non_blocking=True) for unit in made])
            for name in ("images", "labels", "noise")
        )
        images = normalised(pixels, self._mean, self._std)
        erase_boxes(images, _joined([unit.erase for unit in made]), noise)
        groups = [number for unit in part for number in unit.groups]
        plans = draw_mix(recipe.mix, recipe.model.size, seed=recipe.train.seed, epoch=part[0].epoch, groups=groups)
        mix_groups(images, plans, mix_group=group)
        lam = torch.from_numpy(plans.lam.astype(np.float32)).to(self.device)
        return Batch(
            images=images,
            labels=labels,
            partners=labels.view(-1, group).flip(1).flatten(),
            lam=lam.repeat_interleave(group),
            group=group,
            replaced=tuple(name for unit in made for name in unit.replaced),
        )

    def _wait_for(self, views: Iterator[UnitViews]) -> UnitViews:
        began = time.perf_counter()
        unit = next(views)
        self.data_wait_s += time.perf_counter() - began
        self.decoded += unit.decoded
        return unit


def unit_bytes(recipe: Recipe, shape: StreamShape) -> int:
    """Of the largest unit's views; what is erased comes on top."""
    height, width = recipe.model.size
    return min(shape.repeats, shape.groups_per_part) * shape.mix_group * 3 * height * width


def units_at_once(shape: StreamShape) -> int:
    """How many units of a part are joined."""
    return -(-shape.groups_per_part // shape.repeats)


class EvalLoader:
    """A source's images in order (or those of `indices`), resized and cropped for evaluation; the last batch is
    smaller. One batch needs no worker, and none is started that would have nothing to do."""

    def __init__(
        self,
        source: Source,
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        crop_ratio: float,
        interpolation: str,
        batch_size: int,
        reading: Reading = AS_IT_LIES,
        workers: int = 0,
        device: torch.device | str = "cpu",
        indices: Sequence[int] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.indices = range(len(source)) if indices is None else indices
        batches = -(-len(self.indices) // batch_size)
        useful = min(workers, max(0, batches - 1)) if workers > 0 else workers
        self._pool = Pool(EvalMaker(source, size, crop_ratio, interpolation, reading), useful, self.device)
        self._mean, self._std = per_channel(mean, self.device), per_channel(std, self.device)

    def __iter__(self) -> Iterator[EvalBatch]:
        starts = range(0, len(self.indices), self.batch_size)
        views = self._pool.map(self.indices[start : start + self.batch_size] for start in starts)
        try:
            for indices, images, labels in views:
                moved = normalised(images.to(self.device, non_blocking=True), self._mean, self._std)
                yield EvalBatch(indices, moved, labels.to(self.device, non_blocking=True))
        finally:
            views.close()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """One part needs no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def per_channel(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """[3] -> [1, 3, 1, 1]."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """images [B, 3, H, W] uint8 -> float32, (images / 255 - mean) / std in torchvision's order of operations.

    Piece by piece, as a processor's cache holds them: the values are the same, the memory is touched once.
    """
    made = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    size = cached(images)
    for piece, pixels in zip(torch.split(made, size), torch.split(images, size), strict=True):
        piece.copy_(pixels).div_(255).sub_(mean).div_(std)
    return made


def erase_boxes(images: torch.Tensor, erase: torch.Tensor, noise: torch.Tensor) -> None:
    """Fill each image's box of erase [B, 4] with its pixels of `noise`, in place: images [B, 3, H, W]."""
    used = 0
    for index, (top, left, height, width) in enumerate(erase.tolist()):
        if height:
            pixels = noise[used : used + 3 * height * width].view(3, height, width)
            images[index, :, top : top + height, left : left + width] = pixels
            used += pixels.numel()
