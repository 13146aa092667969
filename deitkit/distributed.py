"""Several processes as one: ranks from torchrun, gradients averaged by DDP. Knows no data and no model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Recipe

DEVICES = ("auto", "cpu", "cuda", "mps")
OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "failed to allocate memory"
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """This process's place. A single process is rank 0 of 1."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.ranks > 1

    def gather(self, part: Any) -> list[Any]:
        """Every rank's object, in rank order, on every rank."""
        if not self.is_distributed:
            return [part]
        parts: list[Any] = [None] * self.ranks
        dist.all_gather_object(parts, part)
        return parts

    def any(self, number: int) -> int:
        """The largest of every rank's number: one rank's signal stops all after the same step."""
        if not self.is_distributed:
            return number
        flag = torch.tensor(number)  # on the CPU, so that no rank waits for its device
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return int(flag.item())

    def barrier(self) -> None:
        if self.is_distributed:
            dist.barrier()


def is_main_process() -> bool:
    """Whether this is the one process, or the first of those that torchrun started: the one that prints."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, or be alone."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield World()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def pick_device(name: str, *, local_rank: int = 0) -> torch.device:
    """ "auto" -> the best device here; a CUDA device gets the process's own index.

    Raises:
        DeitkitError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeitkitError(f"unknown device {name!r}", value=name, choices=DEVICES) from error
    if device.type not in DEVICES:
        raise DeitkitError(f"deitkit does not run on {name!r}", value=name, choices=DEVICES)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeitkitError("this machine has no MPS device", value=name, remedy="--device cpu")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeitkitError("this machine has no CUDA device", value=name, remedy="--device cpu")
        device = torch.device("cuda", device.index if device.index is not None else local_rank)
        if (device.index or 0) >= count:
            what = f"this machine has {count} CUDA device(s), and no {device}"
            raise DeitkitError(what, value=name, choices=[f"cuda:{index}" for index in range(count)])
        torch.cuda.set_device(device)
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, the processor's or the device's: some libraries say so in words only."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error).lower() for words in OUT_OF_MEMORY
    )


def be_deterministic(recipe: Recipe) -> None:
    """Only deterministic kernels, where the recipe says so; a teacher that is recorded keeps to it, too."""
    if recipe.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def autocast(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where the recipe wants it and the device has it; float32 elsewhere. A teacher runs in it, too."""
    wanted = recipe.train.precision == "bf16" and device.type == "cuda"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and torch.cuda.is_bf16_supported())
