"""`deitkit predict`, and what the verbs share that use a model: its data and its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, Device, ModelRef, Overwrite, output_option
from deitkit.errors import DeitkitError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


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

    from deitkit.distributed import pick_device
    from deitkit.files import output_file, write_atomic
    from deitkit.models.load import load_model
    from deitkit.predictions.predict import classify

    target = output_file(output, overwrite=overwrite) if output else None
    paths = image_paths(images)
    loaded, picked = load_model(model), pick_device(device)
    answers = classify(loaded, paths, device=picked, top=min(top, len(loaded.info.class_names)))
    if target:
        write_atomic(target, json.dumps(render.plain(answers), indent=2) + "\n")
    if as_json:
        render.print_json(answers)
        return
    rows = [
        [answer["image"] if rank == 0 and head_rank == 0 else "", head if rank == 0 else "", guess["class"],
         f"{guess['confidence']:.1%}"]
        for answer in answers
        for head_rank, (head, guesses) in enumerate(answer["heads"].items())
        for rank, guess in enumerate(guesses)
    ]  # fmt: skip
    render.print_table(f"Predictions of {model}", ["image", "head", "class", "confidence"], rows)


def image_paths(names: list[str]) -> list[Path]:
    """Files as given, and every image below a folder."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise DeitkitError(f"{path} holds no images", value=name, choices=sorted(IMAGE_SUFFIXES))
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DeitkitError(f"{path} does not exist", value=name, remedy="name an image file or a folder of them")
    return found
