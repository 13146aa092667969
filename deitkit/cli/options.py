"""The options that several verbs take, each defined once: its words, its bounds and its help."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from deitkit.cli.early import known_device, known_model, known_models, known_recipe, known_trackers

MOST_WORKERS = 1024  # processes: more than any machine feeds


def model_argument(metavar: str, words: str) -> Any:
    """The model that a verb is about, looked for while the command line is parsed; `words` say what may be named."""
    return typer.Argument(metavar=metavar, callback=known_model, help=words)


def models_argument(metavar: str, words: str) -> Any:
    """The same for several."""
    return typer.Argument(metavar=metavar, callback=known_models, help=words)


def output_option(words: str) -> Any:
    """`--output, -o` of a verb that writes something of its own, which `words` name with its default."""
    return typer.Option("--output", "-o", help=words)


# What is trained or looked at

RecipeName = Annotated[
    str,
    typer.Option("--recipe", "-r", callback=known_recipe, help="A shipped recipe's name or a .toml file."),
]
ChosenRecipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        "-r",
        callback=known_recipe,
        help="A shipped recipe's name or a .toml file [default: chosen for the images].",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any value of the recipe.")]
TeacherRef = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="REFERENCE",
        help="RUN, RUN@best, RUN:class, a model folder, timm:NAME, FILE.onnx, or 'FILE.py:FUNCTION?weights=PATH', "
        "whose code is run. Several are a mixture.",
    ),
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run the Python function that the recipe, a file, names as teacher.")
]
From = Annotated[
    str,
    typer.Option(
        "--from", help="Start weights: RUN, RUN@best, a model folder, timm:NAME, hf-hub:OWNER/NAME or a file."
    ),
]
TapeRef = Annotated[
    str, typer.Option("--tape", help="A teacher's recorded answers (deitkit tape record), in place of the teacher.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a tape that was recorded with other versions or on another device.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")]
ModelRef = Annotated[
    str,
    typer.Option("--model", "-m", callback=known_model, help="RUN, RUN@best, a model folder, timm:NAME, ..."),
]
Classifiers = Annotated[
    list[str], models_argument("RUN...", "Runs, model folders, timm:NAME, RUN@best, RUN:class, ...")
]

# Images

Dataset = Annotated[
    str, typer.Option("--dataset", help="A data set that deitkit knows, folder, or hf:NAME [default: the recipe's].")
]
DataPath = Annotated[str, typer.Option("--data", help="Where the images are.")]
NameOrPath = Annotated[
    str, typer.Argument(metavar="NAME|PATH", help="A data set that deitkit knows, or the path of your own images.")
]
Split = Annotated[str, typer.Option("--split", help="train or val.")]
ValFraction = Annotated[
    float | None, typer.Option("--val-fraction", help="Share of images held out, where there is no val split.")
]
ImageSize = Annotated[int | None, typer.Option("--image-size", min=1, help="Height and width in pixels.")]
Sizes = Annotated[
    str,
    typer.Option(
        "--sizes", help="Pixels: 160,224,384 or 224x160,... [default: the model's own, or Table 10's, scaled]."
    ),
]
Mode = Annotated[str, typer.Option("--mode", help="bicubic, bilinear, nearest or bicubic-antialias.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many images, evenly from the whole split.")
]
WithAccuracy = Annotated[bool, typer.Option("--accuracy/--no-accuracy", help="Classify images at each size.")]

# How it runs

Epochs = Annotated[int | None, typer.Option("--epochs", help="Length of the run.")]
Time = Annotated[
    str, typer.Option("--time", metavar="30m|2h", help="What the run may take: chooses the epochs that fit.")
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help="What is trained: deit_tiny, deit_small, ... or timm:NAME (model.name).")
]
Batch = Annotated[int | None, typer.Option("--batch-size", min=1, help="Views a step (stream.batch_size).")]
Rate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate, as the recipe counts it (optim.lr).")]
WeightDecay = Annotated[float | None, typer.Option("--weight-decay", help="Weight decay (optim.weight_decay).")]
Freeze = Annotated[
    str,
    typer.Option(
        "--freeze",
        help="What stays as it is: nothing, backbone, or backbone-but-last-blocks, -last-norm, -norms-and-biases, "
        "-attention or -lora (train.parts).",
    ),
]
Compare = Annotated[
    str, typer.Option("--compare", metavar="parts", help="Plan every way to learn a part, side by side, and stop.")
]
FindRate = Annotated[
    bool, typer.Option("--find-lr", help="Try rates on a few steps, draw the loss over them, suggest one, and stop.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, help="Train once with each of so many seeds: a sweep (deitkit sweep).")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="How many runs of a sweep are trained at once.")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", min=0, max=MOST_WORKERS, help="Processes that decode and augment.")
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images at once [default: what suits the device].")
]
Device = Annotated[str, typer.Option("--device", callback=known_device, help="auto, cpu, cuda or mps.")]
WithSpeed = Annotated[bool, typer.Option("--speed/--no-speed", help="Measure images per second and memory.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.05, help="How long each is timed.")]
Amp = Annotated[str, typer.Option("--amp", help="Time it in bf16 or fp16 [default: fp32, as accuracy is measured].")]

# What comes out

Output = Annotated[str, typer.Option("--output", "-o", help="The run's folder [default: runs/RECIPE].")]
ReportFolder = Annotated[
    str, typer.Option("--output", "-o", help="Folder of the report [default: reports/ of the run].")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Log = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="TRACKER,...",
        callback=known_trackers,
        help="Also log to tensorboard, wandb, mlflow or trackio; several with commas. No part of the recipe.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Plan = Annotated[bool, typer.Option("--plan", help="Measure what it would take here, and stop.")]
AllValues = Annotated[bool, typer.Option("--all", help="With --dry-run: every value, not only those chosen.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def workers_or_default(workers: int | None) -> int:
    """As asked for, or one fewer than there are cores for this process, and eight at the most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers if workers is not None else min(8, cores - 1)


