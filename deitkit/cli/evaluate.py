"""`deitkit evaluate`: a model's accuracy on one or several data sets, by any number of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import (
    AsJson,
    BatchSize,
    DataPath,
    Device,
    Overwrite,
    Split,
    ValFraction,
    Workers,
    output_option,
)
from deitkit.errors import DeitkitError, one_of

if TYPE_CHECKING:
    from deitkit.models.load import LoadedModel
    from deitkit.predictions.fusion_choice import FusionReport
    from deitkit.predictions.table import Predictions
    from deitkit.recipe.schema import Data

FUSION_WORDS = {
    "class": "class head", "distillation": "distillation head", "softmax": "softmax sum (the paper's)",
    "average_logits": "logit average (reference code's)", "weighted_softmax": "weighted softmax sum",
    "weighted_logits": "weighted logit sum",
}  # fmt: skip


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, a model folder or timm:NAME.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="NAME[=PATH]", help="Other data; may be repeated.")
    ] = None,
    data: DataPath = "",
    split: Split = "",
    val_fraction: ValFraction = None,
    fusion: Annotated[
        str, typer.Option("--fusion", help="softmax (the paper's) or average_logits [default: the model's].")
    ] = "",
    fit_fusion: Annotated[
        bool, typer.Option("--fit-fusion", help="Fit how the heads are fused, and judge it on images left out.")
    ] = False,
    store_fusion: Annotated[
        bool, typer.Option("--store-fusion", help="With --fit-fusion: make the choice the model's own.")
    ] = False,
    crop_ratio: Annotated[
        float | None, typer.Option("--crop-ratio", help="Of the crop to the resized image [default: the model's].")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also show each class, the worst first.")] = False,
    logits: Annotated[bool, typer.Option("--logits", help="Keep every head's logits in the predictions.")] = False,
    output: Annotated[str, output_option("The Parquet file [default: in the run].")] = "",
    overwrite: Overwrite = False,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model's accuracy, each head apart, and write its predictions.

    Images are resized to the model's resolution over its crop ratio (0.875 by default) and centre-cropped. Heads:
    class, distillation, and fused, the mean of their softmaxes (paper Sec. 4) or of their logits, or as --fit-fusion
    chose and --store-fusion keeps. Classes are matched by name. ReaL accuracy (Beyer et al. 2020) stands beside top-1
    where real.json lies with ImageNet. Under torchrun each process takes its own part, and no image counts twice.

    Example: deitkit evaluate runs/quickstart/student_32
    """
    import os

    from deitkit.data.views.augment import Reading
    from deitkit.distributed import join_world, pick_device
    from deitkit.files import output_file
    from deitkit.models.load import load_model
    from deitkit.models.student import FUSIONS
    from deitkit.predictions import predict as prediction
    from deitkit.predictions.find import open_for
    from deitkit.predictions.table import predictions_path

    target = output_file(output, overwrite=overwrite) if output else None
    fused = one_of(fusion, FUSIONS, what="fusion") if fusion else None
    wanted = settings_of(model, dataset or [], data=data, val_fraction=val_fraction)
    if output and len(wanted) > 1:
        raise DeitkitError("-o names one file, but there are several data sets", value=output, remedy="leave it out")
    picked = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    loaded = load_model(model)
    check_fitting(model, loaded, fit=fit_fusion, store=store_fusion, data_sets=len(wanted))
    info = replace(loaded.info, fusion=fused or loaded.info.fusion, crop_ratio=crop_ratio or loaded.info.crop_ratio)
    with join_world(picked.type) as world:
        results: list[tuple[Predictions, Path]] = []
        fitted = None
        for place, settings in wanted:
            source, classes = open_for(loaded, settings, split or settings.validate_on)
            table = prediction.predict(
                loaded.student.to(picked), info, source, name=Path(model).name, device=picked, world=world,
                batch_size=batch_size or 64, workers=workers or 0, keep_logits=logits or fit_fusion, classes=classes,
                reading=Reading.of(settings),
            )  # fmt: skip
            if world.is_main:
                path = target or predictions_path(model, table.dataset, table.split, data=place)
                if fit_fusion:
                    table, fitted = fit(model, table, store=store_fusion, keep_logits=logits)
                table.save(path)
                say_notes(settings, source, known=len(table.class_names))
                results.append((table, path))
    if results:
        show_results(results, fitted, per_class=per_class, as_json=as_json)


