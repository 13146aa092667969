"""What a run ran on, and since when: versions, devices, processor, command line; and what is free here now."""

from __future__ import annotations

import platform
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONS_OF = ("deitkit", "torch", "torchvision", "timm", "pillow", "numpy", "safetensors")
_PROCESSOR = {"cpu family": "family", "model": "model", "stepping": "stepping"}


def processor() -> str:
    """What the processor calls itself: kinds reckon with instructions of their own, and differ in the last bit."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine()
    found = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*:\s*(.+)$", path.read_text(), re.MULTILINE))
    numbers = [f"{word} {found[key]}" for key, word in _PROCESSOR.items() if key in found]
    return ", ".join([found.get("model name", platform.machine()), *numbers])


def describe_environment(**more: Any) -> dict[str, Any]:
    """Versions, platform and command line, with what the caller knows (devices, threads, data fingerprint)."""
    versions = {}
    for package in VERSIONS_OF:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": ["deitkit", *sys.argv[1:]],
        "began": round(time.time(), 3),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "versions": versions,
        **more,
    }


def free_memory() -> int | None:
    """Bytes that may still be taken of this machine's and its control group's memory; None where it cannot be told."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        available = [line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
        limits += [1024 * int(kib) for kib in available]
    group, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if group.is_file() and used.is_file() and (most := group.read_text().strip()).isdecimal():
        limits.append(int(most) - int(used.read_text()))
    return min(limits, default=None)
