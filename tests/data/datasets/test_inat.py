"""iNaturalist in miniature trees with the official format, and its real validation list."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deitkit.catalog import DATASETS
from deitkit.data.datasets import inat
from deitkit.data.datasets.inat import INAT21_FORMS, INAT_FORMS
from deitkit.data.source import Source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

# Category ids are neither contiguous nor in the order of the list, so that places cannot stand in for them.
CATEGORIES = (
    {"id": 7291, "name": "3dd1", "supercategory": "Plantae"},
    {"id": 12, "name": "a0f9", "supercategory": "Aves"},
    {"id": 673, "name": "77b2", "supercategory": "Insecta"},
    {"id": 100, "name": "0001", "supercategory": "Aves"},
)
TAXONOMY = {
    7291: ("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Rosaceae", "Rosa"),
    12: ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Corvus"),
    673: ("Animalia", "Arthropoda", "Insecta", "Odonata", "Libellulidae", "Sympetrum"),
    100: ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica"),
}
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
TRAIN = ((50, 7291, "c"), (3, 673, "a"), (41, 7291, "b"), (8, 12, "d"))  # image id, category id, hash
VAL = ((900, 12, "e"), (901, 673, "f"))
Content = dict[str, Any]


def content(images, *, year: str = "2018", categories=CATEGORIES) -> Content:
    """As the README of the competition says, with its extra keys; annotations in another order than images."""
    supers = {row["id"]: row["supercategory"] for row in CATEGORIES}
    return {
        "info": {"year": int(year), "version": "1", "date_created": f"{year}-02-01"},
        "images": [
            {
                "id": image,
                "file_name": f"train_val{year}/{supers[category]}/{category}/{name * 32}.jpg",
                "width": 800,
                "height": 600,
                "license": 3,
                "rights_holder": "somebody",
            }
            for image, category, name in images
        ],
        "categories": list(categories),
        "annotations": [
            {"id": place, "image_id": image, "category_id": category}
            for place, (image, category, _) in enumerate(reversed(images))
        ],
        "licenses": [{"id": 3, "name": "CC", "url": "http://"}],
    }


def taxonomy() -> list[dict[str, Any]]:
    return [
        {"id": number, "name": f"species {number}", **dict(zip(RANKS, TAXONOMY[number], strict=True))}
        for number in TAXONOMY
    ]


def write(folder: Path, name: str, tables: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(tables))
    return folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def file_names(*parts: Content) -> list[str]:
    return [image["file_name"] for part in parts for image in part["images"]]


def opened(root: Path, split: str = "train", *, dataset: str = "inat18", **settings) -> Source:
    data = Data(dataset=dataset, path=str(root), **settings)
    form = next(form for form in INAT_FORMS if form.matches(root))
    return form.open(root, data, split)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The miniature of 2018 as it is when unpacked."""
    root = tmp_path / "inat18"
    train, val = content(TRAIN), content(VAL)
    write(root, "train2018.json", train)
    write(root, "val2018.json", val)
    return touch(root, *file_names(train, val))


def rewrite(root: Path, name: str, change: Callable[[Content], object]) -> None:
    tables = json.loads((root / name).read_text())
    change(tables)
    write(root, name, tables)


# What is read


def test_images_are_matched_by_category_id_and_sorted_by_path(archive):
    train, val = opened(archive), opened(archive, "val")
    assert train.class_names == val.class_names == ("12", "100", "673", "7291")
    assert list(train.ids) == sorted(file_names(content(TRAIN)))
    for source in (train, val):
        assert [source.class_names[label] for label in source.labels] == [name.split("/")[2] for name in source.ids]
    assert (train.split, val.split, train.notes, val.notes, val.accepted) == ("train", "val", (), (), None)
    assert val.read(1) == val.ids[1].encode()
    assert list(pickle.loads(pickle.dumps(val)).ids) == list(val.ids)


def test_the_annotations_may_lie_in_a_folder_of_their_own(archive):
    (archive / "annotations").mkdir()
    for name in ("train2018.json", "val2018.json"):
        (archive / name).rename(archive / "annotations" / name)
    assert len(opened(archive, "val")) == 2


def test_2019_has_other_files_and_levels_but_no_supercategory(tmp_path):
    train, val = (content(images, year="2019", categories=taxonomy()) for images in (TRAIN, VAL))
    write(tmp_path, "train2019.json", train)
    write(tmp_path, "val2019.json", val)
    touch(tmp_path, *file_names(train, val))
    assert opened(tmp_path, dataset="inat19").class_names == ("12", "100", "673", "7291")
    for place, level in enumerate(RANKS):
        source = opened(tmp_path, "val", dataset="inat19", category=level)
        assert list(source.class_names) == sorted({row[place] for row in TAXONOMY.values()})
        names = [TAXONOMY[int(image_id.split("/")[2])][place] for image_id in source.ids]
        assert [source.class_names[label] for label in source.labels] == names
    with pytest.raises(DeitkitError, match="no level 'supercategory'") as error:
        opened(tmp_path, dataset="inat19", category="supercategory")
    assert error.value.choices == ("name", *RANKS)
    with pytest.raises(DeitkitError, match=r"looked for .*train2018\.json") as error:
        opened(tmp_path)
    assert "train2019.json is there: is it data.dataset=inat19?" in str(error.value)


