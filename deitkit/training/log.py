"""Running sums on the device, and metrics.jsonl. Knows no model and prints nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deitkit.files import saving
from deitkit.training.losses import Terms


@dataclass
class Sums:
    """Sums since the last log line, kept on the device: adding to them never waits for it."""

    steps: int = 0
    images: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)  # names of unreadable images, once for each time

    def add(self, terms: Terms, *, images: int, share: float) -> None:
        """One accumulation part: `share` is its weight within the step."""
        self.images += images
        self._accumulate("loss", terms.total.detach() * share)
        self._accumulate("loss_label", terms.label.detach() * share)
        if terms.distillation is not None:
            self._accumulate("loss_distillation", terms.distillation.detach() * share)

    def end_step(self, grad_norm: Tensor) -> None:
        self.steps += 1
        self._accumulate("grad_norm", grad_norm.detach())

    def _accumulate(self, key: str, value: Tensor) -> None:
        self.values[key] = self.values[key] + value if key in self.values else value

    def means(self) -> dict[str, float]:
        """Mean a step of every value; waits for the device."""
        return {key: value.item() / max(self.steps, 1) for key, value in self.values.items()}

    def is_finite(self) -> bool:
        """Whether all was finite since the last log line; waits for the device."""
        if not self.values:
            return True
        return bool(torch.isfinite(torch.stack([value.float() for value in self.values.values()])).all())

    def diagnosis(self) -> str:
        """Which values are not finite, in words."""
        bad = [key for key, value in self.values.items() if not torch.isfinite(value).item()]
        return f"{', '.join(bad)} not finite"

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps, "images": self.images, "values": dict(self.values), "replaced": list(self.replaced)
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any], device: torch.device) -> Sums:
        values = {key: value.to(device) for key, value in state["values"].items()}
        return cls(state["steps"], state["images"], values, state["replaced"])


class MetricsLog:
    """metrics.jsonl: one object a line, appended and flushed; cut to a checkpoint's length on resume."""

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self.path = path
        self.enabled = enabled
        self._last_time = time.perf_counter()
        self._last_wait = 0.0

    @property
    def bytes_written(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def cut(self, length: int) -> int:
        """Drop what was logged after the checkpoint that is resumed; the bytes that are missing before it.

        A line that is not whole goes, too: what is appended must begin a line of its own.
        """
        if not self.enabled:
            return 0
        content = self.path.read_bytes()[:length] if self.path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if self.path.is_file():
            with saving(self.path):
                os.truncate(self.path, len(whole))
        return length - len(whole)

    def sync(self) -> None:
        """Make what was written durable, before a checkpoint counts on it."""
        if self.enabled and self.path.is_file():
            with saving(self.path), open(self.path, "rb") as file:
                os.fsync(file.fileno())

    def write(self, record: Mapping[str, Any]) -> None:
        if self.enabled:
            with saving(self.path), open(self.path, "a") as file:
                file.write(json.dumps(record) + "\n")

    def clock(self, *, images: int, data_wait_s: float) -> dict[str, float]:
        """Rates since the last call; `images` in all ranks, `data_wait_s` since the loader's start."""
        now = time.perf_counter()
        seconds, wait = now - self._last_time, data_wait_s - self._last_wait
        self._last_time, self._last_wait = now, data_wait_s
        return {
            "images_per_s": round(images / seconds, 1),
            "data_wait_s": round(wait, 3),
            "seconds": round(seconds, 3),
        }

    def leave_out(self, seconds: float) -> None:
        """Time that was not training: evaluations and checkpoints do not count into the next line's rates."""
        self._last_time += seconds
