"""How a student's heads approach the teacher over training: agreement with it and with the labels. Runs no model.

Made from what a run recorded at its evaluations (`agreement` in metrics.jsonl, see `deitkit.training.evaluate`), and
from the predictions of checkpoints that it kept. Touvron et al. 2020 (Sec. 5.2 and Table 4)
compare the heads at the end only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deitkit.analysis.disagreement.pairs import SHARE
from deitkit.analysis.report import Cloud, Points, Report, Table
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Decisions
from deitkit.models.forms import HEADS, decisive_head
from deitkit.predictions.table import Predictions

RECORDED = "metrics.jsonl"
ALIKE = "class and distillation head"
DEFINITIONS = {
    "agreement": "the share of images on which a head's most probable class is the teacher's",
    "accuracy": "the share on which it is the label",
    "alike": "the share on which the class and the distillation head decide alike",
    "origin": "metrics.jsonl: recorded at an evaluation, with the teacher as it stood in training; a"
    " checkpoint: measured from its predictions; both on the validation images",
}


@dataclass(frozen=True)
class Moment:
    """A student at one time of its training. Shares of images by head; empty or None where they are not known."""

    epoch: float
    step: int
    labels: Mapping[str, float]  # decided as the label says: top-1 accuracy
    teacher: Mapping[str, float] = field(default_factory=dict)  # decided as the teacher does
    alike: float | None = None  # class and distillation head decide alike
    origin: str = RECORDED


def recorded(metrics: Iterable[Mapping[str, Any]]) -> list[Moment]:
    """The evaluations among the lines of a metrics.jsonl; of one step's, the last."""
    found = {}
    for line in metrics:
        if "top1" in line:
            agreement = line.get("agreement") or {}
            found[line["step"]] = Moment(
                line["epoch"], line["step"], dict(line["top1"]), dict(agreement.get("teacher") or {}),
                agreement.get("heads"),
            )  # fmt: skip
    return sorted(found.values(), key=lambda moment: moment.step)


def recorded_teacher(metrics: Iterable[Mapping[str, Any]]) -> float | None:
    """The teacher's own accuracy, where an evaluation recorded it."""
    return next((line["teacher_top1"] for line in metrics if line.get("teacher_top1") is not None), None)


def measured(table: Predictions, teacher: Decisions, *, epoch: float, step: int, origin: str) -> Moment:
    """From a checkpoint's predictions and the teacher's decisions [N] on the same images, in the same order."""
    two = {"class", "distillation"} <= table.heads.keys()
    return Moment(
        epoch,
        step,
        {head: table.accuracy(head) for head in table.heads},
        {head: float((table.top1(head) == teacher).mean()) for head in table.heads},
        float((table.top1("class") == table.top1("distillation")).mean()) if two else None,
        origin,
    )


def epoch_of(step: int, metrics: Iterable[Mapping[str, Any]]) -> float:
    """The epoch of an optimiser step, by the last line of metrics.jsonl: an epoch has as many steps throughout.

    Raises:
        DeitkitError: it has no lines.
    """
    lines = [line for line in metrics if line.get("step") and "epoch" in line]
    if not lines:
        raise DeitkitError(
            "metrics.jsonl has no line, so it is not known which epoch a checkpoint is of",
            remedy="put the run's metrics.jsonl back",
        )
    return round(step * float(lines[-1]["epoch"]) / int(lines[-1]["step"]), 4)


def by_epoch_report(
    moments: Sequence[Moment], *, student: str, teacher: str, images: str = "", teacher_accuracy: float | None = None
) -> Report:
    """Agreement with the teacher and with the labels by epoch, head by head.

    Raises:
        DeitkitError: no moment knows of the teacher.
    """
    known = [moment for moment in moments if moment.teacher]
    if not known:
        raise DeitkitError(
            f"nothing says how {student} agreed with {teacher} while it was trained",
            value=student,
            problems=["metrics.jsonl records no agreement", "no checkpoint was measured"],
            remedy="checkpoint.keep in the recipe says how many checkpoints a run keeps; they are measured when"
            " --teacher names a run that is still there",
        )
    origins = sorted({moment.origin for moment in known})
    recordings = sum(moment.origin == RECORDED for moment in known)
    counts = {("evaluation", " in metrics.jsonl"): recordings, ("checkpoint", ""): len(known) - recordings}
    made_from = " and ".join(
        f"{count} {what}{'s' * (count > 1)}{where}" for (what, where), count in counts.items() if count
    )
    return Report(
        name="by_epoch",
        title=f"How {student} approaches {teacher} over training{f' on {images}' if images else ''} (from {made_from})",
        definitions=DEFINITIONS,
        sources=("Touvron et al., Training data-efficient image transformers, 2020, Sec. 5.2 and Table 4",),
        numbers={
            "first": {"epoch": known[0].epoch, **known[0].teacher},
            "last": {"epoch": known[-1].epoch, **known[-1].teacher},
            "teacher_accuracy": teacher_accuracy,
            "origins": origins,
        },
        tables=(_table(moments),),
        figures=(_teacher_figure(known, student, teacher), _labels_figure(moments, student, teacher, teacher_accuracy)),
        verdict=tuple(_verdict(moments, known, student, teacher)),
    )


