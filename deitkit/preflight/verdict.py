"""The plain verdict on a teacher: yes, probably or no, each reason from one stated rule. Ours; measures nothing.

No: it answers with NaN or infinity; its classes do not fit; it is no better than always naming the most frequent class
(binomial test, p > 0.001), or its skill, (accuracy - chance) / (1 - chance), is below 0.2; its outputs stand in another
order (five points better, p < 0.001), or in none (20 points better, but several classes have the same output, as with a
random head); another normalisation or channel order is better by five points (p < 0.001); or the student given is as
good or better.
Probably: its skill is below 0.5; the accuracy is known to no better than five points; another normalisation is better
by one to five points; some classes seem swapped; on the student's views it agrees with a label less than half as often
as on whole images; its probabilities are off by 0.15 or more (ECE) and the student learns from them; it is better than
the student, but not beyond chance (95 %); or it misses the stated accuracy by five points or more, and nothing that was
tried explains it.
Yes: everything else. Tests share their level among all that was tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from deitkit.measures.scores import SIGNIFICANCE
from deitkit.preflight.findings import Findings, InputTrial

Answer = Literal["yes", "probably", "no"]
ANSWERS: tuple[Answer, ...] = ("yes", "probably", "no")  # from good to bad

NO_SKILL, LITTLE_SKILL = 0.2, 0.5
CLEAR_POINTS, SOME_POINTS = 0.05, 0.01
JUMBLED = 0.2  # gained by a matching that is no order: a random head
MISCALIBRATED = 0.15
HINT = 0.01  # a p that is worth a remark
UNCERTAIN = 0.05  # half of the interval
SLOW = 0.1  # of a step's time: above, a tape pays


@dataclass(frozen=True)
class Reason:
    """One rule's sentence; `answer` is the best verdict that it allows, and `remedy` what mends it."""

    answer: Answer
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """The worst answer that a reason allows, and the reasons, the gravest first."""

    answer: Answer
    reasons: tuple[Reason, ...]

    def sentences(self) -> list[str]:
        return [f"{reason.text}; {reason.remedy}" if reason.remedy else reason.text for reason in self.reasons]


def judge(found: Findings) -> Verdict:
    """Findings -> verdict."""
    reasons = [reason for rule in RULES if (reason := rule(found)) is not None]
    reasons.sort(key=lambda reason: -ANSWERS.index(reason.answer))
    return Verdict(reasons[0].answer if reasons else "yes", tuple(reasons))


def clear_input(found: Findings) -> InputTrial | None:
    """Another way of giving pixels that is better beyond doubt and by a point or more."""
    best = found.best_input
    if best is None or best.comparison.gain < SOME_POINTS:
        return None
    return best if best.comparison.p < SIGNIFICANCE / len(found.inputs) else None


def _explained(found: Findings) -> bool:
    """Whether a bad accuracy has a cause that a rule of its own names."""
    trial = clear_input(found)
    permuted = found.order is not None and found.order.is_permuted
    return permuted or (trial is not None and trial.comparison.gain >= CLEAR_POINTS)


# The rules


def _finite(found: Findings) -> Reason | None:
    bad, of = found.held_out.not_finite, found.held_out.images
    for views in found.views:
        bad, of = bad + views.not_finite, of + views.views
    if not bad:
        return None
    return Reason(
        "no", f"it answers {bad:,} of {of:,} images with NaN or infinity", "look into its weights or its file"
    )


def _classes(found: Findings) -> Reason | None:
    return Reason("no", found.refused, found.remedy) if found.refused else None


def _names(found: Findings) -> Reason | None:
    permuted = found.order is not None and found.order.is_permuted
    if not found.unnamed or permuted or found.held_out.skill < NO_SKILL:
        return None
    return Reason(
        "yes", "it does not name its classes, but they are in the data's order", "say so: --set teacher.classes=data"
    )


def _accuracy(found: Findings) -> Reason | None:
    scores = found.held_out
    said = f"it is right on {scores.top1:.1%} of {scores.images:,} held-out images"
    always = f"always naming the most frequent class gets {scores.chance:.1%}"
    cause = "" if _explained(found) else ": a random head, weights that were not loaded, or other classes"
    if scores.is_chance:
        return Reason("no", f"{said}, no better than chance ({always}){cause}")
    if scores.skill < NO_SKILL:
        return Reason("no", f"{said}, little better than chance ({always}){cause}")
    if scores.skill < LITTLE_SKILL:
        return Reason("probably", f"{said}: a weak teacher")
    return Reason("yes", said)