def check_fitting(model: str, loaded: LoadedModel, *, fit: bool, store: bool, data_sets: int) -> None:
    """Refuse, before any image is read, what cannot be fitted or stored."""
    from deitkit.models.folder import find_model, read_config, read_info

    if store and not fit:
        raise DeitkitError("there is nothing to store", value="--store-fusion", remedy="--fit-fusion --store-fusion")
    if fit and data_sets > 1:
        raise DeitkitError(
            f"a fusion is fitted to one data set, not to {data_sets}", value=data_sets, remedy="one --dataset"
        )
    if fit and not loaded.student.distilled:
        raise DeitkitError(
            f"{model} has one head: there is nothing to fuse",
            value=model,
            remedy="name a model with a distillation token: `deitkit distill` trains one",
        )
    if store and not (Path(model).is_dir() and read_info(read_config(find_model(model)))):
        raise DeitkitError(
            f"{model} is not a run or model folder of deitkit's own: no fusion can be stored in it",
            value=model,
            remedy="leave out --store-fusion, or name a run",
        )


def fit(model: str, table: Predictions, *, store: bool, keep_logits: bool) -> tuple[Predictions, FusionReport]:
    """Fit the fusion; where it is stored, the predictions are fused anew by it."""
    from deitkit.models.folder import find_model, store_fusion
    from deitkit.predictions.fusion_choice import fit_to, fused_by, name_of

    fitted = fit_to(table)
    if table.split == "train":
        render.say("the model has learned these images, and is surer of them than of others: fit on --split val")
    if store:
        store_fusion(find_model(model), fitted.choice)
        table = fused_by(table, fitted.choice)
        render.say(f"stored in {find_model(model)}: {name_of(fitted.choice)}; --fusion softmax is the paper's again")
    if not keep_logits:
        table = replace(table, heads={name: replace(head, logits=None) for name, head in table.heads.items()})
    return table, fitted


def settings_of(model: str, datasets: list[str], *, data: str, val_fraction: float | None) -> list[tuple[str, Data]]:
    """What to evaluate on: (the path named, settings) for each NAME[=PATH], or for the model's own data."""
    from deitkit.catalog import DATASETS
    from deitkit.predictions.find import data_settings

    if data and (len(datasets) > 1 or any("=" in word for word in datasets)):
        raise DeitkitError(
            "--data names one place, but there are several data sets", value=data, remedy="--dataset NAME=PATH for each"
        )
    found = []
    for word in datasets or [""]:
        name, _, path = word.partition("=")
        if name and name != "folder" and not name.startswith("hf:"):
            one_of(name, (*DATASETS, "folder"), what="data set")
        place = path or data
        settings = data_settings(model, dataset=name, data=place)
        if val_fraction is not None:
            settings = settings.model_copy(update={"val_fraction": val_fraction})
        found.append((place, settings))
    return found


def say_notes(settings: Data, source: Any, *, known: int) -> None:
    """What a person should know of the images: sizes unlike the published ones, missing files, classes left over."""
    from deitkit.data.open import size_notes

    notes = [*size_notes(settings, source), *source.notes]
    if known > len(source.class_names):
        notes.append(f"the data has {len(source.class_names):,} of the model's {known:,} classes")
    for note in notes:
        render.say(note)


def show_results(
    results: list[tuple[Predictions, Path]], fitted: FusionReport | None = None, *, per_class: bool, as_json: bool
) -> None:
    """A table for each data set; with --json an object, or a list of them where there are several."""
    if as_json:
        objects = [as_object(table, path, per_class=per_class) for table, path in results]
        if fitted:
            objects[0]["fusion_fit"] = fitted
        render.print_json(objects[0] if len(objects) == 1 else objects)
        return
    for table, path in results:
        print_accuracy(table, path)
        if per_class:
            print_classes(table)
    if fitted:
        print_fit(fitted)