def test_2018_has_super_categories_and_its_published_names_have_the_rest(archive):
    assert opened(archive, category="supercategory").class_names == ("Aves", "Insecta", "Plantae")
    with pytest.raises(DeitkitError, match="no level 'order'") as error:
        opened(archive, category="order")
    assert error.value.choices == ("name", "supercategory")
    write(archive, "categories.json", taxonomy())
    orders = opened(archive, "val", category="order")
    assert orders.class_names == ("Odonata", "Passeriformes", "Rosales")
    assert [orders.class_names[label] for label in orders.labels] == ["Passeriformes", "Odonata"]
    assert opened(archive, category="supercategory").class_names == ("Aves", "Insecta", "Plantae")
    write(archive, "categories.json", taxonomy()[1:])
    with pytest.raises(DeitkitError, match="1 categories are not in it: 7291"):
        opened(archive, category="order")


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((1, 2), "without the archive's folder"),
        ((0, 2), "without the super-category's folder"),
        ((2,), "without the archive's and the super-category's folder"),
    ],
)
def test_dropped_folders_are_found_out_and_noted(tmp_path, kept, said):
    def place(name: str) -> str:
        *folders, file = name.split("/")
        return "/".join([*(folders[index] for index in kept), file])

    train, val = content(TRAIN), content(VAL)
    write(tmp_path, "train2018.json", train)
    write(tmp_path, "val2018.json", val)
    first, *rest = sorted(file_names(train))
    touch(tmp_path, *map(place, [*rest, *file_names(val)]))
    source = opened(tmp_path)
    assert list(source.ids) == [place(name) for name in rest]
    assert [source.class_names[label] for label in source.labels] == [name.split("/")[2] for name in rest]
    assert source.notes[0] == f"images lie {said}, as {place(rest[0])}"
    assert source.notes[1] == f"1 annotated images are not there: {place(first)}"


def test_missing_and_stray_images_are_counted_and_named(archive):
    names = sorted(file_names(content(TRAIN)))
    (archive / names[0]).unlink()
    stray = "train_val2018/Plantae/7291/zz.jpg"
    touch(archive, stray, "train_val2018/Plantae/7291/.DS_Store", "train_val2018/Plantae/7291/list.txt")
    source = opened(archive)
    assert list(source.ids) == names[1:]
    assert source.notes == (
        f"1 annotated images are not there: {names[0]}",
        f"1 images have no annotation and are ignored: {stray}",
    )
    (archive / "val2018.json").unlink()
    assert not any("ignored" in note for note in opened(archive).notes), "they may be validation images"


def test_images_that_their_own_file_does_not_annotate_are_left_out(archive):
    rewrite(archive, "val2018.json", lambda tables: tables["annotations"].pop())
    val = opened(archive, "val")
    assert len(val) == 1
    assert val.notes[0].startswith("1 images of val2018.json have no annotation and are left out: train_val2018/Aves")


def test_classes_without_images_keep_their_labels(archive):
    val = opened(archive, "val")
    assert "100" in val.class_names and 1 not in val.labels.tolist()


def test_val_alone_is_enough_to_evaluate(archive):
    (archive / "train2018.json").unlink()
    assert opened(archive, "val").class_names == ("12", "100", "673", "7291")
    with pytest.raises(DeitkitError, match="no annotations of inat18 train"):
        opened(archive)


def test_without_val_a_part_is_held_out_only_on_request(archive):
    with pytest.raises(DeitkitError, match="has a split of its own"):
        opened(archive, val_fraction=0.25)
    (archive / "val2018.json").unlink()
    with pytest.raises(DeitkitError, match=r"looked for .*annotations/val2018\.json") as error:
        opened(archive, "val")
    assert "deitkit data download inat18" in error.value.remedy and "--val-fraction" in error.value.remedy
    assert (len(opened(archive, "val", val_fraction=0.25)), len(opened(archive, val_fraction=0.25))) == (1, 3)


# The list form


