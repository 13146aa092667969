"""`deitkit evaluate`: a model's accuracy on one or several data sets, by any number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import options, render
from deitkit.files import output_file

if TYPE_CHECKING:
    from deitkit.predictions.evaluate import Evaluation
    from deitkit.predictions.fusion_choice import FusionReport

FUSION_WORDS = {
    "class": "class head", "distillation": "distillation head", "softmax": "softmax sum (the paper's)",
    "average_logits": "logit average (reference code's)", "weighted_softmax": "weighted softmax sum",
    "weighted_logits": "weighted logit sum",
}  # fmt: skip


@dataclass(frozen=True)
class FusionOptions:
    """How both heads' answers become one."""

    fusion: Annotated[
        str, typer.Option("--fusion", help="softmax (the paper's) or average_logits [default: the model's].")
    ] = ""
    fit_fusion: Annotated[
        bool, typer.Option("--fit-fusion", help="Fit how the heads are fused, and judge it on images left out.")
    ] = False
    store_fusion: Annotated[
        bool, typer.Option("--store-fusion", help="With --fit-fusion: make the choice the model's own.")
    ] = False


LogitAdjustment = Annotated[
    float | None,
    typer.Option(
        "--logit-adjustment",
        metavar="TAU",
        help="Decide by logits less TAU x log of the class's share of the training images; 1 for balanced accuracy.",
    ),
]


@dataclass(frozen=True)
class EvaluatedOptions:
    """On which images, and how they are shown to the model."""

    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="NAME[=PATH]", help="Other data; may be repeated.")
    ] = None
    data: options.DataPath = ""
    split: options.Split = ""
    val_fraction: options.ValFraction = None
    crop_ratio: Annotated[
        float | None, typer.Option("--crop-ratio", help="Of the crop to the resized image [default: the model's].")
    ] = None


@dataclass(frozen=True)
class KeptOptions:
    """What is shown and kept of the answers."""

    per_class: Annotated[bool, typer.Option("--per-class", help="Also show each class, the worst first.")] = False
    logits: Annotated[bool, typer.Option("--logits", help="Keep every head's logits in the predictions.")] = False
    output: Annotated[str, options.output_option("The Parquet file [default: in the run].")] = ""
    overwrite: options.Overwrite = False
    as_json: options.AsJson = False


def evaluate(
    model: Annotated[str, options.model_argument("MODEL", "A run, RUN@best, a model folder, timm:NAME, x.onnx, ...")],
    images: EvaluatedOptions,
    fusion: FusionOptions,
    kept: KeptOptions,
    compute: options.ComputeOptions,
    batch_size: options.BatchSize = 64,
    logit_adjustment: LogitAdjustment = None,
) -> None:
    """Measure a model's accuracy, each head apart, and write its predictions.

    Images are resized to the model's resolution over its crop ratio (0.875 by default) and centre-cropped. Heads:
    class, distillation, and fused, the mean of their softmaxes (paper Sec. 4) or of their logits, or as --fit-fusion
    chose and --store-fusion keeps. Classes are matched by name. ReaL accuracy (Beyer et al. 2020) stands beside top-1
    where real.json lies with ImageNet. Under torchrun each process takes its own part, and no image counts twice.

    Example: deitkit evaluate runs/quickstart/student_32
    Example: deitkit evaluate runs/mine --split test --per-class
    Example: deitkit evaluate timm:deit_tiny_patch16_224 --dataset imagenet --data /data/imagenet
    """
    from deitkit.distributed import is_main_process
    from deitkit.predictions.evaluate import evaluate_each

    target = output_file(kept.output, overwrite=kept.overwrite) if kept.output else ""
    results = evaluate_each(
        model, images.dataset or [], data=images.data, split=images.split, val_fraction=images.val_fraction,
        crop_ratio=images.crop_ratio, **vars(fusion), logit_adjustment=logit_adjustment,
        keep_logits=kept.logits, output=target, batch_size=batch_size or 64,
        workers=options.workers_or_default(compute.workers), device=compute.device,
    )  # fmt: skip
    if is_main_process():
        show_results(results, per_class=kept.per_class, as_json=kept.as_json)


