"""A classifier's accuracy on a split, its predictions kept: `deitkit evaluate`, and `deitkit.evaluate` in Python."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from deitkit.catalog import DATASETS
from deitkit.data.open import Source, size_notes
from deitkit.data.views.augment import Reading
from deitkit.distributed import World, join_world, pick_device
from deitkit.errors import DeitkitError, one_of
from deitkit.models.folder import find_model, read_config, read_info, store_fusion
from deitkit.models.load import LoadedModel, load_classifier
from deitkit.models.reference import Reference
from deitkit.models.student import FUSIONS, Fusion
from deitkit.predictions.doubts import predict_kept, with_doubts, without_logits
from deitkit.predictions.find import data_of, kept_path, only_heads, open_for, open_other, state_of
from deitkit.predictions.fusion_choice import FusionReport, fit_to, fused_by, name_of
from deitkit.predictions.since_training import since_training
from deitkit.predictions.table import Predictions
from deitkit.predictions.verdict import LABELS_VIEW, command_words, labels_words, table_verdict
from deitkit.recipe.schema import Data

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadAccuracy:
    """How often a head is right: shares from 0 to 1, and counts of images.

    `top5` is None where there are at most 10 classes. `real` is by all labels that an image may have (Beyer et al.
    2020), of the `real_images` that have any; None where the data know one label an image. `balanced_accuracy` is the
    mean recall of the classes that have images, `macro_f1` the mean F1 of those that have images or were decided.
    """

    top1: float
    right: int
    top5: float | None
    real: float | None = None
    real_right: int | None = None
    real_images: int | None = None
    balanced_accuracy: float = 0.0
    macro_f1: float = 0.0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier says of a split, the file that keeps it, and what fitting the fusion brought, if it was.

    `verdict` says it in sentences; commands in them are whole.
    """

    predictions: Predictions
    path: Path
    fusion_fit: FusionReport | None = None
    verdict: tuple[str, ...] = ()

    @property
    def top1(self) -> dict[str, float]:
        """Accuracy by head, from 0 to 1."""
        return {head: self.predictions.accuracy(head) for head in self.predictions.heads}

    @property
    def accuracy(self) -> dict[str, HeadAccuracy]:
        """Each head's scores."""
        table, found = self.predictions, {}
        for head in table.heads:
            counts = table.class_counts(head)
            found[head] = HeadAccuracy(
                table.accuracy(head), int(table.hits(head).sum()), table.top5(head),
                balanced_accuracy=counts.balanced_accuracy, macro_f1=counts.macro_f1,
            )  # fmt: skip
            if table.accepted is not None:
                right, judged = table.real_accuracy(head)
                real = right / judged if judged else None
                found[head] = replace(found[head], real=real, real_right=right, real_images=judged)
        return found

    @property
    def per_class(self) -> dict[str, dict[str, int]]:
        """For each class that has images: "images", and how many of them each head decides rightly."""
        table = self.predictions
        counts = {head: table.per_class(head) for head in table.heads}
        images = next(iter(counts.values()))[1]
        return {
            name: {"images": int(images[index])} | {head: int(counts[head][0][index]) for head in table.heads}
            for index, name in enumerate(table.class_names)
            if images[index]
        }

    @property
    def is_unequal(self) -> bool:
        """Whether the classes have unlike numbers of images, so that top-1 is not the mean of their recalls."""
        return len({counts["images"] for counts in self.per_class.values()}) > 1

    @property
    def recall(self) -> dict[str, dict[str, float]]:
        """For each class that has images, the share of them that each head decides rightly."""
        return {
            name: {head: count / counts["images"] for head, count in counts.items() if head != "images"}
            for name, counts in self.per_class.items()
        }


def evaluate(
    model: str | Path, *, dataset: str = "", data: str | Path = "", split: str = "", val_fraction: float | None = None,
    fusion: str = "", fit_fusion: bool = False, store_fusion: bool = False, crop_ratio: float | None = None,
    logit_adjustment: float | None = None, keep_logits: bool = False, output: str | Path = "", batch_size: int = 64,
    workers: int = 0, device: str = "auto",
) -> Evaluation:  # fmt: skip
    """Measure a classifier on a split, each head apart, and keep its predictions beside it or in `output`.

        found = deitkit.evaluate("runs/mine", data="photos", split="val")
        print(found.top1)

    `model` is a run, RUN@best, RUN:class, a model folder, timm:NAME, an ONNX file, 'FILE.py:FUNCTION' or kept
    predictions. Without `dataset` and `data` the images are those of its own recipe; `val_fraction` is the share held
    out where they have no split of their own. Images are resized to the model's size over `crop_ratio` (by default its
    own) and centre-cropped; classes are matched by name. `fusion` (softmax, average_logits) replaces the model's own;
    `fit_fusion` fits one on these images, and `store_fusion` makes it the model's own. `logit_adjustment` is tau of
    Menon et al. 2020: logits less tau x log of the class's share of the training images decide.

    Raises:
        DeitkitError: there is no such model, there are no such images, it does not know all their classes, or what is
            asked for does not fit it.
    """
    (found,) = evaluate_each(
        model, [dataset], data=data, split=split, val_fraction=val_fraction, fusion=fusion, fit_fusion=fit_fusion,
        store_fusion=store_fusion, crop_ratio=crop_ratio, logit_adjustment=logit_adjustment, keep_logits=keep_logits,
        output=output, batch_size=batch_size, workers=workers, device=device,
    )  # fmt: skip
    return found


