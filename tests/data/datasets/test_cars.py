"""Stanford Cars against its real devkit, in each of the forms in which it is mirrored."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deitkit.catalog import DATASETS
from deitkit.data.datasets.cars import CARS_FORMS
from deitkit.data.datasets.class_lists import class_list
from deitkit.data.formats.split import TEST_SERVES
from deitkit.data.source import Source
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

NAMES = class_list("cars")
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def opened(root: Path, split: str = "train", **settings) -> Source:
    form = next(form for form in CARS_FORMS if form.matches(root))
    return form.open(root, Data(dataset="cars", path=str(root), **settings), split)


def save_annotations(path: Path, rows: list[dict], **others) -> None:
    """A MATLAB struct array, as the devkit's."""
    fields = list(rows[0])
    array = np.empty((1, len(rows)), dtype=[(field, "O") for field in fields])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row[field] for field in fields)
    savemat(path, {"annotations": array, **others})


def rows_of(labels: dict[str, object], *, box: bool = True) -> list[dict]:
    boxes = dict.fromkeys(BOX, np.uint16(1)) if box else {}
    return [boxes | {"class": label, "fname": name} for name, label in labels.items()]


@pytest.fixture
def devkit(tmp_path: Path):
    """Three training and two test images in the true layout."""

    def build(base: str = ".", *, annotations: str = "devkit", labelled: str | None = None, train=None) -> Path:
        folder = tmp_path / "cars" / base
        for name in (annotations, "cars_train", "cars_test"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        train = {"00002.jpg": 196, "00001.jpg": 14, "00003.jpg": 14} if train is None else train
        test = {"00001.jpg": 3, "00002.jpg": 196}
        save_annotations(folder / annotations / "cars_train_annos.mat", rows_of(train))
        unlabelled = [{"fname": name} for name in test]
        save_annotations(folder / annotations / "cars_test_annos.mat", unlabelled)
        if labelled is not None:
            save_annotations(folder / labelled / "cars_test_annos_withlabels.mat", rows_of(test))
        for number in (1, 2, 3):
            (folder / f"cars_train/{number:05d}.jpg").write_bytes(bytes([number]))
        for number in (1, 2):
            (folder / f"cars_test/{number:05d}.jpg").write_bytes(bytes([10 + number]))
        return tmp_path / "cars"

    return build


def test_the_class_names_are_those_of_the_devkit(shared_data):
    names = loadmat(shared_data / "cars/devkit/cars_meta.mat", squeeze_me=True)["class_names"].tolist()
    assert tuple(names) == NAMES
    assert len(set(NAMES)) == DATASETS["cars"].classes


def test_the_real_training_labels_are_the_devkits_perfect_predictions(shared_data, tmp_path):
    shutil.copytree(shared_data / "cars/devkit", tmp_path / "devkit")
    (tmp_path / "cars_train").mkdir()
    for number in range(1, 8145):
        (tmp_path / f"cars_train/{number:05d}.jpg").touch()
    source = opened(tmp_path)
    assert len(source) == DATASETS["cars"].train_size
    perfect = (tmp_path / "devkit/train_perfect_preds.txt").read_text().split()
    assert (source.labels + 1).tolist() == list(map(int, perfect))
    assert list(source.ids) == [f"cars_train/{number:05d}.jpg" for number in range(1, 8145)]
    test = loadmat(tmp_path / "devkit/cars_test_annos.mat", squeeze_me=True)["annotations"]
    assert len(test) == DATASETS["cars"].test_size
    assert "class" not in test.dtype.names


def test_the_real_images_have_their_labels_and_the_missing_are_counted(shared_data):
    source = opened(shared_data / "cars")
    with (shared_data / "cars/subset.csv").open() as file:
        rows = {f"cars_train/{row['fname']}": row for row in csv.DictReader(file)}
    assert set(source.ids) == set(rows)
    assert [rows[image_id]["class_name"] for image_id in source.ids] == [NAMES[label] for label in source.labels]
    assert "7,948 annotated images are not there" in source.notes[0]
    assert decode(source.read(0), source.ids[0]).size == (530, 259)


def test_the_devkit_as_published_has_no_val_and_says_what_to_do(shared_data):
    with pytest.raises(DeitkitError, match="have no labels, as published") as caught:
        opened(shared_data / "cars", "val")
    text = str(caught.value)
    for hint in ("--val-fraction 0.1", "--set data.validate_on=train", "cars_test_annos_withlabels.mat"):
        assert hint in text
    assert f"looked for {shared_data / 'cars/devkit/cars_test_annos_withlabels.mat'}" in text


def test_a_part_of_the_training_images_can_be_held_out(devkit):
    root = devkit()
    train, val = (opened(root, split, val_fraction=0.3) for split in ("train", "val"))
    assert sorted([*train.ids, *val.ids]) == [f"cars_train/0000{number}.jpg" for number in (1, 2, 3)]
    assert val.labels.tolist() == [13]


@pytest.mark.parametrize("labelled", [".", "devkit"])
@pytest.mark.parametrize("base", [".", "stanford_cars"])
def test_the_devkit_with_test_labels_has_both_splits(devkit, base, labelled):
    root = devkit(base, labelled=labelled)
    train, val = opened(root), opened(root, "val")
    assert train.class_names == val.class_names == NAMES
    assert (train.labels.tolist(), val.labels.tolist()) == ([13, 195, 13], [2, 195])
    assert list(val.ids) == ["cars_test/00001.jpg", "cars_test/00002.jpg"]
    assert val.read(1) == bytes([12])
    with pytest.raises(DeitkitError, match="split of its own"):
        opened(root, val_fraction=0.1)


def test_annotations_may_lie_beside_images_and_images_in_a_folder_twice(devkit):
    root = devkit(annotations=".", labelled=".")
    for part in ("cars_train", "cars_test"):
        (root / part).rename(root / "moved")
        (root / part).mkdir()
        (root / "moved").rename(root / part / part)
    assert opened(root).path(0) == root / "cars_train/cars_train/00001.jpg"
    assert opened(root, "val").labels.tolist() == [2, 195]


def test_test_labels_without_test_images_are_no_val(devkit):
    root = devkit(labelled=".")
    shutil.rmtree(root / "cars_test")
    with pytest.raises(DeitkitError, match=f"looked for images in {root / 'cars_test'}"):
        opened(root, "val")
    assert len(opened(root, "val", val_fraction=0.3)) == 1


def test_a_labelled_file_without_labels_is_named(devkit):
    root = devkit()
    shutil.copy(root / "devkit/cars_test_annos.mat", root / "cars_test_annos_withlabels.mat")
    with pytest.raises(DeitkitError, match=r"withlabels\.mat has no field `class`"):
        opened(root, "val")


def test_images_without_a_devkit_are_no_image_folder(devkit):
    root = devkit()
    shutil.rmtree(root / "devkit")
    with pytest.raises(DeitkitError, match=r"lacks cars_train_annos\.mat") as caught:
        opened(root)
    assert "expected: ROOT/devkit" in str(caught.value)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"00001.jpg": 0, "00002.jpg": 197}, r"2 labels are not 1\.\.196: cars_train/00001.jpg \(class 0\)"),
        ({"00001.jpg": "Audi"}, r"cars_train/00001.jpg \(class Audi\)"),
        ({"00001.jpg": 1.5}, r"\(class 1\.5\)"),
        ({"../../etc/x.jpg": 1}, "1 images lie outside the data's folder"),
        ({"/etc/x.jpg": 1}, "none of the 1 train images"),
        ({"00009.jpg": 1}, "none of the 1 train images"),
    ],
)
def test_wrong_annotations_name_their_offenders(devkit, train, message):
    with pytest.raises(DeitkitError, match=message) as caught:
        opened(devkit(train=train))
    assert "cars_train_annos.mat" in str(caught.value)


