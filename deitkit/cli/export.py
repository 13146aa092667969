"""`deitkit export`: a model written for where others use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.early import known_model
from deitkit.cli.options import AsJson, DataPath, Dataset, Overwrite, output_option
from deitkit.models.export.wanted import FORMAT_NAMES, OLDEST_OPSET, PRECISION_NAMES

if TYPE_CHECKING:
    from deitkit.predictions.export import WrittenModel


@dataclass(frozen=True)
class OnnxOptions:
    """How an ONNX file is written."""

    precision: Annotated[str, typer.Option("--precision", help=f"{', '.join(PRECISION_NAMES)} (ONNX).")] = "fp32"
    preprocess: Annotated[
        bool, typer.Option("--preprocess", help="Resize, crop and normalise inside the graph: uint8 [B, h, w, 3] in.")
    ] = False
    opset: Annotated[int, typer.Option("--opset", help="ONNX's version of operators.")] = OLDEST_OPSET


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", callback=known_model, help="RUN, RUN@best, RUN:class, a model folder, timm:NAME or a file."
        ),
    ],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMAT_NAMES)}.")],
    onnx: OnnxOptions,
    dataset: Dataset = "",
    data: DataPath = "",
    output: Annotated[str, output_option("The new file or folder [default: beside the model].")] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a model for where others use it, and check it there on 32 real images.

    An ONNX file takes any batch, answers with each head's logits and the fused probabilities, and says its
    pre-processing and class names in its metadata. What was written is opened by the library that it is for, its logits
    are compared with the model's, and it is kept only where they agree.

    Example: deitkit export runs/quickstart/student_32 --to onnx
    Example: deitkit export runs/mine:class --to onnx --precision fp16 -o mine.onnx
    Example: deitkit export runs/mine --to timm -o models/mine
    """
    from deitkit.models.export.place import place_of
    from deitkit.models.export.wanted import Wanted
    from deitkit.models.reference import Reference

    wanted = Wanted.of(to, **vars(onnx), licence="")
    place_of(Reference.parse(model), wanted, output=output, overwrite=overwrite)
    from deitkit.predictions.export import export as write  # what is named wrongly is told before it

    written = write(model, to, output=output, dataset=dataset, data=data, overwrite=overwrite, **vars(onnx))
    if as_json:
        render.print_json(written)
    else:
        show(written)


def show(written: WrittenModel) -> None:
    """What was written and how far it agrees, as a table; then what its user should know."""
    checked = written.checked
    allowed = "no bound" if checked.allowed is None else f"{checked.allowed:.0e} allowed"
    rows: list[list[Any]] = [
        ["answers with", ", ".join(written.heads)],
        ["size", f"{written.bytes:,} bytes"],
        ["checked on", checked.what],
        ["logits differ by at most", f"{checked.difference:.2g} ({allowed})"],
        ["other decisions", f"{checked.other_decisions} of {checked.images}"],
    ]
    render.print_table(f"Exported as {written.format}, {written.precision}", ["", str(written.path)], rows)
    for note in written.notes:
        render.say(note)
