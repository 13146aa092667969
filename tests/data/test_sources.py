"""Sources against what lies on disk, and what is said when it lies there in another way."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from deitkit.catalog import DATASETS
from deitkit.data.open import FORMS, find_data, is_available, open_source, stratified_split, subset
from deitkit.data.source import PackedNames
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

DIGITS = Data(dataset="digits")


def folder(root: Path, **settings) -> Data:
    return Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings})


def test_every_form_belongs_to_a_data_set_of_the_catalog():
    assert set(FORMS) <= set(DATASETS)


def test_the_digits_are_the_bundled_ones():
    bundled = load_digits()
    seen = {}
    for split in ("train", "val"):
        source = open_source(DIGITS, split)
        for index, image_id in enumerate(source.ids):
            number = int(image_id.removeprefix("digits/"))
            seen[number] = source.labels[index]
            pixels = np.asarray(decode(source.read(index), image_id))[..., 0]
            assert np.abs(pixels * (16 / 255) - bundled.images[number]).max() < 0.5
    assert [seen[number] for number in range(1797)] == bundled.target.tolist()


def test_the_digits_hold_out_a_fifth_of_each_class():
    train, val = open_source(DIGITS, "train"), open_source(DIGITS, "val")
    assert (len(train), len(val)) == (1437, 360)
    counts = np.bincount(load_digits().target)
    assert np.abs(np.bincount(val.labels) - counts / 5).max() < 1
    assert train.path(0) is None
    assert find_data(DIGITS) is None
    assert is_available(DIGITS)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_a_stratified_split_holds_out_every_class_by_its_share(fraction):
    labels = np.repeat(np.arange(5), [1, 2, 10, 101, 1000])
    held = stratified_split(labels, fraction)
    assert sorted(np.concatenate([held.train, held.val]).tolist()) == list(range(len(labels)))
    counts, out = np.bincount(labels), np.bincount(labels[held.val], minlength=5)
    assert np.abs(out - np.minimum(counts * fraction, counts - 1)).max() <= 1
    assert (out < counts).all()


def test_another_seed_holds_out_other_images():
    labels = np.zeros(100, dtype=np.int64)
    assert not np.array_equal(stratified_split(labels, 0.2, seed=0).val, stratified_split(labels, 0.2, seed=1).val)
    assert np.array_equal(stratified_split(labels, 0.2).val, stratified_split(labels, 0.2).val)


def test_a_folder_with_splits_is_read(image_folder):
    root = image_folder({"train/cat": 3, "train/dog/deep/er": 2, "train/.hidden": 4, "val/dog": 1})
    (root / "train/cat/.DS_Store").write_bytes(b"x")
    (root / "train/cat/notes.txt").write_text("x")
    (root / "train/cat/UPPER.JPEG").write_bytes(b"x")
    train, val = open_source(folder(root), "train"), open_source(folder(root), "val")
    assert train.class_names == val.class_names == ("cat", "dog")
    assert list(train.ids) == [
        "train/cat/000.png",
        "train/cat/001.png",
        "train/cat/002.png",
        "train/cat/UPPER.JPEG",
        "train/dog/deep/er/000.png",
        "train/dog/deep/er/001.png",
    ]
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert val.labels.tolist() == [1]
    assert train.read(0) == (root / "train/cat/000.png").read_bytes()
    assert train.path(3) == root / "train/cat/UPPER.JPEG"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_validation_split_may_have_any_usual_name(image_folder, name):
    root = image_folder({"train/a": 1, "train/b": 1, f"{name}/a": 2})
    assert len(open_source(folder(root), "val")) == 2


def test_a_folder_without_splits_holds_out_a_fraction(image_folder):
    root = image_folder({"a": 20, "b": 10})
    data = folder(root, val_fraction=0.1)
    train, val = open_source(data, "train"), open_source(data, "val")
    assert (np.bincount(train.labels).tolist(), np.bincount(val.labels).tolist()) == ([18, 9], [2, 1])
    assert not {*train.ids} & {*val.ids}
    assert train.path(0) == root / train.ids[0]
    assert len(open_source(folder(root), "train")) == 30


def test_a_class_may_be_called_train(image_folder):
    root = image_folder({"bus": 2, "train": 2})
    assert open_source(folder(root), "train").class_names == ("bus", "train")


def test_numeric_class_names_are_sorted_as_numbers(image_folder):
    root = image_folder({f"train/{name}": 1 for name in (10, 9, 100, 0)})
    assert open_source(folder(root), "train").class_names == ("0", "9", "10", "100")


def test_a_fingerprint_tells_ids_labels_and_names_apart(image_folder):
    root = image_folder({"a": 2, "b": 2})
    source = open_source(folder(root), "train")
    assert source.fingerprint == open_source(folder(root), "train").fingerprint
    prints = {source.fingerprint, *(subset(source, indices, "train").fingerprint for indices in ([0, 1], [1, 0]))}
    (root / "b").rename(root / "c")
    prints.add(open_source(folder(root), "train").fingerprint)
    assert len(prints) == 4


def test_a_subset_is_its_images_in_its_order():
    whole = open_source(DIGITS, "train")
    part = subset(whole, [5, 3], "val")
    assert (len(part), part.split, part.class_names) == (2, "val", whole.class_names)
    assert list(part.ids) == [whole.ids[5], whole.ids[3]]
    assert part.labels.tolist() == whole.labels[[5, 3]].tolist()
    assert part.read(1) == whole.read(3)


def test_packed_names_are_a_sequence():
    names = ["a", "", "ümlaut/x.png", "\udcff-not-utf8"]
    packed = pickle.loads(pickle.dumps(PackedNames(names)))
    assert list(packed) == names
    assert packed[-2] == names[-2]
    assert packed[1:3] == names[1:3]
    with pytest.raises(IndexError):
        packed[4]


def test_images_are_looked_for_on_the_shelf_and_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    data = Data(dataset="cifar10")
    assert find_data(data) == Path("data/cifar10")
    monkeypatch.setenv("DEITKIT_DATA", str(tmp_path / "shelf"))
    assert find_data(data) == tmp_path / "shelf" / "cifar10"
    assert not is_available(data)
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    assert find_data(data) == Path("data/cifar10")
    assert is_available(data)
    (tmp_path / "shelf" / "cifar10").mkdir(parents=True)
    assert find_data(data) == tmp_path / "shelf" / "cifar10"
    assert find_data(Data(dataset="cifar10", path="elsewhere")) == Path("elsewhere")
    assert not is_available(Data(dataset="folder"))


@pytest.mark.parametrize(
    ("folders", "split", "message"),
    [
        ({}, "train", "it is empty"),
        ({".": 2}, "train", "2 images directly inside, no class folders"),
        ({"train": 2, "val": 1}, "train", "2 images directly inside"),
        ({"train/cat": 2, "val/cat": 2}, "train", "only one class, 'cat'"),
        ({"train/cat": 2, "train/dog": 0}, "train", "without images in .*train: dog"),
        ({"train/cat": 1, "train/dog": 1, "val/cow": 1, "val/cat": 1}, "val", "do not have: cow"),
        ({"cat": 2, "dog": 2}, "val", "has no validation images"),
    ],
)
def test_a_wrong_layout_is_named(image_folder, folders, split, message):
    root = image_folder(folders)
    with pytest.raises(DeitkitError, match=message) as caught:
        open_source(folder(root), split)
    assert str(root) in str(caught.value)
    assert caught.value.remedy


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DeitkitError, match="nowhere does not exist"):
        open_source(folder(tmp_path / "nowhere"), "train")
    (tmp_path / "file").touch()
    with pytest.raises(DeitkitError, match="none of the forms"):
        open_source(folder(tmp_path / "file"), "train")
    with pytest.raises(DeitkitError, match="which folder"):
        open_source(Data(dataset="folder"), "train")


def test_a_fraction_beside_a_split_is_a_contradiction(image_folder):
    root = image_folder({"train/a": 1, "train/b": 1, "val/a": 1})
    with pytest.raises(DeitkitError, match="split of its own: val"):
        open_source(folder(root, val_fraction=0.1), "train")


def test_an_unknown_split_names_the_choices():
    with pytest.raises(DeitkitError) as caught:
        open_source(DIGITS, "dev")
    assert caught.value.choices == ("train", "val", "test")


def test_an_image_that_vanished_is_named(image_folder):
    root = image_folder({"a": 1, "b": 1})
    source = open_source(folder(root), "train")
    (root / "b/000.png").unlink()
    with pytest.raises(DeitkitError, match=r"b/000\.png: No such file"):
        source.read(1)


def test_real_images_of_imagenet_are_read(shared_data):
    source = open_source(folder(shared_data / "imagenet/sample200"), "train")
    assert len(source) == len(source.class_names) == 200
    assert decode(source.read(0), source.ids[0]).mode == "RGB"
    assert Image.open(source.path(199)).size[0] > 0
