"""How a teacher's answers lie on a tape: columns of numbers, and what half precision and top-k lose. Ours.

A part holds the answers to a run of mix groups of one epoch, column after column, little-endian, views in the stream's
order, so that `numpy.memmap` reads it:

    labels              the teacher's decisions, the smallest unsigned integer that fits K
    classes             [top_k], soft and top-k only: the classes whose probabilities follow, the likeliest first
    log_probabilities   float16, soft only: [K]; or [top_k + 1], the last being the log of all the rest's mass
    errors              soft only: three float64, each a sum over the part's views (ERRORS)

Logarithms, not probabilities: at a temperature of 3 the small ones matter, and below 6e-8 half precision has none.
Opens no files. Legend: B batch, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.teachers.output import TeacherOutput

Columns = dict[str, npt.NDArray[Any]]
Errors = npt.NDArray[np.float64]

# The probability mass that top-k drops, and KL(teacher || tape) in nats: as it is, and at the recipe's temperature.
ERRORS = ("dropped_mass", "kl", "kl_at_tau")
MOST_CLASSES = 10_000_000
LOWEST = -60_000.0  # near float16's end: exp() of it is 0 in any precision, but 0 times it is no NaN


@dataclass(frozen=True)
class TapeLayout:
    """What is recorded of a view, and how many mix groups an epoch has: the most that any batch size could use.

    `top_k` is None for hard labels, and where all K classes are kept.
    """

    classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    mix_group: Annotated[int, Field(ge=1, le=2**31)]
    groups: Annotated[int, Field(ge=1, le=2**31)]
    labels: Literal["hard", "soft"]
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_k is None:
            return
        if self.labels == "hard":
            raise DeitkitError("top-k is for soft labels", value=self.top_k, remedy="--labels soft, or no --top-k")
        if not 1 <= self.top_k < self.classes:
            raise DeitkitError(
                f"top-k {self.top_k} of {self.classes} classes",
                value=self.top_k,
                remedy=f"--top-k 1 to {self.classes - 1}; without --top-k all classes are kept",
            )

    @property
    def columns(self) -> dict[str, tuple[np.dtype[Any], int]]:
        """Name -> (dtype, numbers a view), as they lie in a part."""
        label = np.min_scalar_type(self.classes - 1).newbyteorder("<")
        if self.labels == "hard":
            return {"labels": (label, 1)}
        half = np.dtype("<f2")
        if self.top_k is None:
            return {"labels": (label, 1), "log_probabilities": (half, self.classes)}
        return {"labels": (label, 1), "classes": (label, self.top_k), "log_probabilities": (half, self.top_k + 1)}

    @property
    def bytes_per_view(self) -> int:
        return sum(dtype.itemsize * width for dtype, width in self.columns.values())

    def part_bytes(self, groups: int) -> int:
        """Size of a part's file."""
        errors = 8 * len(ERRORS) if self.labels == "soft" else 0
        return groups * self.mix_group * self.bytes_per_view + errors

    def pack(self, columns: Columns, errors: Errors) -> bytes:
        """Columns [V, width] and sums of errors -> a part's content."""
        parts = [np.ascontiguousarray(columns[name], dtype).tobytes() for name, (dtype, _) in self.columns.items()]
        return b"".join(parts) + (errors.astype("<f8").tobytes() if self.labels == "soft" else b"")

    def unpack(self, content: npt.NDArray[np.uint8], groups: int) -> Columns:
        """A part's content -> its columns [V, width], not copied."""
        views, offset, columns = groups * self.mix_group, 0, {}
        for name, (dtype, width) in self.columns.items():
            end = offset + views * width * dtype.itemsize
            columns[name] = content[offset:end].view(dtype).reshape(views, width)
            offset = end
        return columns

    def errors(self, content: npt.NDArray[np.uint8]) -> Errors:
        """A part's sums of errors; zeros for hard labels."""
        if self.labels == "hard":
            return np.zeros(len(ERRORS))
        return content[-8 * len(ERRORS) :].view("<f8").astype(np.float64)


def encode(logits: Tensor, layout: TapeLayout, *, tau: float) -> tuple[Columns, Errors]:
    """The teacher's logits [B, K] -> columns [B, width], and sums of what is lost; waits for the device."""
    labels = logits.argmax(dim=-1, keepdim=True)
    kept: dict[str, Tensor] = {"labels": labels}
    errors = np.zeros(len(ERRORS))
    if layout.labels == "soft":
        exact = F.log_softmax(logits.float(), dim=-1).clamp(min=LOWEST)
        if layout.top_k is None:
            dropped, logs = exact.new_zeros(()), exact
        else:
            values, kept["classes"] = exact.topk(layout.top_k, dim=-1)
            rest = exact.scatter(1, kept["classes"], -math.inf).logsumexp(dim=-1, keepdim=True)
            dropped, logs = rest.exp(), torch.cat([values, rest], dim=-1)
        kept["log_probabilities"] = logs.half()
        replayed = _log_probabilities(kept["log_probabilities"], kept.get("classes"), layout)
        sums = (dropped.sum(), _divergence(exact, replayed, 1.0), _divergence(exact, replayed, tau))
        errors = torch.stack([value.double() for value in sums]).cpu().numpy()
    return {name: _as(kept[name], dtype) for name, (dtype, _) in layout.columns.items()}, errors


def decode(columns: Columns, layout: TapeLayout, device: torch.device) -> TeacherOutput:
    """Columns [B, width] -> the answers on the device; decisions only, where there is no column of probabilities."""

    def moved(name: str, dtype: type | None = None) -> Tensor:
        values = columns[name].astype(dtype or columns[name].dtype.newbyteorder("="), copy=False)
        tensor = torch.from_numpy(values)
        # Pinned: the copy from pageable memory would wait for all that the device has still to do.
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

    labels = moved("labels", np.int64).flatten()
    if "log_probabilities" not in columns:
        return TeacherOutput(labels, None)
    classes = None if layout.top_k is None else moved("classes", np.int64)
    return TeacherOutput(labels, _log_probabilities(moved("log_probabilities"), classes, layout))


def _log_probabilities(logs: Tensor, classes: Tensor | None, layout: TapeLayout) -> Tensor:
    """[B, K] float32 of what was kept; what top-k left out shares its mass evenly."""
    logs = logs.float()
    if classes is None or layout.top_k is None:
        return logs
    rest = logs[:, -1:] - math.log(layout.classes - layout.top_k)
    return rest.repeat(1, layout.classes).scatter_(1, classes, logs[:, :-1])


def _divergence(exact: Tensor, replayed: Tensor, tau: float) -> Tensor:
    """KL(teacher || tape) at temperature tau, summed over B and K, in nats."""
    p, q = F.log_softmax(exact / tau, dim=-1), F.log_softmax(replayed / tau, dim=-1)
    return F.kl_div(q, p, reduction="sum", log_target=True)


def _as(values: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.cpu().numpy().astype(dtype)
    return array
