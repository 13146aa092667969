"""Class orders: found where they differ, by name where they go by one, and never where they are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deitkit.measures.arrays import Labels
from deitkit.measures.scores import TeacherAnswers, answers_of
from deitkit.preflight.order import best_matching, find_order, usual_orders

TEN = ("plane", "car", "Bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MANY = tuple(f"class {index}" for index in range(200))


def teacher(labels: Labels, outputs: Labels, *, accuracy: float, seed: int) -> TeacherAnswers:
    """Answers of a classifier that is right so often, and whose outputs [K] stand for the classes."""
    generator = np.random.default_rng(seed)
    count = len(outputs)
    decided = np.where(generator.random(len(labels)) < accuracy, labels, generator.integers(count, size=len(labels)))
    logits = torch.zeros((len(labels), count))
    logits[torch.arange(len(labels)), torch.from_numpy(outputs[decided])] = 5.0
    return answers_of(logits, torch.from_numpy(labels))


@pytest.mark.parametrize("accuracy", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("names", "images"), [(TEN, 10), (TEN, 60), (TEN, 500), (MANY, 200), (MANY, 500)])
def test_a_right_order_never_raises_an_alarm(names: tuple[str, ...], images: int, accuracy: float) -> None:
    for seed in range(20):
        labels = np.arange(images, dtype=np.int64) % len(names)
        answers = teacher(labels, np.arange(len(names)), accuracy=accuracy, seed=seed)
        assert find_order(answers, names, outputs=len(names)) is None


@pytest.mark.parametrize("order", usual_orders(MANY), ids=lambda order: order.name[:20])
def test_one_image_a_class_tells_the_orders_that_occur(order) -> None:  # type: ignore[no-untyped-def]
    answers = teacher(np.arange(200), order.outputs, accuracy=0.6, seed=0)
    found = find_order(answers, MANY, outputs=200)
    assert found is not None and found.is_permuted and not found.is_matched
    assert found.outputs == tuple(order.outputs.tolist())


def test_one_image_a_class_tells_nothing_of_any_other_order() -> None:
    scrambled = np.random.default_rng(0).permutation(200)
    assert find_order(teacher(np.arange(200), scrambled, accuracy=0.6, seed=0), MANY, outputs=200) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_few_images_a_class_tell_any_order(seed: int) -> None:
    scrambled = np.random.default_rng(seed).permutation(10)
    answers = teacher(np.arange(120, dtype=np.int64) % 10, scrambled, accuracy=0.8, seed=seed)
    found = find_order(answers, TEN, outputs=10)
    assert found is not None and found.is_permuted and found.outputs == tuple(scrambled.tolist())
    name, output = found.pairs[0]
    assert scrambled[TEN.index(name)] == TEN.index(output)


def test_two_swapped_classes_are_named() -> None:
    swapped = np.arange(10)
    swapped[[3, 5]] = 5, 3
    found = find_order(teacher(np.arange(500, dtype=np.int64) % 10, swapped, accuracy=0.9, seed=0), TEN, outputs=10)
    assert found is not None and found.moved == 2 and found.pairs == (("cat", "dog"), ("dog", "cat"))


def test_outputs_that_the_data_lacks_may_be_matched() -> None:
    """Twelve outputs for ten classes: the data's cat is answered by the eleventh."""
    outputs = np.arange(12)
    outputs[[3, 10]] = 10, 3
    answers = teacher(np.arange(500, dtype=np.int64) % 10, outputs, accuracy=0.95, seed=0)
    found = find_order(answers, TEN, outputs=12)
    assert found is not None and found.pairs == (("cat", "output 10"),)


def test_a_random_head_on_good_features_is_no_order() -> None:
    """It can be matched, but gives several classes one output; by luck a few heads are nearly one to one."""
    called_permuted = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(400) % 10
        features = torch.nn.functional.one_hot(labels, 10) + 0.3 * torch.randn((400, 10), generator=generator)
        head = torch.randn((10, 10), generator=generator)
        found = find_order(answers_of(features @ head.T, labels), TEN, outputs=10)
        called_permuted += found is not None and found.is_permuted
    assert called_permuted <= 8


def test_the_matching_is_that_of_every_permutation_tried() -> None:
    from itertools import permutations

    generator = np.random.default_rng(0)
    labels, decisions = generator.integers(5, size=40), generator.integers(5, size=40)
    best = max(int((np.array(order)[labels] == decisions).sum()) for order in permutations(range(5)))
    matching = best_matching(labels, decisions, outputs=5)
    assert sorted(matching.tolist()) == list(range(5))
    assert int((matching[labels] == decisions).sum()) == best


def test_classes_without_images_keep_their_outputs() -> None:
    matching = best_matching(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), outputs=4)
    assert matching.tolist() == [1, 0, 2, 3]


def test_the_identity_is_no_other_order() -> None:
    for names in (TEN, MANY, ("a", "b"), ("one",)):
        for order in usual_orders(names):
            assert sorted(order.outputs.tolist()) == list(range(len(names)))
            assert order.outputs.tolist() != list(range(len(names)))
