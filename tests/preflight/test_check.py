"""Good and bad teachers of the handwritten digits, each recognised for what it is; accuracies against scikit-learn."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from deitkit.data.open import Source
from deitkit.data.views.loader import EvalLoader, TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.measures.scores import scores_of
from deitkit.preflight import Findings, Verdict, open_subject
from deitkit.preflight.answering import held_out_answers, sample, training_views
from deitkit.preflight.check import trials_of
from deitkit.preflight.inputs import other_ways
from deitkit.preflight.order import find_order
from deitkit.preflight.verdict import judge
from tests.preflight.conftest import CPU, recipe_with

Check = Callable[..., tuple[Findings, Verdict]]


def test_a_right_teacher_gets_a_yes(put_to_the_test: Check) -> None:
    found, verdict = put_to_the_test("right")
    assert verdict.answer == "yes", verdict.sentences()
    assert found.order is None and found.held_out.not_finite == 0 and found.cost is not None
    assert found.cost.teacher_images_per_s > 0 and found.cost.ratio > 0 and found.cost.student_parameters > 1000
    assert [view.kind for view in found.views] == ["augmented"]


def test_its_accuracy_is_that_of_the_nearest_mean(put_to_the_test: Check, digits: tuple[Source, Source]) -> None:
    bundled = load_digits()
    images, target = bundled.images.reshape(-1, 64), bundled.target
    means = np.stack([images[target == digit].mean(axis=0) for digit in range(10)])
    nearest = ((images[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    held = [int(name.rpartition("/")[2]) for name in digits[1].ids]
    found, _ = put_to_the_test("right", changes={"model.image_size": 8})
    assert found.held_out.images == len(held)
    assert found.held_out.top1 == pytest.approx((nearest == target)[held].mean(), abs=0.006)  # rounded pixels


@pytest.mark.parametrize(
    ("teacher", "reason"),
    [
        ("shifted", "shifted by one"),
        ("permuted", "another order"),
        ("unnormalised", "0 to 255"),
        ("wrongly_normalised", "0 to 1, not normalised"),
        ("random_head", "random head"),
        ("breaks", "NaN or infinity"),
    ],
)
def test_a_bad_teacher_gets_a_no_that_says_why(put_to_the_test: Check, teacher: str, reason: str) -> None:
    _, verdict = put_to_the_test(teacher)
    assert verdict.answer == "no"
    graves = [item.text + item.remedy for item in verdict.reasons if item.answer == "no"]
    assert any(reason in grave for grave in graves), graves


def test_what_is_said_of_a_wrong_input_mends_it(put_to_the_test: Check) -> None:
    found, _ = put_to_the_test("wrongly_normalised")
    best = found.best_input
    assert best is not None and found.held_out.top1 < best.top1
    assert best.settings == ("teacher.input=0..1",)
    mended, verdict = put_to_the_test("wrongly_normalised", changes={"teacher.input": "0..1"})
    assert verdict.answer == "yes" and mended.held_out.top1 == pytest.approx(best.top1)


def test_classes_named_as_found_mend_a_permuted_teacher(put_to_the_test: Check) -> None:
    found, _ = put_to_the_test("permuted")
    assert found.order is not None
    names = [""] * 10  # of the outputs
    for digit, output in enumerate(found.order.outputs):
        names[output] = str(digit)
    mended, verdict = put_to_the_test("permuted", changes={"teacher.classes": names})
    assert verdict.answer == "yes" and mended.held_out.top1 == pytest.approx(found.order.top1)


def test_unnamed_outputs_are_taken_in_the_datas_order_and_it_is_said(put_to_the_test: Check) -> None:
    found, verdict = put_to_the_test("unnamed")
    assert found.unnamed and verdict.answer == "yes" and any("teacher.classes=data" in s for s in verdict.sentences())


def test_a_mixture_is_checked_as_one(put_to_the_test: Check) -> None:
    right = recipe_with("right").teacher
    assert right is not None
    both = [right.models[0], right.models[0].replace("right", "shifted")]
    found, _ = put_to_the_test("right", changes={"teacher.model": both, "teacher.mixture": [3.0, 1.0]})
    assert not found.inputs and any("alone" in note for note in found.notes)
    alone, _ = put_to_the_test("right")
    assert found.held_out.top1 == pytest.approx(alone.held_out.top1, abs=0.03)


def test_there_are_no_false_alarms_on_few_images(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right")
    subject = open_subject(recipe, digits[1].class_names, device=CPU)
    assert subject.input is not None
    ways = other_ways(subject.input, mean=recipe.data.mean, std=recipe.data.std)
    generator = np.random.default_rng(0)
    for size in (10, 20, 40, 80) * 5:
        chosen = sorted(generator.choice(len(digits[1]), size, replace=False).tolist())
        first, *others = held_out_answers(subject, recipe, digits[1], chosen, ways=ways, device=CPU)
        found = Findings(
            teacher="T", dataset="digits", split="val", labels="hard", held_out=scores_of(first, classes=10),
            order=find_order(first, digits[1].class_names, outputs=10),
            inputs=trials_of(first, others, ways, now=subject.input),
        )  # fmt: skip
        assert judge(found).answer != "no", (size, judge(found).sentences())


def test_a_student_is_compared_on_the_same_images(put_to_the_test: Check, tmp_path: Any) -> None:
    from deitkit.models.load import LoadedModel, ModelInfo
    from deitkit.models.student import build_student

    recipe = recipe_with("right")
    student = build_student(recipe.model, 10)
    info = ModelInfo.of(recipe.data, recipe.model.size, tuple("0123456789"))
    found, verdict = put_to_the_test("right", student=LoadedModel(student, info, "S"))
    assert found.rival is not None and found.rival.top1 < 0.4
    assert found.rival.comparison.gain == pytest.approx(found.held_out.top1 - found.rival.top1)
    assert any("better than the student" in sentence for sentence in verdict.sentences())


def test_a_stated_accuracy_is_shown_beside_the_measured_one(put_to_the_test: Check) -> None:
    found, verdict = put_to_the_test("right", stated=0.999, changes={"data.crop_ratio": 0.5})
    assert found.stated is not None and found.stated.is_short
    assert any("crop ratio 1" in explanation for explanation in found.stated.explanations)
    assert found.sizes and verdict.answer != "yes"


# The views


def test_views_are_those_that_a_training_sees(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right", **{"mix.prob": 1.0, "stream.repeats": 2, "augment.policy": "rand"})
    shape = plan_stream(len(digits[0]), recipe.stream, mixing=True)
    (expected,) = next(iter(TrainLoader(digits[0], recipe, shape).steps(0, 1)))
    views = list(training_views(recipe, digits[0], views=64, device=CPU))
    images = torch.cat([batch.images for batch in views])[:64]
    assert torch.equal(images, expected.images)
    assert torch.equal(torch.cat([batch.partners for batch in views])[:64], expected.partners)


def test_views_before_mixing_hold_one_label(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right", **{"mix.prob": 1.0})
    assert all((batch.lam == 1).all() for batch in training_views(recipe, digits[0], views=64, device=CPU, mixed=False))


def test_agreement_on_mixed_views_is_counted_as_defined(put_to_the_test: Check, digits: tuple[Source, Source]) -> None:
    changes = {"mix.prob": 1.0}
    found, _ = put_to_the_test("right", changes=changes)
    augmented, mixed = found.views
    recipe = recipe_with("right", **changes)
    subject = open_subject(recipe, digits[1].class_names, device=CPU)
    in_labels = in_larger = two = total = 0
    for batch in training_views(recipe, digits[0], views=64, device=CPU):
        for top, own, other, lam in zip(
            subject.classify(batch.images).argmax(1).tolist(), batch.labels.tolist(), batch.partners.tolist(),
            batch.lam.tolist(), strict=True,
        ):  # fmt: skip
            labels = {own} if lam == 1 else {own, other}
            in_labels += top in labels
            in_larger += top == (own if lam >= 0.5 else other)
            two += len(labels) == 2
            total += 1
    assert (mixed.views, mixed.two_labels) == (total, two) and mixed.two_labels > 0
    assert mixed.in_labels == pytest.approx(in_labels / total)
    assert mixed.in_larger == pytest.approx(in_larger / total)
    assert augmented.two_labels == 0 and augmented.in_labels >= mixed.in_larger


def test_fewer_images_than_a_batch_still_make_views(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right", **{"stream.batch_size": 4096, "stream.repeats": 3, "mix.prob": 1.0})
    assert sum(len(batch.labels) for batch in training_views(recipe, digits[0], views=64, device=CPU)) >= 64


# What it leaves alone


def test_no_global_generator_is_touched(put_to_the_test: Check) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    put_to_the_test("right", changes={"model.drop_path": 0.5})
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()


def test_a_sample_is_spread_and_always_the_same() -> None:
    chosen = sample(1000, 100)
    assert chosen == sample(1000, 100) and len(set(chosen)) == 100 and chosen == sorted(chosen)
    assert min(chosen) < 100 and max(chosen) > 900
    assert sample(10, 0) == list(range(10)) == sample(10, 10)


def test_images_that_cannot_be_read_are_an_error(digits: tuple[Source, Source], monkeypatch: Any) -> None:
    recipe = recipe_with("right", **{"data.on_bad_image": "replace"})
    subject = open_subject(recipe, digits[1].class_names, device=CPU)
    monkeypatch.setattr(EvalLoader, "__iter__", lambda self: iter(()))
    with pytest.raises(DeitkitError, match="can be read"):
        held_out_answers(subject, recipe, digits[1], [0], device=CPU)


def test_a_teacher_that_shares_no_class_is_refused(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right")
    with pytest.raises(DeitkitError, match="other classes"):
        open_subject(recipe, ("cat", "dog"), device=CPU)


def test_a_teacher_with_more_classes_is_measured_and_refused(digits: tuple[Source, Source]) -> None:
    recipe = recipe_with("right")
    subject = open_subject(recipe, ("7", "1"), device=CPU)
    assert "other classes" in subject.refused and subject.remedy
    logits = subject.classify(torch.zeros(2, 3, 16, 16))
    plain = open_subject(recipe, digits[1].class_names, device=CPU).classify(torch.zeros(2, 3, 16, 16))
    assert torch.equal(logits[:, :2], plain[:, [7, 1]]) and logits.shape == plain.shape
