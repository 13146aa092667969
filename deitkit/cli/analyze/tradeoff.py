"""`deitkit analyze tradeoff`: any models' accuracy against what they cost: the paper's Figure 1 and Table 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.resolutions import Timing
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import (
    Amp,
    AnalysisOptions,
    BatchSize,
    ReportOptions,
    Seconds,
    WithSpeed,
)
from deitkit.errors import DeitkitError, one_of
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import predictions_of
from deitkit.predictions.foreign import open_foreign, spec_of

if TYPE_CHECKING:
    from torch import nn

    from deitkit.analysis.report import Report
    from deitkit.analysis.tradeoff.measure import Contender
    from deitkit.models.throughput import Candidate, Protocol
    from deitkit.predictions.table import Predictions
    from deitkit.recipe.schema import Recipe


def tradeoff(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Runs, model folders, timm:NAME, ONNX files, file.py:function, ..."),
    ],
    x: Annotated[str, typer.Option("--x", help="throughput, parameters, macs or memory.")] = "throughput",
    published: Annotated[
        bool, typer.Option("--published", help="The paper's Table 5, too, in a figure of its own: it is of a V100.")
    ] = False,
    speed: WithSpeed = True, seconds: Seconds = 3.0, batch_size: BatchSize = None, amp: Amp = "",
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """Accuracy against throughput, for any models.

    The paper's Figure 1 and Table 5 for yours: parameters, GMACs, images per second and memory, each model at its own
    image size; top-1 of its deciding head (fused where there are two) with 95 % Wilson intervals; and the front: those
    that no other model beats in one without losing in the other. All are judged on the images of the first run, or on
    those named. Predictions that are there are used; missing ones are made and kept. (A Python function's code is
    executed.)

    RUN@best and RUN@123 are checkpoints, RUN@ema averaged weights, RUN:class and RUN:distillation one head's accuracy.

    Speed is of the forward pass alone, on noise that is on the device already: no decoding. The models take turns;
    median and quartiles. Memory: weights, and by how much a pass raises the peak above them. Batches: 256 on a GPU, or
    the half, a quarter, ... that fits; 32 on a CPU, fewer where a pass would be long; or as --batch-size says. (Table 5
    is of one V100, the largest batch that fits, mean of 30 passes.)

    Source: Touvron et al. 2020, Figure 1 and Table 5.

    Example: deitkit analyze tradeoff runs/quickstart/teacher runs/quickstart/twin runs/quickstart/student_32
    """
    home = first_run([Reference.parse(word) for word in models])
    folder = reports_folder(home.word, saved, name="tradeoff")
    timing = Timing(seconds, batch_size, amp) if speed else None
    report = tradeoff_of(models, x=x, published=published, timing=timing, **vars(where))
    show(report, folder, as_json=saved.as_json)


def tradeoff_of(
    words: Sequence[str], *, x: str = "throughput", published: bool = False, timing: Timing | None = None,
    dataset: str = "", data: str = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """Any models on the first run's data, or on the data named; without `timing` none is timed."""
    from deitkit.analysis.tradeoff.measure import AXES, COSTS
    from deitkit.analysis.tradeoff.report import tradeoff_report
    from deitkit.distributed import pick_device

    cost = one_of(x, COSTS, what="--x")
    if timing is None and cost in ("throughput", "memory"):
        raise DeitkitError(f"--no-speed measures no {cost}", value=x, remedy="--x parameters, or --x macs")
    protocol = timing.protocol(pick_device(device)) if timing else None
    entries = open_all(words)
    tables = answers_of(entries, dataset=dataset, data=data, split=split, device=device)
    models = [judged(*each) for each in zip(costs_of(entries, protocol), entries, tables, strict=True)]
    for model in models:
        if AXES[cost].value(model) is None:
            render.say(f"{model.name}: its {AXES[cost].label} cannot be told, so it is in no figure")
    return tradeoff_report(
        models, images=f"{tables[0].dataset}/{split}", cost=cost, published=published,
        conditions=protocol.conditions() if protocol else None,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Entry:
    """A model that was named: what is timed of it, and what it is."""

    reference: Reference
    kind: str
    candidate: Candidate
    parameters: int | None


def open_all(words: Sequence[str]) -> list[Entry]:
    """Every model, in the order in which they were named; one with several heads named is opened once."""
    references = [Reference.parse(word) for word in dict.fromkeys(words)]
    if tables := [reference.place for reference in references if reference.is_table]:
        what = f"{tables[0]} holds predictions, and no model that could be timed"
        raise DeitkitError(what, value=tables[0], remedy="name the run or the model that made them")
    names = short_names(references)
    recipes = [recipe for reference in references if (recipe := recipe_of(reference))]
    opened = {
        model: foreign_entry(model, name, recipes) if model.is_foreign else model_entry(model, name)
        for model, name in names.items()
    }
    return [with_head(opened[replace(reference, head="")], reference) for reference in references]


def model_entry(reference: Reference, name: str) -> Entry:
    """A model of timm's, as runs and published ones are."""
    from timm.models.vision_transformer import VisionTransformer

    from deitkit.analysis.tradeoff.measure import kind_name
    from deitkit.models.load import load_reference
    from deitkit.models.throughput import Candidate

    model, recipe = load_reference(reference.word), recipe_of(reference)
    taught = recipe is not None and recipe.teacher is not None
    kind = kind_name(
        transformer=isinstance(model.student.network, VisionTransformer), distilled=model.student.distilled or taught
    )
    parameters = sum(parameter.numel() for parameter in model.student.parameters())
    return Entry(reference, kind, Candidate(name, model.student, model.info.size), parameters)


def foreign_entry(reference: Reference, name: str, recipes: Sequence[Recipe]) -> Entry:
    """A classifier of another making, which runs at its own size or at that of the first run's images."""
    from deitkit.analysis.tradeoff.measure import FOREIGN
    from deitkit.models.throughput import Candidate

    spec = spec_of(reference.place, [recipe.teacher for recipe in recipes if recipe.teacher])
    size = next((recipe.model.size for recipe in recipes), None)
    classifier = open_foreign(reference.place, spec, size=size)
    wanted, size = classifier.input, classifier.input.size or (0, 0)
    channels = 1 if wanted.channels == "grey" else 3
    candidate = Candidate(name, classifier.network, size, channels=channels, integer=wanted.integer)
    return Entry(reference, FOREIGN, candidate, classifier.parameters)


def with_head(entry: Entry, reference: Reference) -> Entry:
    """The same network under the name of one of its heads."""
    if not reference.head:
        return entry
    named = replace(entry.candidate, name=f"{entry.candidate.name} {reference.head}")
    return replace(entry, reference=reference, candidate=named)


def recipe_of(reference: Reference) -> Recipe | None:
    """A run's recipe."""
    from deitkit.runs.folder import Run

    return Run(reference.folder).recipe() if Run.is_run(reference.folder) else None


def first_run(references: Sequence[Reference]) -> Reference:
    """The first that is a run, else the first."""
    return next((reference for reference in references if recipe_of(reference)), references[0])


def costs_of(entries: Sequence[Entry], protocol: Protocol | None) -> list[Contender]:
    """What each costs; one network is timed once, whatever heads of it were named. Nothing is judged yet."""
    from deitkit.analysis.tradeoff.measure import Contender, count_macs
    from deitkit.models.throughput import measure_speed

    single: dict[nn.Module, Candidate] = {}
    for entry in entries:
        single.setdefault(entry.candidate.network, entry.candidate)
    macs = {network: count_macs(candidate) for network, candidate in single.items()}
    speeds = measure_speed(list(single.values()), protocol, say=render.say) if protocol else []
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
    entries: Sequence[Entry], *, dataset: str, data: str, split: str, device: str
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


def judged(model: Contender, entry: Entry, table: Predictions) -> Contender:
    """With what it decides: by the head that was named, else by the one that counts."""
    head = entry.reference.head or [*table.heads][-1]
    return replace(model, head=head, right=int(table.hits(head).sum()), images=len(table.ids))
