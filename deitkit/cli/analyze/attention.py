"""`deitkit analyze attention`: what the class and the distillation token read of some images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deitkit.analysis.attention import analyze
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, ModelRef, ReportOptions
from deitkit.errors import DeitkitError


def attention(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGES...]", help="Image files, or folders of them [default: the run's own data]."),
    ] = None,
    model: ModelRef = "",
    layer: Annotated[
        str, typer.Option("--layer", help="Also each head of this layer: a number, or all for every head of every one.")
    ] = "",
    head: Annotated[str, typer.Option("--head", help="Also this head at each layer: a number, or all.")] = "",
    token: Annotated[str, typer.Option("--token", help="Of --layer all: class or distillation [default: both].")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many images [default: 4, or all files named].")
    ] = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:
    """What the class and the distillation token read of images, side by side.

    attention: softmax of a token's query with every token's key, by layer and head. rollout: heads averaged, an
    identity of equal weight added for the residual path, and the layers multiplied: what reaches the token of each
    patch. difference: class minus distillation token. distance: pixels between patches, weighted by attention.

    Each image has a figure of its rollouts and one of its layers, named after it. Fused attention is off while this
    command looks. Attention shows what is mixed, not what decided. Sources: Abnar & Zuidema 2020 (rollout);
    Dosovitskiy et al. 2020, Fig. 7 (distance); Touvron et al. 2020, Sec. 4 (tokens).

    Example: deitkit analyze attention examples/digits --model runs/quickstart/student_32
    Example: deitkit analyze attention cat.jpg --model runs/mine --layer 6
    Example: deitkit analyze attention --model runs/mine --limit 8
    """
    folder = reports_folder(model, saved, name="attention") if model else Path()
    report = analyze(
        model, images or [], layer=_place(layer, "--layer"), head=_place(head, "--head"), token=token, limit=limit,
        **vars(where),
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json, without=("heads",))


def _place(text: str, option: str) -> int | Literal["all"] | None:
    """A layer or head, all of them, or none in particular."""
    if text in ("", "all"):
        return "all" if text else None
    if not text.isdecimal():
        raise DeitkitError(f"{option} {text!r}: expected a number from 1, or all", value=text)
    return int(text)