# Groups: a verb that has a parameter of such a class takes each of its fields as an option


@dataclass(frozen=True)
class WhatOptions:
    """What is trained on, and the values that people look for; each is a key of the recipe."""

    dataset: Dataset = ""
    data: DataPath = ""
    val_fraction: ValFraction = None
    model: ModelName = ""
    image_size: ImageSize = None
    start: From = ""
    epochs: Epochs = None
    batch_size: Batch = None
    lr: Rate = None
    weight_decay: WeightDecay = None
    seed: Seed = None
    sets: Set = None


@dataclass(frozen=True)
class TeacherOptions:
    """Who teaches, or what was recorded of it."""

    teacher: TeacherRef = None
    tape: TapeRef = ""
    strict: Strict = False
    trust_code: TrustCode = False


@dataclass(frozen=True)
class RunOptions:
    """How long a run may take, where it goes, and on what it runs."""

    time: Time = ""
    output: Output = ""
    resume: Resume = False
    overwrite: Overwrite = False
    workers: Workers = None
    device: Device = "auto"
    log: Log = ""
    seeds: Seeds = None
    jobs: Jobs = 1
    plan: Plan = False
    dry_run: DryRun = False
    all_values: AllValues = False
    as_json: AsJson = False


@dataclass(frozen=True)
class DataOptions:
    """Which images a recipe is about, as keys of it."""

    dataset: Dataset = ""
    data: DataPath = ""
    val_fraction: ValFraction = None
    image_size: ImageSize = None
    sets: Set = None


@dataclass(frozen=True)
class ComputeOptions:
    """On what it is computed."""

    workers: Workers = None
    device: Device = "auto"


@dataclass(frozen=True)
class AnalysisOptions:
    """On which images classifiers are looked at, and where it is computed."""

    dataset: Dataset = ""
    data: DataPath = ""
    split: Split = "val"
    device: Device = "auto"


@dataclass(frozen=True)
class SpeedOptions:
    """Whether models are timed, and how."""

    speed: WithSpeed = True
    seconds: Seconds = 3.0
    batch_size: BatchSize = None
    amp: Amp = ""

    def asked(self) -> dict[str, Any]:
        """As analyses take it."""
        how = {"seconds": self.seconds, "batch_size": self.batch_size, "precision": self.amp or "fp32"}
        return {"speed": self.speed, **how}


@dataclass(frozen=True)
class ReportOptions:
    """Where a report goes."""

    output: ReportFolder = ""
    overwrite: Overwrite = False
    as_json: AsJson = False


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as typer wants it: the fields of each group as parameters, in the group's place."""
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        inside = inspect.signature(groups[name], eval_str=True).parameters.values() if name in groups else [parameter]
        parameters += (each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in inside)

    @wraps(verb)
    def flat(**values: Any) -> None:
        made = {
            name: group(**{each.name: values.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        verb(**values, **made)

    flat.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat


# Where an option stands in a verb's help, by its parameter; the rest under "Options".
OPTION_PANELS = {
    "Data": ("dataset", "data", "split", "val_fraction", "limit", "images", "also"),
    "Model": (
        "recipe", "start", "model", "teacher", "tape", "strict", "image_size", "sizes", "mode", "baseline", "control",
        "fusion", "fit_fusion", "store_fusion", "precision", "opset", "preprocess", "parts", "freeze", "trust_code",
    ),
    "Training": (
        "epochs", "batch_size", "lr", "find_lr", "compare", "weight_decay", "seed", "seeds", "jobs", "sets", "workers",
        "device", "amp",
        "resume", "time",
    ),
    "Output": (
        "output", "overwrite", "log", "dry_run", "as_json", "json", "keep_logits", "licence", "push", "private", "yes",
    ),
}  # fmt: skip


def panel_of(parameter: str | None) -> str:
    """The panel of a verb's help in which an option stands."""
    return next((panel for panel, names in OPTION_PANELS.items() if parameter in names), "Options")