def _certainty(found: Findings) -> Reason | None:
    scores = found.held_out
    if found.is_brief or (scores.high - scores.low) / 2 <= UNCERTAIN:
        return None
    return Reason(
        "probably",
        f"{scores.images:,} images tell its accuracy only to between {scores.low:.1%} and {scores.high:.1%}",
    )


def _order(found: Findings) -> Reason | None:
    order, trial = found.order, clear_input(found)
    if order is None or (trial is not None and trial.top1 >= order.top1):
        return None  # a wrong input confuses classes, too
    moved = ", ".join(f"{name} by the output of {output}" for name, output in order.pairs)
    better = f"{found.held_out.top1:.1%} as they stand, {order.top1:.1%} so"
    if not order.is_permuted:
        if found.held_out.skill < NO_SKILL or order.comparison.gain >= JUMBLED:
            return Reason("no", f"its outputs do not fit the classes, and no order of them does ({better} at best)")
        return Reason("probably", f"some classes seem swapped ({better}): {moved}")
    return Reason(
        "no",
        f"its classes stand in another order, {order.name} ({better}): {moved}",
        "name them in the order of its outputs: --set teacher.classes=FILE, one name a line",
    )


def _input(found: Findings) -> Reason | None:
    trial = found.best_input
    if trial is None or trial.comparison.gain <= 0 or trial.comparison.p >= HINT:
        return None
    remedy = " ".join(f"--set {setting}" for setting in trial.settings)
    said = (
        f"with pixels given as {trial.way.name} it is right on {trial.top1:.1%} of the same images, "
        f"{100 * trial.comparison.gain:.1f} points more"
    )
    if clear_input(found) is None:
        return Reason("yes", said, f"perhaps better so: {remedy}")
    if trial.comparison.gain >= CLEAR_POINTS:
        return Reason("no", f"it is given its pixels in the wrong way: {said}", f"set it so: {remedy}")
    return Reason("probably", said, f"set it so: {remedy}")


def _views(found: Findings) -> Reason | None:
    if not found.views or found.held_out.skill < NO_SKILL:
        return None
    said = " and ".join(
        f"{each.in_labels:.0%} of the {each.kind} views" + (" (either label)" if each.two_labels else "")
        for each in found.views
    )
    hard = any(each.in_labels < found.held_out.top1 / 2 for each in found.views)
    if hard:
        return Reason(
            "probably", f"it agrees with the labels on only {said}: the student's views are too hard for it",
            "gentler augmentation (augment.crop_scale, augment.magnitude), or a teacher trained on such views",
        )  # fmt: skip
    return Reason("yes", f"it agrees with the labels on {said}")


def _calibration(found: Findings) -> Reason | None:
    scores = found.held_out
    if found.labels != "soft" or scores.ece < MISCALIBRATED or scores.skill < NO_SKILL:
        return None
    way = "surer" if scores.confidence > scores.top1 else "less sure"
    return Reason(
        "probably", f"its probabilities are off by {scores.ece:.2f} (it is {way} than right), and they are taught",
        "a higher teacher.tau, or teacher.labels=hard",
    )  # fmt: skip


def _rival(found: Findings) -> Reason | None:
    rival = found.rival
    if rival is None:
        return None
    gain = rival.comparison.gain
    said = f"{rival.name} is right on {rival.top1:.1%} of the same images, the teacher on {found.held_out.top1:.1%}"
    if gain <= 0:
        return Reason("no", f"it is no better than the student: {said}")
    if rival.comparison.low <= 0:
        return Reason("probably", f"it is not better than the student beyond chance: {said}")
    return Reason("yes", f"it is better than the student by {100 * gain:.1f} points: {said}")


def _stated(found: Findings) -> Reason | None:
    stated = found.stated
    if stated is None or not stated.is_short:
        return None
    missing = stated.stated - stated.measured
    said = f"it is {100 * missing:.1f} points below the {stated.stated:.2%} stated"
    if stated.explanations:
        return Reason("yes", f"{said}: {'; '.join(stated.explanations)}")
    return Reason("probably" if missing >= CLEAR_POINTS else "yes", f"{said}, and nothing that was tried explains it")


def _cost(found: Findings) -> Reason | None:
    cost = found.cost
    if cost is None:
        return None
    said = f"its forward takes {cost.ratio:.2g} times as long as the student's forward and backward"
    hint = "`deitkit tape record` computes its answers once for all students" if cost.ratio >= SLOW else ""
    return Reason("yes", said, hint)


Rule = Callable[[Findings], Reason | None]
RULES: tuple[Rule, ...] = (
    _finite, _classes, _names, _order, _input, _accuracy, _rival, _certainty, _views, _calibration, _stated, _cost,
)  # fmt: skip
