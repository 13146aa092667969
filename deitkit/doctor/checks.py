"""The table of checks, in the order in which they are told: those that need torch come after all that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deitkit.doctor import machine, places, software, torch_works
from deitkit.doctor.finding import Finding, problem

CHECKS: dict[str, Callable[[], Finding]] = {
    "python": software.python,
    "packages": software.packages,
    "completion": software.completion,
    "cores": machine.cores,
    "shared memory": machine.shared_memory,
    "free space": machine.disk,
    "write access": machine.rights,
    "hub cache": places.hub_cache,
    "data sets": places.datasets,
    "torch": torch_works.torch_itself,
    "devices": torch_works.devices,
    "bf16": torch_works.bf16,
    "compile": torch_works.compiling,
    "database": places.database,
}


def examine() -> Iterator[tuple[str, Finding]]:
    """Every check's name and finding, each as soon as it is known. No check keeps another from being made."""
    for name, look in CHECKS.items():
        try:
            yield name, look()
        except Exception as error:  # whatever is broken here is what was asked for
            yield (
                name,
                problem(f"cannot be looked at: {type(error).__name__}: {error}", f"mend it, or report it: {name}"),
            )
