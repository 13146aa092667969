"""Samples from keys, in order, here or in worker processes; whatever ends the work ends the workers, too.

Workers outlive nobody: closing the pass ends them, the interpreter's exit kills those that are left, and a worker whose
parent is gone leaves by itself. A sample is put into shared memory by the worker's own hand, because torch drops one
that finds no room and waits for it for ever.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from deitkit.distributed import is_out_of_memory
from deitkit.errors import DeitkitError

Key = TypeVar("Key")
Sample = TypeVar("Sample")

POLL_S = 2  # between two looks at the workers
PATIENCE_S = 600.0  # without any answer: a network disk may sleep, but not that long
AHEAD = 2  # samples that a worker makes before they are asked for
SHARED_MEMORY = Path("/dev/shm")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of malloc.h

_WORKERS: weakref.WeakSet[Any] = weakref.WeakSet()


class Pool(Generic[Key, Sample]):
    """Makes samples from keys in order, here or in worker processes."""

    def __init__(
        self,
        make: Callable[[Key], Sample],
        workers: int,
        device: torch.device,
        start_method: str | None = None,
    ) -> None:
        """Raises:
        DeitkitError: fewer than 0 workers.
        """
        if workers < 0:
            raise DeitkitError(f"{workers} workers", value=workers, remedy="--workers 0, or more")
        self.make, self.workers, self.device, self.start_method = make, workers, device, start_method

    def map(self, keys: Iterable[Key]) -> Generator[Sample, None, None]:
        """Samples in the keys' order; closing the generator ends the workers.

        Raises:
            DeitkitError: a worker's own, that a worker was killed, that none answers, or that memory ran out.
        """
        samples, workers = _started(self._loader(keys))
        try:
            for sample in self._answers(samples):
                if isinstance(sample, DeitkitError):
                    raise sample
                yield sample
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            if not self.workers or not _is_death(error):
                raise
        else:
            return
        finally:
            del samples  # its last reference, but for an error's: the workers end now
            _end(workers)
        # Not in the handler: the caught error would keep the pass alive.
        raise DeitkitError(
            "a data worker was killed; mostly memory, or shared memory (/dev/shm), ran out",
            value=self.workers,
            remedy="fewer --workers, or 0",
        )

    def _answers(self, samples: Iterator[Any]) -> Iterator[Any]:
        """What comes, for as long as something comes. Looks are counted, not seconds: a process may be suspended."""
        looks = 0
        while True:
            try:
                sample = next(samples)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    raise
                looks += 1
                if looks * POLL_S < PATIENCE_S:
                    continue
                sample = DeitkitError(
                    f"none of {self.workers} data workers has answered for {PATIENCE_S:.0f} s: the storage of the "
                    "images does not answer, or a worker hangs",
                    value=self.workers,
                    remedy="`deitkit data verify` reads every image; then repeat the command, a training with --resume",
                )
            looks = 0
            yield sample

    def _loader(self, keys: Iterable[Key]) -> DataLoader[Any]:
        return DataLoader(
            _Samples(self.make),
            batch_size=None,
            sampler=keys,
            num_workers=self.workers,
            prefetch_factor=AHEAD if self.workers else None,
            timeout=POLL_S if self.workers else 0,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=init_worker,
            multiprocessing_context=self.start_method if self.workers else None,
            generator=torch.Generator(),  # else every pass would draw from the global one
        )


class _Samples(Dataset[Any]):
    """`make` as a data set. An error is a sample: raised in a worker it would come out as a traceback's text."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __getitem__(self, key: Any) -> Any:
        try:
            sample = self.make(key)
            if get_worker_info() is not None:
                _share(sample)
        except DeitkitError as error:
            return error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return DeitkitError(
                f"memory ran out while images were read: {error}",
                remedy="fewer --workers, a smaller --set stream.batch_size, or a machine with more memory",
            )
        return sample


def _share(sample: Any) -> None:
    """Move a sample's tensors into shared memory.

    Raises:
        DeitkitError: it is full.
    """
    tensors = [part for part in sample if isinstance(part, torch.Tensor)] if isinstance(sample, tuple) else []
    try:
        for tensor in tensors:
            if tensor.numel():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise _too_little_room(
            sum(tensor.nbytes for tensor in tensors), free_shared_memory() or 0, fits=None
        ) from error


def keep_freed_memory() -> None:
    """Ask the C library to keep what batches gave back, instead of mapping every batch's pages anew: glibc alone does
    otherwise, and has a setting. Other systems are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def free_shared_memory() -> int | None:
    """Bytes that workers may share with the main process; None where nothing limits them."""
    if not SHARED_MEMORY.is_dir():
        return None
    found = os.statvfs(SHARED_MEMORY)
    return found.f_bavail * found.f_frsize


def refuse_little_shared_memory(workers: int, *, sample_bytes: int, held: int = 1) -> None:
    """Raise if samples of this size, with `held` of them in use at once, cannot all lie in shared memory.

    Raises:
        DeitkitError: they cannot; the remedy names a number of workers that fits.
    """
    free = free_shared_memory() if workers else None
    needed = sample_bytes * (AHEAD * workers + held)
    if free is not None and needed > free:
        raise _too_little_room(needed, free, fits=max(0, (free // max(1, sample_bytes) - held) // AHEAD))


def _too_little_room(needed: int, free: int, *, fits: int | None) -> DeitkitError:
    return DeitkitError(
        f"shared memory ({SHARED_MEMORY}) is too small for the data workers: they need {needed / 2**20:,.0f} MiB, "
        f"{free / 2**20:,.0f} MiB are free",
        value=needed,
        remedy=f"--workers {fits if fits is not None else 'N with fewer, or 0'}, a smaller stream.batch_size, or more "
        f"of it (docker run --shm-size={max(1, -(-needed // 2**29)) / 2:g}g, or --ipc=host)",
    )


def _started(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[Any]]:
    """Start the workers, without torch's signal handler for dead ones: it raises in the middle of anything, of an
    optimiser's step, too. Waiting for the next sample finds them as well."""
    if not loader.num_workers:
        return iter(loader), []
    before = None if sys.platform == "win32" else signal.getsignal(signal.SIGCHLD)
    samples = iter(loader)
    if sys.platform != "win32" and signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before)
    workers = [*getattr(samples, "_workers", ())]
    _WORKERS.update(workers)
    return samples, workers


def _end(workers: Iterable[Any]) -> None:
    """Kill those that are left: an error's traceback may hold a pass open, and a worker takes a first SIGTERM for the
    main process's."""
    for worker in workers:
        if getattr(worker, "_parent_pid", None) == os.getpid() and worker.is_alive():
            worker.kill()
            worker.join()


@atexit.register
def _end_all() -> None:
    """Before multiprocessing's own exit, which asks once and then waits for ever."""
    _end(list(_WORKERS))


def _is_death(error: Exception) -> bool:
    """Whether a worker died: torch says so, or the channel broke that tensors come through."""
    text = str(error)
    channel_broke = not isinstance(error, RuntimeError) and "in DataLoader worker process" not in text
    return channel_broke or "DataLoader worker (pid" in text


def _as_it_is(sample: Any) -> Any:
    return sample


def init_worker(_: int) -> None:
    """The main process decides when to stop: Ctrl-C and a first SIGTERM, which reach a whole process group, must not
    end the workers before the step is finished and saved. When it is gone, they go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _heed_the_next)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(parent: Any) -> None:
    """Wait for the parent's end. A sibling that was started later holds the pipe open until it has left itself."""
    multiprocessing.connection.wait([parent])
    os._exit(1)


def _heed_the_next(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