def evaluate_each(
    model: str | Path, datasets: Sequence[str] = (), *, data: str | Path = "", split: str = "",
    val_fraction: float | None = None, fusion: str = "", fit_fusion: bool = False, store_fusion: bool = False,
    crop_ratio: float | None = None, logit_adjustment: float | None = None, keep_logits: bool = False,
    output: str | Path = "", batch_size: int = 64, workers: int = 0, device: str = "auto",
) -> list[Evaluation]:  # fmt: skip
    """`evaluate` on each data set, NAME or NAME=PATH, or on the model's own; the model is loaded once.

    Under torchrun each process takes its own part, no image counts twice, all get the results, and the first writes.
    """
    manner = _Manner(
        one_of(fusion, FUSIONS, what="fusion") if fusion else None, crop_ratio, fit_fusion, store_fusion, keep_logits,
        batch_size, workers, logit_adjustment,
    )  # fmt: skip
    reference = Reference.parse(str(model))
    _refuse_unfit(reference, fit=fit_fusion, store=store_fusion, datasets=datasets)
    if reference.is_table:
        if logit_adjustment is not None:
            _refuse_unadjusted(reference, None)
        return [_in_words(_of_table(reference, datasets, data=str(data), fit_fusion=fit_fusion), reference.place)]
    wanted = named_data(reference, datasets, data=str(data), val_fraction=val_fraction)
    if output and len(wanted) > 1:
        raise DeitkitError("-o names one file, but there are several data sets", value=output, remedy="leave it out")
    picked = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    loaded = None if reference.is_foreign else load_classifier(reference.word)
    _refuse_one_headed(reference, loaded, fit=fit_fusion)
    if logit_adjustment is not None:
        _refuse_unadjusted(reference, loaded)
    found = []
    with join_world(picked.type) as world:
        for place, settings in wanted:
            chosen = split or settings.validate_on
            path = Path(output) if output else kept_path(reference, settings.dataset, chosen, data=place)
            if logit_adjustment is not None and not output:  # apart from what the model answers by itself
                path = path.parent / "adjusted" / path.name
            judged = _judge(reference, loaded, settings, chosen, path, manner, device=picked, world=world)
            named = {"dataset": settings.dataset if any(datasets) or data else "", "data": place, "split": chosen}
            found.append(_in_words(judged, str(path) if output else reference.word, **named))
    return found


def _in_words(found: Evaluation, where: str, **named: str) -> Evaluation:
    """With its verdict; `where` its predictions are found again, on the images `named`."""
    table, doubted = found.predictions, found.predictions.doubted
    if where == str(found.path) and table.paths is None and not named.get("dataset"):
        named["dataset"] = table.dataset  # the file alone does not say where its images are
    command = command_words("explore", where, **named, more=["--view", LABELS_VIEW])
    labels = labels_words(0 if doubted is None else int(doubted.sum()), command)
    return replace(found, verdict=(*table_verdict(table), *labels))


@dataclass(frozen=True)
class _Manner:
    """How a classifier is shown the images and judged; None where its own way counts."""

    fusion: Fusion | None
    crop_ratio: float | None
    fit: bool
    store: bool
    keep_logits: bool
    batch_size: int
    workers: int
    logit_adjustment: float | None = None

    def __post_init__(self) -> None:
        ratio = self.crop_ratio
        if ratio is not None and not 0 < ratio <= 1:
            what = f"the crop ratio is {ratio:g}: more than 0, at most 1"
            raise DeitkitError(what, value=ratio, remedy="--crop-ratio 0.875")