def print_fit(report: FusionReport) -> None:
    """The ways to decide beside each other, then the fusions against the paper's."""
    from deitkit.predictions.fusion_choice import name_of

    rows: list[list[Any]] = [
        [FUSION_WORDS[each.name], f"{each.top1:.2%}", f"{each.right:,}", f"{each.nll:.4f}", f"{each.ece:.4f}"]
        for each in report.scores
    ]
    title = f"Fusions on {report.images:,} images; fitted ones judge each by a fit without it ({report.folds} folds)"
    render.print_table(title, ["decides by", "top-1", "right", "NLL", "ECE"], rows)
    rows = [
        [
            FUSION_WORDS[each.name], f"{each.gained:,} / {each.lost:,}",
            f"{each.top1_gain:+.2%} ({each.top1_interval[0]:+.2%} to {each.top1_interval[1]:+.2%})",
            f"{each.p_value:.3g}",
            f"{each.nll_gain:+.4f} ({each.nll_interval[0]:+.4f} to {each.nll_interval[1]:+.4f})", each.verdict,
        ]
        for each in report.comparisons
    ]  # fmt: skip
    columns = ["fusion", "gained / lost", "top-1 gain (95 %)", "McNemar p", "NLL gain (95 %)", "so it"]
    render.print_table("Against the paper's softmax sum", columns, rows)
    rows = [[FUSION_WORDS[each.kind], each.weight, *each.temperatures] for each in report.fitted]
    columns = ["fitted to all", "class head's share", "its temperature", "distillation head's"]
    footer = f"lowest NLL of all that do not decide worse: {FUSION_WORDS[name_of(report.choice)]}"
    render.print_table("What was fitted", columns, rows, footer=footer)
    for note in report.notes:
        render.say(note)


def scores_of(table: Predictions) -> dict[str, dict[str, Any]]:
    """Head -> top1, right (a count), top5 and, where several labels may be right, real with its counts."""
    scores: dict[str, dict[str, Any]] = {}
    for head in table.heads:
        top5 = table.accuracy(head, k=min(5, len(table.class_names)))
        scores[head] = {"top1": table.accuracy(head), "right": int(table.hits(head).sum()), "top5": top5}
        if table.accepted is not None:
            right, judged = table.real_accuracy(head)
            scores[head] |= {"real": right / judged if judged else None, "real_right": right, "real_images": judged}
    return scores


def as_object(table: Predictions, path: Path, *, per_class: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "classifier": table.classifier, "dataset": table.dataset, "split": table.split, "images": len(table.labels),
        "accuracy": scores_of(table), "settings": table.settings, "predictions": str(path),
    }  # fmt: skip
    if per_class:
        counts = {head: table.per_class(head) for head in table.heads}
        result["per_class"] = {
            name: {"images": int(images)} | {head: int(counts[head][0][index]) for head in table.heads}
            for index, (name, images) in enumerate(zip(table.class_names, counts["class"][1], strict=True))
            if images
        }
    return result


def print_accuracy(table: Predictions, path: Path) -> None:
    columns = ["head", "top-1", "right", "top-5"] + ([] if table.accepted is None else ["ReaL", "right of judged"])
    rows = []
    for head, score in scores_of(table).items():
        row = [head, f"{score['top1']:.2%}", f"{score['right']:,}", f"{score['top5']:.2%}"]
        if table.accepted is not None:
            real = "" if score["real"] is None else f"{score['real']:.2%}"
            row += [real, f"{score['real_right']:,} of {score['real_images']:,}"]
        rows.append(row)
    title = f"{table.classifier} on {table.dataset} {table.split}, {len(table.labels):,} images"
    size = "x".join(map(str, table.settings["image_size"]))
    left_out = table.settings.get("left_out")
    footer = f"{size} px centre crop, resize-to-crop ratio {table.settings['crop_ratio']}; wrote {path}"
    if isinstance(fusion := table.settings["fusion"], dict):
        same = ": these very images, so fused looks better than it is" * (fusion["fingerprint"] == table.fingerprint)
        footer += f"; {FUSION_WORDS[fusion['kind']]} fitted on {fusion['fitted_on']}{same}"
    if left_out:
        footer = f"{left_out:,} unreadable images left out; {footer}"
    render.print_table(title, columns, rows, footer=footer)


def print_classes(table: Predictions) -> None:
    """Each class's accuracy by every head, the worst of the last head first."""
    counts = {head: table.per_class(head) for head in table.heads}
    right, images = counts[list(table.heads)[-1]]
    present = [index for index in range(len(images)) if images[index]]
    present.sort(key=lambda index: (right[index] / images[index], table.class_names[index]))
    rows = [
        [table.class_names[index], int(images[index])]
        + [f"{counts[head][0][index] / images[index]:.1%}" for head in table.heads]
        for index in present
    ]
    render.print_table("By class, top-1", ["class", "images", *table.heads], rows)
