"""Who decides differently from whom: the paper's Table 4 for any classifiers, and what lies behind it. Runs no model.

Beside it: `pairs` and `by_class` (tables), `by_epoch` (over training), `verdict` (sentences). What is measured:
`deitkit.measures.agreement` and `bootstrap`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from deitkit.analysis.disagreement.by_class import (
    PAIRED,
    between_figure,
    between_table,
    class_table,
    confusion,
    moved,
)
from deitkit.analysis.disagreement.pairs import (
    DEFINITIONS,
    GROUND_TRUTH,
    SOURCES,
    ComparedClassifier,
    kinds_figure,
    pair_tables,
)
from deitkit.analysis.disagreement.verdict import disagreement_verdict
from deitkit.analysis.report import Matrix, Report, Table
from deitkit.catalog import IMAGENETS, TABLE4_CLASSIFIERS, TABLE4_MATRIX
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.measures.agreement import CONFIDENCE, refuse_unequal_lengths
from deitkit.measures.arrays import Decisions
from deitkit.measures.bootstrap import RESAMPLES
from deitkit.predictions.align import align
from deitkit.predictions.table import Predictions

# What Table 4 calls the heads of a distilled model.
TABLE4_HEADS = {"class": "class", "distillation": "distillation", "fused": "class+distillation"}
OWN_SOURCES = (
    "Touvron et al., Training data-efficient image transformers, 2020, Table 4",
    "Wilson, Probable inference, the law of succession, and statistical inference, 1927",
    PAIRED,
)


def disagreement(a: Decisions, b: Decisions) -> float:
    """Decisions a [N], b [N] -> the fraction of images that they decide differently."""
    return float((a != b).mean())


def compare(
    predictions: Sequence[Predictions], *, teacher: str = "", baseline: str = "",
    between: tuple[str, str] | None = None, resamples: int = RESAMPLES, seed: int = 0,
) -> Report:  # fmt: skip
    """Every head of every classifier, on the images that all of them have.

    Names are those of the classifiers, or of one head as the matrix shows it. The table by class compares with the
    `teacher`, or with the first; who moved toward the teacher is the last student, seen from the `baseline`, or its
    distillation head, seen from its class head.

    Raises:
        DeitkitError: other data, splits or classes, no image in common, one classifier alone, an unknown name.
    """
    aligned = align(predictions)
    first, everyone = aligned[0], classifiers(aligned)
    images = f"{first.dataset}/{first.split}"
    report = disagreement_report(
        everyone, first.labels, images=images, resamples=resamples, seed=seed, is_imagenet=first.dataset in IMAGENETS
    )
    reference = find(everyone, teacher) if teacher else everyone[0]
    tables = [class_table(everyone, reference, first.labels, class_names=first.class_names)]
    others = [each for each in everyone if each is not reference]
    figures = [*report.figures, kinds_figure(others, reference, first.labels, images=images)]
    numbers = {**report.numbers, "reference": reference.name}
    if between:
        a, b = (find(everyone, name) for name in between)
        found = confusion(a.top1, b.top1, first.labels)
        tables.append(between_table(a, b, found, first.class_names))
        figures.append(between_figure(a, b, found, first.class_names))
    if steps := _who_moved(everyone, aligned, teacher=teacher, baseline=baseline):
        student, start = steps
        table, figure, gain = moved(student, start, reference, first.labels, class_names=first.class_names)
        numbers["moved"] = {"student": student.name, "baseline": start.name, "teacher": reference.name, **gain}
        tables.append(table)
        figures.append(figure)
    report = replace(report, numbers=numbers, tables=(*report.tables, *tables), figures=tuple(figures))
    beside = _beside(everyone, aligned, reference)
    words = disagreement_verdict(report, reference, beside, first.labels, class_names=first.class_names)
    return replace(report, verdict=tuple(words))


def _beside(
    everyone: Sequence[ComparedClassifier], aligned: Sequence[Predictions], reference: ComparedClassifier
) -> list[ComparedClassifier]:
    """What decides of every other model; of one model alone, its distillation head, or else its last."""
    own = [[find(everyone, name) for name, _ in _named_heads(each)] for each in aligned]
    decisive = [
        find(everyone, each.classifier) for each, heads in zip(aligned, own, strict=True) if reference not in heads
    ]
    alone = [each for each in everyone if each is not reference]
    return decisive or [next((each for each in alone if each.name.endswith(" distillation")), alone[-1])]


def _who_moved(
    everyone: Sequence[ComparedClassifier], aligned: Sequence[Predictions], *, teacher: str, baseline: str
) -> tuple[ComparedClassifier, ComparedClassifier] | None:
    """(student, where it is seen from), or None where nobody has a teacher."""
    if not teacher:
        if baseline:
            raise DeitkitError(
                f"{baseline} is a baseline of what? No teacher is named to move toward",
                value=baseline,
                remedy="--teacher RUN",
            )
        return None
    apart = {find(everyone, name).name for name in (teacher, baseline) if name}
    students = [each for each in aligned if not apart & {name for name, _ in _named_heads(each)}]
    if baseline and students:
        return find(everyone, students[-1].classifier), find(everyone, baseline)
    for each in reversed(students):
        if {"class", "distillation"} <= each.heads.keys():
            return find(everyone, f"{each.classifier} distillation"), find(everyone, f"{each.classifier} class")
    return None


def classifiers(aligned: Sequence[Predictions]) -> list[ComparedClassifier]:
    """Every head of aligned predictions as a classifier of its own."""
    found = []
    for predictions in aligned:
        for name, head in _named_heads(predictions):
            family = str(predictions.settings.get("family", ""))
            table4 = TABLE4_HEADS.get(head, "") if _is_distilled(predictions) else family
            found.append(ComparedClassifier(name, predictions.top1(head), table4))
    return found


def _named_heads(predictions: Predictions) -> list[tuple[str, str]]:
    """(classifier's name, head): the head is named where the model has several, even if one alone was asked for."""
    own = predictions.classifier
    return [(f"{own} {head}" if _is_distilled(predictions) else own, head) for head in predictions.heads]


def _is_distilled(predictions: Predictions) -> bool:
    return "distillation" in predictions.settings.get("heads", predictions.heads)


def find(everyone: Sequence[ComparedClassifier], name: str) -> ComparedClassifier:
    """The classifier of that name; a model's name alone stands for its fused decision.

    Raises:
        DeitkitError: there is none.
    """
    by_name = {each.name: each for each in everyone}
    for candidate in (name, f"{name} fused", f"{name} class", f"{name} distillation"):
        if candidate in by_name:
            return by_name[candidate]
    raise DeitkitError(
        f"no classifier here is called {name!r}.{did_you_mean(name, by_name)}", value=name, choices=by_name
    )


def disagreement_report(
    classifiers: Sequence[ComparedClassifier],
    labels: Decisions,
    *,
    images: str = "images",
    resamples: int = RESAMPLES,
    seed: int = 0,
    is_imagenet: bool = False,
) -> Report:
    """The matrix of Table 4 for these classifiers and the labels [N], and every pair's measures with intervals.

    Where the images are ImageNet's, Table 4's own rates stand beside them.
    """
    refuse_unequal_lengths({"labels": labels} | {each.name: each.top1 for each in classifiers})
    _refuse_too_few(classifiers)
    everyone = [ComparedClassifier(GROUND_TRUTH, labels, "groundtruth"), *classifiers]
    names = tuple(each.name for each in everyone)
    rates = tuple(tuple(disagreement(a.top1, b.top1) for b in everyone) for a in everyone)
    published = published_rates([each.table4 if is_imagenet else "" for each in everyone])
    return Report(
        name="disagreement",
        title=f"Different decisions on {len(labels):,} images of {images}",
        definitions=_definitions(resamples=resamples, seed=seed, is_imagenet=is_imagenet),
        sources=(*OWN_SOURCES, *SOURCES),
        numbers={
            "images": len(labels),
            "accuracy": {each.name: 1 - rate for each, rate in zip(classifiers, rates[0][1:], strict=True)},
            "bootstrap": {"resamples": resamples, "seed": seed},
        },
        tables=(_matrix_table(names, rates), *pair_tables(everyone, published, resamples=resamples, seed=seed)),
        figures=(_matrix_figure(names, rates, published, title=images, count=len(labels)),),
    )


def _definitions(*, resamples: int, seed: int, is_imagenet: bool) -> dict[str, str]:
    paper = {"paper": "Table 4: ImageNet validation, DeiT-B distilled from RegNetY-16GF; other models differ"}
    return {
        "rate": "the fraction of images for which two classifiers' most probable classes differ;"
        " against the ground truth it is the top-1 error",
        "interval": f"{CONFIDENCE:.0%}; low and high: Wilson's score interval of the rate; bootstrap: percentiles"
        f" of {resamples:,} resamples of the images, the same for all pairs, seed {seed}",
        **(paper if is_imagenet else {}),
        "gain": "of agreement with the teacher, in the table of who moved; its interval is for paired proportions",
        **DEFINITIONS,
    }


def _refuse_too_few(classifiers: Sequence[ComparedClassifier]) -> None:
    if len(classifiers) < 2:
        raise DeitkitError(
            f"{classifiers[0].name} alone has nobody to disagree with"
            if classifiers
            else "there is nothing to compare: no classifier was given",
            remedy="name a second run, a --teacher or timm:NAME; `deitkit evaluate RUN --per-class` measures one alone",
        )
    taken = [name for name, count in Counter(each.name for each in classifiers).items() if count > 1]
    if taken or GROUND_TRUTH in {each.name for each in classifiers}:
        raise DeitkitError(
            "classifiers need names of their own", problems=taken or [GROUND_TRUTH], remedy="rename all but one"
        )


def published_rates(table4: Sequence[str]) -> tuple[tuple[float | None, ...], ...]:
    """Names in Table 4 -> its rates, None on the diagonal and where a name is unknown or claimed twice."""
    claims = Counter(table4)
    places = [
        TABLE4_CLASSIFIERS.index(name) if name in TABLE4_CLASSIFIERS and claims[name] == 1 else None for name in table4
    ]
    return tuple(
        tuple(TABLE4_MATRIX[a][b] if a is not None and b is not None and a != b else None for b in places)
        for a in places
    )


def _matrix_figure(
    names: tuple[str, ...], rates: tuple[tuple[float, ...], ...], published: tuple[tuple[float | None, ...], ...], *,
    title: str, count: int,
) -> Matrix:  # fmt: skip
    known = any(value is not None for row in published for value in row)
    return Matrix(
        name="matrix",
        title=f"Different decisions, {title}",
        labels=names,
        values=tuple(tuple(100 * rate for rate in row) for row in rates),
        unit=f"images decided differently (% of {count:,})",
        references=tuple(tuple(None if v is None else 100 * v for v in row) for row in published),
        references_title="in brackets: the paper's Table 4, ImageNet" if known else "",
    )


def _matrix_table(names: tuple[str, ...], rates: tuple[tuple[float, ...], ...]) -> Table:
    rows = ((name, *row) for name, row in zip(names, rates, strict=True))
    columns = {"classifier": "", **dict.fromkeys(names, ".1%")}
    return Table.of("matrix", "Rate of different decisions", columns, rows)
