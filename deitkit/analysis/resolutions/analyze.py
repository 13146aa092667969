"""A run or model -> its cost and accuracy at other image sizes: what `deitkit analyze resolutions` shows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.catalog import IMAGENETS
from deitkit.errors import DeitkitError, one_of, quoted
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import data_settings, open_for, predictions_of
from deitkit.runs.folder import Run

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

V2 = "imagenet_v2"
logger = logging.getLogger(__name__)


def analyze(
    model: str | Path, *, sizes: Sequence[Size] = (), finetuned: Sequence[str] | None = None, mode: str = "bicubic",
    accuracy: bool = True, limit: int | None = None, speed: bool = True, seconds: float = 3.0,
    batch_size: int | None = None, precision: str = "fp32", dataset: str = "", data: str | Path = "",
    split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """One model at several `sizes` (height, width) px, as it is and fine-tuned there: Table 10 for yours.

    Without sizes those of Table 10, scaled. `finetuned` runs started from it; where None, they are looked for beside
    it. `mode` resamples its position embedding. With `accuracy` at most `limit` images of the split are classified at
    each size; with `speed` each is timed for so many `seconds` in batches of `batch_size` images (by default what suits
    the device), in "fp32", "bf16" or "fp16". Definitions and sources stand in the report.

        deitkit.analyze_resolutions("runs/mine", sizes=[(160, 160), (320, 320)], speed=False)

    Raises:
        DeitkitError: there is no such model, mode or size, or a fine-tuned run did not start from it.
    """
    from deitkit.analysis.resolutions import measure
    from deitkit.analysis.resolutions.report import resolutions_report
    from deitkit.analysis.speed import protocol_of
    from deitkit.models.load import load_model
    from deitkit.models.positions import POSITION_MODES

    chosen = one_of(mode, POSITION_MODES, what="mode")
    protocol = protocol_of(device, seconds=seconds, batch_size=batch_size, precision=precision) if speed else None
    word, loaded = str(model), load_model(str(model))
    wanted = measure.choose_sizes(loaded, sizes)
    later = finetuned_sizes(word, loaded, finetuned)
    resized = {size: measure.at_size(loaded, size, mode=chosen) for size in sorted({*wanted, *later.values()})}
    names = short_names([Reference.parse(each) for each in (word, *later)])
    name, *others = (names[Reference.parse(each)] for each in (word, *later))
    sets = open_sets(word, loaded, dataset=dataset, data=str(data), split=split, limit=limit) if accuracy else []
    rows = decided(costs_of(resized, protocol, name=name), resized, sets, name=name, device=device)
    return resolutions_report(
        rows, finetuned_of(dict(zip(others, later.items(), strict=True)), sets, like=word, device=device),
        classifier=name, own=loaded.info.size, images=f"{sets[0].source.dataset}/{split}" if sets else "",
        mode=chosen if measure.patch_of(loaded) else "", conditions=protocol.conditions() if protocol else None,
        is_imagenet=bool(sets) and sets[0].settings.dataset in IMAGENETS,
    )  # fmt: skip


def finetuned_sizes(reference: str, model: LoadedModel, named: Sequence[str] | None) -> dict[str, Size]:
    """Runs that went on from the model, and their sizes: those named, or those that lie beside it."""
    from deitkit.analysis.resolutions.measure import find_finetuned, finetuned_size
    from deitkit.analysis.speed import spelled

    if named is not None:
        return {each: finetuned_size(each, model) for each in named}
    parsed = Reference.parse(reference)
    if parsed.checkpoint:  # recipes do not say of a checkpoint that they started from it
        return {}
    found = find_finetuned(reference, parsed.folder, model, say=logger.info)
    for place, size in found.items():
        logger.info(f"fine-tuned from it, at {spelled(size)} px: {place}")
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
        speeds[:] = measure_speed(candidates, protocol, say=logger.info)
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

    home = Reference.parse(reference).home
    is_run = Run.is_run(Path(home))
    settings = data_settings(home, dataset=dataset, data=data)
    wanted = [(settings, (dataset or ("" if is_run else settings.dataset), data, split))]
    if settings.dataset in IMAGENETS and split == "val":
        second = settings.model_copy(update={"dataset": V2, "path": None})
        if is_available(second):
            wanted.append((second, (V2, "", split)))
        else:
            logger.info(f"ImageNet-V2 is not in {find_data(second)}: left out; `deitkit data download {V2}` fetches it")
    found = []
    for each, words in wanted:
        source, classes = open_for(model, each, split)
        found.append(ImageSet(each, spread_over(source, limit), classes, source.fingerprint, words))
    return found


def decided(
    rows: Sequence[Resolution], resized: Mapping[Size, LoadedModel], sets: Sequence[ImageSet], *, name: str, device: str
) -> list[Resolution]:
    """The rows with what the model decides at each size, nothing fine-tuned; as they are where there are no images."""
    from deitkit.analysis.resolutions.measure import Hits
    from deitkit.analysis.speed import spelled
    from deitkit.distributed import pick_device

    found = []
    for row in rows if sets else ():
        hits = [Hits.of(answers(resized[row.size], each, name=name, device=pick_device(device))) for each in sets]
        heads = ", ".join(f"{head} {hits[0].top1(head):.1%}" for head in hits[0].right)
        logger.info(f"{spelled(row.size)} px as it is: {heads}")
        found.append(replace(row, hits=hits[0], v2=hits[1] if len(hits) > 1 else None))
    return found or list(rows)


def answers(
    model: LoadedModel, images: ImageSet, *, name: str, device: torch.device, own_classes: bool = False
) -> Predictions:
    """What a model says of these images; with `own_classes` its classes are matched anew."""
    from deitkit.data.views.augment import Reading
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
    for name, (reference, size) in runs.items() if sets else ():
        hits = [Hits.of(finetuned_answers(reference, each, like=like, device=device), each.source.ids) for each in sets]
        logger.info(f"{spelled(size)} px, {name}: {hits[0].head} {hits[0].top1():.1%}")
        found.append(Finetuned(name, size, hits[0], hits[1] if len(hits) > 1 else None))
    return found


def finetuned_answers(reference: str, images: ImageSet, *, like: str, device: str) -> Predictions:
    """A run's predictions: kept ones, or new ones, which are kept where they are of all images.

    Raises:
        DeitkitError: the kept ones are of other images.
    """
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_model
    from deitkit.predictions.table import predictions_path

    dataset, data, split = images.named
    place = predictions_path(reference, images.settings.dataset, split, data=data)
    is_part = images.source.fingerprint != images.fingerprint
    if is_part and not place.is_file():
        return answers(load_model(reference), images, name=reference, device=pick_device(device), own_classes=True)
    (table,) = predictions_of([reference], dataset=dataset, data=data, split=split, device=device, like=like)
    if table.fingerprint != images.fingerprint:
        raise DeitkitError(
            f"the predictions of {reference} on {table.dataset}/{table.split} are of other images than these",
            value=str(place),
            remedy=f"deitkit evaluate {quoted(reference)} makes them anew; or --no-finetuned",
        )
    return table
