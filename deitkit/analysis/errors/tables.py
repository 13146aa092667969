"""Tables of errors: heads, calibration, bins, clusters, labels by class. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deitkit.analysis.errors.heads import HeadErrors, LabelledImages
from deitkit.analysis.report import Table
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.calibration import reliability, risk_coverage
from deitkit.measures.clusters import Clusters

SHARE = ".1%"


def heads_table(heads: Sequence[HeadErrors]) -> Table:
    """How often, how badly and how foreseeably each head errs, and how many labels it doubts."""
    rows = []
    for head in heads:
        right, scores = int(head.hits.sum()), head.scores
        interval = wilson_interval(right, len(head.hits))
        rows.append(
            (head.name, right / len(head.hits), interval.low, interval.high, head.errors.total,
             None if scores is None else float(scores.loss.mean()),
             None if scores is None else float(scores.brier.mean()),
             1 - float(risk_coverage(head.confidence, head.hits).mean()),
             None if head.doubts is None else len(head.doubts.rows))
        )  # fmt: skip
    columns = {
        "classifier": "", "accuracy": SHARE, "low": SHARE, "high": SHARE, "errors": ",", "loss": ".3f", "Brier": ".3f",
        "AURC": ".2%", "doubtful": ",",
    }  # fmt: skip
    return Table.of("heads", "Accuracy, losses and doubtful labels of each head", columns, rows, filled=True)


def calibration_table(heads: Sequence[HeadErrors]) -> Table:
    """Confidence against accuracy over all images."""
    rows = [
        (head.name, found.confidence, found.accuracy, found.gap, found.chance_gap, found.verdict)
        for head in heads
        for found in [head.calibration]
    ]
    shares = {"confidence": SHARE, "accuracy": SHARE, "gap": "+.1%", "chance": SHARE}
    return Table.of("calibration", "Is confidence accuracy?", {"classifier": "", **shares, "verdict": ""}, rows)


def ece_table(heads: Sequence[HeadErrors]) -> Table:
    """Confidence against accuracy bin by bin, beside what chance alone would show."""
    rows = [
        (head.name, found.reliability.ece, found.ece_interval.low, found.ece_interval.high, found.chance_ece,
         found.chance_high, found.equal_mass_ece, found.reliability.mce)
        for head in heads for found in [head.calibration]
    ]  # fmt: skip
    shares = dict.fromkeys(("ECE", "low", "high", "chance", "up to", "equal mass", "MCE"), SHARE)
    return Table.of("ece", "Calibration errors by bins of confidence", {"classifier": "", **shares}, rows)


def temperature_table(heads: Sequence[HeadErrors], *, bins: int) -> Table | None:
    """What one temperature brings images that it was not fitted to; nothing where none could be fitted."""
    rows = []
    for head in heads:
        if head.temperature is not None and head.scores is not None:
            found = head.temperature
            after = reliability(found.confidence, head.hits, bins=bins)
            rows.append(
                (head.name, found.value, head.calibration.reliability.ece, after.ece,
                 float(head.scores.loss.mean()), float(found.loss.mean()), found.folds)
            )  # fmt: skip
    columns = {
        "classifier": "", "temperature": ".3f", "ECE": SHARE, "ECE after": SHARE, "loss": ".3f", "loss after": ".3f",
        "folds": "",
    }  # fmt: skip
    title = "One temperature, judged on images that it was not fitted to"
    return Table.of("temperature", title, columns, rows) if rows else None


def bins_table(heads: Sequence[HeadErrors]) -> Table:
    """Where the images are: every bin that has some."""
    rows = []
    for head in heads:
        found = head.calibration.reliability
        for place in np.flatnonzero(found.counts).tolist():
            interval = wilson_interval(round(found.accuracy[place] * found.counts[place]), int(found.counts[place]))
            rows.append(
                (head.name, *(float(found.edges[place + end]) for end in (0, 1)), int(found.counts[place]),
                 float(found.confidence[place]), float(found.accuracy[place]), interval.low, interval.high)
            )  # fmt: skip
    shares = dict.fromkeys(("confidence", "accuracy", "low", "high"), SHARE)
    columns = {"classifier": "", "above": SHARE, "to": SHARE, "images": ",", **shares}
    return Table.of("bins", "Accuracy by confidence", columns, rows)


def clusters_table(head: HeadErrors, found: Clusters, class_names: Sequence[str]) -> Table:
    """Groups of classes, those of the most errors inside first."""
    total, images_of = head.errors.total, head.errors.images_of
    rows = []
    for number, cluster in enumerate(found.clusters, 1):
        names = ", ".join(class_names[index] for index in cluster.classes)
        commonest = f"{class_names[cluster.label]} taken for {class_names[cluster.said]}"
        images = int(images_of[list(cluster.classes)].sum())
        rows.append(
            (number, names, len(cluster.classes), cluster.errors, cluster.errors / total, cluster.errors / images,
             commonest, cluster.images)
        )  # fmt: skip
    columns = {
        "cluster": "", "classes": "", "size": "", "errors": ",", "of all errors": SHARE, "of its images": SHARE,
        "commonest": "", "times": ",",
    }  # fmt: skip
    title = f"Classes that {head.name} confuses; {found.inside:.0%} of its errors are inside of these clusters,"
    return Table.of("clusters", f"{title} {found.shuffled:.0%} where errors are shuffled", columns, rows)


def labels_table(head: HeadErrors, images: LabelledImages) -> Table | None:
    """Every class that has images: how many of its labels are estimated to be wrong, the most first."""
    if head.doubts is None:
        return None
    joint, names = head.doubts.joint, images.class_names
    wrong, doubted = joint.estimated_wrong, head.doubts.doubted(images.labels)
    really: dict[int, tuple[float, int]] = {}
    for label, other, count in zip(
        joint.labels.tolist(), joint.classes.tolist(), joint.estimated.tolist(), strict=True
    ):
        if label != other and count > really.get(label, (0.0, 0))[0]:
            really[label] = (count, other)
    present = np.flatnonzero(joint.images_of)
    rows: list[tuple[Any, ...]] = []
    for index in present[np.argsort(-wrong[present], kind="stable")].tolist():
        often = really.get(index)
        rows.append(
            (names[index], int(joint.images_of[index]), float(joint.thresholds[index]), float(wrong[index]),
             float(wrong[index] / joint.images_of[index]), int(doubted[index]), names[often[1]] if often else None)
        )  # fmt: skip
    columns = {
        "label": "", "images": ",", "threshold": SHARE, "wrong labels": ",.1f", "share": SHARE, "doubtful": ",",
        "most often really": "",
    }  # fmt: skip
    title = f"Labels by class as {head.name} sees them, the most doubtful first; of all {len(images.labels):,} labels"
    return Table.of("labels", f"{title} {wrong.sum():,.1f} are estimated to be wrong", columns, rows)
