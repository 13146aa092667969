"""Models of any kind -> their accuracy against what they cost: what `deitkit analyze tradeoff` shows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.errors import DeitkitError, one_of
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import predictions_of
from deitkit.predictions.foreign import open_foreign, spec_of
from deitkit.recipe.schema import Recipe
from deitkit.runs.folder import Run

if TYPE_CHECKING:
    from torch import nn

    from deitkit.analysis.report import Report
    from deitkit.analysis.tradeoff.measure import Contender
    from deitkit.models.throughput import Candidate, Protocol
    from deitkit.predictions.table import Predictions

logger = logging.getLogger(__name__)


def analyze(
    *models: str | Path, x: str = "throughput", published: bool = False, speed: bool = True, seconds: float = 3.0,
    batch_size: int | None = None, precision: str = "fp32", dataset: str = "", data: str | Path = "",
    split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """Any models' accuracy on the first run's data (or the data named) against what they cost: Figure 1 for yours.

    `x`, the cost that the figures show: "throughput", "parameters", "macs" or "memory"; `published` adds the paper's
    models. With `speed` each is timed for so many `seconds` in batches of `batch_size` images (by default what suits
    the device), in "fp32", "bf16" or "fp16". Missing predictions are made and kept. Definitions stand in the report.

        deitkit.analyze_tradeoff("runs/mine", "timm:resnet18", "other.onnx", x="parameters", speed=False)

    Raises:
        DeitkitError: a model does not exist, cannot be timed or cannot answer for these images; `x` needs `speed`.
    """
    from deitkit.analysis.speed import protocol_of
    from deitkit.analysis.tradeoff.measure import AXES, COSTS
    from deitkit.analysis.tradeoff.report import tradeoff_report

    cost = one_of(x, COSTS, what="--x")
    if not speed and cost in ("throughput", "memory"):
        raise DeitkitError(f"--no-speed measures no {cost}", value=x, remedy="--x parameters, or --x macs")
    protocol = protocol_of(device, seconds=seconds, batch_size=batch_size, precision=precision) if speed else None
    opened = open_all([str(model) for model in models])
    tables = answers_of(opened, dataset=dataset, data=str(data), split=split, device=device)
    contenders = [judged(*each) for each in zip(costs_of(opened, protocol), opened, tables, strict=True)]
    for model in contenders:
        if AXES[cost].value(model) is None:
            logger.info(f"{model.name}: its {AXES[cost].label} cannot be told, so it is in no figure")
    return tradeoff_report(
        contenders, images=f"{tables[0].dataset}/{split}", cost=cost, published=published,
        conditions=protocol.conditions() if protocol else None,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model that was named: what is timed of it, and what it is."""

    reference: Reference
    kind: str
    candidate: Candidate
    parameters: int | None


def open_all(words: Sequence[str]) -> list[OpenedModel]:
    """Every model, in the order in which they were named; one with several heads named is opened once."""
    references = [Reference.parse(word) for word in dict.fromkeys(words)]
    if tables := [reference.place for reference in references if reference.is_table]:
        what = f"{tables[0]} holds predictions, and no model that could be timed"
        raise DeitkitError(what, value=tables[0], remedy="name the run or the model that made them")
    names = short_names(references)
    recipes = [recipe for reference in references if (recipe := recipe_of(reference))]
    opened = {
        model: open_other(model, name, recipes) if model.is_foreign else open_model(model, name)
        for model, name in names.items()
    }
    return [with_head(opened[replace(reference, head="")], reference) for reference in references]


