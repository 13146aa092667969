"""`deitkit analyze tradeoff`: any models' accuracy against what they cost: the paper's Figure 1 and Table 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze import AsJson, DataPath, Dataset, Device, Output, Split, show
from deitkit.cli.analyze_resolutions import Amp, BatchSize, Seconds, Timing, WithSpeed, load
from deitkit.cli.classifiers import HEADS, Reference, predictions_of, short_names
from deitkit.errors import DeitkitError, one_of

if TYPE_CHECKING:
    import torch

    from deitkit.analysis.report import Report
    from deitkit.analysis.tradeoff import Contender
    from deitkit.data.sources import Source
    from deitkit.predictions import Predictions
    from deitkit.schema import Data, Teacher
    from deitkit.teachers import Classifier
    from deitkit.throughput import Candidate, Protocol
    from deitkit.weights import LoadedModel


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
    dataset: Dataset = "", data: DataPath = "", split: Split = "val", output: Output = "", device: Device = "auto",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Accuracy against throughput, for any models.

    The paper's Figure 1 and Table 5 for yours: parameters, GMACs, images per second and memory, each model at its own
    image size; top-1 of its deciding head (fused where there are two) with 95 % Wilson intervals; and the front: those
    that no other model beats in one without losing in the other. All are judged on the images of the first run, or on
    those named. Predictions that are there are used; missing ones are made and kept, but for ONNX files and Python
    functions (whose code is executed), which answer anew each time.

    RUN@best and RUN@123 are checkpoints, RUN@ema averaged weights, RUN:class and RUN:distillation one head's accuracy.

    Speed is of the forward pass alone, on noise that is on the device already: no decoding. The models take turns;
    median and quartiles. Memory: weights, and by how much a pass raises the peak above them. Batches: 256 on a GPU, or
    the half, a quarter, ... that fits; 32 on a CPU, fewer where a pass would be long; or as --batch-size says. (Table 5
    is of one V100, the largest batch that fits, mean of 30 passes.)

    Source: Touvron et al. 2020, Figure 1 and Table 5.

    Example: deitkit analyze tradeoff runs/quickstart/teacher runs/quickstart/twin runs/quickstart/student_32
    """
    report = tradeoff_of(
        models, x=x, published=published, timing=Timing(seconds, batch_size, amp) if speed else None, dataset=dataset,
        data=data, split=split, device=device,
    )  # fmt: skip
    references = [Reference.parse(word) for word in models if not is_foreign(word)]
    folder = first_run(references).folder if references else Path()
    show(report, Path(output) if output else folder / "reports", as_json=as_json)


