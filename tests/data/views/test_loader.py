"""Loaders: one stream whatever reads it. Views are also made here without a loader and compared."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from deitkit.data.open import Source, open_source, subset
from deitkit.data.views.augment import decode, erasing_noise, make_view
from deitkit.data.views.loader import Batch, EvalLoader, TrainLoader
from deitkit.data.views.mix import draw_mix, mix_groups
from deitkit.data.views.plan import draw_plans
from deitkit.data.views.stream import group_order, plan_stream, set_images, units
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Augment, Data, Mix, Recipe

Build = Callable[..., Recipe]


@pytest.fixture(scope="module")
def digits() -> Source:
    """Few enough that an epoch has three steps of 32."""
    return subset(open_source(Data(dataset="digits"), "train"), range(100), "train")


def loader(source: Source, recipe: Recipe, *, ranks: int = 1, accumulation: int = 1, **settings) -> TrainLoader:
    shape = plan_stream(len(source), recipe.stream, mixing=True, ranks=ranks, accumulation=accumulation)
    return TrainLoader(source, recipe, shape, **settings)


def whole_batches(parts_by_rank: Iterable[Iterable[list[Batch]]]) -> list[tuple[torch.Tensor, ...]]:
    """All ranks' and accumulation steps' parts of each step, put together in their order."""
    batches = []
    for step in zip(*parts_by_rank, strict=True):
        parts = [part for rank in step for part in rank]
        batches.append(
            tuple(
                torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "partners", "lam")
            )
        )
    return batches


def assert_same(found: list[tuple[torch.Tensor, ...]], expected: list[tuple[torch.Tensor, ...]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_batch_is_its_plans_carried_out(digits, digits_recipe: Build):
    recipe = digits_recipe()
    shape = plan_stream(len(digits), recipe.stream, mixing=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.data.mean, recipe.data.std))
    (batch,) = next(loader(digits, recipe).steps(4, 5))  # the second step of the second epoch
    expected, labels = [], []
    for unit in units(shape, epoch=1, step=1, part=0):
        for group in unit.groups:
            members = set_images(shape, 7, unit)[group_order(shape, 7, unit, group)]
            plans = draw_plans(
                recipe.augment, (16, 16), [8] * 4, [8] * 4, seed=7, epoch=1, images=members, repeat=group % 3
            )
            views = []
            for index, image in enumerate(members):
                view = make_view(
                    decode(digits.read(image), "x"), plans[index], size=(16, 16), interpolation="bicubic",
                    fill=(124, 116, 104),
                )  # fmt: skip
                view = (torch.tensor(view) / 255 - mean) / std
                if index in plans.erased:
                    top, left, height, width = plans[index].erase
                    view[:, top : top + height, left : left + width] = torch.from_numpy(erasing_noise(plans[index]))
                views.append(view)
            mix = draw_mix(recipe.mix, (16, 16), seed=7, epoch=1, groups=[group])
            expected.append(mix_groups(torch.stack(views), mix, mix_group=4))
            labels.append(torch.from_numpy(digits.labels[members]))
    assert torch.equal(batch.images, torch.cat(expected))
    assert torch.equal(batch.labels, torch.cat(labels))
    assert torch.equal(batch.partners, torch.cat([group.flip(0) for group in labels]))
    assert batch.images.dtype == batch.lam.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "start_method"), [(2, "fork"), (4, "fork"), (2, "forkserver")])
def test_batches_do_not_depend_on_workers(digits, digits_recipe: Build, workers, start_method):
    recipe = digits_recipe()
    expected = whole_batches([loader(digits, recipe).steps(1, 7)])
    found = whole_batches([loader(digits, recipe, workers=workers, start_method=start_method).steps(1, 7)])
    assert_same(found, expected)


@pytest.mark.parametrize(("ranks", "accumulation"), [(2, 1), (4, 1), (1, 2), (1, 4), (2, 2), (4, 2)])
def test_batches_do_not_depend_on_ranks_and_accumulation(digits, digits_recipe: Build, ranks, accumulation):
    recipe = digits_recipe()
    expected = whole_batches([loader(digits, recipe).steps(0, 4)])
    by_rank = [
        loader(digits, recipe, ranks=ranks, accumulation=accumulation, rank=rank).steps(0, 4) for rank in range(ranks)
    ]
    assert_same(whole_batches(by_rank), expected)


def test_the_stream_can_begin_at_any_step(digits, digits_recipe: Build):
    recipe = digits_recipe()
    expected = whole_batches([loader(digits, recipe).steps(0, 8)])
    for start in (1, 3, 5):
        assert_same(whole_batches([loader(digits, recipe).steps(start, 8)]), expected[start:])


def test_epochs_and_seeds_give_other_batches(digits, digits_recipe: Build):
    batches = whole_batches([loader(digits, digits_recipe()).steps(0, 6)])
    batches += whole_batches([loader(digits, digits_recipe(seed=8)).steps(0, 6)])
    for index, one in enumerate(batches):
        assert not any(torch.equal(one[0], other[0]) for other in batches[index + 1 :])


def test_loading_draws_nothing_from_the_global_generators(digits, digits_recipe: Build):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for workers in (0, 1):
        list(loader(digits, digits_recipe(), workers=workers).steps(0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize(
    ("size", "batch_size", "mix_group", "ranks", "expected"),
    [(1437, 128, 8, 1, 0.375), (1437, 192, 8, 8, 1 / 3)],  # 16 groups; 24 groups in 8 parts: as DESIGN computes
)
def test_decodes_per_view_are_counted(digits_recipe: Build, size, batch_size, mix_group, ranks, expected):
    source = subset(open_source(Data(dataset="digits"), "train"), range(size), "train")
    recipe = digits_recipe(batch_size=batch_size, mix_group=mix_group)
    steps = 6  # two whole cycles of three groups an image set
    decoded = 0
    for rank in range(ranks):
        reader = loader(source, recipe, ranks=ranks, rank=rank)
        for _ in reader.steps(0, steps):
            pass
        decoded += reader.decoded
    assert decoded / (steps * batch_size) == pytest.approx(expected, abs=1e-12)


def test_without_augmentation_a_view_is_its_image(digits, digits_recipe: Build):
    plain = Augment(crop_scale=(1.0, 1.0), crop_aspect=(1.0, 1.0), hflip=0.0, policy=None, erasing=0.0)
    recipe = digits_recipe(augment=plain, mix=Mix(prob=0.0), data=Data(dataset="digits", mean=(0, 0, 0), std=(1, 1, 1)))
    (batch,) = next(loader(digits, recipe).steps(0, 1))
    images = {
        F.to_tensor(decode(digits.read(index), "x").resize((16, 16), Image.Resampling.BICUBIC)).numpy().tobytes():
        int(digits.labels[index])
        for index in range(len(digits))
    }  # fmt: skip
    for view, label in zip(batch.images, batch.labels.tolist(), strict=True):
        assert images[view.numpy().tobytes()] == label
    assert (batch.lam == 1).all()


def test_images_of_different_sizes_are_loaded(image_folder, digits_recipe: Build):
    root = image_folder({"a": 30, "b": 30})
    data = Data(dataset="folder", path=str(root))
    source = open_source(data, "train")
    recipe = digits_recipe(data=data, batch_size=12, mix_group=2)
    batches = list(loader(source, recipe, workers=1).steps(0, 5))
    assert all(part.images.shape == (12, 3, 16, 16) for parts in batches for part in parts)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_from_any_process(image_folder, digits_recipe: Build, workers):
    root = image_folder({"a": 6, "b": 6})
    (root / "a/003.png").write_bytes(b"not a picture")
    data = Data(dataset="folder", path=str(root), validate_on="train", on_bad_image="error")
    source, recipe = open_source(data, "train"), digits_recipe(data=data, batch_size=12, mix_group=2, repeats=1)
    with pytest.raises(DeitkitError, match="not an image") as caught:
        list(loader(source, recipe, workers=workers).steps(0, 1))
    assert caught.value.value == str(root / "a/003.png")
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DeitkitError, match=r"a/003\.png"):
        list(evaluation(source, workers=workers))


def test_a_closed_loader_leaves_no_process(digits, digits_recipe: Build):
    steps = loader(digits, digits_recipe(), workers=2).steps(0, 100)
    next(steps)
    assert len(multiprocessing.active_children()) == 2
    steps.close()
    assert not multiprocessing.active_children()
    steps = loader(digits, digits_recipe(), workers=2).steps(0, 100)
    next(steps)
    del steps
    gc.collect()
    assert not multiprocessing.active_children()


def test_workers_leave_the_first_signals_to_the_main_process(digits, digits_recipe: Build):
    steps = loader(digits, digits_recipe(), workers=1).steps(0, 60)
    next(steps)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid, number)
    assert len(list(steps)) == 59
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_an_error_of_the_loader_with_a_remedy(digits, digits_recipe: Build):
    steps = loader(digits, digits_recipe(), workers=2).steps(0, 1000)
    next(steps)
    worker, _ = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.1)  # torch's own handler would raise here
    with pytest.raises(DeitkitError, match="a data worker was killed") as caught:
        list(steps)
    assert "--workers" in caught.value.remedy
    assert not multiprocessing.active_children()


def test_waiting_for_data_is_measured(digits, digits_recipe: Build):
    reader = loader(digits, digits_recipe())
    began = time.perf_counter()
    list(reader.steps(0, 3))
    assert 0 < reader.data_wait_s < time.perf_counter() - began


def evaluation(source: Source, **settings) -> EvalLoader:
    defaults = {
        "size": (16, 16), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_ratio": 0.875,
        "interpolation": "bicubic", "batch_size": 32,
    }  # fmt: skip
    return EvalLoader(source, **(defaults | settings))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_every_image_once_in_order(digits, workers):
    batches = list(evaluation(digits, workers=workers))
    assert [len(batch.images) for batch in batches] == [32, 32, 32, 4]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(100))
    assert torch.cat([batch.labels for batch in batches]).tolist() == digits.labels.tolist()
    image = decode(digits.read(33), "x")
    resized = F.center_crop(F.resize(image, [18], F.InterpolationMode.BICUBIC), [16, 16])
    expected = F.normalize(F.to_tensor(resized), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert torch.equal(batches[1].images[1], expected)


def test_evaluation_of_a_part_keeps_the_indices(digits):
    batches = list(evaluation(digits, indices=range(90, 95), batch_size=3))
    assert [batch.indices.tolist() for batch in batches] == [[90, 91, 92], [93, 94]]
    assert [batch.labels.tolist() for batch in batches] == [
        digits.labels[90:93].tolist(),
        digits.labels[93:95].tolist(),
    ]
    assert list(evaluation(digits, indices=[])) == []


def test_an_evaluation_loader_can_be_read_again(digits):
    reader = evaluation(digits)
    first, second = list(reader), list(reader)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