def open_model(reference: Reference, name: str) -> OpenedModel:
    """A model of timm's, as runs and published ones are."""
    from timm.models.vision_transformer import VisionTransformer

    from deitkit.analysis.tradeoff.measure import FOREIGN, kind_name
    from deitkit.models.exported import ExportedStudent
    from deitkit.models.load import load_classifier
    from deitkit.models.throughput import Candidate

    model, recipe = load_classifier(reference.word), recipe_of(reference)
    if isinstance(model.student, ExportedStudent):
        return OpenedModel(reference, FOREIGN, Candidate(name, model.student, model.info.size), model.student.weights)
    taught = recipe is not None and recipe.teacher is not None
    kind = kind_name(
        transformer=isinstance(model.student.network, VisionTransformer), distilled=model.student.distilled or taught
    )
    parameters = sum(parameter.numel() for parameter in model.student.parameters())
    return OpenedModel(reference, kind, Candidate(name, model.student, model.info.size), parameters)


def open_other(reference: Reference, name: str, recipes: Sequence[Recipe]) -> OpenedModel:
    """A classifier of another making, which runs at its own size or at that of the first run's images."""
    from deitkit.analysis.tradeoff.measure import FOREIGN
    from deitkit.models.throughput import Candidate

    spec = spec_of(reference.place, [recipe.teacher for recipe in recipes if recipe.teacher])
    size = next((recipe.model.size for recipe in recipes), None)
    classifier = open_foreign(reference.place, spec, size=size)
    wanted, size = classifier.input, classifier.input.size or (0, 0)
    channels = 1 if wanted.channels == "grey" else 3
    candidate = Candidate(name, classifier.network, size, channels=channels, integer=wanted.integer)
    return OpenedModel(reference, FOREIGN, candidate, classifier.parameters)


def with_head(entry: OpenedModel, reference: Reference) -> OpenedModel:
    """The same network under the name of one of its heads."""
    if not reference.head:
        return entry
    named = replace(entry.candidate, name=f"{entry.candidate.name} {reference.head}")
    return replace(entry, reference=reference, candidate=named)


def recipe_of(reference: Reference) -> Recipe | None:
    """A run's recipe."""
    return Run(reference.folder).recipe() if Run.is_run(reference.folder) else None


def first_run(references: Sequence[Reference]) -> Reference:
    """The first that is a run, else the first."""
    return next((reference for reference in references if recipe_of(reference)), references[0])


def costs_of(entries: Sequence[OpenedModel], protocol: Protocol | None) -> list[Contender]:
    """What each costs; one network is timed once, whatever heads of it were named. Nothing is judged yet."""
    from deitkit.analysis.tradeoff.measure import Contender, count_macs
    from deitkit.models.throughput import measure_speed

    single: dict[nn.Module, Candidate] = {}
    for entry in entries:
        single.setdefault(entry.candidate.network, entry.candidate)
    macs = {network: count_macs(candidate) for network, candidate in single.items()}
    speeds = measure_speed(list(single.values()), protocol, say=logger.info) if protocol else []
    timed = dict(zip(single, speeds, strict=True)) if protocol else {}
    return [
        Contender(
            entry.candidate.name, entry.kind, entry.candidate.size, entry.parameters,
            macs[entry.candidate.network], timed.get(entry.candidate.network), head="", right=0, images=0,
        )
        for entry in entries
    ]  # fmt: skip


# Accuracy


def answers_of(
    entries: Sequence[OpenedModel], *, dataset: str, data: str, split: str, device: str
) -> list[Predictions]:  # fmt: skip
    """What each says of the images that all have, in the entries' order.

    Raises:
        DeitkitError: predictions that were kept are of other images.
    """
    from deitkit.predictions.align import align

    models = list(short_names([entry.reference for entry in entries]))
    tables = predictions_of(
        [model.word for model in models], dataset=dataset, data=data, split=split, device=device,
        like=first_run(models).word,
    )  # fmt: skip
    kept = dict(zip(models, tables, strict=True))
    return align([kept[replace(entry.reference, head="")] for entry in entries])


def judged(model: Contender, entry: OpenedModel, table: Predictions) -> Contender:
    """With what it decides: by the head that was named, else by the one that counts."""
    head = entry.reference.head or [*table.heads][-1]
    decided = table.hits(head)
    return replace(model, head=head, right=int(decided.sum()), images=len(table.ids), decided=decided)
