"""`deitkit analyze resolutions`: one model at other image sizes, as it is and fine-tuned there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import (
    Amp,
    AnalysisOptions,
    BatchSize,
    Limit,
    Mode,
    ReportOptions,
    Seconds,
    Sizes,
    WithAccuracy,
    WithSpeed,
)
from deitkit.errors import DeitkitError, one_of, quoted
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import predictions_of

if TYPE_CHECKING:
    import torch

    from deitkit.analysis.report import Report
    from deitkit.analysis.resolutions.measure import Finetuned, Resolution
    from deitkit.analysis.speed import Size
    from deitkit.data.open import Source
    from deitkit.models.load import LoadedModel
    from deitkit.models.throughput import Protocol
    from deitkit.predictions.predict import ClassMap
    from deitkit.predictions.table import Predictions
    from deitkit.recipe.schema import Data

IMAGENETS, V2 = ("imagenet", "imagenet_real"), "imagenet_v2"


def resolutions(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a model folder or timm:NAME.")],
    sizes: Sizes = "",
    finetuned: Annotated[
        list[str] | None,
        typer.Option("--finetuned", metavar="RUN", help="What was fine-tuned from it. Repeatable [default: found]."),
    ] = None,
    no_finetuned: Annotated[bool, typer.Option("--no-finetuned", help="Look for no fine-tuned runs.")] = False,
    mode: Mode = "bicubic",
    accuracy: WithAccuracy = True,
    limit: Limit = None,
    speed: WithSpeed = True, seconds: Seconds = 3.0, batch_size: BatchSize = None, amp: Amp = "",
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """What a model gains and costs at other image sizes.

    The paper's Table 10 for yours: GMACs, images per second, memory and top-1 with 95 % Wilson intervals at each size,
    as it is (nothing but the position embedding resampled: what `deitkit upscale`, then `evaluate` give) and
    fine-tuned. Fine-tuned runs are those beside it that started from this model or from what `deitkit upscale` made of
    it. A convnet runs at any size as it is. Sizes are Table 10's relative to 224, in whole patches; its own and those
    of fine-tuned runs are always there. ReaL and ImageNet-V2 stand beside top-1 where they are here.

    Speed is of the forward pass alone, on noise that is on the device already: no decoding. The sizes take turns;
    median and quartiles. The paper's (Table 10: one V100, the largest batch that fits, mean of 30 passes) stands beside
    a DeiT-B's. Memory: weights, and by how much a pass raises the peak above them. Batches: 256 on a GPU, or the half,
    a quarter, ... that fits; 32 on a CPU, fewer where a pass would be long; or as --batch-size says.

    Sources: Touvron et al. 2020, Sec. 3 and Table 10; Touvron et al. 2019 (FixRes) for train and test resolution.

    Example: deitkit analyze resolutions runs/quickstart/student
    """
    if no_finetuned and finetuned:
        raise DeitkitError("--finetuned names runs, --no-finetuned wants none", remedy="leave one of them out")
    folder = reports_folder(run, saved, name="resolutions")
    report = resolutions_of(
        run, sizes=sizes, finetuned=[] if no_finetuned else finetuned, mode=mode, accuracy=accuracy, limit=limit,
        timing=Timing(seconds, batch_size, amp) if speed else None, **vars(where)
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json)


@dataclass(frozen=True)
class Timing:
    """How models are to be timed, as a command line says it."""

    seconds: float = 3.0
    batch_size: int | None = None
    amp: str = ""

    def protocol(self, device: torch.device) -> Protocol:
        from deitkit.models.throughput import PRECISIONS, Protocol

        precision = one_of(self.amp or "fp32", PRECISIONS, what="--amp")
        return Protocol(device, self.batch_size, precision, self.seconds)


def resolutions_of(
    reference: str, *, sizes: str = "", finetuned: Sequence[str] | None = None, mode: str = "bicubic",
    accuracy: bool = True, limit: int | None = None, timing: Timing | None = None, dataset: str = "", data: str = "",
    split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """One model at several sizes; fine-tuned runs are looked for where that is None, and speed is not measured where
    `timing` is."""
    from deitkit.analysis.resolutions.measure import at_size, choose_sizes, patch_of
    from deitkit.analysis.resolutions.report import resolutions_report
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_reference
    from deitkit.models.positions import POSITION_MODES

    chosen, picked = one_of(mode, POSITION_MODES, what="mode"), pick_device(device)
    protocol = timing.protocol(picked) if timing else None
    model = load_reference(reference)
    wanted = choose_sizes(model, parse_sizes(sizes))
    later = finetuned_sizes(reference, model, finetuned)
    resized = {size: at_size(model, size, mode=chosen) for size in sorted({*wanted, *later.values()})}
    names = short_names([Reference.parse(each) for each in (reference, *later)])
    name, *others = (names[Reference.parse(each)] for each in (reference, *later))
    images, runs, sets = "", [], []
    if accuracy:
        sets = open_sets(reference, model, dataset=dataset, data=data, split=split, limit=limit)
    rows = costs_of(resized, protocol, name=name)
    if sets:
        rows = [decide(row, resized[row.size], sets, name=name, device=picked) for row in rows]
        runs = finetuned_of(dict(zip(others, later.items(), strict=True)), sets, like=reference, device=device)
        images = f"{sets[0].source.dataset}/{split}"
    return resolutions_report(
        rows, runs, classifier=name, own=model.info.size, images=images, mode=chosen if patch_of(model) else "",
        conditions=protocol.conditions() if protocol else None,
    )  # fmt: skip


def parse_sizes(text: str) -> list[Size]:
    """`160,224x320` -> pixels."""
    from deitkit.cli.upscale import parse_size

    words = [word.strip() for word in text.split(",")] if text else []
    try:
        return [parse_size(word) for word in words]
    except DeitkitError as error:
        raise DeitkitError(
            f"--sizes {text}: {error.value!r} is no size in pixels",
            value=error.value,
            remedy="for example --sizes 160,224,384 or --sizes 224x160 (height x width)",
        ) from error


def finetuned_sizes(reference: str, model: LoadedModel, named: Sequence[str] | None) -> dict[str, Size]:
    """Runs that went on from the model, and their sizes: those named, or those that lie beside it."""
    from deitkit.analysis.resolutions.measure import find_finetuned, finetuned_size
    from deitkit.analysis.speed import spelled

    if named is not None:
        return {each: finetuned_size(each, model) for each in named}
    parsed = Reference.parse(reference)
    if parsed.checkpoint:  # recipes do not say of a checkpoint that they started from it
        return {}
    found = find_finetuned(reference, parsed.folder, model, say=render.say)
    for place, size in found.items():
        render.say(f"fine-tuned from it, at {spelled(size)} px: {place}")
    return found


def costs_of(resized: Mapping[Size, LoadedModel], protocol: Protocol | None, *, name: str) -> list[Resolution]:
    """What the model costs at each size; a size that it cannot run at shows here."""
    from deitkit.analysis.resolutions.measure import Resolution, published_at, shape_of
    from deitkit.analysis.tradeoff.measure import count_macs
    from deitkit.models.throughput import Candidate, Speed, measure_speed

    candidates = [Candidate(name, model.student, size) for size, model in resized.items()]
    macs = [count_macs(candidate) for candidate in candidates]
    speeds: list[Speed | None] = [None] * len(candidates)
    if protocol is not None:
        speeds[:] = measure_speed(candidates, protocol, say=render.say)
    rows = []
    for (size, model), operations, speed in zip(resized.items(), macs, speeds, strict=True):
        grid, tokens = shape_of(model)
        rows.append(Resolution(size, grid, tokens, operations, speed, published=published_at(model, size)))
    return rows


# Accuracy


@dataclass(frozen=True)
class ImageSet:
    """The images that decide, `source`, and how the model's classes are theirs. `fingerprint` is that of the whole
    split; `named` are dataset, data and split as `predictions_of` takes them."""

    settings: Data
    source: Source
    classes: ClassMap | None
    fingerprint: str
    named: tuple[str, str, str]


def open_sets(
    reference: str, model: LoadedModel, *, dataset: str, data: str, split: str, limit: int | None
) -> list[ImageSet]:
    """The model's own data or those named, and ImageNet-V2 behind ImageNet, where it is here."""
    from deitkit.data.open import find_data, is_available, spread_over
    from deitkit.predictions.find import data_settings, open_for
    from deitkit.runs.folder import Run

    home = Reference.parse(reference).home
    is_run = Run.is_run(Path(home))
    settings = data_settings(home, dataset=dataset, data=data)
    wanted = [(settings, (dataset or ("" if is_run else settings.dataset), data, split))]
    if settings.dataset in IMAGENETS and split == "val":
        second = settings.model_copy(update={"dataset": V2, "path": None})
        if is_available(second):
            wanted.append((second, (V2, "", split)))
        else:
            render.say(f"ImageNet-V2 is not in {find_data(second)}: left out; `deitkit data download {V2}` fetches it")
    found = []
    for each, words in wanted:
        source, classes = open_for(model, each, split)
        found.append(ImageSet(each, spread_over(source, limit), classes, source.fingerprint, words))
    return found