def test_an_image_annotated_twice_is_named(devkit):
    root = devkit()
    rows = rows_of({"00001.jpg": 1}) * 2 + rows_of({"00002.jpg": 1})
    save_annotations(root / "devkit/cars_train_annos.mat", rows)
    with pytest.raises(DeitkitError, match=r"1 images are annotated twice: cars_train/00001\.jpg"):
        opened(root)


def test_one_annotation_alone_is_read(devkit):
    assert opened(devkit(train={"00002.jpg": 7})).labels.tolist() == [6]


def test_a_broken_or_foreign_file_is_named(devkit):
    root = devkit()
    path = root / "devkit/cars_train_annos.mat"
    content = path.read_bytes()
    for broken in (b"", b"<html>", content[:200], content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(DeitkitError, match=r"cars_train_annos\.mat"):
            opened(root)
    savemat(path, {"annotations": np.arange(3)})
    with pytest.raises(DeitkitError, match="no field `fname`; they have no fields"):
        opened(root)
    shutil.copy(root / "devkit/cars_test_annos.mat", path)
    with pytest.raises(DeitkitError, match="no field `class`; they have fname"):
        opened(root)


def test_other_class_names_are_refused(devkit):
    root = devkit()
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array([list(NAMES[::-1])], dtype=object)})
    with pytest.raises(DeitkitError, match="196 class names in their order"):
        opened(root)
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array([list(NAMES)], dtype=object)})
    assert len(opened(root)) == 3


def test_the_single_archive_is_split_by_its_flag(tmp_path):
    rows = [
        {"relative_im_path": f"car_ims/{number:06d}.jpg", **dict.fromkeys(BOX, 1), "class": label, "test": flag}
        for number, label, flag in ((1, 5, 1), (2, 196, 0), (3, 5, 0), (4, 1, 1))
    ]
    save_annotations(tmp_path / "cars_annos.mat", rows, class_names=np.array([list(NAMES)], dtype=object))
    (tmp_path / "car_ims").mkdir()
    for number in (1, 2, 3, 5):
        (tmp_path / f"car_ims/{number:06d}.jpg").touch()
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert list(train.ids) == ["car_ims/000002.jpg", "car_ims/000003.jpg"]
    assert (train.labels.tolist(), val.labels.tolist()) == ([195, 4], [4])
    assert train.notes == ("train: 1 images without annotation are left out: car_ims/000005.jpg",)
    assert val.notes[0] == "val: 1 annotated images are not there: car_ims/000004.jpg"
    assert train.class_names == NAMES
    with pytest.raises(DeitkitError, match="split of its own"):
        opened(tmp_path, val_fraction=0.1)


@pytest.mark.parametrize("below", ["", "car_data/", "car_data/car_data/"])
def test_an_image_folder_has_the_devkits_numbers(image_folder, below):
    folders = [name.replace("/", "-") for name in NAMES]
    root = image_folder({f"{below}{split}/{name}": 1 for split in ("train", "test") for name in folders})
    for split in ("train", "val"):
        source = opened(root, split)
        assert source.class_names == NAMES
        assert [folders[label] for label in source.labels] == [Path(image_id).parent.name for image_id in source.ids]
        assert source.notes == (() if split == "train" else (TEST_SERVES,))
