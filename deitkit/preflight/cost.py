"""What a teacher costs beside its student, measured here: time and memory of one batch. Reads no images."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deitkit.distributed import autocast
from deitkit.models.student import build_student
from deitkit.models.throughput import MEMORY, device_name, peak_rise, wait
from deitkit.recipe.schema import Recipe

RUNS = 3  # timed, after one that is not
Classify = Callable[[Tensor], Tensor]  # images [B, 3, H, W], normalised as the recipe's data -> logits [B, K]


@dataclass(frozen=True)
class Cost:
    """Of a batch of `batch` images: images per second of the teacher's forward and of the student's forward and
    backward, and the memory in MiB by which each raised its peak.

    `ratio`: the teacher's time over the student's. `memory_kind` says what was measured; None where nothing could be.
    """

    device: str
    batch: int
    teacher_images_per_s: float
    student_images_per_s: float
    ratio: float
    teacher_memory_mb: float | None
    student_memory_mb: float | None
    memory_kind: str
    teacher_parameters: int | None
    student_parameters: int


def measure_cost(
    classify: Classify, images: Tensor, recipe: Recipe, *, classes: int, parameters: int | None = None
) -> Cost:
    """Time both on images [B, 3, H, W]. Leaves the global random generators as they were."""
    device = images.device
    with _own_generators(device):
        teacher_s, teacher_mb = _measured(lambda: _answer(classify, images, recipe), device)
        student = build_student(recipe.model, classes).to(device).train()

        def step() -> None:
            with autocast(recipe, device):
                heads = student(images)
            heads.average_logits().float().logsumexp(dim=-1).mean().backward()
            student.zero_grad(set_to_none=True)

        student_s, student_mb = _measured(step, device)
    return Cost(
        device=device_name(device),
        batch=len(images),
        teacher_images_per_s=len(images) / teacher_s,
        student_images_per_s=len(images) / student_s,
        ratio=teacher_s / student_s,
        teacher_memory_mb=teacher_mb,
        student_memory_mb=student_mb,
        memory_kind=MEMORY.get(device.type, "not measured on this device"),
        teacher_parameters=parameters,
        student_parameters=sum(parameter.numel() for parameter in student.parameters()),
    )


@contextlib.contextmanager
def _own_generators(device: torch.device):  # type: ignore[no-untyped-def]
    """Draws inside leave no trace outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _answer(classify: Classify, images: Tensor, recipe: Recipe) -> None:
    with torch.inference_mode(), autocast(recipe, images.device):
        classify(images)


def _measured(call: Callable[[], None], device: torch.device) -> tuple[float, float | None]:
    """Seconds of the fastest call, and by how many MiB it raised the peak of memory."""

    def finished() -> None:
        call()
        wait(device)

    grown = peak_rise(finished, device)
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        finished()
        seconds.append(time.perf_counter() - began)
    return min(seconds), grown
