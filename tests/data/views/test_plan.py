"""Plans against timm's transforms: the same distributions, tested at the level in significance.py."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data.auto_augment import LEVEL_TO_ARG, auto_augment_policy, auto_augment_transform, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation

from deitkit.data.views.plan import (
    AUTO_POLICY,
    ERASE_AREA,
    ERASE_ASPECT,
    NO_OPERATION,
    OPERATIONS,
    RAND_OPERATIONS,
    RAND_PROBABILITY,
    Plans,
    draw_plans,
)
from deitkit.recipe.schema import Augment
from tests.data.significance import assert_plausible, same_distribution, same_frequencies

COUNT = 8000
NAMES = [operation.name for operation in OPERATIONS]


def draw(augment: Augment, *, height: int = 375, width: int = 500, size=(48, 40), count: int = COUNT, **key) -> Plans:
    key = {"seed": 1, "epoch": 2, "images": np.arange(count), "repeat": 0} | key
    return draw_plans(augment, size, np.full(count, height), np.full(count, width), **key)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # timm draws from both


@pytest.mark.parametrize(("height", "width"), [(375, 500), (32, 32), (100, 300), (600, 60), (8, 8)])
def test_crops_are_distributed_as_timms(height, width):
    image = Image.new("RGB", (width, height))
    reference = np.array(
        [RandomResizedCropAndInterpolation.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(COUNT)]
    )
    crops = draw(Augment(), height=height, width=width).crop
    p_values = {name: same_distribution(f(crops), f(reference)) for name, f in BOX_MEASURES.items()}
    assert_plausible(p_values)


BOX_MEASURES = {
    "top": lambda boxes: boxes[:, 0],
    "left": lambda boxes: boxes[:, 1],
    "area": lambda boxes: boxes[:, 2] * boxes[:, 3],
    "aspect": lambda boxes: boxes[:, 3] / boxes[:, 2],
    "bottom": lambda boxes: boxes[:, 0] + boxes[:, 2],
    "right": lambda boxes: boxes[:, 1] + boxes[:, 3],
}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 2000), (2000, 3), (7, 2), (224, 224)])
@pytest.mark.parametrize("augment", [Augment(), Augment(crop_scale=(0.9, 1.0)), Augment(crop_scale=(1.0, 1.0))])
def test_crops_lie_inside_their_image(height, width, augment):
    top, left, box_height, box_width = draw(augment, height=height, width=width, count=500).crop.T
    assert min(top.min(), left.min()) >= 0
    assert min(box_height.min(), box_width.min()) > 0
    assert (top + box_height).max() <= height
    assert (left + box_width).max() <= width


def test_a_crop_that_never_fits_is_the_central_one_of_timm():
    for height, width in ((30, 1000), (1000, 30)):
        image = Image.new("RGB", (width, height))
        reference = RandomResizedCropAndInterpolation.get_params(image, (1.0, 1.0), (3 / 4, 4 / 3))
        plans = draw(Augment(crop_scale=(1.0, 1.0)), height=height, width=width, count=4)
        assert plans.crop.tolist() == [list(reference)] * 4


def test_flips_have_their_probability():
    p_values = {}
    for probability in (0.0, 0.3, 0.5, 1.0):
        flips = int(draw(Augment(hflip=probability)).flip.sum())
        p_values[f"{probability}"] = stats.binomtest(flips, COUNT, probability).pvalue
    assert_plausible(p_values)


@cache
def recorded(policy: str) -> list[list[tuple[str, float | None]]]:
    """The operations and arguments that timm's own transform applies to many images."""
    hparams = {"translate_const": 100, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    log: list[list[tuple[str, float | None]]] = []
    if policy == "rand":
        transform = rand_augment_transform("rand-m9-mstd0.5-inc1", hparams)
        operations = transform.ops
    else:
        transform = auto_augment_transform("original-mstd0.5", hparams)
        operations = [operation for row in transform.policy for operation in row]
    for operation in operations:

        def record(image, *arguments, _name=operation.name, **_):
            log[-1].append((_name, arguments[0] if arguments else None))
            return image

        operation.aug_fn = record
    image = Image.new("RGB", (8, 8))
    for _ in range(5 * COUNT):
        log.append([])
        transform(image)
    return log


@pytest.mark.parametrize("policy", ["rand", "auto"])
def test_operations_and_arguments_are_distributed_as_timms(policy):
    reference = recorded(policy)
    plans = draw(Augment(policy=policy), count=5 * COUNT)
    ours = [list(plans[index].operations) for index in range(len(plans))]
    sequences = [np.array(["+".join(name for name, _ in view) for view in views]) for views in (ours, reference)]
    p_values = {"operations": same_frequencies(*sequences)}
    for name in NAMES:
        samples = [
            np.array([argument for view in views for own, argument in view if own == name], dtype=float)
            for views in (ours, reference)
        ]
        if len(samples[1]) and not np.isnan(samples[1]).all():
            p_values[f"arguments of {name}"] = same_distribution(*samples)
    assert len(p_values) == 1 + (12 if policy == "rand" else 7)
    assert_plausible(p_values)


def test_every_argument_is_timms_at_every_level_and_sign(monkeypatch):
    for sign, draw_of_sign in ((1.0, 0.2), (-1.0, 0.8)):
        monkeypatch.setattr(random, "random", lambda value=draw_of_sign: value)
        for operation in OPERATIONS:
            for magnitude in np.linspace(0, 10, 101):
                level = np.array([magnitude / 10])
                rule = LEVEL_TO_ARG[operation.name]
                if rule is None:
                    assert operation.argument is None
                else:
                    expected = rule(magnitude, {})[0]
                    assert operation.argument(level, np.array([sign]))[0] == expected, operation.name
                    assert isinstance(expected, int) == operation.is_integer


def test_the_tables_are_timms():
    rand = rand_augment_transform("rand-m9-mstd0.5-inc1", {})
    assert NAMES[:RAND_OPERATIONS] == [operation.name for operation in rand.ops]
    assert {operation.prob for operation in rand.ops} == {RAND_PROBABILITY}
    erasing = RandomErasing()
    assert (erasing.min_area, erasing.max_area) == ERASE_AREA
    assert np.exp(erasing.log_aspect_ratio) == pytest.approx(ERASE_ASPECT)
    original = [
        tuple((operation.name, operation.prob, operation.magnitude) for operation in row)
        for row in auto_augment_policy("original")
    ]
    assert original == list(AUTO_POLICY)


def test_magnitudes_are_normal_and_signs_even():
    plans = draw(Augment(magnitude=5.0, magnitude_std=0.5), count=20 * COUNT)
    degrees = plans.op_args[plans.ops == NAMES.index("Rotate")]
    assert_plausible(
        {
            "magnitude": stats.kstest(np.abs(degrees) / 3, stats.norm(5.0, 0.5).cdf).pvalue,
            "sign": stats.binomtest(int((degrees > 0).sum()), len(degrees)).pvalue,
        }
    )


def test_without_spread_every_magnitude_is_the_recipes():
    plans = draw(Augment(magnitude=5.0, magnitude_std=0.0))
    rotations = plans.op_args[plans.ops == NAMES.index("Rotate")]
    assert set(rotations.tolist()) == {15.0, -15.0}
    clipped = draw(Augment(magnitude=30.0, magnitude_std=0.0))
    assert set(np.abs(clipped.op_args[clipped.ops == NAMES.index("ShearX")]).tolist()) == {0.3}


@pytest.mark.parametrize(("size", "probability"), [((48, 48), 0.25), ((32, 64), 1.0), ((6, 6), 1.0)])
def test_erasing_boxes_are_distributed_as_timms(size, probability):
    erasing = RandomErasing(probability, mode="const", device="cpu")
    boxes = []
    for _ in range(COUNT):
        rows, columns = torch.where(erasing(torch.ones(1, *size))[0] == 0)
        if len(rows):
            boxes.append([rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1])
    reference = np.array(boxes)
    plans = draw(Augment(erasing=probability), size=size)
    ours = plans.erase[plans.erased]
    p_values = {name: same_distribution(f(ours), f(reference)) for name, f in BOX_MEASURES.items()}
    p_values["how many"] = stats.fisher_exact(
        [[len(ours), COUNT - len(ours)], [len(reference), COUNT - len(reference)]]
    ).pvalue
    assert_plausible(p_values)


def test_a_plan_is_a_function_of_its_key_alone():
    images = np.arange(200)
    heights, widths = 100 + images, 300 - images
    key = {"seed": 5, "epoch": 6, "repeat": 2}
    together = draw_plans(Augment(), (32, 32), heights, widths, images=images, **key)
    some = np.array([150, 3, 77])
    alone = draw_plans(Augment(), (32, 32), heights[some], widths[some], images=some, **key)
    assert [alone[index] for index in range(3)] == [together[index] for index in some]
    for changed in ({"seed": 6}, {"epoch": 7}, {"repeat": 1}):
        other = draw_plans(Augment(), (32, 32), heights, widths, images=images, **(key | changed))
        assert not set(other.noise_key.tolist()) & set(together.noise_key.tolist())
        assert np.mean([other[index] == together[index] for index in range(200)]) < 0.05


def test_no_decision_shifts_another():
    first = draw(Augment(), count=300)
    second = draw(Augment(policy=None, hflip=0.9, erasing=1.0), count=300)
    assert np.array_equal(first.crop, second.crop)
    assert np.array_equal(first.noise_key, second.noise_key)
    assert np.array_equal(first.erase[first.erased], second.erase[first.erased])
    assert not (first.flip & ~second.flip).any()
    assert (second.ops == NO_OPERATION).all()
    third = draw(Augment(crop_scale=(0.5, 1.0), policy="auto"), count=300)
    assert np.array_equal(first.flip, third.flip)
    assert np.array_equal(first.erase, third.erase)


def test_decisions_are_independent_of_each_other():
    plans = draw(Augment())
    columns = {
        "area": plans.crop[:, 2] * plans.crop[:, 3],
        "top": plans.crop[:, 0] / np.maximum(1, 375 - plans.crop[:, 2]),
        "left": plans.crop[:, 1] / np.maximum(1, 500 - plans.crop[:, 3]),
        "flip": plans.flip,
        "first": plans.ops[:, 0],
        "second": plans.ops[:, 1],
        "erases": plans.erase[:, 2] > 0,
        "noise": plans.noise_key.astype(float),
    }
    names = list(columns)
    p_values = {
        f"{a}, {b}": stats.spearmanr(columns[a], columns[b]).pvalue
        for index, a in enumerate(names)
        for b in names[index + 1 :]
    }
    assert_plausible(p_values)


def test_a_plan_names_its_operations():
    plans = draw(Augment())
    for index in range(200):
        plan = plans[index]
        applied = [op for op in plans.ops[index] if op != NO_OPERATION]
        assert [name for name, _ in plan.operations] == [NAMES[op] for op in applied]
        assert bool(plan.erase[2]) == (index in plans.erased)
        for name, argument in plan.operations:
            operation = OPERATIONS[NAMES.index(name)]
            assert (argument is None) == (operation.argument is None)
            assert isinstance(argument, int) == operation.is_integer