def decide(
    row: Resolution, model: LoadedModel, sets: Sequence[ImageSet], *, name: str, device: torch.device
) -> Resolution:
    """The row with what the model decides at its size, nothing fine-tuned."""
    from deitkit.analysis.resolutions.measure import Hits
    from deitkit.analysis.speed import spelled

    found = [Hits.of(answers(model, each, name=name, device=device)) for each in sets]
    heads = ", ".join(f"{head} {found[0].top1(head):.1%}" for head in found[0].right)
    render.say(f"{spelled(row.size)} px as it is: {heads}")
    return replace(row, hits=found[0], v2=found[1] if len(found) > 1 else None)


def answers(
    model: LoadedModel, images: ImageSet, *, name: str, device: torch.device, own_classes: bool = False
) -> Predictions:
    """What a model says of these images; with `own_classes` its classes are matched anew."""
    from deitkit.data.views.augment import Reading
    from deitkit.predictions.find import open_for
    from deitkit.predictions.predict import predict

    classes = open_for(model, images.settings, images.source.split)[1] if own_classes else images.classes
    return predict(
        model.student.eval().to(device), model.info, images.source, name=name, device=device,
        reading=Reading.of(images.settings), classes=classes,
    )  # fmt: skip


def finetuned_of(
    runs: Mapping[str, tuple[str, Size]], sets: Sequence[ImageSet], *, like: str, device: str
) -> list[Finetuned]:
    """What fine-tuned runs decide on the same images, by their kept predictions or new ones."""
    from deitkit.analysis.resolutions.measure import Finetuned, Hits
    from deitkit.analysis.speed import spelled

    found = []
    for name, (reference, size) in runs.items():
        hits = [Hits.of(finetuned_answers(reference, each, like=like, device=device), each.source.ids) for each in sets]
        render.say(f"{spelled(size)} px, {name}: {hits[0].head} {hits[0].top1():.1%}")
        found.append(Finetuned(name, size, hits[0], hits[1] if len(hits) > 1 else None))
    return found


def finetuned_answers(reference: str, images: ImageSet, *, like: str, device: str) -> Predictions:
    """A run's predictions: kept ones, or new ones, which are kept where they are of all images.

    Raises:
        DeitkitError: the kept ones are of other images.
    """
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_reference
    from deitkit.predictions.table import predictions_path

    dataset, data, split = images.named
    place = predictions_path(reference, images.settings.dataset, split, data=data)
    is_part = images.source.fingerprint != images.fingerprint
    if is_part and not place.is_file():
        return answers(load_reference(reference), images, name=reference, device=pick_device(device), own_classes=True)
    (table,) = predictions_of([reference], dataset=dataset, data=data, split=split, device=device, like=like)
    if table.fingerprint != images.fingerprint:
        raise DeitkitError(
            f"the predictions of {reference} on {table.dataset}/{table.split} are of other images than these",
            value=str(place),
            remedy=f"deitkit evaluate {quoted(reference)} makes them anew; or --no-finetuned",
        )
    return table
