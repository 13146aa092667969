"""Shards against the stdlib's tarfile, the WebDataset package where it is installed, and the folder that was packed."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from deitkit.data.formats import tars, webdataset
from deitkit.data.formats.shards import PACK, SHARDS, UNFINISHED
from deitkit.data.formats.split_names import split_in
from deitkit.data.formats.tars import OPEN_FILES
from deitkit.data.formats.webdataset import INDEX
from deitkit.data.open import open_source
from deitkit.data.pack.pack import pack, reindex
from deitkit.data.source import Source
from deitkit.data.views.loader import TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

Members = Iterable[tuple[str, bytes]]
WRITER = "webdataset"


def settings(root: Path, **more) -> Data:
    return Data(dataset="folder", path=str(root), **{"split_rule": "place", **more})


def opened(root: Path, split: str = "train", **more) -> Source:
    assert SHARDS.matches(root)
    return SHARDS.open(root, settings(root, **more), split)


def write_tar(path: Path, members: Members, *, form: int = tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def samples(labels: Iterable[object], *, first: int = 0) -> Members:
    """image and label of each sample; the image's bytes say which it is."""
    for number, label in enumerate(labels, start=first):
        yield f"s{number:04d}.jpg", f"image {number}".encode() * 50
        yield f"s{number:04d}.cls", str(label).encode()


