"""One's own folder of images: links, loose files, unreadable folders, and the order that fingerprints rest on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from deitkit.data.formats.folder import FOLDER, class_order, open_folder
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data


def write(root: Path, *names: str) -> Path:
    """Files without content: listing opens none of them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def opened(root: Path, split: str = "train", **settings):
    assert FOLDER.matches(root)
    return open_folder(root, Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings}), split)


def test_images_are_in_the_order_of_their_classes_and_of_their_paths_parts(tmp_path):
    nested = ["x/1.png", "x/y/2.png", "x-y/1.png", "x.png", "X.JPG", "ü b.webp", "d.png/1.tiff", "two.dots.gif"]
    names = [f"train/{label}/{image}" for label in ("b", "a") for image in nested]
    source = opened(write(tmp_path, *names, "train/b/.hidden/1.png", "train/b/.1.png", "train/b/notes.txt"))
    reference = [sorted(Path(name) for name in names if name.startswith(f"train/{label}/")) for label in ("a", "b")]
    assert list(source.ids) == [path.as_posix() for paths in reference for path in paths]
    assert source.labels.tolist() == [0] * len(nested) + [1] * len(nested)
    assert source.notes == (
        "2 hidden or system files and folders are skipped",
        "1 files are no image by their ending and are left out: .txt (1)",
    )


def test_a_known_layout_keeps_its_fingerprint(tmp_path):
    write(tmp_path, *(f"{label}/{image}.png" for label in ("9", "10") for image in ("a/b", "a-b", "c")))
    # As of the first release: a run is resumed only on data with the fingerprint that it began with.
    assert opened(tmp_path).fingerprint == "d82481496ee63356c883e06c4da733643a19190700b30a799a1280e6a05d6fc1"


def test_class_names_are_sorted_as_numbers_where_all_are_numbers():
    assert class_order(["10", "9", "9", "100"]) == ("9", "10", "100")
    assert class_order(["10", "9", "b"]) == ("10", "9", "b")


def test_loose_images_beside_class_folders_are_named(tmp_path):
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", *(f"train/{i:02d}.JPG" for i in range(12)), "train/x.txt")
    (note,) = opened(root).notes
    assert note.startswith("12 images directly in ") and "00.JPG, 01.JPG" in note and note.endswith("and 2 more")
    assert len(opened(root)) == 2


def test_links_to_images_and_folders_are_followed(tmp_path):
    write(tmp_path / "far", "deep/1.png", "one.png")
    root = write(tmp_path / "images", "a/0.png", "b/0.png")
    (root / "a/linked").symlink_to(tmp_path / "far/deep")
    (root / "a/linked.png").symlink_to(tmp_path / "far/one.png")
    (root / "c").symlink_to(tmp_path / "far")
    assert list(opened(root).ids) == [
        "a/0.png", "a/linked/1.png", "a/linked.png", "b/0.png", "c/deep/1.png", "c/one.png",
    ]  # fmt: skip


def test_links_that_lead_back_are_followed_once(tmp_path):
    root = write(tmp_path, "a/x/1.png", "b/1.png")
    (root / "a/x/up").symlink_to(root / "a")
    (root / "a/x/itself").symlink_to("itself")
    (root / "a/to_b").symlink_to(root / "b")
    (root / "b/to_a").symlink_to(root / "a")
    ids = list(opened(root).ids)
    assert "a/x/1.png" in ids and "a/to_b/1.png" in ids and "b/to_a/x/1.png" in ids
    assert not any("/up/" in name or name.count("to_") > 1 for name in ids)


def test_links_that_lead_nowhere_are_left_out_and_named(tmp_path):
    root = write(tmp_path, "a/1.png", "b/1.png")
    (root / "a/gone.png").symlink_to("nowhere.png")
    (root / "a/ring.png").symlink_to("ring.png")
    source = opened(root)
    assert list(source.ids) == ["a/1.png", "b/1.png"]
    assert source.notes == ("2 links in place of images lead nowhere and are left out: a/gone.png, a/ring.png",)


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    root = write(tmp_path, "a/1.png", "b/deep/1.png")
    listed = os.scandir

    def refuse(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DeitkitError, match=r"cannot list folder .*b/deep: Permission denied") as caught:
        opened(root)
    assert "chmod" in caught.value.remedy


def test_validation_images_choose_and_test_images_are_a_split_of_their_own(tmp_path):
    root = write(tmp_path, *(f"{split}/{label}/1.png" for split in ("train", "test", "valid") for label in "ab"))
    val = opened(root, "val")
    assert list(val.ids) == ["valid/a/1.png", "valid/b/1.png"]
    said = "test is left out of training and choosing: --split test measures on it"
    assert val.notes == opened(root).notes == (said,)
    assert list(opened(root, "test").ids) == ["test/a/1.png", "test/b/1.png"]


def test_classes_without_validation_images_are_named(tmp_path):
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "val/a/1.png")
    (root / "val/c").mkdir()
    val = opened(root, "val")
    assert val.class_names == ("a", "b", "c")
    (note,) = val.notes
    assert note.startswith("2 classes have no images in ") and note.endswith("val: b, c")


def test_a_validation_split_alone_can_be_evaluated_but_not_trained_on(tmp_path):
    root = write(tmp_path, "val/a/1.png", "val/b/1.png", "test/a/1.png")
    assert opened(root, "val").class_names == ("a", "b")
    with pytest.raises(DeitkitError, match="no training images: there is val"):
        opened(root)


def test_classes_may_have_the_names_of_splits(tmp_path):
    assert opened(write(tmp_path, "test/1.png", "val/1.png")).class_names == ("test", "val")


def test_validation_images_are_opened_without_listing_the_training_images(tmp_path, monkeypatch):
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    listed, seen = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(str(folder)) or listed(folder))
    opened(root, "val")
    assert not [folder for folder in seen if folder.endswith(("train/a", "train/b"))]


def test_listing_costs_no_stat_an_image(tmp_path, monkeypatch):
    root = write(tmp_path, *(f"{label}/{index}.png" for label in "ab" for index in range(50)))
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    assert np.bincount(opened(root).labels).tolist() == [50, 50]
    assert len(asked) < 20
