"""Cores, shared memory, room and rights on the disk. Imports nothing heavy."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from deitkit.doctor.finding import Finding, ok, problem, warning
from deitkit.files import nearest_folder

MIB, GIB = 2**20, 2**30
SHARED_MEMORY = Path("/dev/shm")
# What the paper's recipe (Table 9: batches of 1,024, three repeats, 224 px) keeps there: units of 3 x 64 views, two for
# each worker and those of one batch, which are joined.
UNIT_BYTES, JOINED_UNITS = 3 * 64 * 3 * 224 * 224, 6
RUN_BYTES = 5 * GIB  # checkpoints of DeiT-B: three of weights, moving average and optimiser, a GiB and more each
LEAST_BYTES = 100 * MIB  # a run of the quickstart's size


def cores() -> Finding:
    """Cores that this process may use, which may be fewer than there are."""
    there = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    usable = min(ours, quota or ours)
    threads = os.environ.get("OMP_NUM_THREADS")
    found = f"{usable:g} of {there}" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    if usable < 2:
        return warning(f"{found}: images are decoded by the process that trains", "give it more cores")
    return ok(found)


def _quota(path: Path) -> float | None:
    """Cores that a container may spend; None where nothing limits it."""
    words = path.read_text().split() if path.is_file() else ["max"]
    return None if words[0] == "max" else round(int(words[0]) / int(words[1]), 2)


def shared_memory() -> Finding:
    """What data workers hand their views over in."""
    if not SHARED_MEMORY.is_dir():
        return ok(f"no {SHARED_MEMORY} on this system: nothing limits it")
    found = os.statvfs(SHARED_MEMORY)
    free = found.f_bavail * found.f_frsize
    workers = min(8, max(1, (os.cpu_count() or 1) - 1))
    needed = UNIT_BYTES * (2 * workers + JOINED_UNITS)
    words = f"{free / MIB:,.0f} MiB free in {SHARED_MEMORY}"
    if free < needed:
        what = f"{words}; {workers} workers at the paper's batch take {needed / MIB:,.0f}"
        return warning(what, "docker run --shm-size=2g or --ipc=host; else --workers 0 or a smaller batch")
    return ok(words)


def disk() -> Finding:
    """Room where runs go by default."""
    place = nearest_folder(Path("runs"))
    free = shutil.disk_usage(place).free
    words = f"{free / GIB:,.1f} GiB free for runs in {place}"
    if free < LEAST_BYTES:
        return problem(words, "make room, or name another place with --output; deitkit runs prune runs")
    if free < RUN_BYTES:
        return warning(f"{words}: a run of DeiT-B takes about {RUN_BYTES / GIB:.0f}", "deitkit runs prune runs")
    return ok(words)


def rights() -> Finding:
    """Whether runs and temporary files can be written: tried, because rights alone do not tell."""
    refused = []
    for place in (nearest_folder(Path("runs")), Path(tempfile.gettempdir())):
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
    if refused:
        return problem("; ".join(refused), "work in a folder of your own, or name one with --output; TMPDIR for /tmp")
    return ok(f"{nearest_folder(Path('runs'))} and {tempfile.gettempdir()}")
