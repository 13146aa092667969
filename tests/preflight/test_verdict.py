"""Each rule of the verdict, one at a time, at both sides of its threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deitkit.measures.scores import Comparison, Scores
from deitkit.preflight.check import with_stated
from deitkit.preflight.compression import Compression
from deitkit.preflight.cost import Cost
from deitkit.preflight.findings import Findings, InputTrial, Rival, SizeTrial, ViewScores
from deitkit.preflight.inputs import Way
from deitkit.preflight.order import OrderFinding
from deitkit.preflight.verdict import Verdict, judge
from deitkit.teachers.facts import Input

GOOD = Scores(
    images=2000, right=1600, top1=0.8, low=0.78, high=0.82, top5=0.99, nll=0.7, entropy=0.4, confidence=0.82, ece=0.03,
    chance=0.1, chance_p=0.0, not_finite=0,
)  # fmt: skip


def found(**what: Any) -> Findings:
    """Findings of a good teacher, but for `what`; `scores` are changes of its scores."""
    scores = replace(GOOD, **what.pop("scores", {}))
    return Findings(teacher="T", dataset="folder", split="val", held_out=scores, **{"labels": "hard", **what})


def answer(**what: Any) -> str:
    return judge(found(**what)).answer


def gains(points: float, p: float) -> Comparison:
    return Comparison(points / 100, points / 100 - 0.01, points / 100 + 0.01, p)


def order(skill: float, *, points: float = 40, matched: bool = False) -> OrderFinding:
    """`matched` by a head that gives half of the classes the same output."""
    pairs = (("cat", "dog"), ("dog", "cat"))
    return OrderFinding(
        "reversed", 0.1 + 0.9 * skill, skill, gains(points, 0.0), matched, 0.5 if matched else 1.0, 2, pairs, (1, 0)
    )


def trial(points: float, p: float, top1: float = 0.9) -> InputTrial:
    way = Way("0 to 255", Input(None, (0.0,) * 3, (1.0,) * 3, "rgb", "0..255"))
    return InputTrial(way, top1, 0.5, gains(points, p), way.settings(Input()))


def texts(verdict: Verdict) -> str:
    return " | ".join(verdict.sentences())


def views(in_labels: float, **more: Any) -> tuple[ViewScores, ...]:
    values = {"kind": "mixed", "views": 512, "two_labels": 500, "in_larger": 0.3, "confidence": 0.5, "entropy": 1.0}
    return (ViewScores(**{**values, "in_labels": in_labels, "not_finite": 0, **more}),)


def test_a_good_teacher_gets_a_yes_with_its_accuracy() -> None:
    verdict = judge(found())
    assert verdict.answer == "yes" and "80.0% of 2,000 held-out images" in texts(verdict)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"top1": 0.11, "chance_p": 0.2}, "no"),  # chance
        ({"top1": 0.25, "chance_p": 0.0}, "no"),  # skill 0.17
        ({"top1": 0.30, "chance_p": 0.0}, "probably"),  # skill 0.22
        ({"top1": 0.54, "chance_p": 0.0}, "probably"),  # skill 0.49
        ({"top1": 0.56, "chance_p": 0.0}, "yes"),
        ({"not_finite": 1}, "no"),
        ({"low": 0.70, "high": 0.85}, "probably"),  # known to 7.5 points
    ],
)
def test_accuracy_has_its_thresholds(scores: dict[str, float], expected: str) -> None:
    assert answer(scores=scores) == expected


def test_chance_is_said_with_its_cause() -> None:
    said = texts(judge(found(scores={"top1": 0.11, "chance_p": 0.2})))
    assert "no better than chance" in said and "random head" in said


def test_classes_that_do_not_fit_are_a_no_with_the_remedy() -> None:
    verdict = judge(found(refused="T has other classes", remedy="deitkit finetune --from T"))
    assert verdict.answer == "no" and verdict.sentences()[0] == "T has other classes; deitkit finetune --from T"


def test_permuted_classes_are_a_no_that_names_them_and_no_random_head() -> None:
    verdict = judge(found(order=order(0.8), scores={"top1": 0.05, "chance_p": 1.0}))
    said = texts(verdict)
    assert verdict.answer == "no" and "reversed" in said and "cat by the output of dog" in said
    assert "teacher.classes" in said and "random head" not in said


def test_a_little_better_order_is_no_order() -> None:
    assert answer(order=order(0.4, points=8)) == "probably"
    for verdict in (
        judge(found(order=order(0.4, points=8), scores={"top1": 0.1, "chance_p": 0.5})),
        judge(found(order=order(0.7, points=30, matched=True), scores={"top1": 0.4})),
    ):
        assert verdict.answer == "no" and "no order of them does" in texts(verdict)


@pytest.mark.parametrize(
    ("points", "p", "expected"),
    [(30, 1e-9, "no"), (30, 0.01, "yes"), (3, 1e-9, "probably"), (0.5, 1e-9, "yes"), (-20, 1.0, "yes")],
)
def test_pixels_given_in_the_wrong_way(points: float, p: float, expected: str) -> None:
    assert answer(inputs=(trial(points, p),)) == expected


def test_a_better_way_of_giving_pixels_is_told_with_its_keys() -> None:
    assert "--set teacher.input=0..255" in texts(judge(found(inputs=(trial(30, 1e-9),))))
    assert "0.5 points more" in texts(judge(found(inputs=(trial(0.5, 0.002),))))


def test_a_wrong_input_explains_more_than_a_matching() -> None:
    said = texts(judge(found(inputs=(trial(70, 0.0, top1=0.95),), order=order(0.6))))
    assert "wrong way" in said and "another order" not in said


def test_views_that_are_too_hard() -> None:
    assert answer(views=views(0.41)) == "yes"
    assert answer(views=views(0.39)) == "probably"
    assert answer(views=views(0.9, not_finite=3)) == "no"


def test_calibration_counts_only_where_probabilities_are_taught() -> None:
    assert answer(scores={"ece": 0.2}) == "yes"
    assert answer(scores={"ece": 0.2}, labels="soft") == "probably"
    assert answer(scores={"ece": 0.1}, labels="soft") == "yes"


@pytest.mark.parametrize(
    ("gain", "low", "expected"), [(-3, -5, "no"), (0, -2, "no"), (1, -1, "probably"), (5, 3, "yes")]
)
def test_a_student_that_is_as_good_learns_nothing(gain: float, low: float, expected: str) -> None:
    comparison = Comparison(gain / 100, low / 100, 0.1, 0.5)
    assert answer(rival=Rival("S", 0.75, comparison)) == expected


def test_a_slow_teacher_is_told_to_be_recorded() -> None:
    cost = Cost("cpu", 16, 10.0, 50.0, 5.0, None, None, "", None, 1)
    assert "deitkit tape record" in texts(judge(found(cost=cost)))
    assert "deitkit tape record" not in texts(judge(found(cost=replace(cost, ratio=0.05))))


def test_unnamed_classes_in_the_datas_order_are_told_to_be_named() -> None:
    assert "teacher.classes=data" in texts(judge(found(unnamed=True)))
    assert "teacher.classes=data" not in texts(judge(found(unnamed=True, order=order(0.8))))


# The stated accuracy

LOSSY = Compression(files=64, jpegs=64, quality=75, sampling="4:2:0", side=32, is_one_size=True)


def test_an_accuracy_as_stated_needs_no_explanation() -> None:
    named = with_stated(found(), 0.81)
    assert named.stated is not None and not named.stated.is_short
    assert judge(named).answer == "yes" and "stated" not in texts(judge(named))


def test_a_drop_that_nothing_explains_is_a_doubt() -> None:
    verdict = judge(with_stated(found(), 0.9))
    assert verdict.answer == "probably" and "10.0 points below the 90.00% stated" in texts(verdict)
    assert judge(with_stated(found(), 0.84)).answer == "yes"  # 4 points


def test_compression_explains_a_drop_where_compressing_more_costs_more() -> None:
    again = SizeTrial("JPEG quality 50, once more", 0.6, gains(-20, 1.0), is_recompressed=True)
    verdict = judge(with_stated(found(compression=LOSSY, sizes=(again,)), 0.9))
    assert (
        verdict.answer == "yes" and "quality about 75" in texts(verdict) and "costs 20.0 points more" in texts(verdict)
    )
    robust = replace(again, comparison=gains(-0.5, 0.9))
    assert judge(with_stated(found(compression=LOSSY, sizes=(robust,)), 0.9)).answer == "probably"


def test_sizes_and_normalisation_explain_a_drop() -> None:
    whole = SizeTrial("224x224 px, crop ratio 1", 0.88, gains(8, 1e-9))
    assert "seen at 224x224 px, crop ratio 1 it gains 8.0" in texts(judge(with_stated(found(sizes=(whole,)), 0.9)))
    named = with_stated(found(inputs=(trial(0.5, 0.001),)), 0.9)
    assert named.stated is not None and "it gains 0.5 points" in named.stated.explanations[0]


def test_the_gravest_reason_comes_first() -> None:
    verdict = judge(found(scores={"not_finite": 5}, views=views(0.1)))
    assert [reason.answer for reason in verdict.reasons] == sorted(
        (reason.answer for reason in verdict.reasons), key=("no", "probably", "yes").index
    )