def tradeoff_of(
    words: Sequence[str], *, x: str = "throughput", published: bool = False, timing: Timing | None = None,
    dataset: str = "", data: str = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """Any models on the first run's data, or on the data named; without `timing` none is timed."""
    from deitkit.analysis.tradeoff import AXES, COSTS
    from deitkit.analysis.tradeoff_report import tradeoff_report
    from deitkit.distributed import pick_device

    cost = one_of(x, COSTS, what="--x")
    if timing is None and cost in ("throughput", "memory"):
        raise DeitkitError(f"--no-speed measures no {cost}", value=x, remedy="--x parameters, or --x macs")
    protocol = timing.protocol(pick_device(device)) if timing else None
    entries = open_all(list(dict.fromkeys(words)))
    tables = answers_of(entries, dataset=dataset, data=data, split=split, device=device)
    models = costs_of(entries, protocol)
    models = [judged(model, entry, table) for model, entry, table in zip(models, entries, tables, strict=True)]
    for model in models:
        if AXES[cost].value(model) is None:
            render.say(f"{model.name}: its {AXES[cost].label} cannot be told, so it is in no figure")
    return tradeoff_report(
        models, images=f"{tables[0].dataset}/{split}", cost=cost, published=published,
        conditions=protocol.conditions() if protocol else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """A classifier of another making, and what a recipe says of it."""

    classifier: Classifier
    spec: Teacher


@dataclass(frozen=True, eq=False)
class Entry:
    """A model that was named: what is timed of it, and what it is."""

    kind: str
    candidate: Candidate
    parameters: int | None
    origin: Reference | Foreign


def is_foreign(word: str) -> bool:
    """Whether it is an ONNX file or a Python function, which alone knows what it takes and answers."""
    from deitkit.teachers import kind_of

    front, _, head = word.rpartition(":")
    return head not in HEADS and not Path(front or word).is_dir() and kind_of(word) in ("onnx", "factory")


def open_all(words: Sequence[str]) -> list[Entry]:
    """Every model, in the order in which they were named; one with several heads named is opened once."""
    parsed = {word: Reference.parse(word) for word in words if not is_foreign(word)}
    if tables := [word for word, reference in parsed.items() if reference.is_table]:
        what = f"{tables[0]} holds predictions, and no model that could be timed"
        raise DeitkitError(what, value=tables[0], remedy="name the run or the model that made them")
    names = short_names(list(parsed.values()))
    loaded = {model: load(model_word(model)) for model in names}
    size = next((model.info.size for model in loaded.values()), None)
    return [
        _entry(parsed[word], names, loaded) if word in parsed else _foreign(word, words, size=size) for word in words
    ]


def model_word(reference: Reference) -> str:
    """How a reference's model is written, without a head."""
    return reference.place + (f"@{reference.checkpoint}" if reference.checkpoint else "")


def _entry(reference: Reference, names: dict[Reference, str], loaded: dict[Reference, LoadedModel]) -> Entry:
    from timm.models.vision_transformer import VisionTransformer

    from deitkit.analysis.tradeoff import kind_name
    from deitkit.throughput import Candidate

    model = loaded[replace(reference, head="")]
    name = f"{names[replace(reference, head='')]} {reference.head}".rstrip()
    parameters = sum(parameter.numel() for parameter in model.student.parameters())
    kind = kind_name(
        transformer=isinstance(model.student.network, VisionTransformer),
        distilled=model.student.distilled or teacher_of(reference) is not None,
    )
    return Entry(kind, Candidate(name, model.student, model.info.size), parameters, reference)


def teacher_of(reference: Reference) -> Teacher | None:
    """What a run's recipe says of its teacher."""
    from deitkit.run import Run

    return Run(reference.folder).recipe().teacher if is_run(reference) else None


def _foreign(word: str, words: Sequence[str], *, size: tuple[int, int] | None) -> Entry:
    """A classifier of another making; what the recipe of a run that it taught says of it holds."""
    from deitkit import schema
    from deitkit.analysis.tradeoff import FOREIGN
    from deitkit.teachers import open_classifier
    from deitkit.throughput import Candidate

    told = [teacher_of(Reference.parse(other)) for other in words if not is_foreign(other)]
    spec = next((teacher for teacher in told if teacher and teacher.models == [word]), schema.Teacher(model=word))
    classifier = open_classifier(word, spec, size=size)
    for note in classifier.notes:
        render.say(f"{word}: {note}")
    pixels = classifier.input.size or size
    if pixels is None:
        raise DeitkitError(
            f"{word} does not say at which image size it runs",
            value=word,
            remedy="give what it returns an attribute image_size, or name a run beside it",
        )
    candidate = Candidate(
        word.rpartition("/")[2], classifier.network, pixels,
        channels=1 if classifier.input.channels == "grey" else 3, integer=classifier.input.integer,
    )  # fmt: skip
    return Entry(FOREIGN, candidate, classifier.parameters, Foreign(classifier, spec))


def settings_of(references: Sequence[Reference], *, dataset: str, data: str) -> Data:
    """The data of the first run, else of the first model, or those named."""
    from deitkit.cli.use import data_settings
    from deitkit.schema import Data

    if references:
        first = first_run(references)
        return data_settings(str(first.folder) if is_run(first) else first.model, dataset=dataset, data=data)
    if not dataset and not data:
        raise DeitkitError("none of these says on which images", remedy="--dataset NAME, or --data FOLDER")
    return Data(dataset=dataset or "folder", path=data or None)


def first_run(references: Sequence[Reference]) -> Reference:
    """The first that is a run, else the first."""
    return next((reference for reference in references if is_run(reference)), references[0])


def is_run(reference: Reference) -> bool:
    from deitkit.run import Run

    return Run.is_run(reference.folder)


def costs_of(entries: Sequence[Entry], protocol: Protocol | None) -> list[Contender]:
    """What each costs; one network is timed once, whatever heads of it were named. Nothing is judged yet."""
    from deitkit.analysis.tradeoff import Contender, count_macs
    from deitkit.throughput import measure_speed

    single = {entry.candidate.network: entry.candidate for entry in reversed(entries)}
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
    from deitkit.analysis.alignment import align
    from deitkit.data.sources import open_source
    from deitkit.distributed import pick_device

    references = [entry.origin for entry in entries if isinstance(entry.origin, Reference)]
    models, kept = list(short_names(references)), {}
    if models:
        like = model_word(first_run(models))
        tables = predictions_of(
            [model_word(model) for model in models], dataset=dataset, data=data, split=split, device=device, like=like
        )
        kept = dict(zip(models, tables, strict=True))
    if any(isinstance(entry.origin, Foreign) for entry in entries):
        settings = settings_of(references, dataset=dataset, data=data)
        source = open_source(settings, split)
    return align(
        [
            kept[replace(entry.origin, head="")]
            if isinstance(entry.origin, Reference)
            else foreign_answers(entry, entry.origin, settings, source, device=pick_device(device))
            for entry in entries
        ]
    )


def foreign_answers(
    entry: Entry, foreign: Foreign, settings: Data, source: Source, *, device: torch.device
) -> Predictions:
    """What a classifier of another making says, at its own image size."""
    from deitkit.data.augment import Reading
    from deitkit.model import Student
    from deitkit.predict import predict
    from deitkit.teachers import Answering
    from deitkit.teachers.classes import match_classes
    from deitkit.weights import ModelInfo

    classifier, name = foreign.classifier, entry.candidate.name
    matched = match_classes(
        classifier.class_names, source.class_names, outputs=classifier.outputs, reference=classifier.reference,
        kind=classifier.kind, spec=foreign.spec, data=settings,
    )  # fmt: skip
    render.say(f"{name} answers now; its predictions are not kept")
    network = Answering(classifier, mean=settings.mean, std=settings.std, columns=matched.columns)
    info = ModelInfo.of(settings, entry.candidate.size, source.class_names)
    return predict(
        Student(network, classifier.kind, {}).to(device), info, source, name=name, device=device,
        reading=Reading.of(settings),
    )  # fmt: skip


def judged(model: Contender, entry: Entry, table: Predictions) -> Contender:
    """With what it decides: by the head that was named, else by the one that counts."""
    named = entry.origin.head if isinstance(entry.origin, Reference) else ""
    head = named or [*table.heads][-1]
    return replace(model, head=head, right=int(table.hits(head).sum()), images=len(table.ids))