def test_the_real_validation_list_has_the_published_size(tmp_path, shared_data):
    """24,426 images of 8,142 classes, three each; Plantae 8,751 ... Bacteria 3: the competition's table."""
    (tmp_path / "iNaturalist18_val.txt").symlink_to(shared_data / "inat/iNaturalist18_val.txt")
    lines = [line.split(" ") for line in (tmp_path / "iNaturalist18_val.txt").read_text().splitlines()]
    for folder in {name.rpartition("/")[0] for name, _ in lines}:
        (tmp_path / folder).mkdir(parents=True)
    for name, _ in lines:
        (tmp_path / name).touch()
    val = opened(tmp_path, "val")
    published = DATASETS["inat18"]
    assert (len(val), len(val.class_names)) == (published.test_size, published.classes)
    assert list(val.class_names) == [str(number) for number in range(8142)]
    assert np.bincount(val.labels).tolist() == [3] * 8142
    of = dict(zip(val.ids, val.labels.tolist(), strict=True))
    assert all(val.class_names[of[name]] == number for name, number in lines)
    supers = opened(tmp_path, "val", category="supercategory")
    counts = dict(zip(supers.class_names, np.bincount(supers.labels).tolist(), strict=True))
    assert (len(counts), counts["Plantae"], counts["Aves"], counts["Bacteria"]) == (14, 8751, 3774, 3)


def test_lists_and_jsons_give_the_same_source(archive, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, images in (("train", TRAIN), ("val", VAL)):
        lines = [f"{name} {name.split('/')[2]}\n" for name in file_names(content(images))]
        (lists / f"iNaturalist18_{part}.txt").write_text("".join(lines))
    (lists / "train_val2018").symlink_to(archive / "train_val2018")
    rewrite(archive, "train2018.json", lambda tables: tables["categories"].pop())  # 100 has no image to stand in a list
    rewrite(archive, "val2018.json", lambda tables: tables["categories"].pop())
    for split in ("train", "val"):
        assert opened(lists, split).fingerprint == opened(archive, split).fingerprint


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train_val2018/Aves/12/a.jpg twelve\n", "1 lines are no path and category id; their numbers: 1"),
        ("train_val2018/Aves/12/a.jpg\n", "1 lines are no path"),
        ("train_val2018/Aves/12/a.jpg 12\n" * 2, "1 images stand in it more than once: train_val2018/Aves/12/a.jpg"),
        ("x/Aves/12/a.jpg 12\nx/Insecta/12/b.jpg 12\n", "1 categories are in two super-categories: 12"),
        ("x/../../12/a.jpg 12\n", "1 file names lead out of the folder"),
        ("\n", "it is empty"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, lines, message):
    (tmp_path / "iNaturalist18_train.txt").write_text(lines)
    with pytest.raises(DeitkitError, match=message):
        opened(tmp_path)


# Bad annotations


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["images"][1].update(id=50), "1 image ids stand in it more than once: 50"),
        (lambda t: t["images"][1].update(t["images"][0] | {"id": 3}), "1 file names stand in it more than once"),
        (lambda t: t["categories"].append({"id": 12}), "1 category ids stand in it more than once: 12"),
        (lambda t: t["annotations"].append({"image_id": 9999, "category_id": 12}), "not among its images: 9999"),
        (lambda t: t["annotations"][0].update(category_id=5), "not among its categories: 5"),
        (
            lambda t: t["annotations"].append({"image_id": 50, "category_id": 12}),
            "1 images are annotated more than once: 50",
        ),
        (lambda t: t["images"][2].pop("file_name"), r"1 rows have no file_name \(str\): images\[2\]"),
        (lambda t: t["annotations"][0].update(image_id="8"), r"1 rows have no image_id \(int\): annotations\[0\]"),
        (lambda t: t["images"].append(7), r"1 rows have no id \(int\): images\[4\]"),
        (lambda t: t.pop("categories"), "list is not in it: categories"),
        (lambda t: t.update(images={}), "list is not in it: images"),
        (lambda t: t["images"][0].update(file_name="/etc/a.jpg"), "lead out of the folder: /etc/a.jpg"),
    ],
)
def test_annotations_that_contradict_themselves_are_refused(archive, change, message):
    rewrite(archive, "train2018.json", change)
    with pytest.raises(DeitkitError, match=message) as error:
        opened(archive)
    assert str(archive / "train2018.json") in error.value.what


def test_offenders_are_counted_and_the_first_ten_named(archive):
    extra = [{"image_id": number, "category_id": 12} for number in range(2000, 2012)]
    rewrite(archive, "train2018.json", lambda tables: tables["annotations"].extend(extra))
    with pytest.raises(DeitkitError, match=r"12 annotated images are not among its images: 2000, .*, 2009 and 2 more"):
        opened(archive)


def test_a_category_of_val_that_train_lacks_is_refused(archive):
    rewrite(archive, "train2018.json", lambda tables: tables["categories"].pop())
    with pytest.raises(DeitkitError, match=r"1 categories are not among those of train2018\.json: 100") as error:
        opened(archive, "val")
    assert "val2018.json" in error.value.what