def _verdict(moments: Sequence[Moment], known: Sequence[Moment], student: str, teacher: str) -> Iterator[str]:
    """How near the deciding head comes, and when it is nearest; these are shares of the images, without intervals."""
    head = decisive_head(known[-1].teacher)
    alike = [(moment.epoch, moment.teacher[head]) for moment in known if head in moment.teacher]
    right = [(moment.epoch, moment.labels[head]) for moment in moments if head in moment.labels]
    for what, shares in ((f"decides as {teacher}", alike), ("is right", right)):
        last, best = shares[-1], max(shares, key=lambda each: each[1])
        told = [_at(*last), *([_at(*shares[0])] if len(shares) > 1 else [])]
        told += [f"most {_at(*best)}"] if best not in (last, shares[0]) else []
        yield f"The {head} head of {student} {what}, of all images, {', '.join(told)}."


def _at(epoch: float, share: float) -> str:
    return f"on {100 * share:.1f} % at epoch {epoch:.4g}"


def _heads(moments: Sequence[Moment]) -> list[str]:
    return [head for head in HEADS if any(head in moment.labels for moment in moments)]


def _table(moments: Sequence[Moment]) -> Table:
    heads, alike = _heads(moments), any(moment.alike is not None for moment in moments)
    with_teacher, with_labels = [f"{head}: as teacher" for head in heads], [f"{head}: right" for head in heads]
    shares = (*with_teacher, *([f"{ALIKE} alike"] if alike else []), *with_labels)
    rows = (
        (
            moment.epoch, moment.step, *(moment.teacher.get(head) for head in heads),
            *([moment.alike] if alike else []), *(moment.labels.get(head) for head in heads), moment.origin,
        )
        for moment in moments
    )  # fmt: skip
    columns = {"epoch": ".4g", "step": ",", **dict.fromkeys(shares, SHARE), "origin": ""}
    return Table.of("moments", "Agreement by epoch", columns, rows)


def _cloud(label: str, moments: Sequence[Moment], shares: Sequence[float | None]) -> Cloud:
    both = [(moment.epoch, 100 * share) for moment, share in zip(moments, shares, strict=True) if share is not None]
    return Cloud(label, tuple(x for x, _ in both), tuple(y for _, y in both))


def _teacher_figure(known: Sequence[Moment], student: str, teacher: str) -> Points:
    clouds = [
        _cloud(f"{head} head and {teacher}", known, [moment.teacher.get(head) for moment in known])
        for head in _heads(known)
    ]
    alike = [moment.alike for moment in known]
    return Points(
        name="teacher",
        title=f"How the heads of {student} approach {teacher}",
        x_label="epoch",
        y_label="images decided alike (%)",
        clouds=(*clouds, *([_cloud(ALIKE, known, alike)] if any(share is not None for share in alike) else [])),
        joined=True,
    )


def _labels_figure(moments: Sequence[Moment], student: str, teacher: str, teacher_accuracy: float | None) -> Points:
    clouds = [_cloud(f"{head} head", moments, [each.labels.get(head) for each in moments]) for head in _heads(moments)]
    ends = tuple(sorted({moments[0].epoch, moments[-1].epoch}))
    line = [] if teacher_accuracy is None else [Cloud(teacher, ends, (100 * teacher_accuracy,) * len(ends))]
    return Points(
        name="labels",
        title=f"How the heads of {student} approach the labels",
        x_label="epoch",
        y_label="images decided as the label says (%)",
        clouds=(*clouds, *line),
        joined=True,
    )
