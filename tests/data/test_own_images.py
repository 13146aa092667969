"""A stranger's images: splits under any name, a held-out tenth by name, litter, wrapped folders, odd tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.check.compare import TRAINED_ON, compare, remember
from deitkit.data.formats.split import split_by_group, split_by_name
from deitkit.data.formats.split_names import split_of
from deitkit.data.open import MissingSplit, open_source
from deitkit.data.source import refuse_outside
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.predictions.stored import escaped, unescaped
from deitkit.recipe.schema import Data


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return root


def classes(folder: str, each: int, names: str = "ab") -> list[str]:
    return [f"{folder}/{name}/{index:02d}.png".lstrip("/") for name in names for index in range(each)]


def opened(root: Path, split: str = "train", **settings):
    return open_source(Data(dataset="folder", path=str(root), **settings), split)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"), ("training_set", "train"), ("TrainingImages", "train"), ("train2017", "train"),
        ("train_mini", "train"), ("Validation", "val"), ("valset", "val"), ("dev", "val"), ("Testing", "test"),
        ("test-images", "test"), ("cars_train", ""), ("train_val2018", ""), ("trains", ""), ("set", ""), ("images", ""),
    ],
)  # fmt: skip
def test_a_split_is_known_by_any_usual_name(name, split):
    assert split_of(name) == split


def test_the_test_images_never_choose_and_are_a_split_of_their_own(tmp_path):
    root = write(tmp_path, *classes("Training", 20), *classes("Testing", 4))
    train, val, test = (opened(root, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (36, 4, 8)
    assert all(name.startswith("Training/") for name in (*train.ids, *val.ids))
    assert not set(train.ids) & set(val.ids)
    assert test.split == "test" and all(name.startswith("Testing/") for name in test.ids)
    assert any("held out" in note for note in val.notes)


def test_earlier_versions_rule_still_opens_their_split(tmp_path):
    root = write(tmp_path, *classes("train", 20), *classes("test", 4))
    val = opened(root, "val", split_rule="place")
    assert len(val) == 8 and val.split == "val"
    assert len(opened(root, "train", split_rule="place")) == 40


def test_an_unlabelled_test_folder_beside_train_is_left_out(tmp_path):
    root = write(tmp_path, *classes("train", 10), "test/1.png", "test/2.png")
    assert len(opened(root)) == 18
    with pytest.raises(MissingSplit, match="no test images"):
        opened(root, "test")


def test_images_added_later_leave_the_others_on_their_side():
    names = [f"{label}/{index}" for label in "ab" for index in range(100)]
    labels = np.repeat([0, 1], 100)
    held = {names[index] for index in split_by_name(names, labels, 0.1).val}
    assert len(held) == 20
    more = [*names, *(f"a/new{index}" for index in range(10))]
    now = {more[index] for index in split_by_name(more, np.append(labels, np.zeros(10, dtype=int)), 0.1).val}
    assert len(held & now) >= 18, "a tenth of the new ones may push as many out"
    shuffled = np.random.default_rng(0).permutation(200)
    again = split_by_name([names[index] for index in shuffled], labels[shuffled], 0.1)
    assert {names[shuffled[index]] for index in again.val} == held, "the order does not matter"


def test_every_class_of_three_images_holds_one_out_and_keeps_two():
    labels = np.repeat([0, 1, 2], 3)
    held = split_by_name([str(index) for index in range(9)], labels, 0.1)
    assert np.bincount(labels[held.val]).tolist() == [1, 1, 1]


def test_folds_are_disjoint_and_cover_every_image(tmp_path):
    root = write(tmp_path, *classes("", 10))
    folds = [opened(root, "val", folds=4, fold=fold) for fold in (1, 2, 3, 4)]
    assert sorted(name for fold in folds for name in fold.ids) == sorted(classes("", 10))
    assert len({len(fold) for fold in folds}) == 1


def test_no_group_is_on_both_sides():
    groups = [f"p{index // 5}" for index in range(200)]
    labels = np.arange(200) // 100
    held = split_by_group(groups, labels, 0.2)
    sides = [{groups[index] for index in side} for side in (held.train, held.val)]
    assert not sides[0] & sides[1]
    assert np.bincount(labels[held.val]).tolist() == [20, 20]


def test_a_table_of_groups_holds_whole_groups_out(tmp_path):
    names = [f"{index:02d}.png" for index in range(40)]
    patient = {name: f"p{index % 10}" for index, name in enumerate(names)}
    write(tmp_path, *(f"images/{name}" for name in names[1:]))  # the first is not there
    rows = [f"{name},{'ab'[index % 2]},{patient[name]}" for index, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,patient", *reversed(rows)]) + "\n")
    for settings in ({}, {"folds": 5, "fold": 2}):
        ids = [list(opened(tmp_path, split, group_column="patient", **settings).ids) for split in ("train", "val")]
        assert sorted(ids[0] + ids[1]) == [f"images/{name}" for name in names[1:]]
        train, val = ({patient[name.removeprefix("images/")] for name in side} for side in ids)
        assert val and train == set(patient.values()) - val


def test_litter_is_no_class_and_is_counted(tmp_path):
    root = write(tmp_path, *classes("", 10), "__MACOSX/a/._00.png", "@eaDir/x.png", ".ipynb_checkpoints/a-c.png",
                 "a/@eaDir/t.png", "a/._00.png", "Thumbs.db", "a/desktop.ini", "b/readme.txt")  # fmt: skip
    source = opened(root)
    assert source.class_names == ("a", "b") and len(source) == 18
    assert "7 hidden or system files and folders are skipped" in source.notes
    assert "1 files are no image by their ending and are left out: .txt (1)" in source.notes


def test_images_one_or_two_folders_deeper_are_found_and_said(tmp_path):
    for depth in ("data", "data/data"):
        root = write(tmp_path / depth.replace("/", "-"), *classes(f"{depth}/train", 4), *classes(f"{depth}/val", 2))
        assert len(opened(root, "val")) == 4
        assert any("lie deeper than named" in note for note in opened(root).notes)
    with pytest.raises(DeitkitError, match="only one class, 'cat'"):
        opened(write(tmp_path / "single", "cat/1.png", "cat/2.png"))


def test_an_archive_is_refused_with_the_command_that_unpacks_it(tmp_path):
    write(tmp_path / "x", "a/1.png")
    shutil.make_archive(str(tmp_path / "my images"), "zip", tmp_path / "x")
    with pytest.raises(DeitkitError, match="is an archive") as caught:
        opened(tmp_path / "my images.zip")
    assert caught.value.remedy.endswith(f"; then --data '{tmp_path}/my images'")
    assert f"unzip '{tmp_path}/my images.zip' -d '{tmp_path}/my images'" in caught.value.remedy


def test_the_class_may_stand_in_the_files_name(tmp_path):
    root = write(tmp_path, *(f"train/{name}.{index}.png" for name in ("cat", "big_dog") for index in range(10)))
    with pytest.raises(DeitkitError, match="no class folders") as caught:
        opened(root)
    assert "data.label_from=filename" in caught.value.remedy
    source = opened(root, label_from="filename")
    assert source.class_names == ("big_dog", "cat") and len(source) == 18
    assert opened(root, label_from=r"/([a-z]+)").class_names == ("big", "cat")


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path):
    root = write(tmp_path, *classes("train", 4, names="\u00e9a"), "val/e\u0301/1.png", "val/a/1.png")
    val = opened(root, "val")
    assert val.class_names == ("a", "\u00e9") and sorted(val.labels.tolist()) == [0, 1]
    with pytest.raises(DeitkitError, match="Unicode form"):
        opened(write(tmp_path / "twins", *classes("", 4, names="\u00e9a"), "e\u0301/1.png"))


TABLES = {
    "is_valid": ("image,label,is_valid", ["{0},a,False", "{1},b,False", "{2},a,True"], {}, ["a", "b"], 2),
    "a fold": ("image,label,fold", ["{0},a,0", "{1},b,0", "{2},a,1"], {"val_fold": 1}, ["a", "b"], 2),
    "one column a class": ("image,rust,scab", ["{0},0,1", "{1},1,0", "{2},1,0"], {}, ["rust", "scab"], 3),
    "numbers of pandas": ("image,label", ["{0},10.0", "{1},2.0", "{2},2.0"], {}, ["2", "10"], 3),
    "a path of Windows": ("image,label", [r"C:\me\pics\{0},a", r"C:\me\pics\{1},b"], {}, ["a", "b"], 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_other_shapes_are_read(tmp_path, kind):
    header, rows, settings, names, images = TABLES[kind]
    write(tmp_path, *(f"pics/{index}.png" for index in range(3)))
    lines = [row.format("0.png", "1.png", "2.png") for row in rows]
    (tmp_path / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    source = opened(tmp_path, validate_on="train", **settings)
    assert list(source.class_names) == names and len(source) == images


def test_several_labels_an_image_are_refused(tmp_path):
    write(tmp_path, *(f"{index}.png" for index in range(3)))
    for header, rows in (
        ("image,labels", "0.png,a\n1.png,b\n2.png,a b"),
        ("image,x,y", "0.png,1,1\n1.png,0,1\n2.png,1,0"),
    ):
        (tmp_path / "labels.csv").write_text(f"{header}\n{rows}\n")
        with pytest.raises(DeitkitError, match="several labels"):
            opened(tmp_path)


def test_images_in_two_folders_and_beside_each_split_are_found(tmp_path):
    two = write(tmp_path / "two", "part_1/x.jpg", "part_2/y.jpg")
    (two / "labels.csv").write_text("id,label\nx,a\ny,b\n")
    assert sorted(opened(two, validate_on="train").ids) == ["part_1/x.jpg", "part_2/y.jpg"]
    beside = write(tmp_path / "hf", "train/1.jpg", "train/2.jpg", "validation/3.jpg")
    (beside / "train/metadata.jsonl").write_text(
        '{"file_name": "1.jpg", "label": "a"}\n{"file_name": "2.jpg", "label": "b"}\n'
    )
    (beside / "validation/metadata.csv").write_text("file_name,label\n3.jpg,b\n")
    assert list(opened(beside).ids) == ["train/1.jpg", "train/2.jpg"]
    assert opened(beside, "val").labels.tolist() == [1]


def test_no_path_of_a_table_climbs_out(tmp_path):
    write(tmp_path, "secret.png", "data/a.png")
    (tmp_path / "data/labels.csv").write_text("image,label\na.png,a\n../secret.png,b\n")
    with pytest.raises(DeitkitError, match="outside the data's folder"):
        opened(tmp_path / "data")
    for name in ("../x.jpg", "a/../../x", "/etc/x"):
        with pytest.raises(DeitkitError, match="lead out"):
            refuse_outside([name], "shards")


def test_a_device_in_place_of_an_image_is_refused_and_does_not_hang(tmp_path):
    root = write(tmp_path, *classes("", 3))
    (root / "a/zero.png").symlink_to("/dev/zero")
    source = opened(root, validate_on="train")
    assert not any("zero" in name for name in source.ids)


@pytest.mark.parametrize("name", ["loop", "train", "shard-0001.tar"])
def test_a_link_to_itself_beside_the_images_is_no_folder(tmp_path, name):
    folder = write(tmp_path / "folder", *classes("", 3))
    table = write(tmp_path / "table", "x/1.jpg", "y/2.jpg")
    (table / "labels.csv").write_text("image,label\n1.jpg,a\n2.jpg,b\n")
    for root in (folder, table):
        (root / name).symlink_to(name)
    assert len(opened(folder, validate_on="train")) == 6
    assert list(opened(table, validate_on="train").ids) == ["x/1.jpg", "y/2.jpg"]


def test_training_images_in_a_validation_set_are_found(tmp_path):
    root = write(tmp_path / "data", *classes("", 20))
    train, val = opened(root), opened(root, "val")
    remember(train, tmp_path)
    assert compare(tmp_path, val).notes() == []
    assert set(compare(tmp_path, train).seen) == set(train.ids)
    assert "trained on" in compare(tmp_path, train).notes()[0]


def test_a_record_of_training_images_that_is_none_says_nothing(tmp_path):
    train = opened(write(tmp_path / "data", *classes("", 20)))
    assert compare(tmp_path, train).seen == ()
    np.savez(tmp_path / "archive.npz", keys=np.zeros(3, np.uint64))
    for content in (b"", b"\x93NUMPY", (tmp_path / "archive.npz").read_bytes()):
        (tmp_path / TRAINED_ON).write_bytes(content)
        assert compare(tmp_path, train).seen == ()


@pytest.mark.parametrize("name", ["caf\udce9.jpg", "a\\xe9\udce9", "é\udcff\\", "plain.jpg"])
def test_names_that_are_no_text_come_back_from_tables(name):
    assert unescaped(escaped(name)) == name
    assert escaped(name).encode()


@pytest.mark.parametrize(
    ("factor", "kind"), [(16, np.uint16), (257, np.uint16), (10**6, np.int32), (1 / 255, np.float32)]
)
def test_deep_grey_keeps_its_contrast(tmp_path, factor, kind):
    grey = np.arange(256).reshape(16, 16)
    Image.fromarray((grey * factor).astype(kind)).save(tmp_path / "x.tif")
    read = np.asarray(decode((tmp_path / "x.tif").read_bytes(), "x"))[..., 0]
    assert np.abs(read.astype(int) - grey).max() <= 1