@pytest.fixture
def packed(image_folder: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same images as a folder and in shards of 20 KB."""
    folder = image_folder({"train/cat": 7, "train/dog": 9, "val/cat": 2, "val/dog": 3})
    return folder, pack_folder(folder, tmp_path / "packed")


def pack_folder(folder: Path, root: Path, *, shard_bytes: int = 20_000, **more) -> Path:
    data = settings(folder, **more)
    pack([open_source(data, split) for split in ("train", "val")], root, data=data, shard_bytes=shard_bytes)
    return root


# Our own


@pytest.mark.parametrize("split", ["train", "val"])
def test_shards_hold_what_the_folder_holds(packed, split):
    folder, root = packed
    ours, theirs = opened(root, split), open_source(settings(folder), split)
    assert ours.fingerprint == theirs.fingerprint
    assert (list(ours.ids), ours.labels.tolist()) == (list(theirs.ids), theirs.labels.tolist())
    assert (ours.class_names, ours.split, ours.notes, ours.accepted) == (theirs.class_names, split, (), None)
    assert [ours.read(index) for index in range(len(ours))] == [theirs.read(index) for index in range(len(theirs))]
    assert ours.path(0) is None


def test_the_index_points_to_the_members_that_tarfile_finds(packed):
    _, root = packed
    source = opened(root)
    assert len(source.shards) > 3
    for number, shard in enumerate(source.shards):
        with tarfile.open(root / shard.name) as tar:
            members = tar.getmembers()
        images, labels = members[::2], members[1::2]
        rows = np.flatnonzero(source.places[:, 0] == number)
        assert [[member.offset_data, member.size] for member in images] == source.places[rows, 1:].tolist()
        assert [member.name for member in images] == [f"{row:09d}.png" for row in rows]
        assert [member.name for member in labels] == [f"{row:09d}.cls" for row in rows]


def test_the_webdataset_package_reads_our_shards(packed):
    theirs_package = pytest.importorskip(WRITER)
    folder, root = packed
    theirs = open_source(settings(folder), "train")
    paths = [str(root / shard.name) for shard in opened(root).shards]
    read = list(theirs_package.WebDataset(paths, shardshuffle=False).decode(only=["cls"]))
    assert [sample["png"] for sample in read] == [theirs.read(index) for index in range(len(theirs))]
    assert [sample["cls"] for sample in read] == theirs.labels.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_shards_equals_training_from_the_folder(image_folder, tmp_path, digits_recipe, workers):
    folder = image_folder({f"train/{name}": 100 for name in "abc"} | {"val/a": 1})
    root = pack_folder(folder, tmp_path / "packed", shard_bytes=100_000)
    recipe = digits_recipe()
    batches = []
    for source in (open_source(settings(folder), "train"), opened(root)):
        shape = plan_stream(len(source), recipe.stream, mixing=True)
        loader = TrainLoader(source, recipe, shape, workers=workers)
        batches.append([batch for step in loader.steps(0, 3) for batch in step])
    for ours, theirs in zip(*batches, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.lam, theirs.lam)


def test_a_million_images_need_a_handful_of_open_files(image_folder, tmp_path):
    folder = image_folder({"train/a": 30, "train/b": 30, "val/a": 1})
    source = opened(pack_folder(folder, tmp_path / "packed", shard_bytes=1))
    assert len(source.shards) == 60 > OPEN_FILES
    tars.opened.cache_clear()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in np.random.default_rng(0).integers(0, 60, 500).tolist():
        source.read(index)
    assert 0 < len(list(Path("/proc/self/fd").iterdir())) - before <= OPEN_FILES


def test_open_files_are_let_go_without_a_word_when_python_ends(packed):
    _, root = packed
    script = f"""
from pathlib import Path
from deitkit.data.formats.shards import SHARDS
from deitkit.recipe.schema import Data
SHARDS.open(Path({str(root)!r}), Data(dataset="folder"), "train").read(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_processes_and_threads_read_the_same_bytes(packed, method):
    _, root = packed
    source = opened(root)
    expected = [source.read(index) for index in range(len(source))]
    order = np.random.default_rng(0).integers(0, len(source), 200).tolist()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(source.read, order)) == [expected[index] for index in order]
    with multiprocessing.get_context(method).Pool(2) as processes:
        assert processes.map(source.read, order, chunksize=50) == [expected[index] for index in order]
    assert pickle.loads(pickle.dumps(source)).read(3) == expected[3]


def test_held_out_images_stay_those_of_the_folder(image_folder, tmp_path):
    folder = image_folder({"a": 20, "b": 12})
    root = pack_folder(folder, tmp_path / "packed", val_fraction=0.25)
    for split in ("train", "val"):
        unpacked = open_source(settings(folder, val_fraction=0.25), split)
        assert opened(root, split).fingerprint == unpacked.fingerprint
        assert opened(root, split, val_fraction=0.25).fingerprint == unpacked.fingerprint
    with pytest.raises(DeitkitError, match=r"packed 0\.25 \(seed 0\), wanted 0\.25 \(seed 1\)"):
        opened(root, val_fraction=0.25, split_seed=1)
    with pytest.raises(DeitkitError, match=r"data\.category: packed name, wanted genus"):
        opened(root, category="genus")


def test_a_pack_of_training_images_alone_holds_out_as_the_folder_does(image_folder, tmp_path):
    folder, root = image_folder({"a": 20, "b": 12}), tmp_path / "packed"
    pack([open_source(settings(folder), "train")], root, data=settings(folder))
    for split in ("train", "val"):
        expected = open_source(settings(folder, val_fraction=0.25), split)
        assert opened(root, split, val_fraction=0.25).fingerprint == expected.fingerprint
    with pytest.raises(DeitkitError, match="no validation images"):
        opened(root, "val")


def test_it_is_said_where_another_data_set_was_packed(packed):
    _, root = packed
    source = SHARDS.open(root, Data(dataset="flowers102", path=str(root)), "val")
    assert source.notes == (f"{root} holds folder, not flowers102",)


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**12))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-000001.tar", Path.unlink, "train-000001.tar: No such file"),
        ("train-000001.tar", cut, "train-000001.tar: 9,728 bytes, packed were 10,240"),
        ("train-000001.tar", touch, "train-000001.tar: newer than its index train.index.parquet"),
        ("train.index.parquet", Path.unlink, "the index is missing"),
        ("train.index.parquet", cut, "is not the index that was packed"),
        (PACK, cut, "is damaged"),
        (PACK, Path.unlink, "has lost its deitkit-shards.json"),
    ],
)
def test_a_damaged_pack_is_refused_at_opening_and_packing_again_mends_it(packed, name, damage, message):
    folder, root = packed
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    damage(root / name)
    with pytest.raises(DeitkitError, match=message) as caught:
        opened(root)
    assert "deitkit data pack" in caught.value.remedy
    if name != PACK:  # without it deitkit does not know that the folder is its own
        pack_folder(folder, root)
        assert {path.name: path.read_bytes() for path in root.iterdir()} == before
        assert len(opened(root)) == 16


