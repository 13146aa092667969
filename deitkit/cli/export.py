"""`deitkit export`: a model written for where others use it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, DataPath, Dataset, Overwrite, model_argument, output_option
from deitkit.errors import DeitkitError
from deitkit.models.export.wanted import (
    FOLDERS,
    FORMAT_NAMES,
    OLDEST_OPSET,
    PRECISION_NAMES,
    Wanted,
    check_repository,
)
from deitkit.models.reference import Reference

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


@dataclass(frozen=True)
class HubOptions:
    """What becomes of a folder for a hub."""

    licence: Annotated[str, typer.Option("--license", help="The card's, as the hub spells it: apache-2.0, ...")] = ""
    push: Annotated[str, typer.Option("--push", metavar="OWNER/NAME", help="Upload the folder, once you agree.")] = ""
    private: Annotated[bool, typer.Option("--private", help="With --push: a new repository is private.")] = False
    yes: Annotated[bool, typer.Option("--yes", help="With --push: do not ask.")] = False


def export(
    model: Annotated[str, model_argument("MODEL", "RUN, RUN@best, RUN:class, a model folder, timm:NAME or a file.")],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMAT_NAMES)}.")],
    onnx: OnnxOptions,
    hub: HubOptions,
    dataset: Dataset = "",
    data: DataPath = "",
    output: Annotated[str, output_option("The new file or folder [default: beside the model].")] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a model for where others use it, and check it there on 32 real images.

    onnx: any batch; each head's logits and the fused probabilities; pre-processing and class names in its metadata.
    timm: a folder that timm and the hub open, with a model card. hf: one for transformers. torch: a torch.export
    program. safetensors: one file. What was written is opened by the library that it is for, its logits are compared
    with the model's, and it is kept only where they agree. Every verb that takes a model reads it back.

    Example: deitkit export runs/quickstart/student_32 --to onnx
    Example: deitkit export runs/mine:class --to onnx --precision int8 --preprocess -o mine.onnx
    Example: deitkit export runs/mine --to timm --license apache-2.0 --push OWNER/NAME
    """
    from deitkit.models.export.place import place_of

    wanted = Wanted.of(to, **vars(onnx), licence=hub.licence)
    refuse_unasked(hub, wanted)
    place_of(Reference.parse(model), wanted, output=output, overwrite=overwrite)
    from deitkit.predictions.export import export as write  # what is named wrongly is told before it

    written = write(
        model, to, output=output, dataset=dataset, data=data, overwrite=overwrite, licence=hub.licence,
        repository=hub.push, **vars(onnx),
    )  # fmt: skip
    if not as_json:
        show(written)
    address = upload(written, hub) if hub.push else ""
    if as_json:
        render.print_json({**vars(written), **({"pushed": address} if hub.push else {})})


def refuse_unasked(hub: HubOptions, wanted: Wanted) -> None:
    """Raise where nothing can be uploaded, or nobody can be asked whether to.

    Raises:
        DeitkitError: a file is no repository, the name is none, or there is no terminal and no --yes.
    """
    if not hub.push:
        return
    check_repository(hub.push)
    if not wanted.is_folder:
        raise DeitkitError(f"--to {wanted.format} writes a file", value=hub.push, choices=FOLDERS, remedy="--to timm")
    if not hub.yes and not (sys.stdin and sys.stdin.isatty()):
        raise DeitkitError("nobody can be asked whether to upload", value=hub.push, remedy="--yes, where you agree")


def upload(written: WrittenModel, hub: HubOptions) -> str:
    """Ask, and upload; the address, or nothing where the answer was no."""
    from deitkit.models.export.push import push

    seen = "whom you let" if hub.private else "everybody"
    question = f"Upload {written.path} ({written.bytes:,} bytes) to {hub.push} on the hub, where {seen} can read it?"
    if not hub.yes and not typer.confirm(question, err=True):
        render.say("nothing was uploaded")
        return ""
    address = push(written.path, hub.push, private=hub.private)
    render.say(f"uploaded to {address}: hf-hub:{hub.push} is its name in deitkit and timm")
    return address


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
    if written.pixels:
        pixels = written.pixels
        render.say(
            f"pre-processing in the graph: {pixels.share:.3%} of the pixels differ, by at most {pixels.largest} of "
            f"255; {pixels.other_decisions} of {checked.images} decisions are others"
        )
    if written.measured:
        table = [
            [each.precision, f"{each.top1:.2%}", f"{each.right:,} of {each.images:,}", f"{each.images_per_s:,.0f}",
             f"{each.bytes:,}"] for each in written.measured
        ]  # fmt: skip
        columns = ["precision", f"top-1, {written.measured[0].head}", "right", "images/s", "bytes"]
        render.print_table("What 8 bits cost and bring, by onnxruntime on this CPU", columns, table)
    for note in written.notes:
        render.say(note)
