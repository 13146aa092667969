"""A run's checkpoints, saved one after the other: a small one at once, a large one in a thread while training goes on.

What is saved in a thread is copied to the processor's memory first, so training waits for the copy alone, and what is
written is of one step. The copy's memory is kept from one checkpoint to the next: touching new pages takes longer than
copying. What a checkpoint is, and that it is there whole or not at all, says `deitkit.runs.checkpoint`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.runs.checkpoint import save_checkpoint
from deitkit.runs.environment import free_memory

logger = logging.getLogger(__name__)

LARGE = 512 * 2**20  # bytes of a checkpoint that is worth a copy and a thread: written in about a second
SPARE = 2  # times what is copied that must be free: the copy, and what writing takes


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint of one step holds; `name` keeps another one apart that has its weights alone."""

    step: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    metrics_bytes: int
    name: str | None = None

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for _, tensor in _tensors({"model": self.model, "state": self.state}))


class CheckpointSaver:
    """Saves the checkpoints of one run below `root`, the newest `keep` of them; for a `with` block, whose end waits for
    what is being written and raises what went wrong.

    `written` is called before a checkpoint is: what it counts on must be on the disk.
    """

    def __init__(self, root: Path, *, keep: int, written: Callable[[], object]) -> None:
        self.root, self.keep, self.written = root, keep, written
        self._copies: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Save it; returns when it is saved, or copied where it is large.

        Raises:
            DeitkitError: this or the checkpoint before it could not be written.
        """
        self.wait()
        if not self._is_worth_a_thread(snapshot):
            self._write(snapshot)
            return
        taken = replace(snapshot, model=self._copied(snapshot.model, "model"), state=self._copied(snapshot.state, "s"))
        # A daemon: a second Ctrl-C ends at once, and what is half-written then counts for nothing.
        self._thread = threading.Thread(target=self._write_beside, args=(taken,), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            DeitkitError: what was being written could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> CheckpointSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            return
        try:
            self.wait()
        except DeitkitError as unsaved:
            if error is None or not isinstance(error, Exception):  # such as a signal, which would tell of a saved run
                raise
            logger.warning(unsaved.what)
        finally:
            self._copies.clear()

    def _is_worth_a_thread(self, snapshot: Snapshot) -> bool:
        size = snapshot.nbytes
        if size < LARGE:
            return False
        free = None if self._copies else free_memory()
        return free is None or free > SPARE * size

    def _copied(self, value: Any, place: str) -> Any:
        """The same with every tensor copied into memory of its own, of an earlier copy's where that fits."""
        if isinstance(value, Tensor):
            return self._copy(value.detach(), place)
        if isinstance(value, Mapping):
            return {key: self._copied(each, f"{place}.{key}") for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._copied(each, f"{place}.{index}") for index, each in enumerate(value))
        return value

    def _copy(self, tensor: Tensor, place: str) -> Tensor:
        kept = self._copies.get(place)
        if kept is None or (kept.shape, kept.dtype, kept.stride()) != (tensor.shape, tensor.dtype, tensor.stride()):
            kept = self._copies[place] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        return kept.copy_(tensor)

    def _write_beside(self, snapshot: Snapshot) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:  # raised by `wait`, in the run's own thread
            self._error = error

    def _write(self, snapshot: Snapshot) -> None:
        """The step's checkpoint, and after it the one of that name: a run that is killed in between can make it."""
        self.written()
        kept: Sequence[tuple[str | None, Mapping[str, Any]]] = [(None, snapshot.state)]
        for name, state in [*kept, *([(snapshot.name, {})] if snapshot.name else [])]:
            save_checkpoint(
                self.root, step=snapshot.step, model=snapshot.model, state=state,
                metrics_bytes=snapshot.metrics_bytes, keep=self.keep, name=name,
            )  # fmt: skip


def _tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested mappings and lists, by its place."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, each in pairs:
        if isinstance(each, Tensor):
            yield str(key), each
        elif isinstance(each, (Mapping, list, tuple)):
            yield from ((f"{key}.{place}", tensor) for place, tensor in _tensors(each))
