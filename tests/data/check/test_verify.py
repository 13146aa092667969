"""Verification of real broken files, of copies in and across splits, and of names and workers that misbehave."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.check.inspection import inspect
from deitkit.data.check.verify import DIGEST_BYTES, counts_per_class, equal_rows, verify
from deitkit.data.open import open_source
from deitkit.data.source import Files
from deitkit.data.views.augment import Reading
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data


def splits_of(root: Path, *names: str, **settings) -> dict:
    data = Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings})
    return {name: open_source(data, name) for name in names or ("train",)}


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def noise(seed: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def remarks(name: str, content: bytes, tmp_path: Path, **reading) -> dict[str, str]:
    """What is said of one file: kind -> detail."""
    path = write(tmp_path / name, content)
    source = Files(
        dataset="folder",
        split="train",
        root=tmp_path,
        class_names=("a",),
        labels=np.zeros(1, dtype=np.int64),
        ids=[path.name],
    )
    return dict(inspect(source, 0, Reading(**reading)).remarks)


@pytest.fixture(scope="module")
def broken(shared_data, tmp_path_factory):
    """The real specimens twice, as two classes, and what is expected of each."""
    root = tmp_path_factory.mktemp("broken")
    with (shared_data / "broken/expected.csv").open() as file:
        expected = {row["file"]: row for row in csv.DictReader(file)}
    for name in expected:
        for class_name in ("first", "second"):
            write(root / class_name / name, (shared_data / "broken" / name).read_bytes())
    return verify(splits_of(root)), expected


# What the specimens' table does not say: limits are ours, and it lists what Pillow does, not what is odd.
ODD = {
    "animated_gif.jpg": {"animated", "extension", "palette"}, "bilevel.png": {"grey"}, "cmyk.jpg": {"CMYK"},
    "exif_orientation_3.jpg": {"orientation"}, "exif_orientation_6.jpg": {"orientation"},
    "exif_orientation_8.jpg": {"orientation"}, "extreme_aspect_2000x3.jpg": {"tiny"}, "gray16.png": {"16-bit"},
    "grayscale.jpg": {"grey"}, "la.png": {"alpha"}, "palette_transparent.png": {"alpha", "palette"},
    "png_named.jpg": {"extension"}, "progressive.jpg": set(), "rgb16.png": {"16-bit"}, "rgba.png": {"alpha"},
    "tiny_1x1.jpg": {"tiny"}, "trailing_garbage.jpg": set(),
}  # fmt: skip


def test_every_real_specimen_is_classified_as_expected(broken):
    found, expected = broken
    unreadable = {finding.id for finding in found.unreadable}
    for name, row in expected.items():
        fails = "fails" in row["pillow_13.0.0_open"] + row["pillow_convert_RGB"]
        for class_name in ("first", "second"):
            is_unreadable = f"{class_name}/{name}" in unreadable
            assert is_unreadable == (fails or name == "huge_declared_12000x10000.jpg"), name
            kinds = {finding.kind for finding in found.odd if finding.id == f"{class_name}/{name}"}
            assert kinds == (set() if is_unreadable else ODD[name]), name
    assert not found.is_clean()
    assert found.counts == {"train": {"first": 27, "second": 27}}


def test_the_reasons_are_those_of_the_decoder_and_the_limit_is_named(broken):
    found, expected = broken
    reasons = {finding.id.removeprefix("first/"): finding.detail for finding in found.unreadable}
    assert reasons["zero_bytes.jpg"] == "the file is empty"
    assert "not an image" in reasons["text.jpg"]
    assert "truncated" in reasons["truncated.jpg"]
    assert "12000 x 10000" in reasons["huge_declared_12000x10000.jpg"]
    assert "89478485" in reasons["huge_declared_12000x10000.jpg"].replace(",", "")
    assert reasons["bad_crc.png"] in expected["bad_crc.png"]["pillow_convert_RGB"]


def test_copies_under_different_labels_are_found_whatever_their_file(broken):
    found, expected = broken
    readable = set(expected) - {finding.id.partition("/")[2] for finding in found.unreadable}
    groups = [{copy.id for copy in group} for group in found.conflicts]
    assert {name.partition("/")[2] for group in groups for name in group} == readable
    assert found.leaks == []
    (turned,) = [group for group in groups if "first/exif_orientation_3.jpg" in group]
    assert len(turned) == 6  # the tag is not applied, so all of them are the same picture
    assert (found.smallest.width, found.smallest.height, found.smallest.id) == (1, 1, "first/tiny_1x1.jpg")
    assert (found.largest.width, found.largest.height) == (400, 296)


def test_orientation_is_applied_before_images_are_compared(shared_data, tmp_path):
    for name in (3, 6, 8):
        file = f"exif_orientation_{name}.jpg"
        for class_name in "ab":
            write(tmp_path / class_name / file, (shared_data / "broken" / file).read_bytes())
    found = verify(splits_of(tmp_path), reading=Reading(exif_orientation=True))
    assert [len(group) for group in found.duplicates] == [2, 2, 2]
    assert {finding.detail for finding in found.odd} == {f"EXIF orientation {turn}, applied" for turn in (3, 6, 8)}


@pytest.fixture
def tidy(tmp_path) -> Path:
    """Two classes in train and val, no image twice."""
    for index, folder in enumerate(["train/a", "train/b", "val/a", "val/b"]):
        for number in range(3):
            write(tmp_path / folder / f"{number}.png", encoded(noise(10 * index + number), "PNG"))
    return tmp_path


def test_tidy_images_are_clean_even_strictly(tidy):
    found = verify(splits_of(tidy, "train", "val"))
    assert found.is_clean(strict=True)
    assert (found.images, found.findings, found.duplicates) == (12, (), ())
    assert found.counts == {"train": {"a": 3, "b": 3}, "val": {"a": 3, "b": 3}}


def test_an_image_in_two_splits_is_a_leak_and_comes_first(tidy):
    shutil.copy(tidy / "train/a/0.png", tidy / "train/a/copy.png")
    write(tidy / "train/b/other.png", encoded(noise(1), "PNG"))
    write(tidy / "val/b/again.bmp", encoded(noise(11), "BMP"))  # the pixels of train/b/1.png in another format
    found = verify(splits_of(tidy, "train", "val"))
    assert [[(copy.split, copy.id) for copy in group] for group in found.duplicates] == [
        [("train", "train/b/1.png"), ("val", "val/b/again.bmp")],
        [("train", "train/a/1.png"), ("train", "train/b/other.png")],
        [("train", "train/a/0.png"), ("train", "train/a/copy.png")],
    ]
    assert found.leaks == [found.duplicates[0]]
    assert found.conflicts == [found.duplicates[1]]
    assert not found.is_clean()


def test_duplicates_within_a_split_are_clean_unless_strict(tidy):
    shutil.copy(tidy / "train/a/0.png", tidy / "train/a/copy.png")
    found = verify(splits_of(tidy, "train", "val"))
    assert found.is_clean()
    assert not found.is_clean(strict=True)


def test_the_same_bytes_at_another_shape_are_another_image(tmp_path):
    for name, size in (("wide", (8, 32)), ("tall", (32, 8))):
        write(tmp_path / name / "grey.png", encoded(Image.new("RGB", size, (7, 7, 7)), "PNG"))
    assert verify(splits_of(tmp_path)).duplicates == ()


def test_workers_find_what_one_process_finds(tidy):
    shutil.copy(tidy / "train/a/0.png", tidy / "val/a/leak.png")
    write(tidy / "val/b/bad.png", b"x")
    seen: list[int] = []
    alone = verify(splits_of(tidy, "train", "val"))
    helped = verify(splits_of(tidy, "train", "val"), workers=2, progress=seen.append)
    assert sum(seen) == helped.images == 14
    for field in ("findings", "duplicates", "counts", "smallest", "largest"):
        assert getattr(alone, field) == getattr(helped, field)


@dataclass(frozen=True)
class Deadly(Files):
    """Kills the process that reads its second image, as the kernel does when memory runs out."""

    def read(self, index: int) -> bytes:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


def test_a_killed_worker_is_a_clear_error(tidy):
    train = splits_of(tidy)["train"]
    deadly = Deadly(**vars(train))
    with pytest.raises(DeitkitError, match="worker was killed"):
        verify({"train": deadly}, workers=1)


def test_a_file_that_vanishes_meanwhile_is_unreadable(tidy):
    splits = splits_of(tidy, "train", "val")
    (tidy / "train/a/1.png").unlink()
    (finding,) = verify(splits).unreadable
    assert (finding.id, finding.class_name, finding.detail) == ("train/a/1.png", "a", "No such file or directory")


def test_names_that_are_no_text_are_spelled_out(tidy):
    write(Path(os.fsdecode(os.fsencode(tidy) + b"/train/a/\xff.png")), b"")
    (finding,) = verify(splits_of(tidy)).unreadable
    assert finding.id == "train/a/\\udcff.png"
    finding.id.encode("utf-8")


def test_empty_splits_and_no_readable_image_are_no_crash(tidy):
    for path in tidy.rglob("*.png"):
        path.write_bytes(b"")
    found = verify(splits_of(tidy, "train", "val"))
    assert (len(found.unreadable), found.smallest, found.largest, found.duplicates) == (12, None, None, ())
    assert verify({}).images == 0


def test_notes_of_the_sources_and_splits_that_could_not_be_opened_are_kept(tidy):
    train = splits_of(tidy)["train"]
    noted = replace(train, notes=("2 are missing", "train: 1 is new"))
    found = verify({"train": noted}, problems=["val: no labels"])
    assert found.notes == ("train: 2 are missing", "train: 1 is new")
    assert not found.is_clean()


def test_classes_without_images_count_nothing(tidy):
    source = Files(
        dataset="folder",
        split="train",
        root=tidy,
        class_names=("a", "b", "c"),
        labels=np.array([2, 2, 0]),
        ids=["x", "y", "z"],
    )
    assert counts_per_class(source) == {"a": 1, "b": 0, "c": 2}


@pytest.mark.parametrize(
    ("name", "kind", "mode", "expected"),
    [
        ("x.png", "PNG", "RGB", {}),
        ("x.jpg", "JPEG", "RGB", {}),
        ("x.JPEG", "JPEG", "RGB", {}),
        ("x.jpeg", "WEBP", "RGB", {"extension": "WEBP named .jpeg"}),
        ("x.png", "PNG", "L", {"grey": "grey"}),
        ("x.tif", "TIFF", "RGB", {}),
        ("x.tif", "TIFF", "CMYK", {"CMYK": "four inks, converted without a colour profile"}),
        ("x.bmp", "PPM", "RGB", {"extension": "PPM named .bmp"}),
    ],
)
def test_format_and_colours_of_one_file(name, kind, mode, expected, tmp_path):
    assert remarks(name, encoded(noise(0).convert(mode), kind), tmp_path) == expected


def test_animations_are_named_by_their_frames(tmp_path):
    frames = [noise(seed) for seed in range(3)]
    content = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert remarks("x.webp", content, tmp_path) == {"animated": "3 frames, the first is used"}


def test_a_phones_picture_pair_is_no_animation(tmp_path):
    content = encoded(noise(0), "MPO", save_all=True, append_images=[noise(1)])
    assert remarks("x.jpg", content, tmp_path) == {}


def test_broken_tags_beside_readable_pixels_are_odd(tmp_path, monkeypatch):
    def fail(_):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert remarks("x.jpg", encoded(noise(0), "JPEG"), tmp_path) == {"warning": "SyntaxError: not a TIFF file"}


def test_the_pixel_limit_is_the_recipes(tmp_path):
    content = encoded(noise(0, size=(100, 100)), "PNG")
    assert remarks("x.png", content, tmp_path, max_pixels=10_000) == {}
    assert "100 x 100" in remarks("x.png", content, tmp_path, max_pixels=9_999)["unreadable"]


def test_whatever_a_decoder_raises_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr("deitkit.data.check.inspection.load_rgb", lambda *_: 1 / 0)
    found = remarks("x.png", encoded(noise(0), "PNG"), tmp_path)
    assert found == {"unreadable": "ZeroDivisionError: division by zero"}


def test_equal_rows_are_those_that_counting_finds():
    generator = np.random.default_rng(3)
    rows = generator.integers(0, 2, (200, DIGEST_BYTES), dtype=np.uint8) * np.eye(1, DIGEST_BYTES, 7, dtype=np.uint8)
    rows = rows + generator.integers(0, 40, (200, 1), dtype=np.uint8)
    expected: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        expected.setdefault(row.tobytes(), []).append(index)
    groups = sorted(group.tolist() for group in equal_rows(rows))
    assert groups == sorted(group for group in expected.values() if len(group) > 1)
    assert equal_rows(rows[:1]) == equal_rows(rows[:0]) == []
