"""`deitkit explore`: a run's predictions as a FiftyOne dataset, and the App on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render

if TYPE_CHECKING:
    from deitkit.predictions import Predictions


def explore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or a model folder.")],
    others: Annotated[
        list[str] | None, typer.Option("--with", metavar="RUN", help="Show another classifier's answers, too.")
    ] = None,
    teacher: Annotated[str, typer.Option("--teacher", help="Its teacher [default: the recipe's].")] = "",
    split: Annotated[str, typer.Option("--split", help="train or val.")] = "val",
    name: Annotated[str, typer.Option("--name", help="The dataset's name [default: deitkit-RUN].")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete a dataset of that name first, with its tags and views.")
    ] = False,
    launch: Annotated[bool, typer.Option("--launch", help="Open the App, on this machine only.")] = False,
    port: Annotated[int, typer.Option("--port", help="The App's port.")] = 5151,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at a run's predictions in FiftyOne.

    Every image with its ground truth, each head's answer with confidence, and the teacher's; a saved view for each kind
    of disagreement. Running it again updates what deitkit wrote; your tags and fields stay.

    Example: deitkit explore runs/quickstart/student_32
    """
    from deitkit.cli.classifiers import predictions_of
    from deitkit.explore import build_dataset

    teacher = teacher or teacher_of(run)
    references = [run, *([teacher] if teacher else []), *(others or [])]
    tables = predictions_of(references, split=split, device=device)
    files = image_files(run, tables[0])
    dataset = build_dataset(
        tables, name or f"deitkit-{Path(run).name}", image_of=lambda row: files[row], overwrite=overwrite
    )
    views = dataset.list_saved_views()
    if as_json:
        render.print_json({"dataset": dataset.name, "samples": len(dataset), "views": views})
    else:
        rows = [[view, len(dataset.load_saved_view(view))] for view in views]
        render.print_table(f"FiftyOne dataset {dataset.name}, {len(dataset):,} images", ["saved view", "images"], rows)
    if launch:
        look(dataset, port)
    else:
        render.say(f"to look at it: deitkit explore {run} --launch")


def look(dataset: Any, port: int) -> None:
    """The App until it is closed or Ctrl-C. On a remote machine: ssh -L PORT:127.0.0.1:PORT."""
    import os

    from deitkit import explore as fiftyone_side

    session = fiftyone_side.launch(dataset, port, open_browser=bool(os.environ.get("DISPLAY")))
    render.say(f"the App is at http://127.0.0.1:{port} on this machine; Ctrl-C ends it")
    session.wait(-1)


def teacher_of(run: str) -> str:
    """The recipe's teacher where it is a run or model folder that is still there."""
    from deitkit.run import Run

    if not Run.is_run(Path(run)):
        return ""
    teacher = Run(Path(run)).recipe().teacher
    if teacher is None or not isinstance(teacher.model, str) or not Path(teacher.model).is_dir():
        return ""
    return teacher.model


def image_files(run: str, table: Predictions) -> list[Path]:
    """Each image's file; images that have none (digits) are written beside the predictions."""
    if table.paths is not None:
        return [Path(path) for path in table.paths]
    import io

    from deitkit.cli.use import data_settings
    from deitkit.data.augment import decode
    from deitkit.data.sources import open_source
    from deitkit.run import write_atomic

    source = open_source(data_settings(run, dataset="", data=""), table.split)
    index_of = {image_id: index for index, image_id in enumerate(source.ids)}
    folder = Path(run) / "predictions" / "images"
    files = []
    for image_id in table.ids:
        path = folder / f"{image_id}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = io.BytesIO()
            decode(source.read(index_of[image_id]), image_id).save(image, "PNG")  # browsers show no PPM
            write_atomic(path, image.getvalue())
        files.append(path.absolute())
    return files
