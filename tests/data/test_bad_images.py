"""Broken and odd image files: each has a stated behaviour, on real specimens and on files made here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from deitkit.data.open import open_source
from deitkit.data.views.augment import Reading, UnreadableImage, decode, open_image, size_of
from deitkit.data.views.loader import EvalLoader, TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.models.load import ModelInfo, load_model, save_model
from deitkit.models.student import build_student
from deitkit.predictions.classify import classify
from deitkit.recipe.schema import Data, Model, Recipe

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets filters
Build = Callable[..., Recipe]
UNREADABLE = {
    "bad_crc.png", "bomb_valid_20000x20000_1bit.png", "corrupt_middle.jpg", "huge_declared_12000x10000.jpg",
    "huge_declared_65500x65500.jpg", "missing_eoi.jpg", "text.jpg", "truncated.jpg", "truncated_header.jpg",
    "zero_bytes.jpg",
}  # fmt: skip
UPRIGHT = Reading(exif_orientation=True)


def batches(source, recipe, *, workers=0, start=0, steps=6):
    shape = plan_stream(len(source), recipe.stream, mixing=recipe.is_mixing, ranks=1, accumulation=1)
    loader = TrainLoader(source, recipe, shape, workers=workers)
    return [part for parts in loader.steps(start, steps) for part in parts]


def same(left, right) -> bool:
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.replaced == b.replaced
        for a, b in zip(left, right, strict=True)
    )


@pytest.fixture
def damaged(image_folder) -> Data:
    """24 images of two classes: one is text, two neighbours are cut short, one is the last of all."""
    root = image_folder({"train/a": 12, "train/b": 12, "val/a": 3, "val/b": 3})
    (root / "train/a/003.png").write_bytes(b"not a picture")
    for name in ("train/a/007.png", "train/a/008.png", "train/b/011.png", "val/b/001.png"):
        path = root / name
        path.write_bytes(path.read_bytes()[:400])
    return Data(dataset="folder", path=str(root), on_bad_image="replace")


# Specimens


def test_every_specimen_is_read_or_refused_as_stated(shared_data):
    folder = shared_data / "broken"
    with (folder / "expected.csv").open() as file:
        names = {row["file"] for row in csv.DictReader(file)}
    assert names >= UNREADABLE and len(names) == 27
    for name in sorted(names):
        data = (folder / name).read_bytes()
        if name in UNREADABLE:
            with pytest.raises(UnreadableImage, match=name):
                decode(data, name)
        else:
            assert decode(data, name).mode == "RGB"


def test_the_limit_that_refuses_a_bomb_is_named_and_can_be_raised(shared_data):
    name = "huge_declared_12000x10000.jpg"
    data = (shared_data / "broken" / name).read_bytes()
    with pytest.raises(
        UnreadableImage, match=r"12000 x 10000 pixels are more than data\.max_pixels = 89478485"
    ) as caught:
        open_image(data, name)
    assert caught.value.remedy.endswith("--set data.max_pixels=120000000")
    assert open_image(data, name, Reading(max_pixels=120_000_000)).size == (12000, 10000)


def test_a_bomb_beyond_pillows_own_limit_names_it(shared_data):
    name = "huge_declared_65500x65500.jpg"
    with pytest.raises(UnreadableImage, match="exceeds limit of 178956970 pixels"):
        decode((shared_data / "broken" / name).read_bytes(), name)


@pytest.mark.parametrize("tag", [3, 6, 8])
def test_orientation_is_honoured_only_on_request(shared_data, tag):
    name = f"exif_orientation_{tag}.jpg"
    data = (shared_data / "broken" / name).read_bytes()
    raw = Image.open(io.BytesIO(data))
    assert np.array_equal(np.asarray(decode(data, name)), np.asarray(raw.convert("RGB")))
    upright = ImageOps.exif_transpose(raw).convert("RGB")
    assert np.array_equal(np.asarray(decode(data, name, UPRIGHT)), np.asarray(upright))
    assert size_of(open_image(data, name, UPRIGHT), name, UPRIGHT) == (upright.height, upright.width)


def test_a_turned_image_trains_and_is_evaluated_upright(image_folder, digits_recipe: Build):
    root = image_folder({"train/a": 8, "train/b": 8, "val/a": 1, "val/b": 1})
    for path in sorted(root.rglob("*.png")):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.open(path)
        image.load()
        image.resize((40, 20)).save(path, "PNG", exif=exif)
    views = {}
    for turned in (False, True):
        data = Data(dataset="folder", path=str(root), exif_orientation=turned)
        recipe = digits_recipe(data=data, batch_size=8, mix_group=2, repeats=1)
        views[turned] = batches(open_source(data, "train"), recipe, steps=1)[0].images
    assert not torch.equal(views[False], views[True])
    assert torch.isfinite(views[True]).all()


# Replacing in training


def test_the_next_readable_image_stands_in_with_its_own_label(damaged: Data, digits_recipe: Build):
    source = open_source(damaged, "train")
    mended = {3: 4, 7: 9, 8: 9, 23: 0}
    recipe = digits_recipe(
        data=damaged, batch_size=8, mix_group=4, repeats=1, mix={"prob": 0.0}, augment={"policy": None}
    )  # fmt: skip
    made = batches(source, recipe, steps=3)
    clean = type(source)(**{**vars(source), "ids": [source.ids[mended.get(i, i)] for i in range(24)]})
    labels = np.array([source.labels[mended.get(i, i)] for i in range(24)])
    expected = batches(type(source)(**{**vars(clean), "labels": labels}), recipe, steps=3)
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(made, expected, strict=True)
    )
    names = sorted(name for batch in made for name in batch.replaced)
    assert names == sorted(str(source.path(index)) for index in mended)


def test_replacing_depends_on_no_worker_and_no_history(damaged: Data, digits_recipe: Build):
    source, recipe = open_source(damaged, "train"), digits_recipe(data=damaged, batch_size=12, mix_group=4)
    whole = batches(source, recipe)
    assert same(whole, batches(source, recipe, workers=2))
    assert same(whole[4:], batches(source, recipe, start=4))


def test_a_broken_image_that_is_an_error_names_the_file_and_both_remedies(damaged: Data, digits_recipe: Build):
    data = damaged.model_copy(update={"on_bad_image": "error"})
    source = open_source(data, "train")
    with pytest.raises(UnreadableImage) as caught:
        batches(source, digits_recipe(data=data, batch_size=12, mix_group=4))
    assert str(caught.value.value).endswith(".png")
    assert "deitkit data verify" in caught.value.remedy and "on_bad_image=replace" in caught.value.remedy


def test_where_no_image_can_be_read_it_ends(image_folder, digits_recipe: Build):
    root = image_folder({"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 1})
    for path in root.rglob("*.png"):
        path.write_bytes(b"nothing")
    data = Data(dataset="folder", path=str(root), on_bad_image="replace")
    with pytest.raises(DeitkitError, match="no image can be read"):
        batches(open_source(data, "train"), digits_recipe(data=data, batch_size=4, mix_group=2, repeats=1), steps=1)


def test_a_missing_file_is_never_replaced(damaged: Data, digits_recipe: Build):
    source = open_source(damaged, "train")
    Path(source.path(5)).unlink()
    with pytest.raises(DeitkitError, match="No such file"):
        batches(source, digits_recipe(data=damaged, batch_size=12, mix_group=4, repeats=1), steps=2)


# Evaluation


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_unreadable_images_out_only_on_request(damaged: Data, workers):
    source = open_source(damaged, "val")

    def indices(reading: Reading) -> list[int]:
        loader = EvalLoader(
            source, size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1), crop_ratio=1.0, interpolation="bicubic", batch_size=2,
            workers=workers, reading=reading,
        )  # fmt: skip
        return [index for batch in loader for index in batch.indices.tolist()]

    assert indices(Reading.of(damaged)) == [0, 1, 2, 3, 5]
    with pytest.raises(UnreadableImage, match=r"b/001\.png"):
        indices(Reading())


def test_a_model_that_learned_upright_images_is_evaluated_on_upright_ones(shared_data, tmp_path):
    data, names = Data(exif_orientation=True), ("a", "b")
    student = build_student(Model(name="deit_nano", image_size=32), 2)
    answers = {}
    for turned in (False, True):
        info = ModelInfo.of(data.model_copy(update={"exif_orientation": turned}), (32, 32), names)
        save_model(tmp_path / str(turned), student, info)
        model = load_model(tmp_path / str(turned))
        assert model.info.exif_orientation is turned
        picture = shared_data / "broken/exif_orientation_6.jpg"
        (answers[turned],) = classify(model, picture, device="cpu", top=1)
    assert answers[False].heads != answers[True].heads
