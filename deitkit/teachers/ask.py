"""Asking a teacher about the validation images, once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from deitkit.data.open import Source
from deitkit.data.views.augment import Reading
from deitkit.data.views.loader import EvalLoader
from deitkit.distributed import World
from deitkit.recipe.schema import Recipe
from deitkit.teachers import Teacher

TEACHER_BATCH = 64  # images at once, rounded up to whole chunks

Decisions = NDArray[np.int64]


@torch.inference_mode()
def ask_teacher(
    teacher: Teacher, val: Source, recipe: Recipe, *, mix_group: int, device: torch.device, world: World,
    workers: int = 0,
) -> Decisions:  # fmt: skip
    """The teacher's class for each image, as the student's evaluation shows it: [N], -1 for unreadable ones.

    Each rank asks for its own part, and all get the whole. The teacher runs on whole chunks, as in training: the last
    is filled up, and the filling's answers are dropped.
    """
    data, chunk, bounds = recipe.data, mix_group * teacher.chunk, np.linspace(0, len(val), world.ranks + 1).astype(int)
    loader = EvalLoader(
        val, size=recipe.model.size, mean=data.mean, std=data.std, crop_ratio=data.crop_ratio,
        interpolation=data.interpolation, batch_size=chunk * -(-TEACHER_BATCH // chunk),
        reading=Reading.of(data, recipe.stream.backend), workers=workers, device=device,
        indices=range(bounds[world.rank], bounds[world.rank + 1]),
    )  # fmt: skip
    decisions = np.full(len(val), -1, dtype=np.int64)
    for chosen, images, _ in loader:
        if len(images):
            filling = images[-1:].expand(-len(images) % chunk, -1, -1, -1)
            logits = teacher(torch.cat([images, filling]), group=mix_group)
            decisions[chosen.numpy()] = logits[: len(images)].argmax(dim=-1).cpu().numpy()
    teacher.check_finite()
    return np.asarray(np.max(world.gather(decisions), axis=0))
