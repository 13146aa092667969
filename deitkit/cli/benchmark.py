"""`deitkit benchmark throughput`: how fast architectures run on this machine, beside the paper's V100."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import parse_sizes
from deitkit.cli.options import AsJson, BatchSize, Device, Seconds, Sizes
from deitkit.errors import one_of

if TYPE_CHECKING:
    from deitkit.speed.throughput import Measured

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL...", help="deit_tiny, timm:regnety_160, ... [default: the paper's and some rivals]"),
]


def throughput(
    models: Names = None,
    sizes: Sizes = "",
    amp: Annotated[str, typer.Option("--amp", help="fp32, bf16, fp16, or several: fp32,bf16.")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="Time each compiled by torch.compile, too.")] = False,
    batch_size: BatchSize = None,
    seconds: Seconds = 3.0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Images a second of architectures, beside the paper's V100.

    And their memory and operations: the protocol of the paper's Tables 1, 5 and 10 on this machine. Random weights,
    noise that is on the device already, the forward pass alone. Models take turns; median and quartiles of blocks of
    passes. The paper's column is one V100, the largest batch that fits, the mean of 30 passes.

    Source: Touvron et al. 2020, Tables 5 and 10.

    Example: deitkit benchmark throughput timm:resnet18 deit_nano --sizes 32 --seconds 0.2 --device cpu
    Example: deitkit benchmark throughput deit_small timm:regnety_160 --amp fp32,bf16 --compile
    Example: deitkit benchmark throughput deit_base --sizes 160,224,320,384 --json
    """
    pixels = parse_sizes(sizes)
    words = [word.strip() for word in amp.split(",") if word.strip()]
    from deitkit.distributed import pick_device
    from deitkit.models.throughput import PRECISIONS, Protocol
    from deitkit.speed.throughput import USUAL, measure_throughput

    precisions = [one_of(word, PRECISIONS, what="--amp") for word in words]
    protocol = Protocol(pick_device(device), batch_size, seconds=seconds)
    found = measure_throughput(
        models or USUAL, sizes=pixels, precisions=precisions, compiled=compiled, protocol=protocol, say=render.say
    )
    conditions = protocol.conditions() | {"precision": precisions}
    if as_json:
        render.print_json({"conditions": conditions, "models": found})
        return
    rows = [row_of(each) for each in found]
    columns = ["model", "px", "run as", "params (M)", "GMACs", "batch", "images/s", "quartiles", "MiB", "paper's V100"]
    render.print_table(f"Throughput on {conditions['device']}, {conditions['threads']} thread(s)", columns, rows)


def row_of(each: Measured) -> list[Any]:
    height, width = each.size
    return [
        each.model, height if height == width else f"{height}x{width}",
        f"{each.precision}{', compiled' if each.compiled else ''}", f"{each.parameters / 1e6:.1f}",
        "" if each.macs is None else f"{each.macs / 1e9:.3g}", each.speed.batch_size, f"{each.speed.images_per_s:,.1f}",
        f"{each.speed.low:,.1f} to {each.speed.high:,.1f}",
        "" if each.speed.memory_mb is None else f"{each.speed.memory_mb:,.0f}",
        "" if each.published is None else f"{each.published:,.1f}",
    ]  # fmt: skip
