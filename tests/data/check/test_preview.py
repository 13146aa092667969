"""Contact sheets: what is drawn is what training sees, pixel for pixel; and what stands where on the sheet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deitkit.data.check.preview import (
    GAP,
    LEAST_CELL,
    LINE,
    PreviewTile,
    augmented_view,
    contact_sheet,
    group_batches,
    image_tiles,
    mix_tiles,
    to_pixels,
    view_tiles,
)
from deitkit.data.open import open_source, subset
from deitkit.data.views.augment import decode
from deitkit.data.views.loader import TrainLoader
from deitkit.data.views.stream import group_order, order, plan_stream, set_images, units
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Augment, Data, Mix


@pytest.fixture
def digits():
    return open_source(Data(dataset="digits"), "train")


def training_batch(source, recipe, *, step: int):
    """One whole global batch, as a single process trains on it."""
    shape = plan_stream(len(source), recipe.stream, mixing=recipe.is_mixing)
    ((batch,),) = TrainLoader(source, recipe, shape).steps(step, step + 1)
    return batch


@pytest.mark.parametrize("epoch", [0, 2])
def test_mixed_groups_are_the_training_batch_to_8_bits(digits, digits_recipe, epoch):
    recipe = digits_recipe(batch_size=32, mix_group=4)
    tiles = mix_tiles(digits, recipe, groups=8, epoch=epoch)
    assert [len(group) for group in tiles] == [4] * 8
    drawn = np.stack([tile.pixels for group in tiles for tile in group])
    batch = training_batch(digits, recipe, step=epoch * (len(digits) // 32))
    mean, std = (np.array(values)[:, None, None] for values in (recipe.data.mean, recipe.data.std))
    seen = 255 * (batch.images.double().numpy() * std + mean)
    assert np.abs(drawn.transpose(0, 3, 1, 2) - seen.clip(0, 255)).max() <= 0.5 + 1e-4
    captions = [tile.caption for group in tiles for tile in group]
    for place, caption in enumerate(captions):
        share = batch.lam[place].item()
        own, other = int(batch.labels[place]), int(batch.partners[place])
        assert caption == (f"{share:.2f} x {own}", f"{1 - share:.2f} x {other}")


def test_groups_go_on_in_the_next_batch(digits, digits_recipe):
    recipe = digits_recipe(batch_size=32, mix_group=16, repeats=2)
    drawn = list(group_batches(digits, recipe, groups=4))
    both = [training_batch(digits, recipe, step=step).images for step in (0, 1)]
    assert torch.equal(torch.cat([batch.images for batch in drawn]), torch.cat(both))


def test_no_more_groups_are_made_than_an_epoch_has(digits_recipe, digits):
    few = subset(digits, range(40), "train")
    assert len(mix_tiles(few, digits_recipe(batch_size=32, mix_group=4), groups=100)) == 8


def test_a_recipe_that_does_not_mix_says_so(digits, digits_recipe):
    ((first, *_),) = mix_tiles(digits, digits_recipe(mix=Mix(prob=0.0)), groups=1)
    assert first.caption[1] == "not mixed"


def test_views_are_those_that_the_stream_mixes(digits, digits_recipe):
    recipe = digits_recipe(batch_size=24, repeats=3, mix_group=4, mix=Mix(prob=0.0), augment=Augment(erasing=1.0))
    shape = plan_stream(len(digits), recipe.stream, mixing=False)
    batch = to_pixels(training_batch(digits, recipe, step=0).images, recipe)
    place = 0
    for unit in units(shape, epoch=0, step=0, part=0):
        images = set_images(shape, recipe.train.seed, unit)
        for group in unit.groups:
            for index in images[group_order(shape, recipe.train.seed, unit, group)].tolist():
                view = augmented_view(digits, recipe, index, epoch=0, repeat=group % 3)
                assert np.array_equal(view, batch[place])
                place += 1
    assert place == 24


def test_a_block_of_views_begins_with_the_image_and_goes_through_repeats_and_epochs(digits, digits_recipe):
    recipe = digits_recipe(repeats=3)
    blocks = view_tiles(digits, recipe, count=2, views=4, epoch=5)
    assert [len(block) for block in blocks] == [5, 5]
    (index, _) = order(recipe.train.seed, 5, len(digits), [0, 1]).tolist()
    assert np.array_equal(blocks[0][0].pixels, np.asarray(decode(digits.read(index), "")))
    assert [tile.caption[0] for tile in blocks[0]] == [
        str(digits.labels[index]), "epoch 5, view 1 of 3", "epoch 5, view 2 of 3", "epoch 5, view 3 of 3",
        "epoch 6, view 1 of 3",
    ]  # fmt: skip
    assert np.array_equal(blocks[0][4].pixels, augmented_view(digits, recipe, index, epoch=6, repeat=0))


def test_images_are_the_first_of_the_epochs_order_with_their_class(digits, digits_recipe):
    recipe = digits_recipe(seed=3)
    tiles = image_tiles(digits, recipe, count=5, epoch=1)
    chosen = order(3, 1, len(digits), np.arange(5))
    assert [tile.caption for tile in tiles] == [(str(label),) for label in digits.labels[chosen]]
    assert len(image_tiles(subset(digits, [1, 2], "train"), recipe, count=99)) == 2


def test_an_unreadable_image_is_crossed_out_and_large_ones_are_shrunk(image_folder, digits_recipe):
    root = image_folder({"a": 1, "b": 1})
    (root / "a/000.png").write_bytes(b"x")
    Image.new("RGB", (400, 100)).save(root / "b/000.png")
    source = open_source(Data(dataset="folder", path=str(root)), "train")
    tiles = {tile.caption[0]: tile.pixels for tile in image_tiles(source, digits_recipe(), count=2)}
    assert tiles["a: cannot be read"] is None
    assert tiles["b"].shape == (48, 192, 3)
    with pytest.raises(DeitkitError, match=r"a/000\.png"):
        view_tiles(source, digits_recipe(), count=2, views=1)
    sheet = contact_sheet([image_tiles(source, digits_recipe(), count=2)], columns=2, title="x")
    assert (200, 60, 60) in {color for _, color in sheet.getcolors(10**6)}


def test_tiles_are_drawn_in_whole_multiples_and_blocks_begin_new_rows():
    def tile(value: int, side: int) -> PreviewTile:
        return PreviewTile(np.full((side, side, 3), value, dtype=np.uint8), (f"value {value}",))

    sheet = contact_sheet([[tile(10, 32), tile(40, 50), tile(90, 32)], [tile(160, 8)]], columns=2, title="t")
    step = (LEAST_CELL + GAP, LEAST_CELL + GAP + LINE)
    assert sheet.size == (GAP + 2 * step[0], 2 * GAP + LINE + 3 * step[1])
    pixels = np.asarray(sheet)
    for value, side, (row, column) in ((10, 96, (0, 0)), (40, 50, (0, 1)), (90, 96, (1, 0)), (160, 96, (2, 0))):
        top, left = 2 * GAP + LINE + row * step[1], GAP + column * step[0]
        cell = pixels[top : top + LEAST_CELL, left : left + LEAST_CELL]
        assert (cell == value).all(axis=2).sum() == side * side
        middle = LEAST_CELL // 2
        assert (cell[middle, middle] == value).all()


def test_long_captions_and_titles_stay_in_their_place():
    black = np.zeros((20, 20, 3), dtype=np.uint8)
    long = contact_sheet([[PreviewTile(black, ("w" * 500,)), PreviewTile(black, ("",))]], columns=2, title="w" * 500)
    short = contact_sheet([[PreviewTile(black, ("",)), PreviewTile(black, ("",))]], columns=2, title="")
    assert long.size == short.size
    changed = np.argwhere((np.asarray(long) != np.asarray(short)).any(axis=2))
    captions = changed[changed[:, 0] > 2 * GAP + LINE]
    assert captions[:, 1].max() < GAP + LEAST_CELL
    assert changed[:, 1].max() < long.width - GAP + 1


def test_class_names_of_any_script_can_be_drawn():
    contact_sheet(
        [[PreviewTile(np.zeros((8, 8, 3), dtype=np.uint8), ("Gänseblümchen 雛菊 \udcff",))]], columns=1, title="é 犬"
    )
