"""The draw that evens out classes: exact quotas, each image once before any comes again, the same for all workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deitkit.data.open import Source, open_source, subset
from deitkit.data.views import balance
from deitkit.data.views.balance import BalancedDraw
from deitkit.data.views.loader import Batch, TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Balance, Data, Recipe
from deitkit.training.fit import train_run
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

COUNTS = {"common": 40, "rare": 4, "single": 1, "some": 16}
SINGLE = 2  # its label


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("unequal")
    for split in ("train", "val"):
        for name, count in COUNTS.items():
            for index in range(count if split == "train" else 1):
                path = root / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.random.default_rng(index).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return open_source(Data(dataset="folder", path=str(root)), "train")


def epoch_of(draw: BalancedDraw, epoch: int, *, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return draw.images(seed, epoch, np.arange(len(draw.members)))


@pytest.mark.parametrize(("rule", "power"), [("none", 1.0), ("sqrt", 0.5), ("equal", 0.0)])
def test_each_class_has_its_share_of_every_epoch_rounded_up_or_down_and_exact_in_the_mean(
    rule: Balance, power: float, source: Source
) -> None:
    draw = BalancedDraw.of(source, rule)
    counts = np.bincount(source.labels)
    shares = counts**power / (counts**power).sum() * counts.sum()
    drawn = np.array([np.bincount(source.labels[epoch_of(draw, epoch)[0]], minlength=4) for epoch in range(400)])
    assert ((np.floor(shares) <= drawn) & (drawn <= np.ceil(shares))).all()
    # A rounded share has a standard deviation of at most 1/2; of 400 means of 4 classes none is 5 of them away.
    np.testing.assert_allclose(drawn.mean(axis=0), shares, atol=5 * 0.5 / 20)
    assert (drawn.sum(axis=1) == len(source)).all()


@pytest.mark.parametrize("limit", [2**12, 1])
def test_no_image_of_a_class_comes_again_before_all_others_have_and_each_time_is_numbered(
    limit: int, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "ARGSORT_LIMIT", limit)  # of 1, a Feistel network orders every class
    draw = BalancedDraw.of(source, "equal")
    for epoch in range(3):
        images, before = epoch_of(draw, epoch)
        times = Counter(images.tolist())
        for label in range(4):
            own = [times[index] for index in np.flatnonzero(source.labels == label).tolist()]
            assert max(own) - min(own) <= 1
        assert len(set(zip(images.tolist(), before.tolist(), strict=True))) == len(images)
        assert all(sorted(before[images == index]) == list(range(count)) for index, count in times.items())


def test_a_place_says_the_same_whoever_asks_and_whatever_was_asked_before(source: Source) -> None:
    draw, places = BalancedDraw.of(source, "sqrt"), np.array([60, 3, 17, 3])
    whole = epoch_of(draw, 5)
    for found, expected in zip(draw.images(3, 5, places), whole, strict=True):
        np.testing.assert_array_equal(found, expected[places])
    assert not np.array_equal(whole[0], epoch_of(draw, 6)[0])
    assert not np.array_equal(whole[0], epoch_of(draw, 5, seed=4)[0])


def test_the_majoritys_images_take_turns_over_the_epochs(source: Source) -> None:
    draw = BalancedDraw.of(source, "equal")
    seen = Counter(image for epoch in range(100) for image in epoch_of(draw, epoch)[0].tolist())
    common = [seen[index] for index in np.flatnonzero(source.labels == 0).tolist()]
    assert len(common) == 40  # 15.25 of 40 an epoch: in the mean 38 times, standard deviation below 5
    assert all(abs(count - 100 * 15.25 / 40) < 5 * 5 for count in common)


def spec(**data: Any) -> Recipe:
    return tiny(
        data={"dataset": "folder", "path": "elsewhere", "balance": "equal", **data}, mix={"prob": 0.5},
        stream={"batch_size": 24, "repeats": 2, "mix_group": 4}, train={"accumulation": 1},
    )  # fmt: skip


def batches(source: Source, start: int, *, ranks: int = 1, accumulation: int = 1, workers: int = 0) -> Iterator[Any]:
    """The global batches of four steps, over all ranks and parts."""
    recipe = spec()
    shape = plan_stream(len(source), recipe.stream, mixing=True, ranks=ranks, accumulation=accumulation)
    loaders = [TrainLoader(source, recipe, shape, rank=rank, workers=workers) for rank in range(ranks)]
    for parts in zip(*(loader.steps(start, 4) for loader in loaders), strict=True):
        flat: list[Batch] = [batch for rank in parts for batch in rank]
        yield torch.cat([batch.images for batch in flat]), torch.cat([batch.labels for batch in flat])


def test_batches_are_the_same_on_any_number_of_workers_ranks_and_parts_and_from_any_step(source: Source) -> None:
    expected = list(batches(source, 0))
    labels = torch.cat([labels for _, labels in expected])
    assert torch.bincount(labels)[SINGLE] > 10  # the single image, many times
    for ranks, accumulation, workers in ((2, 1, 0), (3, 2, 0), (1, 1, 2)):
        for found, wanted in zip(
            batches(source, 0, ranks=ranks, accumulation=accumulation, workers=workers), expected, strict=True
        ):
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    for found, wanted in zip(batches(source, 2), expected[2:], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_an_image_that_comes_again_is_seen_anew(source: Source) -> None:
    images, labels = (torch.cat(each) for each in zip(*batches(source, 0), strict=True))
    single = images[labels == SINGLE]
    assert len({view.numpy().tobytes() for view in single}) == len(single)


def test_a_class_without_images_is_refused_by_name(source: Source) -> None:
    without = subset(source, np.flatnonzero(source.labels != SINGLE).tolist(), "train")
    with pytest.raises(DeitkitError, match="1 of 4 have none") as caught:
        TrainLoader(without, spec(), plan_stream(len(without), spec().stream, mixing=True))
    assert list(caught.value.problems) == ["without a training image: single"]
    assert "data.balance=none" in caught.value.remedy


def test_a_balanced_run_that_crashes_resumes_to_the_last_bit(source: Source, tmp_path: Path) -> None:
    root = Path(str(source.path(0))).parents[2]
    recipe = tiny(
        data={"dataset": "folder", "path": str(root), "balance": "equal"}, train={"accumulation": 1},
        loss={"class_weights": [1.0, 2.0, 3.0, 0.5]}, stream={"batch_size": 12, "repeats": 1, "mix_group": 4},
    )  # fmt: skip
    unbroken = train_run(recipe, tmp_path / "unbroken", device="cpu").run
    with pytest.raises(Crash):
        train_run(recipe, tmp_path / "run", device="cpu", observer=CrashAt(7))
    resumed = train_run(recipe, tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))
    assert unbroken.recipe().data.balance == "equal"
    assert unbroken.recipe().loss.class_weights == [1.0, 2.0, 3.0, 0.5]