def show_results(results: list[Evaluation], *, per_class: bool, as_json: bool) -> None:
    """A table for each data set; with --json an object, or a list of them where there are several."""
    if as_json:
        objects = [as_object(each, per_class=per_class) for each in results]
        render.print_json(objects[0] if len(objects) == 1 else objects)
        return
    for each in results:
        print_accuracy(each)
        if per_class:
            print_classes(each)
        if each.fusion_fit:
            print_fit(each.fusion_fit)


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


def as_object(result: Evaluation, *, per_class: bool) -> dict[str, Any]:
    """What --json prints of a data set; of ReaL and top-5 only where they are."""
    table = result.predictions
    left_out = {"top5"} if _without_top5(result) else set()
    left_out |= {"real", "real_right", "real_images"} if table.accepted is None else set()
    found: dict[str, Any] = {
        "verdict": result.verdict, "classifier": table.classifier, "dataset": table.dataset, "split": table.split,
        "images": len(table.labels),
        "accuracy": {
            head: {key: value for key, value in vars(score).items() if key not in left_out}
            for head, score in result.accuracy.items()
        },
        "settings": table.settings, "predictions": str(result.path),
    }  # fmt: skip
    if per_class:
        found |= {"per_class": result.per_class, "recall": result.recall}
    if result.fusion_fit:
        found["fusion_fit"] = result.fusion_fit
    return found


def _without_top5(result: Evaluation) -> bool:
    return all(score.top5 is None for score in result.accuracy.values())


def print_accuracy(result: Evaluation) -> None:
    """The verdict, then a row a head."""
    render.print_verdict(result.verdict)
    table = result.predictions
    columns = ["head", "top-1", "right"]
    columns += ["balanced", "macro F1"] if result.is_unequal else []
    columns += [] if _without_top5(result) else ["top-5"]
    columns += [] if table.accepted is None else ["ReaL", "right of judged"]
    rows = []
    for head, score in result.accuracy.items():
        row = [head, f"{score.top1:.2%}", f"{score.right:,}"]
        row += [f"{score.balanced_accuracy:.2%}", f"{score.macro_f1:.2%}"] if result.is_unequal else []
        row += [] if score.top5 is None else [f"{score.top5:.2%}"]
        if table.accepted is not None:
            real = "" if score.real is None else f"{score.real:.2%}"
            row += [real, f"{score.real_right:,} of {score.real_images:,}"]
        rows.append(row)
    title = f"{table.classifier} on {table.dataset} {table.split}, {len(table.labels):,} images"
    render.print_table(title, columns, rows, footer=_footer(result))


def _footer(result: Evaluation) -> str:
    """How the images were shown and decided, and where the answers are kept."""
    table = result.predictions
    size = "x".join(map(str, table.settings["image_size"]))
    left_out = table.settings.get("left_out")
    footer = f"{size} px centre crop, resize-to-crop ratio {table.settings['crop_ratio']}; kept in {result.path}"
    if tau := table.settings.get("logit_adjustment"):
        footer += f"; logits less {tau:g} x log of the class's share of the training images"
    if isinstance(fusion := table.settings["fusion"], dict):
        same = ": these very images, so fused looks better than it is" * (fusion["fingerprint"] == table.fingerprint)
        footer += f"; {FUSION_WORDS[fusion['kind']]} fitted on {fusion['fitted_on']}{same}"
    if left_out:
        footer = f"{left_out:,} unreadable images left out; {footer}"
    return footer


def print_classes(result: Evaluation) -> None:
    """Each class's accuracy by every head, the worst of the last head first."""
    heads = list(result.predictions.heads)
    classes = sorted(result.per_class.items(), key=lambda each: (each[1][heads[-1]] / each[1]["images"], each[0]))
    rows = [
        [name, counts["images"], *(f"{counts[head] / counts['images']:.1%}" for head in heads)]
        for name, counts in classes
    ]
    render.print_table("By class: recall, the share decided rightly", ["class", "images", *heads], rows)
