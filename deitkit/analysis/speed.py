"""Throughput and memory as tables of a report, how they are defined, and how an analysis asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deitkit.analysis.report import Table
from deitkit.distributed import pick_device
from deitkit.errors import one_of
from deitkit.models.throughput import PRECISIONS, Protocol, Speed

COMMON = {
    "accuracy": "top-1 of the deciding head: fused where there are two",
    "interval": "95% Wilson score interval",
    "GMACs": "thousands of millions of multiply-accumulates of one image: matrix products, attention's included, and"
    " convolutions; empty where torch does not run the model",
}


def protocol_of(device: str, *, seconds: float, batch_size: int | None, precision: str) -> Protocol:
    """How an analysis times models, from what a user says.

    Raises:
        DeitkitError: there is no such device or precision.
    """
    return Protocol(pick_device(device), batch_size, one_of(precision, PRECISIONS, what="--amp"), seconds)


def speed_definitions(conditions: Mapping[str, Any]) -> dict[str, str]:
    """How speed and memory were measured, and on what."""
    batch = conditions["batch_size"]
    return {
        "images/s": "the model's forward pass alone, in evaluation mode, on noise that is on the device already: no"
        f" decoding, no transfer. Models take turns in blocks of passes, {conditions['seconds_a_model']:g} s each in"
        " all; median of the blocks. The paper's is the mean of 30 passes of the largest batch that fits on a V100",
        "quartiles": "the middle half of the blocks lies between them",
        "MiB": "memory: weights, and by how much one pass of the batch raises the peak above them"
        f" ({conditions['memory']}); empty where it cannot be told",
        "measured on": f"{conditions['device']}; {conditions['threads']} thread(s) on the CPU (ONNX: 4);"
        f" {conditions['precision']}, float32 products at {conditions['matmul_precision']!r} precision;"
        f" torch {conditions['torch']}; {'the batch that suits the model' if batch is None else f'batches of {batch}'}",
    }


def speed_table(speeds: Mapping[str, Speed | None], *, what: str) -> Table:
    """How each was timed, by its name; `what` the names are of."""
    rows = (
        (name, speed.batch_size, speed.blocks, speed.images_per_s, speed.low, speed.high, speed.memory_mb)
        for name, speed in speeds.items()
        if speed is not None
    )
    measured = dict.fromkeys(("images/s", "quartile 1", "quartile 3", "MiB"), ",.1f")
    columns = {what: "", "batch": "", "blocks": "", **measured}
    return Table.of("speed", "Images per second, and what they were timed with", columns, rows)


Size = tuple[int, int]


def spelled(size: Size) -> str:
    """`384`, or `384x256` (height x width)."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