def test_a_copied_pack_is_reindexed_only_where_its_bytes_are_the_same(packed):
    _, root = packed
    touch(root / "val-000000.tar")
    reindex(root)
    assert len(opened(root, "val")) == 5
    content = bytearray((root / "val-000000.tar").read_bytes())
    content[600] ^= 1
    (root / "val-000000.tar").write_bytes(content)
    touch(root / "val-000000.tar")
    with pytest.raises(DeitkitError, match=r"val-000000\.tar: other bytes"):
        reindex(root)


def test_a_shard_that_changes_in_use_is_no_image(packed):
    _, root = packed
    source = opened(root)
    tars.opened.cache_clear()
    touch(root / "train-000000.tar")
    with pytest.raises(DeitkitError, match="was changed while it was in use"):
        source.read(0)
    (root / "train-000000.tar").unlink()
    with pytest.raises(DeitkitError, match=r"cannot read image train/cat/000\.png in .*No such file"):
        source.read(0)


def test_an_interrupted_pack_is_not_taken_for_a_webdataset(packed):
    _, root = packed
    (root / PACK).unlink()
    (root / UNFINISHED).mkdir()
    with pytest.raises(DeitkitError, match="is an unfinished pack"):
        opened(root)


# A WebDataset of others


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_webdataset_of_others_is_read_in_the_order_of_its_numbers(tmp_path, form):
    for number in (0, 9, 10):
        write_tar(tmp_path / f"train/{number}.tar", samples([number, 3], first=number), form=form)
    write_tar(tmp_path / "test/0.tar", samples([10], first=90), form=form)
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert train.class_names == val.class_names == ("0", "3", "9", "10")
    assert train.labels.tolist() == [0, 1, 2, 1, 3, 1]
    assert list(train.ids[:3]) == ["train/0/s0000.jpg", "train/0/s0001.jpg", "train/9/s0009.jpg"]
    assert train.read(4) == b"image 10" * 50
    assert (val.labels.tolist(), val.read(0)) == ([3], b"image 90" * 50)


def test_the_webdataset_packages_own_shards_are_read(tmp_path):
    theirs_package = pytest.importorskip(WRITER)
    with theirs_package.TarWriter(str(tmp_path / "set-0000.tar")) as writer:
        for number in range(5):
            writer.write({"__key__": f"deep/er/{number}", "png": bytes([number]) * 700, "cls": number % 2})
    source = opened(tmp_path)
    assert [source.read(index) for index in range(5)] == [bytes([number]) * 700 for number in range(5)]
    assert source.labels.tolist() == [0, 1, 0, 1, 0]


