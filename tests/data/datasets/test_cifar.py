"""CIFAR-10 and -100 in miniature batches of the true layout, and in the real image folders."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.catalog import DATASETS
from deitkit.data.datasets import cifar
from deitkit.data.datasets.cifar import CIFAR10, CIFAR10_FORMS, CIFAR100, CIFAR100_FORMS, CifarLayout, published_md5s
from deitkit.data.datasets.class_lists import class_list
from deitkit.data.source import Source
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

FORMS = {"cifar10": CIFAR10_FORMS, "cifar100": CIFAR100_FORMS}
LAYOUTS = pytest.mark.parametrize("layout", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])


def opened(root: Path, dataset: str, split: str = "train", **settings) -> Source:
    form = next(form for form in FORMS[dataset] if form.matches(root))
    return form.open(root, Data(dataset=dataset, path=str(root), **settings), split)


class Python2(pickle._Pickler):
    """Writes what Python 2's cPickle wrote: byte strings, and a memo that counts from 1."""

    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.memo = {0: (0, None)}

    def save_text(self, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        short = len(content) < 256
        self.write((b"U" + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    Python2(file).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def names_of(layout: CifarLayout) -> list[str]:
    return list(class_list(layout.dataset))


@pytest.fixture
def python_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Batches of four images with the true keys; their sums take the place of the published ones."""

    def build(layout: CifarLayout, **changes: Any) -> tuple[Path, dict[str, tuple[np.ndarray, list[int]]]]:
        folder = tmp_path / layout.folder
        folder.mkdir()
        generator = np.random.default_rng(0)
        written = {}
        for name in (*layout.train, layout.test):
            pixels = generator.integers(0, 256, size=(4, 3072), dtype=np.uint8)
            labels = generator.integers(0, len(names_of(layout)), size=4).tolist()
            written[name] = (pixels, labels)
            batch = {"batch_label": name, layout.labels_key: labels, "data": pixels, "filenames": ["x.png"] * 4}
            if layout is CIFAR100:
                batch["coarse_labels"] = [19] * 4
            (folder / name).write_bytes(pickled(batch | changes))
        (folder / layout.meta).write_bytes(pickled({layout.names_key: names_of(layout), "num_vis": 3072}))
        trust(monkeypatch, folder)
        return tmp_path, written

    return build


def trust(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(cifar, "published_md5s", lambda layout: sums)


@pytest.fixture
def binary_batches(tmp_path: Path):
    def build(layout: CifarLayout) -> tuple[Path, dict[str, tuple[np.ndarray, list[int]]]]:
        folder = tmp_path / layout.binary_folder
        folder.mkdir()
        generator = np.random.default_rng(1)
        written = {}
        for name in (*layout.train, layout.test):
            pixels = generator.integers(0, 256, size=(4, 3072), dtype=np.uint8)
            labels = generator.integers(0, len(names_of(layout)), size=4).tolist()
            written[name] = (pixels, labels)
            prefix = b"\x13" if layout is CIFAR100 else b""
            records = [prefix + bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)]
            (folder / f"{name}.bin").write_bytes(b"".join(records))
        (folder / layout.binary_names).write_text("\n".join(names_of(layout)) + "\n\n")
        return tmp_path, written

    return build


def check_batches(layout: CifarLayout, root: Path, written: dict[str, tuple[np.ndarray, list[int]]]) -> None:
    """Every pixel and label in the order of the files."""
    for split, files in (("train", layout.train), ("val", (layout.test,))):
        source = opened(root, layout.dataset, split)
        pixels = np.concatenate([written[name][0] for name in files])
        assert source.labels.tolist() == [label for name in files for label in written[name][1]]
        assert source.class_names == class_list(layout.dataset)
        assert list(source.ids) == [f"{split}/{index:05d}" for index in range(4 * len(files))]
        for index in (0, len(source) - 1):
            image = decode(source.read(index), source.ids[index])
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1).ravel(), pixels[index])
        assert source.path(0) is None
        again = pickle.loads(pickle.dumps(source))
        assert again.fingerprint == source.fingerprint == opened(root, layout.dataset, split).fingerprint


@LAYOUTS
def test_python_batches_are_read_in_order(python_batches, layout):
    check_batches(layout, *python_batches(layout))


@LAYOUTS
def test_binary_batches_are_read_in_order(binary_batches, layout):
    check_batches(layout, *binary_batches(layout))


@LAYOUTS
def test_the_batches_may_be_the_root_itself(python_batches, layout):
    root, _ = python_batches(layout)
    assert len(opened(root / layout.folder, layout.dataset)) == 4 * len(layout.train)


def test_the_published_names_have_the_published_sums(tmp_path, shared_data):
    """The two files of names are rebuilt byte for byte, so both names and reader are checked against the real ones."""
    coarse = (shared_data / "cifar100/coarse_label_names.txt").read_text().split()
    metas = {
        CIFAR10: {"num_cases_per_batch": 10000, "label_names": names_of(CIFAR10), "num_vis": 3072},
        CIFAR100: {"fine_label_names": names_of(CIFAR100), "coarse_label_names": coarse},
    }
    for layout, content in metas.items():
        path = tmp_path / layout.meta
        path.write_bytes(pickled(content))
        assert cifar._read_pickle(path, published_md5s(layout)[layout.meta]) == content


def test_a_changed_batch_is_never_unpickled(python_batches, tmp_path, monkeypatch):
    root, _ = python_batches(CIFAR10)
    path = root / CIFAR10.folder / "data_batch_3"
    path.write_bytes(pickle.dumps(Program(tmp_path / "ran")))
    monkeypatch.setattr(cifar._ArraysOnly, "load", lambda self: pytest.fail("it was opened"))
    with pytest.raises(DeitkitError, match="not the published file, so it is not opened") as caught:
        cifar._read_pickle(path, published_md5s(CIFAR10)["data_batch_3"])
    found = hashlib.md5(path.read_bytes()).hexdigest()
    assert caught.value.problems == (f"md5 {found}", "published 54ebc095f3ab1f0389bbae665268c751")
    assert caught.value.remedy
    assert not (tmp_path / "ran").exists()


class Program:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_even_a_trusted_batch_may_hold_arrays_alone(python_batches, tmp_path, monkeypatch):
    root, _ = python_batches(CIFAR10)
    folder = root / CIFAR10.folder
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Program(tmp_path / "ran"), "labels": []}))
    trust(monkeypatch, folder)
    with pytest.raises(DeitkitError, match="which is no part of an array"):
        opened(root, "cifar10", "val")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 2, 10]}, r"1 labels: image 3 \(10\)"),
        ({"labels": [0, 1, 2]}, "does not hold data"),
        ({"labels": ["a"] * 4}, "does not hold data"),
        ({"labels": 7}, "does not hold data"),
        ({"data": np.zeros((4, 3071), np.uint8)}, "does not hold data"),
        ({"data": np.zeros((4, 3072), np.float32)}, "does not hold data"),
        ({"data": "pixels"}, "does not hold data"),
    ],
)
def test_a_batch_of_something_else_is_refused(python_batches, changes, message):
    root, _ = python_batches(CIFAR10, **changes)
    with pytest.raises(DeitkitError, match=message):
        opened(root, "cifar10", "val")


def test_a_trusted_file_that_is_no_batch_is_named(python_batches, monkeypatch):
    root, _ = python_batches(CIFAR10)
    folder = root / CIFAR10.folder
    whole = (folder / "test_batch").read_bytes()
    for content in (b"", b"<html>", whole[:100], pickle.dumps([1]), pickle.dumps({})):
        (folder / "test_batch").write_bytes(content)
        trust(monkeypatch, folder)
        with pytest.raises(DeitkitError, match="test_batch"):
            opened(root, "cifar10", "val")


@LAYOUTS
def test_missing_batches_are_named(python_batches, layout):
    root, _ = python_batches(layout)
    (root / layout.folder / layout.train[-1]).unlink()
    assert len(opened(root, layout.dataset, "val")) == 4
    with pytest.raises(DeitkitError, match=f"lacks {layout.train[-1]}") as caught:
        opened(root, layout.dataset)
    assert f"deitkit data download {layout.dataset}" in caught.value.remedy


@LAYOUTS
def test_a_cut_binary_batch_is_refused(binary_batches, layout):
    root, _ = binary_batches(layout)
    path = root / layout.binary_folder / f"{layout.test}.bin"
    content = path.read_bytes()
    for broken in (content[:-1], b"", content + b"x"):
        path.write_bytes(broken)
        with pytest.raises(DeitkitError, match=f"records of {3072 + layout.label_bytes:,} bytes"):
            opened(root, layout.dataset, "val")
    path.write_bytes(bytes([255] * len(content)))
    with pytest.raises(DeitkitError, match=r"val labels in .* are not 0\.\."):
        opened(root, layout.dataset, "val")


def test_other_class_names_are_refused(binary_batches):
    root, _ = binary_batches(CIFAR10)
    (root / CIFAR10.binary_folder / CIFAR10.binary_names).write_text("\n".join(reversed(names_of(CIFAR10))))
    with pytest.raises(DeitkitError, match=r"class names in .* are not the 10 of cifar10: truck, ship"):
        opened(root, "cifar10")


def test_a_fraction_beside_the_test_images_is_a_contradiction(binary_batches):
    root, _ = binary_batches(CIFAR10)
    with pytest.raises(DeitkitError, match="split of its own"):
        opened(root, "cifar10", val_fraction=0.1)


def test_the_real_images_of_cifar10_have_the_sizes_of_table_6(shared_data, tmp_path):
    known = DATASETS["cifar10"]
    sizes = {"train": known.train_size, "test": known.test_size}
    for split, size in sizes.items():
        with tarfile.open(shared_data / f"cifar10/cifar10-{split}.tar.gz") as archive:
            for number, member in enumerate(archive):
                if number % (size // 50) == 0:
                    archive.extract(member, tmp_path, filter="data")
        assert number == size - 1
    for split in ("train", "val"):
        source = opened(tmp_path, "cifar10", split)
        assert source.class_names == class_list("cifar10")
        assert np.bincount(source.labels).tolist() == [5] * 10
        assert [source.class_names[label] for label in source.labels] == [image.split("/")[1] for image in source.ids]
        assert decode(source.read(0), source.ids[0]).size == (32, 32)


def test_the_real_images_of_cifar100_get_the_published_names(shared_data, tmp_path):
    with tarfile.open(shared_data / "cifar100/cifar100-subset-png.tar") as archive:
        members = [member for member in archive.getmembers() if member.name.endswith("/0000.png")]
        archive.extractall(tmp_path, members, filter="data")
    train, val = opened(tmp_path, "cifar100"), opened(tmp_path, "cifar100", "val")
    assert train.class_names == val.class_names == class_list("cifar100")
    assert train.labels.tolist() == val.labels.tolist() == list(range(100))
    assert val.path(47) == tmp_path / "test/maple/0000.png"
    assert train.class_names[47] == "maple_tree"
    assert train.notes == ()


@pytest.mark.parametrize("numbers", [range(10), range(1, 9)], ids=["all", "some"])
def test_numbered_folders_of_cifar_count_from_0(tmp_path, numbers):
    for number in numbers:
        path = tmp_path / f"train/{number}/a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(path)
    assert opened(tmp_path, "cifar10").class_names == tuple(names_of(CIFAR10)[number] for number in numbers)


# An npz archive


def archive(root: Path, *, shape: tuple[int, ...] = (32, 32, 3), **more: Any) -> np.ndarray:
    """cifar10.npz as Keras keeps it, with 10 training and 4 test images; the training pixels [N, 32, 32, 3]."""
    pixels = np.random.default_rng(0).integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    stored = pixels.transpose(0, 3, 1, 2) if shape[0] == 3 else pixels
    labels = np.arange(14, dtype=np.uint8)[:, None] % 10
    arrays = {"x_train": stored[:10], "y_train": labels[:10], "x_test": stored[10:], "y_test": labels[10:], **more}
    arrays = {name: array.reshape(-1, *shape) if "x_" in name else array for name, array in arrays.items()}
    np.savez_compressed(root / "CIFAR-10.npz", **arrays)
    return pixels


@pytest.mark.parametrize("shape", [(32, 32, 3), (3, 32, 32)])
def test_an_npz_archive_is_read_whichever_way_its_pixels_lie(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = archive(tmp_path, shape=shape)
    train, test = opened(tmp_path, "cifar10"), opened(tmp_path, "cifar10", "val")
    assert (len(train), len(test), train.class_names) == (10, 4, class_list("cifar10"))
    assert test.labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(np.asarray(decode(train.read(3), "3")), pixels[3])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_train": np.zeros((10, 32, 32, 3), np.float32)}, "float32 images"),
        ({"y_train": np.zeros(9, np.uint8)}, r"labels \[9\]"), ({"y_train": np.full(10, 10)}, "labels in"),
        ({"y_train": np.array(["cat"] * 10, dtype=object)}, "no readable npz"),
    ],
)  # fmt: skip
def test_an_npz_archive_of_something_else_says_what_it_holds(
    tmp_path: Path, change: dict[str, np.ndarray], match: str
) -> None:
    archive(tmp_path, **change)
    with pytest.raises(DeitkitError, match=match):
        opened(tmp_path, "cifar10")


def test_an_npz_archive_without_the_split_names_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", weights=np.zeros(3))
    with pytest.raises(DeitkitError, match="no train images with labels, but weights"):
        opened(tmp_path, "cifar10")
