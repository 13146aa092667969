"""`deitkit predict`: a model's classes for image files."""

from __future__ import annotations

from typing import Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, Device, ModelRef, Overwrite, output_option


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Image files, or folders of them.")],
    model: ModelRef,
    top: Annotated[int, typer.Option("--top", help="How many classes to show.")] = 5,
    output: Annotated[str, output_option("Also write the answers as JSON.")] = "",
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify images.

    Example: deitkit predict examples/digits --model runs/quickstart/student_32
    """
    import json

    from deitkit.files import output_file, write_atomic
    from deitkit.predictions.classify import classify

    target = output_file(output, overwrite=overwrite) if output else None
    answers = classify(model, images, top=top, device=device)
    plain = [answer.as_dict() for answer in answers]
    if target:
        write_atomic(target, json.dumps(plain, indent=2) + "\n")
    if as_json:
        render.print_json(plain)
        return
    rows = [
        [answer.path if rank == 0 and head_rank == 0 else "", head if rank == 0 else "", guess.name,
         f"{guess.confidence:.1%}"]
        for answer in answers
        for head_rank, (head, guesses) in enumerate(answer.heads.items())
        for rank, guess in enumerate(guesses)
    ]  # fmt: skip
    render.print_table(f"Predictions of {model}", ["image", "head", "class", "confidence"], rows)
