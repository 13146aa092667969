"""What a report of errors says, in sentences: how often right, where weak, as sure as right, which labels to check."""

from __future__ import annotations

from collections.abc import Iterator

from deitkit.analysis.errors.heads import HeadErrors, LabelledImages
from deitkit.measures.calibration import Calibration
from deitkit.predictions.doubts import LEAST_RIGHT
from deitkit.predictions.verdict import accuracy_verdict, labels_words


def errors_verdict(
    head: HeadErrors, images: LabelledImages, *, several: bool, in_sample: bool, command: str
) -> Iterator[str]:  # fmt: skip
    """Of the head that is listed; `command` shows its doubtful labels, `in_sample` says that it learned from these."""
    yield from accuracy_verdict(head.errors, images.class_names, head=head.name if several else "")
    if in_sample:
        yield "It learned from these images: all this says nothing of new ones, and hides wrong labels."
        return
    yield calibration_words(head.calibration)
    if head.doubts is None or not len(head.doubts.rows):
        return
    if head.calibration.accuracy < LEAST_RIGHT:
        yield "It is wrong too often for its doubts of labels to tell much."
    else:
        yield from labels_words(len(head.doubts.rows), command)


def calibration_words(found: Calibration) -> str:
    """Whether it is as sure as it is right, beside what chance alone shows."""
    sure, right = f"{100 * found.confidence:.1f} % sure on average", f"{100 * found.accuracy:.1f} % right"
    chance = f"chance alone shows up to {100 * found.chance_gap:.1f} points"
    if found.verdict in ("overconfident", "underconfident"):
        return f"{found.verdict.capitalize()}: {sure}, {right}; {chance}."
    if found.verdict == "calibrated":
        return f"No more over- or underconfident than chance shows: {sure}, {right}; {chance}."
    ece = f"ECE {100 * found.reliability.ece:.1f} %, by chance up to {100 * found.chance_high:.1f} %"
    return f"As sure as right on average, but not at every confidence ({ece}): {sure}, {right}."
