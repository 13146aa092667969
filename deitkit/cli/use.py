"""`deitkit evaluate` and `deitkit predict`: use a model that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.errors import DeitkitError, one_of

if TYPE_CHECKING:
    from deitkit.data.sources import Source
    from deitkit.predictions import Predictions
    from deitkit.schema import Data
    from deitkit.weights import LoadedModel

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN|FOLDER", help="A run or a model folder.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Another data set than the run's.")] = "",
    data: Annotated[str, typer.Option("--data", help="Where the images are.")] = "",
    split: Annotated[str, typer.Option("--split", help="train or val.")] = "val",
    fusion: Annotated[str, typer.Option("--fusion", help="softmax (the paper's) or average_logits.")] = "softmax",
    logits: Annotated[bool, typer.Option("--logits", help="Keep every head's logits in the predictions.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="The Parquet file [default: in the run].")] = "",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at once.")] = 64,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Processes that decode.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model's accuracy, each head apart, and write its predictions.

    Images are resized to the model's resolution over its crop ratio (0.875 by default) and centre-cropped. Heads:
    class, distillation, and fused, the mean of their softmaxes (paper Sec. 4) or of their logits.

    Example: deitkit evaluate runs/quickstart/student_32
    """
    from dataclasses import replace

    from deitkit import predict as prediction
    from deitkit.distributed import pick_device
    from deitkit.model import FUSIONS
    from deitkit.weights import load_model

    fused = one_of(fusion, FUSIONS, what="fusion")
    loaded = load_model(model)
    source = open_for(loaded, data_settings(model, dataset=dataset, data=data), split)
    picked = pick_device(device)
    table = prediction.predict(
        loaded.student.to(picked), replace(loaded.info, fusion=fused), source, name=Path(model).name, device=picked,
        batch_size=batch_size, workers=workers, keep_logits=logits,
    )  # fmt: skip
    path = Path(output) if output else predictions_path(model, table.dataset, table.split, data=data)
    table.save(path)
    show_accuracy(table, path, as_json=as_json)


def data_settings(reference: str, *, dataset: str, data: str) -> Data:
    """The data of a run's recipe, or of a model folder's config, or the data named."""
    from deitkit.run import Run
    from deitkit.schema import Data
    from deitkit.weights import load_info

    if Run.is_run(Path(reference)):
        settings = Run(Path(reference)).recipe().data
    else:
        settings = Data() if Path(reference).is_file() else Data(dataset=load_info(reference).dataset)
    if data:
        own = "folder" if settings.dataset == "digits" else settings.dataset
        return settings.model_copy(update={"path": data, "dataset": dataset or own})
    return settings.model_copy(update={"dataset": dataset, "path": None}) if dataset else settings


def open_for(model: LoadedModel, settings: Data, split: str) -> Source:
    """A split whose classes are the model's, or an error."""
    from deitkit.data.sources import open_source

    source = open_source(settings, split)
    if source.class_names != model.info.class_names:
        raise DeitkitError(
            f"{model.origin} and the data have other classes, or the same in another order",
            value=model.origin,
            problems=[
                f"model: {', '.join(model.info.class_names[:6])}",
                f"data: {', '.join(source.class_names[:6])}",
            ],
            remedy=f"deitkit finetune --from {model.origin} --data FOLDER gives it this data's classes",
        )
    return source


def predictions_path(reference: str, dataset: str, split: str, *, data: str = "") -> Path:
    """In the run's folder, or in a model folder: one file per data set and split, and per folder named by --data."""
    root = Path(reference).parent if Path(reference).is_file() else Path(reference)
    stem = f"{dataset}-{split}-{Path(data).resolve().name}" if data else f"{dataset}-{split}"
    return root / "predictions" / f"{stem}.parquet"


def show_accuracy(table: Predictions, path: Path, *, as_json: bool) -> None:
    scores = {
        head: {"top1": table.accuracy(head), "top5": table.accuracy(head, k=min(5, len(table.class_names)))}
        for head in table.heads
    }
    if as_json:
        render.print_json(
            {
                "classifier": table.classifier, "dataset": table.dataset, "split": table.split,
                "images": len(table.labels), "accuracy": scores, "settings": table.settings, "predictions": str(path),
            }
        )  # fmt: skip
        return
    rows = [[head, f"{score['top1']:.2%}", f"{score['top5']:.2%}"] for head, score in scores.items()]
    title = f"{table.classifier} on {table.dataset} {table.split}, {len(table.labels):,} images"
    size = "x".join(map(str, table.settings["image_size"]))
    footer = f"{size} px centre crop, resize-to-crop ratio {table.settings['crop_ratio']}; wrote {path}"
    render.print_table(title, ["head", "top-1", "top-5"], rows, footer=footer)


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Image files, or folders of them.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A run or a model folder.")],
    top: Annotated[int, typer.Option("--top", help="How many classes to show.")] = 5,
    output: Annotated[str, typer.Option("--output", "-o", help="Also write the answers as JSON.")] = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify images.

    Example: deitkit predict examples/digits --model runs/quickstart/student_32
    """
    import json

    from deitkit.distributed import pick_device
    from deitkit.predict import classify
    from deitkit.run import write_atomic
    from deitkit.weights import load_model

    paths = image_paths(images)
    loaded, picked = load_model(model), pick_device(device)
    answers = classify(loaded, paths, device=picked, top=min(top, len(loaded.info.class_names)))
    if output:
        write_atomic(Path(output), json.dumps(render.plain(answers), indent=2) + "\n")
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
