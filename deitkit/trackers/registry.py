"""Which trackers there are, and whether their packages are here. Imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from deitkit.errors import one_of, require

if TYPE_CHECKING:
    from deitkit.trackers.tracker import Tracker


@dataclass(frozen=True)
class KnownTracker:
    """Where a tracker's class is, and the package that it needs, which is an extra of the same name."""

    module: str
    name: str
    package: str


TRACKERS = {
    "tensorboard": KnownTracker("deitkit.trackers.tensorboard", "TensorBoard", "tensorboard"),
    "wandb": KnownTracker("deitkit.trackers.wandb", "WeightsAndBiases", "wandb"),
    "mlflow": KnownTracker("deitkit.trackers.mlflow", "MLflow", "mlflow"),
    "trackio": KnownTracker("deitkit.trackers.trackio", "Trackio", "trackio"),
}


def parse_trackers(text: str) -> tuple[str, ...]:
    """`tensorboard,wandb` -> their names, each once.

    Raises:
        DeitkitError: no tracker is called so, or its package is not installed.
    """
    names = [word.strip() for word in text.split(",") if word.strip()]
    found = tuple(dict.fromkeys(one_of(name, list(TRACKERS), what="--log") for name in names))
    for name in found:
        require(f"--log {name}", TRACKERS[name].package, extra=name)
    return found


def open_tracker(name: str) -> Tracker:
    """A tracker that has not begun yet."""
    known = TRACKERS[name]
    return cast("Tracker", getattr(import_module(known.module), known.name)())