def _judge(
    reference: Reference, loaded: LoadedModel | None, settings: Data, split: str, path: Path, manner: _Manner, *,
    device: torch.device, world: World,
) -> Evaluation:  # fmt: skip
    """One split's predictions, made by all processes and kept by the first."""
    if loaded is None:
        model, source, classes = open_other(reference, settings, split)
    else:
        model, (source, classes) = loaded, open_for(loaded, settings, split)
    own = model.info
    info = replace(own, fusion=manner.fusion or own.fusion, crop_ratio=manner.crop_ratio or own.crop_ratio)
    if manner.logit_adjustment is not None:
        info = replace(info, logit_adjustment=manner.logit_adjustment)
    table = predict_kept(
        model.student.to(device), info, source, name=reference.short(1), device=device, world=world,
        batch_size=manner.batch_size, workers=manner.workers, keep_logits=manner.keep_logits or manner.fit,
        classes=classes, reading=Reading.of(settings),
    )  # fmt: skip
    table = replace(table, settings=table.settings | state_of(reference, settings))
    fitted = None
    if world.is_main:
        if manner.fit:
            table, fitted = _fit(reference, table, store=manner.store, keep_logits=manner.keep_logits)
        table.save(path)
        _say_notes(settings, source, known=len(table.class_names))
        for note in since_training(reference.folder, settings, source, table.ids):
            logger.info(note)
    return Evaluation(only_heads(table, [reference.head]), path, fitted)


def named_data(
    reference: Reference, datasets: Sequence[str], *, data: str, val_fraction: float | None
) -> list[tuple[str, Data]]:
    """What to evaluate on: (the path named, settings) for each NAME[=PATH], or for the model's own data."""
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
        settings = data_of([reference], dataset=name, data=place)
        if val_fraction is not None:
            settings = settings.model_copy(update={"val_fraction": val_fraction})
        found.append((place, settings))
    return found


def _refuse_unfit(reference: Reference, *, fit: bool, store: bool, datasets: Sequence[str]) -> None:
    """Refuse, before anything is opened, what cannot be fitted or stored."""
    if store and not fit:
        raise DeitkitError("there is nothing to store", value="--store-fusion", remedy="--fit-fusion --store-fusion")
    if fit and len(datasets) > 1:
        count = len(datasets)
        raise DeitkitError(f"a fusion is fitted to one data set, not to {count}", value=count, remedy="one --dataset")
    own = Path(reference.word).is_dir() and read_info(read_config(find_model(reference.word)))
    if store and not own:
        raise DeitkitError(
            f"{reference.word} is not a run or model folder of deitkit's own: no fusion can be stored in it",
            value=reference.word,
            remedy="leave out --store-fusion, or name a run",
        )


def _refuse_one_headed(reference: Reference, loaded: LoadedModel | None, *, fit: bool) -> None:
    if fit and not (loaded and loaded.student.distilled):
        raise DeitkitError(
            f"{reference.word} has one head: there is nothing to fuse",
            value=reference.word,
            remedy="name a model with a distillation token: `deitkit distill` trains one",
        )


def _refuse_unadjusted(reference: Reference, loaded: LoadedModel | None) -> None:
    """Raise unless it is known how many training images each of the model's classes had."""
    counts = loaded.info.class_counts if loaded else ()
    if counts and all(counts):
        return
    reason = "some of its classes had no training image" if counts else "it does not say how many training images its "
    raise DeitkitError(
        f"{reference.word} cannot be adjusted by class frequency: {reason}{'' if counts else 'classes had'}",
        value=reference.word,
        remedy="leave out --logit-adjustment, or train with --set loss.logit_adjustment=1",
    )


def _of_table(reference: Reference, datasets: Sequence[str], *, data: str, fit_fusion: bool) -> Evaluation:
    """Kept predictions, judged as they are."""
    if any(datasets) or data:
        raise DeitkitError(
            f"{reference.place} holds answers on its own images: it cannot be asked about others",
            value=reference.place,
            remedy="leave out --dataset and --data, or name the run or model that made it",
        )
    path = Path(reference.place)
    table = with_doubts(Predictions.load(path))
    return Evaluation(only_heads(table, [reference.head]), path, fit_to(table) if fit_fusion else None)


def _fit(
    reference: Reference, table: Predictions, *, store: bool, keep_logits: bool
) -> tuple[Predictions, FusionReport]:  # fmt: skip
    """Fit the fusion; where it is stored, the predictions are fused anew by it."""
    fitted = fit_to(table)
    if table.split == "train":
        logger.info("the model has learned these images, and is surer of them than of others: fit on --split val")
    if store:
        place = find_model(reference.place)
        store_fusion(place, fitted.choice)
        table = with_doubts(fused_by(table, fitted.choice))
        logger.info(f"stored in {place}: {name_of(fitted.choice)}; --fusion softmax is the paper's again")
    if not keep_logits:
        table = without_logits(table)
    return table, fitted


def _say_notes(settings: Data, source: Source, *, known: int) -> None:
    """What a person should know of the images: sizes unlike the published ones, missing files, classes left over."""
    notes = [*size_notes(settings, source), *source.notes]
    if known > len(source.class_names):
        notes.append(f"the data has {len(source.class_names):,} of the model's {known:,} classes")
    for note in notes:
        logger.info(note)
