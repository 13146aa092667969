"""The same class has the same name and number in every mirror, or it is said that it has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deitkit.data.datasets.class_lists import class_list
from deitkit.data.formats.canonical import KnownClasses, canonical_folder, canonical_names
from deitkit.data.source import Form, Source
from deitkit.recipe.schema import Data

PETS = ("cat", "Great Dane", "colt's foot", "ant/bee")
FORM = canonical_folder(KnownClasses(lambda: PETS), tree="", below=(".", "inner"))


def opened(form: Form, root: Path, split: str = "train", **settings) -> Source:
    assert form.matches(root)
    return form.open(root, Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings}), split)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("cat",), ("cat",)),
        (("CAT", "great_dane", "colts foot", "ant-bee"), PETS),
        (("ant bee", "Great-Dane"), ("ant/bee", "Great Dane")),
        (("1", "2", "3", "4"), PETS),
        (("004", "001"), ("ant/bee", "cat")),
        (("0", "1", "2", "3"), PETS),
        (("00", "03"), ("cat", "ant/bee")),
        (("2",), ("Great Dane",)),
        ((), ()),
        (("cat", "dog"), None),
        (("cat", "CAT"), None),
        (("cat", "1"), None),
        (("1", "01"), None),
        (("0", "4"), None),
        (("5",), None),
        (("-1", "1"), None),
        (("?!",), None),
    ],
)
def test_names_match_up_to_spelling_or_as_numbers(found, expected):
    assert canonical_names(found, PETS) == expected


def test_numbers_without_either_end_count_from_where_the_data_set_does():
    assert canonical_names(("1", "2"), PETS) == ("cat", "Great Dane")
    assert canonical_names(("1", "2"), PETS, numbered_from=0) == ("Great Dane", "colt's foot")
    assert canonical_names(("1", "4"), PETS, numbered_from=0) == ("cat", "ant/bee")


def test_another_name_in_use_is_known():
    assert canonical_names(("Tussilago", "cat"), PETS, also={"tussilago": PETS[2]}) == (PETS[2], "cat")
    assert canonical_names(("tussilago", "colts_foot"), PETS, also={"tussilago": PETS[2]}) is None


def test_no_two_names_of_a_known_data_set_differ_by_spelling_alone():
    for name, count in (("cars", 196), ("cifar10", 10), ("cifar100", 100)):
        names = class_list(name)
        assert len(names) == len(set(names)) == count
        shouted = tuple(name.upper().replace("/", "-").replace(" ", "__") for name in names)
        assert canonical_names(shouted, names) == names


def test_a_folder_gets_canonical_names_in_canonical_order(image_folder):
    root = image_folder({"train/ant-bee": 1, "train/GREAT DANE": 2, "train/cat": 3, "val/ant-bee": 2, "val/cat": 1})
    train, val = opened(FORM, root), opened(FORM, root, "val")
    assert train.class_names == val.class_names == ("cat", "Great Dane", "ant/bee")
    by_image = dict(zip(train.ids, train.labels.tolist(), strict=True))
    assert by_image["train/ant-bee/000.png"] == 2
    assert by_image["train/GREAT DANE/001.png"] == 1
    assert np.bincount(train.labels).tolist() == [3, 2, 1]
    assert np.bincount(val.labels).tolist() == [1, 0, 2]
    assert train.notes == ()
    assert train.read(0) == (root / train.ids[0]).read_bytes()


def test_images_held_out_of_a_folder_are_renumbered_too(image_folder):
    root = image_folder({"inner/ant-bee": 10, "inner/cat": 20})
    train, val = (opened(FORM, root, split, val_fraction=0.1) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("cat", "ant/bee")
    assert (np.bincount(train.labels).tolist(), np.bincount(val.labels).tolist()) == ([18, 9], [2, 1])
    assert all(("cat" in image_id) == (label == 0) for image_id, label in zip(val.ids, val.labels, strict=True))


def test_unknown_folders_keep_their_names_and_it_is_said(image_folder):
    root = image_folder({"train/cat": 1, "train/dog": 1, "train/cow": 1})
    source = opened(FORM, root)
    assert source.class_names == ("cat", "cow", "dog")
    (note,) = source.notes
    assert "own class names are kept: 2 are no classes of this data set: cow, dog" in note


def test_folders_that_are_no_classes_are_left_to_other_forms(image_folder, tmp_path):
    assert not FORM.matches(image_folder({"photos": 1, "cat": 1}))
    assert not FORM.matches(tmp_path / "nowhere")


def test_a_validation_split_alone_is_enough_to_evaluate_on(image_folder):
    root = image_folder({"test/ant-bee": 1, "test/cat": 2})
    val = opened(FORM, root, "val")
    assert (val.class_names, val.labels.tolist()) == (("cat", "ant/bee"), [1, 0, 0])
