"""What the analyses say in sentences, for inputs whose answers are plain; and reports from before there were any."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from deitkit.analysis.disagreement.by_epoch import Moment, by_epoch_report
from deitkit.analysis.disagreement.report import compare
from deitkit.analysis.positions.measure import AS_TRAINED, Accuracy, measure_positions
from deitkit.analysis.positions.report import positions_verdict
from deitkit.analysis.report import Report, Table, read_saved
from deitkit.analysis.resolutions.measure import Finetuned, Hits, Resolution
from deitkit.analysis.resolutions.report import resolutions_verdict
from deitkit.analysis.tokens.measure import Place, TokenMeasures
from deitkit.analysis.tokens.report import tokens_verdict
from deitkit.analysis.tradeoff.measure import Contender
from deitkit.analysis.tradeoff.report import tradeoff_verdict
from deitkit.models.throughput import Speed
from deitkit.predictions.table import Predictions
from tests.analysis.positions.test_measure import model

MakePredictions = Callable[..., Predictions]


def right(count: int, of: int = 100) -> np.ndarray:
    """The first `count` images are right."""
    return np.arange(of) < count


# Reports


def test_a_report_from_before_there_were_verdicts_still_opens() -> None:
    report = Report(
        "errors", "Errors", {}, (), {"images": 3}, (Table("heads", "Heads", ("a",), ((1,),)),), (), ("Said.",)
    )
    saved = report.as_dict()
    assert saved["verdict"] == ["Said."]
    assert read_saved(json.dumps(saved).encode(), name="errors.json")[0].verdict == ("Said.",)
    del saved["verdict"]
    assert read_saved(json.dumps(saved).encode(), name="errors.json")[0] == replace(report, verdict=())


# Disagreement


def test_the_student_is_set_beside_its_teacher_and_its_heads_beside_each_other(decided: MakePredictions) -> None:
    labels = [0, 1, 2] * 20
    worse = [*([1] * 20), *labels[20:]]  # of the first 20 the 7 cats and 6 owls are wrong
    heads = {"class": labels, "distillation": labels, "fused": worse}
    verdict = compare(
        [decided("teacher", {"class": labels}, labels), decided("student", heads, labels)], teacher="teacher"
    ).verdict
    assert verdict[0].startswith(
        "teacher is right more often than student fused: 13 to 0 images that one alone has right, +21.7 points"
    )
    assert verdict[1:3] == (
        "By class, student fused loses on cat (0 to 7) and owl (0 to 6) against teacher (images that one alone"
        " has right).",
        "They decide differently on 13 of 60 images (13 to 34 %).",
    )
    assert verdict[3].startswith(
        "Too few images to tell whether student distillation decides more like teacher than student class does: -"
    )


def test_a_difference_of_a_few_images_is_left_open(decided: MakePredictions) -> None:
    labels = [0, 1, 2] * 4
    verdict = compare(
        [decided("a", {"class": labels}, labels), decided("b", {"class": [0, 0, *labels[2:]]}, labels)]
    ).verdict
    assert verdict[0].startswith("Too few images to tell whether b or a is right more often: 0 to 1 images")


def test_over_training_the_last_the_first_and_the_best_epoch_are_told() -> None:
    moments = [
        Moment(epoch, 10 * epoch, {"class": share - 0.1}, {"class": share})
        for epoch, share in ((1, 0.5), (2, 0.9), (3, 0.8))
    ]
    assert by_epoch_report(moments, student="student", teacher="teacher").verdict[0] == (
        "The class head of student decides as teacher, of all images, on 80.0 % at epoch 3, on 50.0 % at epoch 1, most"
        " on 90.0 % at epoch 2."
    )


# Tokens


def tokens(name: str, cosine: float, std: float, *, images: int = 401, control: bool = False) -> TokenMeasures:
    nothing = (None, None, (1.0, 1.0))
    places = (Place("embedding", 0.1, None, *nothing), Place("input", 0.2, None, *nothing),
              Place("block 1", 0.5, 0.1, *nothing), Place("final norm", cosine, std, *nothing))  # fmt: skip
    return TokenMeasures(name, images, places, control)


def test_tokens_are_compared_with_those_of_the_control() -> None:
    told, beside = tokens_verdict([tokens("student", 0.9, 0.1), tokens("twice", 0.999, 0.0, control=True)])
    # 0.9 +- 1.966 x 0.1 / sqrt(400)
    assert told == (
        "The two tokens of student have a cosine of 0.20 before the first block and of 0.900 after the final norm"
        " (0.890 to 0.910, mean of 401 images)."
    )
    assert beside == (
        "They are less alike than those of twice (control), whose tokens have the same target (0.999), by 0.089 to"
        " 0.109."
    )


def test_tokens_that_may_be_as_alike_as_the_controls_are_said_to_be() -> None:
    _, beside = tokens_verdict([tokens("student", 0.99, 0.2), tokens("twice", 0.999, 0.0, control=True)])
    assert beside.startswith("Too few images to tell whether they are less alike than those of twice")
    one, beside = tokens_verdict([tokens("student", 0.9, 0.0, images=1), tokens("twice", 1.0, 0.0, control=True)])
    assert "of one image" in one and beside.startswith("One image is too few")
    _, without = tokens_verdict([tokens("student", 0.9, 0.1)])
    assert "only a control tells" in without


# Sizes and models


def resolution(side: int, count: int, images_per_s: float) -> Resolution:
    speed = Speed(images_per_s, images_per_s, images_per_s, 5, 32, None)
    return Resolution((side, side), speed=speed, hits=Hits({"class": count}, 100, decided=right(count)))


def test_sizes_are_told_from_the_models_own_or_not() -> None:
    found = [resolution(16, 50, 400.0), resolution(24, 80, 200.0), resolution(32, 78, 100.0)]
    tuned = Finetuned("tuned", (32, 32), Hits({"class": 95}, 100, decided=right(95)))
    assert [*resolutions_verdict(found, [tuned], (24, 24))] == [
        "At its own 24 px: 80 of 100 right (71 to 87 %).",
        "Right more often than its own 24 px: tuned, fine-tuned at 32 px (+7.3 to +22.1 points).",
        "Right less often than its own 24 px: 16 px (-38.7 to -20.2 points).",
        "Too few images to tell from its own 24 px: 32 px (-5.8 to +1.9 points).",
        "Images per second beside its own 24 px: 2 x at 16 px and 0.5 x at 32 px.",
    ]


def test_modes_that_keep_less_and_decide_worse_are_named() -> None:
    measures = measure_positions(model(), [(16, 24), (32, 48)])
    own = Accuracy((16, 24), AS_TRAINED, {"class": 90}, 100, right(90))
    there = [
        Accuracy((32, 48), each.mode, {"class": count}, 100, right(count))
        for each, count in zip(measures.resampled[32, 48], (88, 60, 87, 86), strict=True)
    ]
    norms, told, beside, worse, unsure = positions_verdict(replace(measures, accuracy=[own, *there]))
    assert norms.startswith("Of the mean norm, at 32x48 px, nearest keeps 100.0 %")
    assert told == "At its own 16x24 px: 90 of 100 right (83 to 94 %)."
    assert beside.startswith("Too few images to tell from its own 16x24 px: 32x48 px by bicubic (-5.8 to")
    assert worse.startswith("Right less often than bicubic at 32x48 px, which has most right: bilinear (-")
    assert unsure.startswith(
        "Too few images to tell from bicubic at 32x48 px, which has most right: bicubic-antialias (-"
    )


def contender(name: str, count: int, images_per_s: float) -> Contender:
    speed = Speed(images_per_s, 0.98 * images_per_s, 1.02 * images_per_s, 5, 32, None)
    return Contender(name, "kind", (16, 16), 1_000, None, speed, "class", count, 100, right(count))


def test_who_beats_whom_is_said_as_surely_as_it_is_known() -> None:
    models = [contender("fast", 90, 400.0), contender("best", 91, 200.0), contender("beaten", 60, 100.0)]
    assert [*tradeoff_verdict(models, [True, True, False], "throughput")] == [
        "By these figures none beats fast and best in both accuracy and images/s.",
        "Beside beaten, best has 2 x the images/s and is right more often (+21.1 to +39.7 points).",
        "Beside fast, best has 0.5 x the images/s and is, of so few images, not known to be right more or less often"
        " (-2.3 to +4.3 points).",
    ]
    alike = [contender("a", 90, 100.0), contender("b", 60, 99.0)]
    assert "a is about as fast and is right more often" in [*tradeoff_verdict(alike, [True, False], "throughput")][1]