def test_keys_end_at_the_first_dot_and_keep_their_folder(tmp_path):
    long = "folder/" * 40 + "x" * 120
    members = [
        (f"./{long}.cls", b"cat"), (f"./{long}.JPG", b"1" * 10), ("v1.2/a.b.png", b"2"), ("v1.2/a.cls", b"dog"),
        ("c.json", b'{"label": "cat"}'), ("c.seg.txt", b"-"), ("c.mask.png", b"-"), ("c.webp", b"3"), ("d.jpeg", b"4"),
        ("d.json", b'{"class": "dog"}'), (".hidden.jpg", b"5"), ("README", b"6"),
    ]  # fmt: skip
    write_tar(tmp_path / "set-00.tar", members)
    source = opened(tmp_path)
    assert list(source.ids) == [f"set-00/{long}.jpg", "set-00/v1.2/a.b.png", "set-00/c.webp", "set-00/d.jpeg"]
    assert [source.read(index) for index in range(4)] == [b"1" * 10, b"2", b"3", b"4"]
    assert [source.class_names[label] for label in source.labels] == ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.json", '["ant", "bee", "cow"]'),
        ("classes.json", '{"cow": 2, "ant": 0, "bee": 1}'),
        ("classes.json", '{"2": "cow", "0": "ant", "1": "bee"}'),
        ("classnames.txt", "ant\nbee\ncow\n"),
        ("_info.json", '{"class_names": ["ant", "bee", "cow"]}'),
    ],
)
def test_classes_are_named_where_they_are_listed(tmp_path, name, content):
    write_tar(tmp_path / "train-0.tar", samples(["02", "0"]))
    (tmp_path / name).write_text(content)
    source = opened(tmp_path)
    assert source.class_names == ("ant", "bee", "cow")
    assert source.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000000.tar", "train"), ("imagenet1k-validation-07.tar", "val"), ("val/3.tar", "val"),
        ("valid_1.tar", "val"), ("shard-0.tar", ""), ("Training/constrain-0.tar", "train"), ("test.tar", "test"),
    ],
)  # fmt: skip
def test_the_split_is_a_word_of_the_shards_name(name, split):
    assert split_in(name) == split


