"""Flowers-102 against its real annotation files, and what is said of wrong ones."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deitkit.catalog import DATASETS
from deitkit.data.datasets.flowers import FLOWERS_FORMS, class_names
from deitkit.data.formats.split import TEST_SERVES
from deitkit.data.source import Source
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data


def opened(root: Path, split: str = "train", **settings) -> Source:
    form = next(form for form in FLOWERS_FORMS if form.matches(root))
    return form.open(root, Data(dataset="flowers102", path=str(root), **settings), split)


@pytest.fixture
def miniature(tmp_path: Path):
    """Six images of the true layout; annotations can be replaced, images left out."""

    def build(*, without: tuple[int, ...] = (), place: str = ".", **changes) -> Path:
        folder = tmp_path / "flowers" / place
        (folder / "jpg").mkdir(parents=True)
        content = {"labels": [77, 1, 102, 1, 77, 102], "trnid": [6, 2], "valid": [3], "tstid": [5, 4, 1]} | changes
        arrays = {name: np.array([values], dtype=np.int32) for name, values in content.items()}
        savemat(folder / "imagelabels.mat", {"labels": arrays.pop("labels")})
        savemat(folder / "setid.mat", arrays)
        for number in {1, 2, 3, 4, 5, 6}.difference(without):
            (folder / f"jpg/image_{number:05d}.jpg").write_bytes(bytes([number]))
        return tmp_path / "flowers"

    return build


def test_the_real_annotations_have_the_sizes_of_table_6(shared_data, tmp_path):
    for name in ("setid.mat", "imagelabels.mat"):
        shutil.copy(shared_data / "flowers102" / name, tmp_path)
    (tmp_path / "jpg").mkdir()
    for number in range(1, 8190):
        (tmp_path / f"jpg/image_{number:05d}.jpg").touch()
    published = loadmat(tmp_path / "imagelabels.mat")["labels"][0].astype(int) - 1
    train, val = opened(tmp_path), opened(tmp_path, "val")
    known = DATASETS["flowers102"]
    assert (len(train), len(val), len(train.class_names)) == (known.train_size, known.test_size, known.classes)
    assert np.bincount(train.labels).tolist() == [20] * 102
    assert (train.notes, val.notes) == ((), (TEST_SERVES,))
    for source in (train, val):
        numbers = [int(image_id[len("jpg/image_") : -len(".jpg")]) for image_id in source.ids]
        assert numbers == sorted(numbers)
        assert source.labels.tolist() == published[np.array(numbers) - 1].tolist()


def test_the_real_images_have_their_labels_and_the_missing_are_counted(shared_data):
    root = shared_data / "flowers102"
    with (root / "subset.csv").open() as file:
        rows = {f"jpg/{row['file']}": row for row in csv.DictReader(file)}
    train, val = opened(root), opened(root, "val")
    assert (len(train), len(val)) == (204, 102)
    for source, splits in ((train, {"train", "val"}), (val, {"test"})):
        for image_id, label in zip(source.ids, source.labels.tolist(), strict=True):
            assert rows[image_id]["official_split"] in splits
            assert int(rows[image_id]["label_0based"]) == label
    assert "train: 1,836 annotated images are not there: jpg/image_" in train.notes[0]
    assert val.notes[0].endswith("and 6,037 more")
    assert decode(val.read(0), val.ids[0]).size[0] > 0


def test_the_names_are_those_of_the_labels(shared_data):
    names = json.loads((shared_data / "flowers102/cat_to_name.json").read_text()) | {
        "78": "lotus"
    }  # there: lotus lotus
    assert [names[str(number)].strip("?") for number in range(1, 103)] == [name.strip("?") for name in class_names()]


@pytest.mark.parametrize("place", [".", "flowers-102"])
def test_train_is_both_published_sets_and_val_the_test_set(miniature, place):
    root = miniature(place=place)
    train, val = opened(root), opened(root, "val")
    assert list(train.ids) == [f"jpg/image_{number:05d}.jpg" for number in (2, 3, 6)]
    assert train.labels.tolist() == [0, 101, 101]
    assert list(val.ids) == [f"jpg/image_{number:05d}.jpg" for number in (1, 4, 5)]
    assert val.labels.tolist() == [76, 0, 76]
    assert (train.split, val.split) == ("train", "val")
    assert val.read(2) == bytes([5])
    assert pickle.loads(pickle.dumps(train)).fingerprint == train.fingerprint


def test_missing_images_and_images_without_annotation_are_said(miniature):
    root = miniature(without=(3, 5))
    (root / "jpg/image_00007.jpg").touch()
    (root / "jpg/notes.txt").touch()
    train = opened(root)
    assert train.labels.tolist() == [0, 101]
    assert train.notes == (
        "train: 1 annotated images are not there: jpg/image_00003.jpg",
        "train: 1 images without annotation are left out: jpg/image_00007.jpg",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tstid": [5, 4, 1, 2]}, "1 ids are in two sets, or twice in one: 2"),
        ({"trnid": [6, 6, 2]}, "twice in one: 6"),
        ({"tstid": [5, 4]}, "1 images are in no set: 1"),
        ({"tstid": [5, 4, 1, 0, 9]}, r"2 ids are not 1\.\.6: 0, 9"),
        ({"labels": [77, 1, 103, 1, 0, 102]}, r"2 labels are not 1\.\.102: .*00003.jpg \(class 103\), .*00005"),
    ],
)
def test_wrong_annotations_name_their_offenders(miniature, changes, message):
    root = miniature(**changes)
    with pytest.raises(DeitkitError, match=message) as caught:
        opened(root)
    assert ".mat" in caught.value.what
    assert caught.value.remedy


def test_labels_that_are_no_numbers_are_refused(miniature):
    root = miniature()
    for labels in (np.array([[1.5] * 6]), np.array(["a"] * 6), np.zeros((6, 2))):
        savemat(root / "imagelabels.mat", {"labels": labels})
        with pytest.raises(DeitkitError, match="no list of whole numbers"):
            opened(root)
    savemat(root / "imagelabels.mat", {"labels": np.array([[77.0, 1, 102, 1, 77, 102]])})
    assert opened(root).labels.tolist() == [0, 101, 101]


@pytest.mark.parametrize("name", ["setid.mat", "imagelabels.mat"])
def test_a_missing_file_is_named_with_the_expected_tree(miniature, name):
    root = miniature()
    (root / name).unlink()
    with pytest.raises(DeitkitError, match=f"lacks {name}") as caught:
        opened(root)
    assert f"looked for {root / name}" in str(caught.value)
    assert "ROOT/jpg/image_00001.jpg" in str(caught.value)


def test_a_broken_file_is_named(miniature):
    root = miniature()
    whole = (root / "setid.mat").read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2], whole[:130], b"MATLAB 7.3" + bytes(600)):
        (root / "setid.mat").write_bytes(content)
        with pytest.raises(DeitkitError, match=r"setid\.mat"):
            opened(root)
    savemat(root / "setid.mat", {"trnid": [1], "other": [2]})
    with pytest.raises(DeitkitError, match="lacks valid, tstid; it holds trnid, other"):
        opened(root)


def test_no_images_at_all_is_an_error(miniature):
    root = miniature(without=(1, 4, 5))
    assert len(opened(root)) == 3
    with pytest.raises(DeitkitError, match="none of the 3 val images"):
        opened(root, "val")


def test_a_fraction_beside_the_test_set_is_a_contradiction(miniature):
    with pytest.raises(DeitkitError, match="split of its own"):
        opened(miniature(), val_fraction=0.1)


def test_numbered_folders_are_the_flowers_of_these_labels(image_folder):
    root = image_folder({f"{split}/{number}": 1 for split in ("train", "valid", "test") for number in range(1, 103)})
    train, val = opened(root), opened(root, "val")
    assert train.class_names == class_names()
    assert train.labels.tolist() == [int(image_id.split("/")[1]) - 1 for image_id in train.ids]
    assert {image_id.split("/")[0] for image_id in val.ids} == {"valid"}


def test_named_folders_get_the_same_numbers(image_folder):
    names = class_names()
    root = image_folder({f"train/{name.replace(' ', '_').strip('?')}": 1 for name in names})
    source = opened(root)
    assert source.class_names == names
    by_folder = {image_id.split("/")[1]: label for image_id, label in zip(source.ids, source.labels, strict=True)}
    assert (by_folder["pink_primrose"], by_folder["pink-yellow_dahlia"], by_folder["blackberry_lily"]) == (0, 59, 101)
