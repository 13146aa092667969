"""Tables of paths and labels, as people write them, and what is said of those that are wrong."""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deitkit.data.formats.table import TABLE
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

ROWS = (("b.png", "dog"), ("a.png", "cat"), ("deep/c.png", "dog"))


def images(root: Path, *names: str) -> Path:
    """Files whose content is their name."""
    for name in names or [name for name, _ in ROWS]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def written(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def opened(root: Path, split: str = "train", **settings):
    assert TABLE.matches(root)
    return TABLE.open(root, Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings}), split)


def labels_of(source) -> dict[str, str]:
    return {image: source.class_names[label] for image, label in zip(source.ids, source.labels.tolist(), strict=True)}


# Real tables


def reference(path: Path, image: str, label: str, folder: str = "", **only: str) -> dict[str, str]:
    """Python's reader of the same file."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in only.items())]
    return {folder + row[image]: row[label] for row in rows}


def test_the_real_imagenet_table_is_read(shared_data):
    table = shared_data / "imagenet/sample200.csv"
    source = opened(table)
    assert labels_of(source) == reference(table, "file", "wnid")
    assert list(source.ids) == sorted(source.ids)
    assert source.class_names == tuple(sorted(source.class_names))
    assert source.notes == ("sample200.csv: column 'wnid' is used, 'class_index', 'class_name' not",)
    assert decode(source.read(7), source.ids[7]).mode == "RGB"


def test_the_real_flowers_have_the_columns_and_splits_that_are_named(shared_data):
    table = shared_data / "flowers102/subset.csv"
    named = {"label_column": "label_0based", "split_column": "official_split"}
    for split in ("train", "val"):
        source = opened(table, split, **named)
        assert labels_of(source) == reference(table, "file", "label_0based", "jpg/", official_split=split)
        assert source.class_names == tuple(str(number) for number in range(102))
    assert any(note.endswith("flowers102/jpg/PATH") for note in source.notes)


def test_the_real_cars_have_no_validation_images_unless_some_are_held_out(shared_data):
    table = shared_data / "cars/subset.csv"
    whole = opened(table)
    assert labels_of(whole) == reference(table, "fname", "class_name", "cars_train/")
    assert len(whole) == len(whole.class_names) == 196
    with pytest.raises(DeitkitError, match="no validation images"):
        opened(table, "val")


def test_a_part_is_held_out_of_real_images(shared_data):
    table = shared_data / "cifar10/lossless100.csv"
    train, val = (opened(table, split, val_fraction=0.2) for split in ("train", "val"))
    assert np.bincount(train.labels).tolist() == [8] * 10
    assert np.bincount(val.labels).tolist() == [2] * 10
    assert labels_of(train) | labels_of(val) == reference(table, "file", "label")


# Ways of writing


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_marks_and_quotes_are_understood(tmp_path, delimiter, encoding):
    root = images(tmp_path, "a.png", "b, c; d.png", 'e"f.png')
    rows = [("file name", "Label"), ("a.png", " cat "), ("b, c; d.png", "dög, big"), ('e"f.png', "two\nlines")]
    with open(root / "labels.csv", "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    assert labels_of(opened(root)) == {"a.png": "cat", "b, c; d.png": "dög, big", 'e"f.png': "two\nlines"}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_a_folder_may_have_a_table_for_each_split(tmp_path, ending):
    root = images(tmp_path)
    for split, rows in {"train": ROWS[:2], "valid": ROWS[2:]}.items():
        if ending == ".parquet":
            columns = dict(zip(("path", "label"), map(list, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table(columns), root / f"{split}.parquet")
        else:
            written(root / f"{split}{ending}", "path\tlabel", *("\t".join(row) for row in rows))
    assert labels_of(opened(root)) == dict(ROWS[:2])
    val = opened(root, "val")
    assert labels_of(val) == dict(ROWS[2:])
    assert val.class_names == ("cat", "dog") and val.labels.tolist() == [1]
    assert val.notes == (f"1 classes have no images in {root / f'valid{ending}'}: cat",)
    with pytest.raises(DeitkitError, match="split of its own: val"):
        opened(root, val_fraction=0.5)


def test_the_order_of_rows_does_not_matter(tmp_path):
    images(tmp_path)
    prints = set()
    for rows in (ROWS, ROWS[::-1]):
        table = written(tmp_path / "own.csv", "image,class", *(",".join(row) for row in rows))
        prints.add(opened(table).fingerprint)
    assert len(prints) == 1
    source = pickle.loads(pickle.dumps(opened(table)))
    assert list(source.ids) == ["a.png", "b.png", "deep/c.png"]
    assert source.read(2) == b"deep/c.png"


@pytest.mark.parametrize("kind", ["text", "integers", "parquet", "floats", "dictionary"])
def test_numbers_are_sorted_as_numbers_and_keep_their_zeros(tmp_path, kind):
    root = images(tmp_path, "a.png", "b.png", "c.png")
    values = {"text": ["007", "10", "9"], "floats": [7.0, 10.0, 9.0], "dictionary": ["7", "10", "9"]}.get(
        kind, [7, 10, 9]
    )
    if kind in ("text", "integers"):
        table = written(root / "t.csv", "image,label", *(f"{n}.png,{v}" for n, v in zip("abc", values, strict=True)))
    else:
        column = pa.array(values).dictionary_encode() if kind == "dictionary" else pa.array(values)
        table = root / "t.parquet"
        pq.write_table(pa.table({"image": ["a.png", "b.png", "c.png"], "label": column}), table)
    assert opened(table).class_names == ("007" if kind == "text" else "7", "9", "10")


def test_a_split_column_cuts_the_table(tmp_path):
    splits = ("train", "Training", "test", "validation", "train")
    names = [f"{index}.png" for index in range(5)]
    images(tmp_path, *names)
    rows = (f"{name},{index % 2},{split}" for index, (name, split) in enumerate(zip(names, splits, strict=True)))
    table = written(tmp_path / "t.csv", "path,target,split", *rows)
    assert list(opened(table).ids) == ["0.png", "1.png", "4.png"]
    val = opened(table, "val")
    assert list(val.ids) == ["3.png"]
    assert list(opened(table, "test").ids) == ["2.png"]


def test_validation_rows_alone_can_be_evaluated(tmp_path):
    images(tmp_path, "a.png", "b.png")
    table = written(tmp_path / "t.csv", "path,label,split", "a.png,1,test", "b.png,2,test")
    assert len(opened(table, "val")) == 2
    with pytest.raises(DeitkitError, match="no training images"):
        opened(table)


# Where images are


@pytest.mark.parametrize("folder", ["images", "train", "images/train", "jpg"])
def test_paths_may_be_relative_to_a_folder_beside_the_table(tmp_path, folder):
    images(tmp_path / folder)
    (tmp_path / "other").mkdir()
    table = written(tmp_path / "t.csv", "image,label", "gone.png,dog", *(",".join(row) for row in ROWS))
    source = opened(table)
    assert labels_of(source) == {f"{folder}/{name}": label for name, label in ROWS}
    assert source.read(0) == b"a.png"
    assert source.notes[0] == f"paths of {table} are completed to {tmp_path / folder}/PATH"
    assert source.notes[1] == f"1 images of {table} are not there: {folder}/gone.png"


def test_names_may_lack_their_ending(tmp_path):
    images(tmp_path / "train", "x1.jpg", "x2.jpg")
    table = written(tmp_path / "labels.csv", "id,breed", "x1,pug", "x2,beagle")
    assert labels_of(opened(table)) == {"train/x1.jpg": "pug", "train/x2.jpg": "beagle"}


def test_a_test_table_without_labels_is_left_out(tmp_path):
    """As in the downloads of competitions."""
    images(tmp_path / "train", *(f"{index}.jpg" for index in range(4)))
    written(tmp_path / "train.csv", "id,breed", *(f"{index},{'ab'[index % 2]}" for index in range(4)))
    written(tmp_path / "test.csv", "id", "9")
    train, val = (opened(tmp_path, split, val_fraction=0.5) for split in ("train", "val"))
    assert sorted([*train.ids, *val.ids]) == [f"train/{index}.jpg" for index in range(4)]
    assert "test.csv has no labels and is left out" in train.notes


def test_two_folders_with_the_same_images_are_not_guessed_between(tmp_path):
    for folder in ("one", "two"):
        images(tmp_path / folder)
    with pytest.raises(DeitkitError, match=r"all that .* names, are not below"):
        opened(written(tmp_path / "t.csv", "image,label", *(",".join(row) for row in ROWS)))


def test_absolute_paths_give_ids_that_do_not_name_the_machine(tmp_path):
    images(tmp_path / "disk/images")
    rows = [f"{tmp_path}/disk/images/{name},{label}" for name, label in ROWS]
    (tmp_path / "tables").mkdir()
    for table in (tmp_path / "tables/t.csv", tmp_path / "disk/images/t.csv"):
        source = opened(written(table, "image,label", *rows))
        assert labels_of(source) == dict(ROWS)
        assert source.path(0) == tmp_path / "disk/images/a.png"
    mixed = written(tmp_path / "disk/t.csv", "image,label", f"{tmp_path}/disk/images/a.png,cat", "images/b.png,dog")
    assert list(opened(mixed).ids) == ["images/a.png", "images/b.png"]


def test_unusual_paths_to_one_image_are_one_image(tmp_path):
    images(tmp_path)
    table = written(tmp_path / "t.csv", "image,label", "./a.png,cat", "deep//c.png,dog", "deep/../b.png,dog")
    assert list(opened(table).ids) == ["a.png", "deep/../b.png", "deep/c.png"]
    windows = written(tmp_path / "w.csv", "image,label", "deep\\c.png,dog", "deep\\..\\a.png,cat")
    assert list(opened(windows).ids) == ["deep/../a.png", "deep/c.png"]


# What is a table


def test_a_table_is_told_from_other_forms(tmp_path):
    root = images(tmp_path / "folder", "train/a/1.png", "train/b/1.png")
    written(root / "train.csv", "image,label", "train/a/1.png,a", "train/b/1.png,b")
    assert not TABLE.matches(root), "train/CLASS/IMAGE says as much"
    assert TABLE.matches(root / "train.csv")
    assert not TABLE.matches(tmp_path) and not TABLE.matches(root / "train/a/1.png")
    packed = pa.table({"image": [{"bytes": b"x", "path": "a.png"}], "label": [1]})
    pq.write_table(packed, tmp_path / "train.parquet")
    assert not TABLE.matches(tmp_path) and not TABLE.matches(tmp_path / "train.parquet")


# What is wrong


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (["picture,label", "a,b"], {}, "no image column that is known by its name"),
        (["image,answer", "a,b"], {}, r"no label column .*\n  - columns found: image, answer\n  - names looked for: "),
        (["image,answer", "a,b"], {"label_column": "anser"}, "no such column. Did you mean answer"),
        (["image,label,label", "a,b,c"], {}, "several columns 'label'"),
        (["image", "a.png"], {}, "no label column"),
        (["a.png,cat", "b.png,dog"], {}, "does not name its columns: its first row is a.png,cat"),
        (["image,label"], {}, "has no rows"),
        ([""], {}, "is empty"),
        (["image,label", "a.png,cat,x"], {}, "Expected 2 columns, got 3"),
        (["image,label", "a.png,cat", "b.png,", "deep/c.png, "], {}, "nothing in column 'label' on line 3, 4"),
        (["image,label", '"a\n.png",cat', "", ",dog"], {}, "nothing in column 'image' on line 5"),
        (["image,label", "a.png,cat", "b.png,dog", "./a.png,cat"], {}, "1 images stand in .* more than once: a.png"),
        (["image,label", "a.png,cat", "b.png,cat"], {}, "only one class, 'cat'"),
        (["image,label,split", "a.png,cat,train", "b.png,dog,dev2"], {}, "rows of unknown splits: 'dev2'"),
        (
            ["image,label,split", "a.png,cat,train", "b.png,dog,train", "deep/c.png,cow,val"],
            {},
            r"\(val\) has classes that the training images do not have: cow",
        ),
        (["image,label", "x.png,cat", "y.png,dog"], {}, "2 images, all that .* names, are not below .*: x.png, y.png"),
    ],
)
def test_a_wrong_table_is_an_error_that_helps(tmp_path, lines, settings, message):
    table = written(images(tmp_path) / "t.csv", *lines)
    with pytest.raises(DeitkitError, match=message) as caught:
        opened(table, **settings)
    assert str(table) in str(caught.value)
    assert caught.value.remedy


def test_an_unknown_column_has_the_command_that_names_it(tmp_path):
    table = written(tmp_path / "t.csv", "picture,label", "a.png,b")
    with pytest.raises(DeitkitError, match="columns found: picture, label") as caught:
        opened(table)
    assert "--set data.image_column=NAME" in caught.value.remedy


def test_a_table_of_windows_is_read_and_said(tmp_path):
    table = images(tmp_path) / "t.csv"
    table.write_bytes("image,label\na.png,caf\xe9\nb.png,tea\n".encode("cp1252"))
    assert opened(table).class_names == ("café", "tea")
    assert any("no UTF-8 and is read as Windows-1252" in note for note in opened(table).notes)


def test_an_image_in_both_splits_is_an_error(tmp_path):
    root = images(tmp_path)
    for split in ("train", "val"):
        written(root / f"{split}.csv", "image,label", *(",".join(row) for row in ROWS))
    with pytest.raises(DeitkitError, match=r"3 images stand in .* more than once: a\.png"):
        opened(root)


def test_the_first_ten_missing_images_are_named(tmp_path):
    rows = [f"m{index:02d}.png,dog" for index in range(12)]
    table = written(images(tmp_path) / "t.csv", "image,label", *rows, *(",".join(row) for row in ROWS))
    (note,) = opened(table).notes
    assert note.startswith("12 images of ") and "m09.png and 2 more" in note and "m10.png" not in note
    assert len(opened(table)) == 3


def test_a_hundred_thousand_rows_cost_one_look_a_folder(tmp_path, monkeypatch):
    images(tmp_path, *(f"{folder}/{index}.png" for folder in range(10) for index in range(3)))
    rows = (f"{index % 10}/{index // 10}.png,{index % 7}" for index in range(100_000))
    table = written(tmp_path / "t.csv", "image,label", *rows)
    listed, looked = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(str(folder)) or listed(folder))
    assert len(opened(table)) == 30
    assert len(looked) < 40, "the folders are looked into a few times, not once a row"
