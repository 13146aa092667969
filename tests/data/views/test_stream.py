"""The stream: counters, orders and arithmetic. Statistical families are tested at the level in significance.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from deitkit.data.draws import Domain, philox4x32, uniforms, words
from deitkit.data.views.stream import (
    ARGSORT_LIMIT,
    StreamShape,
    Unit,
    argsort_order,
    feistel_order,
    group_order,
    order,
    plan_stream,
    set_images,
    units,
)
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Stream
from tests.data.significance import assert_plausible, uniform_frequencies

BILLION = 10**9


def path_orders(seed: int, epoch: int, size: int) -> dict[str, np.ndarray]:
    return {
        "argsort": argsort_order(seed, epoch, size),
        "feistel": feistel_order(seed, epoch, size, np.arange(size)),
    }


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    assert tuple(int(word) for word in philox4x32(counter, key)) == expected


def test_no_two_draws_share_a_counter():
    draws = [
        words(seed, domain, epoch, [0, 1, 2**32, 2**47], repeat=repeat, lanes=5).ravel()
        for seed in (0, 1, 2**32, 2**62)
        for domain in Domain
        for epoch in (0, 1, 299)
        for repeat in (0, 1, 2**15)
    ]
    together = np.concatenate(draws)
    assert len(np.unique(together)) == len(together)


def test_a_draw_does_not_depend_on_its_company():
    many = words(3, Domain.PLAN, 5, np.arange(100), repeat=2, lanes=9)
    assert np.array_equal(words(3, Domain.PLAN, 5, [42], repeat=2, lanes=4)[0], many[42, :4])
    assert np.array_equal(words(3, Domain.PLAN, 5, [42, 7], repeat=[2, 2], lanes=9), many[[42, 7]])


def test_uniforms_are_uniform_and_independent():
    draws = uniforms(0, Domain.PLAN, 0, np.arange(20_000), lanes=6)
    assert draws.min() >= 0
    assert draws.max() < 1
    p_values = {f"lane {lane}": stats.kstest(draws[:, lane], "uniform").pvalue for lane in range(6)}
    for lane in range(5):
        p_values[f"lanes {lane}, {lane + 1}"] = stats.pearsonr(draws[:, lane], draws[:, lane + 1]).pvalue
    p_values["neighbours"] = stats.pearsonr(draws[1:, 0], draws[:-1, 0]).pvalue
    assert_plausible(p_values)


def test_both_orders_are_permutations_for_every_size_up_to_2000():
    for size in range(1, 2001):
        for name, found in path_orders(size, size % 7, size).items():
            assert np.array_equal(np.bincount(found, minlength=size), np.ones(size)), (name, size)


def test_a_billion_images_are_never_drawn_twice():
    generator = np.random.default_rng(0)
    positions = np.unique(np.concatenate([np.arange(500_000), generator.integers(0, BILLION, 500_000)]))
    images = order(11, 3, BILLION, positions)
    assert images.min() >= 0
    assert images.max() < BILLION
    assert len(np.unique(images)) == len(positions)  # a random function would repeat about 500


def test_an_order_needs_no_history():
    for size in (1000, ARGSORT_LIMIT + 1, BILLION):
        images = order(1, 2, size, np.arange(100))
        assert order(1, 2, size, [99, 5]).tolist() == images[[99, 5]].tolist()
        assert not np.array_equal(order(1, 3, size, np.arange(100)), images)
        assert not np.array_equal(order(2, 2, size, np.arange(100)), images)


def test_small_orders_are_uniform_in_position_and_in_adjacency():
    size, epochs = 61, 3000
    p_values = {}
    for name in ("argsort", "feistel"):
        table = np.array([path_orders(5, epoch, size)[name] for epoch in range(epochs)])
        for position in (0, 1, size // 2, size - 1):
            p_values[f"{name}: image at {position}"] = uniform_frequencies(table[:, position], size)
        p_values[f"{name}: image by position"] = _square_uniformity(table, size, epochs)
        steps = (table[:, 1:] - table[:, :-1]) % size
        for position in (0, size // 2, size - 2):
            p_values[f"{name}: step after {position}"] = uniform_frequencies(steps[:, position] - 1, size - 1)
        # Within a permutation steps depend on each other, so their counts vary a little less than independent ones.
        p_values[f"{name}: all steps"] = uniform_frequencies(steps.ravel() - 1, size - 1)
        p_values[f"{name}: fixed points"] = stats.binomtest(np.count_nonzero(table[:, 0] == 0), epochs, 1 / size).pvalue
    assert_plausible(p_values)


def _square_uniformity(table: np.ndarray, size: int, epochs: int) -> float:
    """Chi-square of the counts image x position over epochs; rows and columns are fixed, so (size - 1)^2 degrees."""
    counts = np.array([np.bincount(table[:, position], minlength=size) for position in range(size)])
    expected = epochs / size
    statistic = ((counts - expected) ** 2 / expected).sum() * (size - 1) / size
    return float(stats.chi2.sf(statistic, (size - 1) ** 2))


@pytest.mark.parametrize("size", [ARGSORT_LIMIT + 1, 1_281_167, BILLION])
def test_large_orders_are_uniform_in_position_and_in_adjacency(size):
    bins, p_values = 40, {}
    for epoch in range(3):
        images = order(9, epoch, size, np.arange(min(size // 4, 100_000)))
        binned = images * bins // size
        # Drawn without replacement: at most a quarter of the images, so the test is only a little conservative.
        p_values[f"images of epoch {epoch}"] = uniform_frequencies(binned, bins)
        p_values[f"neighbours in epoch {epoch}"] = uniform_frequencies(binned[:-1] * bins + binned[1:], bins**2)
        steps = (images[1:] - images[:-1]) % size
        p_values[f"steps of epoch {epoch}"] = uniform_frequencies(steps * bins // size, bins)
    places = np.array([0, 1, 2, size // 2, size - 1])
    over_epochs = np.array([order(9, epoch, size, places) for epoch in range(3000)])
    for column, place in enumerate(places):
        p_values[f"image at {place} over epochs"] = uniform_frequencies(over_epochs[:, column] * bins // size, bins)
    steps = (over_epochs[:, 1] - over_epochs[:, 0]) % size
    p_values["first step over epochs"] = uniform_frequencies(steps * bins // size, bins)
    p_values["seeds"] = uniform_frequencies(
        np.array([order(seed, 0, size, [0])[0] for seed in range(2000)]) * bins // size, bins
    )
    assert_plausible(p_values)


def shape_of(size: int, batch_size: int, repeats: int = 3, mix_group: int | None = None, **settings) -> StreamShape:
    stream = Stream(batch_size=batch_size, repeats=repeats, mix_group=mix_group)
    return plan_stream(size, stream, mixing=settings.pop("mixing", True), **settings)


@pytest.mark.parametrize(
    ("size", "batch", "group", "ranks", "expected"),
    [
        # size, batch, G, ranks: default G, steps, views, distinct images, groups per part, decodes per view
        (1_437, 64, None, 1, (16, 22, 1_408, 480, 4, 44 / 88)),
        (1_437, 128, None, 1, (32, 11, 1_408, 480, 4, 22 / 44)),
        (2_040, 768, 32, 1, (32, 2, 1_536, 512, 24, 1 / 3)),
        (8_144, 768, 32, 1, (32, 10, 7_680, 2_560, 24, 1 / 3)),
        (1_281_167, 1_024, None, 1, (64, 1_251, 1_281_024, 427_008, 16, 0.375)),
        (1_281_167, 1_024, None, 8, (64, 1_251, 1_281_024, 427_008, 2, 2 / 3)),
        (1_281_167, 1_024, None, 16, (64, 1_251, 1_281_024, 427_008, 1, 1.0)),
        (1_281_167, 768, 32, 8, (32, 1_668, 1_281_024, 427_008, 3, 1 / 3)),
    ],
)
def test_the_arithmetic_of_steps_and_groups(size, batch, group, ranks, expected):
    shape = shape_of(size, batch, mix_group=group, ranks=ranks)
    assert (
        shape.mix_group,
        shape.steps_per_epoch,
        shape.views_per_epoch,
        shape.distinct_images_per_epoch,
        shape.groups_per_part,
    ) == expected[:5]
    assert shape.decodes_per_view == pytest.approx(expected[5], abs=1e-12)


@pytest.mark.parametrize(("ranks", "accumulation"), [(1, 1), (4, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize(("size", "repeats", "group"), [(200, 3, 4), (200, 1, 8), (97, 2, 8), (50, 3, 2)])
def test_parts_tile_an_epoch_and_repeat_every_image(size, repeats, group, ranks, accumulation):
    shape = shape_of(size, 32, repeats, group, ranks=ranks, accumulation=accumulation)
    all_units = [
        unit
        for step in range(shape.steps_per_epoch)
        for part in range(shape.parts_per_batch)
        for unit in units(shape, epoch=0, step=step, part=part)
    ]
    groups = [group for unit in all_units for group in unit.groups]
    assert groups == list(range(shape.steps_per_epoch * shape.groups_per_batch))
    assert all(group // repeats == unit.image_set for unit in all_units for group in unit.groups)
    assert shape.decodes_per_view == pytest.approx(len(all_units) * shape.mix_group / shape.views_per_epoch)
    views = Counter(
        (image, group % repeats) for unit in all_units for group in unit.groups for image in set_images(shape, 0, unit)
    )
    assert set(views.values()) == {1}
    assert len({image for image, _ in views}) == shape.distinct_images_per_epoch


def test_no_group_holds_an_image_twice_and_each_has_its_own_order():
    shape = shape_of(1_437, 128)
    seen = set()
    for unit in units(shape, epoch=4, step=0, part=0):
        images = set_images(shape, 1, unit)
        assert len(set(images.tolist())) == shape.mix_group
        for group in unit.groups:
            places = group_order(shape, 1, unit, group)
            assert sorted(places.tolist()) == list(range(shape.mix_group))
            seen.add(tuple(images[places].tolist()))
    assert len(seen) == shape.groups_per_batch


def test_the_order_of_a_group_is_uniform():
    shape = StreamShape(size=64, batch_size=64, repeats=1, mix_group=16)
    orders = np.array([group_order(shape, 0, Unit(0, group, (group,)), group) for group in range(3000)])
    p_values = {f"place {place}": uniform_frequencies(orders[:, place], 16) for place in range(16)}
    pairs = orders[:, 0] * 16 + orders[:, 15]  # the two that are mixed
    other = ~np.eye(16, dtype=bool).ravel()
    p_values["pairs"] = float(stats.chisquare(np.bincount(pairs, minlength=256)[other]).pvalue)
    assert_plausible(p_values)


@pytest.mark.parametrize(
    ("batch", "repeats", "expected"), [(1024, 3, 64), (512, 1, 64), (96, 3, 32), (64, 3, 16), (48, 1, 16), (6, 3, 2)]
)
def test_the_default_group_is_the_largest_power_of_two_that_fits(batch, repeats, expected):
    assert shape_of(100_000, batch, repeats).mix_group == expected


def test_without_mixing_any_divisor_is_a_group():
    assert shape_of(1000, 63, 1, mixing=False).mix_group == 63
    assert shape_of(1000, 15, 3, mixing=False).mix_group == 5
    assert shape_of(7, 1, 1, mixing=False).mix_group == 1


def test_an_odd_batch_cannot_be_mixed():
    with pytest.raises(DeitkitError, match="even, because mixup pairs") as caught:
        shape_of(1000, 63, 1)
    assert "stream.batch_size=62" in caught.value.remedy


def test_a_batch_without_room_for_the_repeats_is_refused():
    with pytest.raises(DeitkitError, match=r"at least stream\.repeats 3"):
        shape_of(1000, 2, 3)


@pytest.mark.parametrize(("size", "fits"), [(1437, 1024), (1, 1), (0, 1)])
def test_too_few_images_name_a_batch_that_fits(size, fits):
    with pytest.raises(DeitkitError, match="fewer than one batch") as caught:
        shape_of(size, 2048)
    assert f"--set stream.batch_size={fits}" in caught.value.remedy
    if size > 1:
        assert shape_of(size, fits).steps_per_epoch >= 1


def test_groups_that_do_not_divide_list_the_products_that_fit():
    with pytest.raises(DeitkitError, match=r"12 mix groups .* among 8 ranks x 1 accumulation") as caught:
        shape_of(10_000, 768, mix_group=64, ranks=8)
    assert caught.value.choices == ("1", "2", "3", "4", "6", "12")


@pytest.mark.parametrize(
    ("size", "batch", "repeats", "group", "message"),
    [
        (1000, 100, 1, 64, "does not divide stream.batch_size 100"),
        (1000, 75, 1, 25, "odd, so one image would be mixed with itself"),
        (1000, 64, 3, 32, "more than stream.batch_size 64"),
        (100, 96, 2, 64, "more than 100 images / 2 repeats"),
    ],
)
def test_a_group_that_does_not_fit_says_why(size, batch, repeats, group, message):
    with pytest.raises(DeitkitError, match=message):
        shape_of(size, batch, repeats, group)
