"""The look before training: it finds what training would refuse, the same whoever looks, and what has two labels."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from deitkit.data.check import scan as scanning
from deitkit.data.check.background import Background
from deitkit.data.check.scan import check, ends_whole, scan
from deitkit.data.open import open_source
from deitkit.data.views.augment import AS_IT_LIES, Reading, UnreadableImage, decode
from deitkit.distributed import World
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

Folder = Callable[..., Path]


def splits_of(root: Path, *names: str) -> dict[str, object]:
    data = Data(dataset="folder", path=str(root), validate_on="val" if "val" in names else "train")
    return {name: open_source(data, name) for name in names or ("train",)}


def ids(found: scanning.Scan) -> list[str]:
    return [image.id for image in found.bad]


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set is so large that it is not decoded first."""
    monkeypatch.setattr(scanning, "DECODED_BYTES", 0)


def refused_in_training(data: bytes, name: str) -> bool:
    try:
        decode(data, name)
    except UnreadableImage:
        return True
    return False


def refused_by_the_look(data: bytes, name: str) -> bool:
    try:
        check(io.BytesIO(data), name, AS_IT_LIES)
    except UnreadableImage:
        return True
    return False


def test_the_look_refuses_the_specimens_that_training_refuses_and_no_other(shared_data: Path) -> None:
    with (shared_data / "broken/expected.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)]
    files = {name: (shared_data / "broken" / name).read_bytes() for name in names}
    assert {name for name in names if refused_by_the_look(files[name], name)} == {
        name for name in names if refused_in_training(files[name], name)
    }


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_refused_though_it_is_decoded_at_an_eighth(progressive: bool) -> None:
    picture = io.BytesIO()
    fractal = Image.effect_mandelbrot((96, 80), (-2, -1, 1, 1), 50).convert("RGB")
    fractal.save(picture, "JPEG", progressive=progressive)
    whole = picture.getvalue()
    assert not refused_by_the_look(whole, "whole")
    for length in range(1, len(whole), 61):
        cut = whole[:length]
        assert refused_by_the_look(cut, "cut") == refused_in_training(cut, "cut")


def test_headers_and_ends_find_all_but_damage_in_the_middle(image_folder: Folder, few_are_many: None) -> None:
    root = image_folder({"a": 4, "b": 4})
    (root / "a/000.png").write_bytes(b"")
    (root / "a/001.png").write_bytes(b"<html>not found</html>")
    whole = (root / "b/003.png").read_bytes()
    (root / "b/002.png").write_bytes(whole[:700])
    (root / "b/003.png").write_bytes(whole[:300] + b"\0" * 64 + whole[364:])
    found = scan(splits_of(root), AS_IT_LIES)
    assert ids(found) == ["a/000.png", "a/001.png", "b/002.png"]
    assert [image.reason for image in found.bad[:2]] == ["the file is empty", "not an image of a known kind"]
    assert not found.is_whole


def test_few_images_are_decoded_whole_and_the_reason_is_said(image_folder: Folder) -> None:
    root = image_folder({"a": 4, "b": 4})
    whole = (root / "b/003.png").read_bytes()
    (root / "b/003.png").write_bytes(whole[:300] + b"\0" * 64 + whole[364:])
    found = scan(splits_of(root), AS_IT_LIES)
    assert (ids(found), found.is_whole, found.share) == (["b/003.png"], True, 1 / 8)
    assert found.bad[0].class_name == "b" and found.bad[0].reason


def test_what_is_found_depends_on_no_worker_and_no_process(
    image_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder({"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2})
    for name in ("train/a/001.png", "val/b/001.png"):
        (root / name).write_bytes(b"")
    shutil.copy(root / "train/a/003.png", root / "val/b/copy.png")
    splits = splits_of(root, "train", "val")
    alone = scan(splits, AS_IT_LIES)
    monkeypatch.setattr(scanning, "FEW", 0)
    assert scan(splits, AS_IT_LIES, workers=2) == alone
    monkeypatch.setattr("deitkit.data.check.verify.CHUNK", 3)
    other: list[object] = []
    monkeypatch.setattr(World, "gather", lambda self, part: other.append(part) or [[], part])
    scan(splits, AS_IT_LIES, world=World(1, 2))
    monkeypatch.setattr(World, "gather", lambda self, part: [part, other[0]])
    assert scan(splits, AS_IT_LIES, world=World(0, 2)) == alone


def test_the_same_bytes_under_two_labels_and_on_both_sides_are_found(image_folder: Folder, few_are_many: None) -> None:
    root = image_folder({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    shutil.copy(root / "train/a/001.png", root / "train/b/copy.png")
    shutil.copy(root / "train/a/002.png", root / "train/a/again.png")  # twice in a class: learned twice, no more
    (root / "val/b/000.png").write_bytes((root / "train/b/003.png").read_bytes())
    found = scan(splits_of(root, "train", "val"), AS_IT_LIES)
    assert [[copy.id for copy in group] for group in found.conflicts] == [["train/a/001.png", "train/b/copy.png"]]
    assert [[copy.id for copy in group] for group in found.leaks] == [["train/b/003.png", "val/b/000.png"]]


def test_files_of_one_length_and_end_that_differ_before_are_no_copies(image_folder: Folder) -> None:
    root = image_folder({"a": 2, "b": 2})
    picture = (root / "a/000.png").read_bytes()
    (root / "a/001.png").write_bytes(picture + b"x" * 5000 + b"tail" * 2000)
    (root / "b/001.png").write_bytes(picture + b"y" * 5000 + b"tail" * 2000)
    assert scan(splits_of(root), AS_IT_LIES).conflicts == ()


def test_classes_of_which_nothing_can_be_read_are_named(image_folder: Folder) -> None:
    root = image_folder({"a": 2, "b": 2, "c": 2})
    for name in ("b/000.png", "b/001.png", "c/000.png"):
        (root / name).write_bytes(b"")
    assert scan(splits_of(root), AS_IT_LIES).lost_classes == (("train", "b"),)


def test_a_limit_of_pixels_and_orientation_count_as_in_training(image_folder: Folder) -> None:
    root = image_folder({"a": 2, "b": 2})
    assert len(scan(splits_of(root), Reading(max_pixels=600, exif_orientation=True)).bad) == 2


def test_a_file_that_has_gone_ends_the_look_with_its_name(image_folder: Folder) -> None:
    root = image_folder({"a": 2, "b": 2})
    splits = splits_of(root)
    (root / "a/001.png").unlink()
    with pytest.raises(DeitkitError, match=r"a/001\.png: No such file"):
        scan(splits, AS_IT_LIES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_in_place_of_an_image_is_not_waited_for(image_folder: Folder) -> None:
    root = image_folder({"a": 2, "b": 2})
    splits = splits_of(root)
    (root / "a/001.png").unlink()
    os.mkfifo(root / "a/001.png")
    with pytest.raises(DeitkitError, match="no regular file"):
        scan(splits, AS_IT_LIES)


@pytest.mark.parametrize(
    ("kind", "end", "whole"),
    [
        ("JPEG", b"..\xff\xd9", True),
        ("JPEG", b"\xff\xd9..", False),
        ("PNG", b"IEND\xae\x42\x60\x82", True),
        ("PNG", b"IDAT", False),
        ("GIF", b"\x3b", False),
        ("JPEG", b"", False),
    ],
)
def test_only_a_known_end_spares_the_decoding(kind: str, end: bytes, whole: bool) -> None:
    assert ends_whole(kind, end) is whole


def test_a_process_beside_the_training_decodes_what_is_left(image_folder: Folder, few_are_many: None) -> None:
    root = image_folder({"a": 4, "b": 4})
    (root / "a/000.png").write_bytes(b"")
    whole = (root / "b/003.png").read_bytes()
    (root / "b/003.png").write_bytes(whole[:300] + b"\0" * 64 + whole[364:])
    splits = splits_of(root)
    known = scan(splits, AS_IT_LIES).bad
    background = Background(splits, AS_IT_LIES, known)
    try:
        background._process.join(timeout=60)
        assert [image.id for image in background.take()] == ["b/003.png"]
        assert background.is_done and background.take() == [] and len(background.found) == 1
    finally:
        background.stop()


def test_a_process_that_is_killed_is_not_waited_for(image_folder: Folder) -> None:
    background = Background(splits_of(image_folder({"a": 2, "b": 2})), AS_IT_LIES, ())
    background.stop()
    background.take()
    background.take()
    assert background.found == []