@pytest.mark.parametrize("text", ["{", "\x80", "[]", "3"])
def test_a_file_that_is_no_table_is_refused(archive, text):
    (archive / "train2018.json").write_text(text, encoding="latin-1")
    with pytest.raises(DeitkitError, match=r"train2018\.json (is no readable JSON|has no tables)"):
        opened(archive)


def test_annotations_that_both_splits_need_are_read_once_and_anew_when_they_change(archive, monkeypatch):
    read = []
    load = inat._load
    monkeypatch.setattr(inat, "_load", lambda file, columns: read.append(file.name) or load(file, columns))
    opened(archive, "train"), opened(archive, "val")
    assert sorted(read) == ["train2018.json", "val2018.json"]
    rewrite(archive, "val2018.json", lambda tables: tables["annotations"].pop())
    opened(archive, "train")
    assert sorted(read) == ["train2018.json", "val2018.json", "val2018.json"]


def test_test_images_have_no_labels(archive):
    test = content([(1, 12, "z")])
    del test["annotations"]
    write(archive, "val2018.json", test)
    with pytest.raises(DeitkitError, match=r"val2018\.json has no annotations: test images have no labels"):
        opened(archive, "val")
    (archive / "val2018.json").rename(archive / "test2018.json")
    with pytest.raises(DeitkitError, match=r"test2018\.json does not help: test images have no labels"):
        opened(archive, "val")
    (archive / "train2018.json").unlink()
    with pytest.raises(DeitkitError, match=r"looked for .*train2018\.json"):
        opened(archive)


def test_annotations_without_any_image_say_where_images_should_be(archive):
    (archive / "train_val2018").rename(archive / "elsewhere")
    with pytest.raises(DeitkitError, match=r"none of the 4 images of .*train2018\.json is there") as error:
        opened(archive)
    assert len(error.value.problems) == 4
    assert f"unpack train_val2018.tar.gz in {archive}" in error.value.remedy


def test_other_folders_are_left_to_other_forms(tmp_path):
    touch(tmp_path, "train/12/a.jpg", "val/12/a.jpg")
    assert not any(form.matches(tmp_path) for form in INAT_FORMS)
    assert not any(form.matches(tmp_path / "absent") for form in INAT_FORMS)


# 2021: numbered folders, with or without the JSON files


def folders_of_2021(root: Path, train: str = "train_mini") -> None:
    taxa = ("00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
            "00007_Plantae_Tracheophyta_Liliopsida_Poales_Poaceae_Poa_annua")  # fmt: skip
    for split, count in ((train, 3), ("val", 1)):
        for taxon in taxa:
            (root / split / taxon).mkdir(parents=True)
            for number in range(count):
                (root / split / taxon / f"{number}.jpg").write_bytes(b"\xff\xd8")


def opened_2021(root: Path, dataset: str, split: str = "train", **settings: Any) -> Source:
    form = next(form for form in INAT21_FORMS if form.matches(root))
    return form.open(root, Data(dataset=dataset, path=str(root), **settings), split)


@pytest.mark.parametrize(("dataset", "train"), [("inat21", "train"), ("inat21_mini", "train_mini")])
def test_the_folders_of_2021_say_their_categories_and_levels(tmp_path: Path, dataset: str, train: str) -> None:
    folders_of_2021(tmp_path, train)
    source = opened_2021(tmp_path, dataset)
    assert (source.class_names, source.labels.tolist()) == (("0", "7"), [0, 0, 0, 1, 1, 1])
    assert opened_2021(tmp_path, dataset, "val").labels.tolist() == [0, 1]
    assert opened_2021(tmp_path, dataset, category="genus").class_names == ("Lumbricus", "Poa")


def test_the_mini_set_beside_the_whole_ones_name_is_pointed_to(tmp_path: Path) -> None:
    folders_of_2021(tmp_path)
    with pytest.raises(DeitkitError, match=r"data\.dataset=inat21_mini"):
        opened_2021(tmp_path, "inat21")


def test_the_json_of_2021_is_read_with_its_folders(tmp_path: Path) -> None:
    folders_of_2021(tmp_path)
    for split, count in (("train_mini", 2), ("val", 1)):
        folder = next((tmp_path / split).glob("00007*"))
        images = [{"id": n, "file_name": f"{split}/{folder.name}/{n}.jpg"} for n in range(count)]
        described = {
            "images": images, "categories": [{"id": 0, "kingdom": "Animalia"}, {"id": 7, "kingdom": "Plantae"}],
            "annotations": [{"id": n, "image_id": n, "category_id": 7} for n in range(count)],
        }  # fmt: skip
        (tmp_path / f"{split}.json").write_text(json.dumps(described))
    source = opened_2021(tmp_path, "inat21_mini")
    assert (len(source), set(source.labels.tolist()), source.class_names) == (2, {1}, ("0", "7"))