def test_shards_without_a_split_hold_out_and_others_are_said(tmp_path):
    write_tar(tmp_path / "set-0.tar", samples([0, 1] * 10))
    train, val = (opened(tmp_path, split, val_fraction=0.2) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    write_tar(tmp_path / "val-0.tar", samples([0, 1]))
    write_tar(tmp_path / "test-0.tar", samples([0, 1]))
    assert len(opened(tmp_path, "test")) == 2
    write_tar(tmp_path / "train-0.tar", samples([0, 1]))
    assert opened(tmp_path).notes == ("1 shards of other splits were left out: set-0.tar",)
    with pytest.raises(DeitkitError, match="has a split of its own"):
        opened(tmp_path, val_fraction=0.2)


def test_samples_without_image_or_label_are_counted(tmp_path):
    members = [*samples([0, 1]), ("x.jpg", b"."), ("y.cls", b"1"), ("z.json", b'{"caption": ""}'), ("z.png", b".")]
    write_tar(tmp_path / "train-0.tar", members)
    source = opened(tmp_path)
    assert len(source) == 2
    assert source.notes == (
        "1 samples without an image were left out: train-0/y.",
        "2 images without a label (.cls or .json) were left out: train-0/x.jpg, train-0/z.png",
    )


def test_the_index_is_made_once_and_again_when_a_tar_changed(tmp_path, monkeypatch):
    write_tar(tmp_path / "train-0.tar", samples([0, 1]))
    first = opened(tmp_path)
    walks = []
    monkeypatch.setattr(webdataset, "_members", _counting(webdataset._members, walks))
    assert opened(tmp_path).fingerprint == first.fingerprint
    assert not walks
    write_tar(tmp_path / "train-0.tar", samples([0, 1, 1]))
    assert len(opened(tmp_path)) == 3
    touch(tmp_path / "train-0.tar")
    (tmp_path / INDEX).write_bytes(b"not an index")
    assert len(opened(tmp_path)) == 3
    assert len(walks) == 2


def _counting(function, calls: list):
    def counted(*words):
        calls.append(words)
        return function(*words)

    return counted


def test_the_index_of_a_folder_that_is_read_only_lies_in_the_users_cache(tmp_path, monkeypatch):
    root = tmp_path / "shards"
    write_tar(root / "train-0.tar", samples([0, 1]))
    written = webdataset.write_atomic

    def refuse(path: Path, content: bytes) -> None:
        if path.parent == root:
            raise PermissionError(13, "Permission denied")
        written(path, content)

    monkeypatch.setattr(webdataset, "write_atomic", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = opened(root)
    assert [path.name for path in root.iterdir()] == ["train-0.tar"]
    walks: list = []
    monkeypatch.setattr(webdataset, "_members", _counting(webdataset._members, walks))
    assert opened(root).fingerprint == first.fingerprint
    assert not walks


# What cannot be read


@pytest.mark.parametrize("keep", [0, 100, 512, 2000, 4096, 5120])
def test_a_tar_of_others_that_is_cut_short_is_refused_at_opening(tmp_path, keep):
    path = tmp_path / "train-0.tar"
    write_tar(path, samples([0, 1, 0]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DeitkitError, match="cut short or damaged") as caught:
        opened(tmp_path)
    assert "train-0.tar" in caught.value.what


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path):
    path = tmp_path / "train-0.tar"
    write_tar(path, samples([0, 1, 0]), form=tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[2048 + 150] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DeitkitError, match="no end of an archive at byte 2,048"):
        opened(tmp_path)


@pytest.mark.parametrize(("name", "mode"), [("train-0000.tar.gz", "w:gz"), ("train-0000.tar", "w:gz")])
def test_compressed_shards_are_refused_with_the_reason(tmp_path, name, mode):
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(DeitkitError, match="compressed") as caught:
        opened(tmp_path)
    assert "random access needs plain tars" in caught.value.remedy


@pytest.mark.parametrize(
    ("members", "files", "message"),
    [
        ([("a.jpg", b"."), ("a.jpg", b"."), ("a.cls", b"0")], {}, "holds a.jpg twice"),
        ([("a.jpg", b"."), ("a.json", b"{")], {}, "a.json is no JSON"),
        ([("a.jpg", b".")], {}, "no image with a label"),
        ([("a.cls", b"0")], {}, "no image with a label"),
        ([*samples([0, 5])], {"classes.json": '["a", "b"]'}, r"none of its 2 classes: train-0/s0001.jpg \(5\)"),
        ([*samples([0])], {"classes.json": "["}, "classes.json does not list classes"),
        ([*samples([0])], {"_info.json": "3"}, "_info.json does not list classes"),
    ],
)
def test_what_is_wrong_inside_is_named(tmp_path, members, files, message):
    write_tar(tmp_path / "train-0.tar", members)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DeitkitError, match=message):
        opened(tmp_path)


@pytest.mark.parametrize(("known", "other"), [(["cat", "dog"], "cow"), ([0, 3], 1)])
def test_a_class_of_val_that_training_lacks_is_an_error(tmp_path, known, other):
    write_tar(tmp_path / "train-0.tar", samples(known))
    write_tar(tmp_path / "val-0.tar", samples([known[0], other]))
    with pytest.raises(DeitkitError, match=rf"val images .* none of its 2 classes: val-0/s0001\.jpg \({other}\)"):
        opened(tmp_path, "val")


def test_archives_that_data_sets_come_in_are_no_shards(tmp_path, image_folder):
    names = ["ILSVRC2012_img_val.tar", "cifar-10-python.tar.gz", "train_val2018.tar.gz", "102flowers.tgz", "._0.tar"]
    for name in names:
        (tmp_path / name).write_bytes(b".")
    assert not SHARDS.matches(tmp_path)
    assert not SHARDS.matches(tmp_path / names[0])
    root = image_folder({"train/n01440764": 1, "train/n01443537": 1})
    for name in ("n01440764.tar", "n01443537.tar"):
        (root / "train" / name).write_bytes(b".")
    assert not SHARDS.matches(root)


def test_real_photographs_come_back_byte_for_byte(shared_data, tmp_path):
    files = sorted((shared_data / "broken").iterdir())
    images = [path for path in files if path.suffix in (".jpg", ".png")]
    members = [
        row
        for number, path in enumerate(images)
        for row in ((f"{number}{path.suffix}", path.read_bytes()), (f"{number}.cls", b"%d" % (number % 2)))
    ]
    write_tar(tmp_path / "set-0.tar", members)
    source = opened(tmp_path)
    assert [source.read(index) for index in range(len(source))] == [path.read_bytes() for path in images]
    assert source.labels.tolist() == [number % 2 for number in range(len(images))]
