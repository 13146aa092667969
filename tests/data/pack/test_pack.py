"""Packing: equal bytes however often it is interrupted, and nothing half taken for whole."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from deitkit.data.formats.shards import PACK, SHARDS, UNFINISHED
from deitkit.data.open import LabelSets, open_source
from deitkit.data.pack.pack import pack
from deitkit.data.source import Files, Source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data


def sources_of(folder: Path) -> list[Source]:
    return [open_source(Data(dataset="folder", path=str(folder)), split) for split in ("train", "val")]


def packed(folder: Path, root: Path, *, sources: list[Source] | None = None, shard_bytes: int = 20_000, **more):
    data = Data(dataset="folder", path=str(folder))
    return pack(sources or sources_of(folder), root, data=data, shard_bytes=shard_bytes, **more)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


@pytest.fixture
def folder(image_folder: Callable[..., Path]) -> Path:
    return image_folder({"train/cat": 12, "train/dog": 9, "val/cat": 3})


def test_two_packs_of_equal_images_are_equal_byte_for_byte(folder, tmp_path):
    result = packed(folder, tmp_path / "a", verify=True)
    packed(folder, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert [(part.split, part.images) for part in result.splits] == [("train", 21), ("val", 3)]
    assert result.splits[0].shards == len(list((tmp_path / "a").glob("train-*.tar"))) > 2
    assert result.splits[0].bytes == sum(path.stat().st_size for path in (tmp_path / "a").glob("train-*.tar"))
    assert not (tmp_path / "a" / UNFINISHED).exists()


def test_no_shard_is_larger_than_asked_unless_one_image_is(folder, tmp_path):
    packed(folder, tmp_path / "shards")
    assert all(path.stat().st_size <= 20_480 for path in (tmp_path / "shards").glob("*.tar"))
    result = packed(folder, tmp_path / "tiny", shard_bytes=1)
    assert [part.shards for part in result.splits] == [21, 3]


def test_the_hashes_written_down_are_those_of_the_files(folder, tmp_path):
    packed(folder, tmp_path / "shards")
    described = json.loads((tmp_path / "shards" / PACK).read_text())
    for part in described["splits"].values():
        for entry in (*part["shards"], part["index"]):
            content = (tmp_path / "shards" / entry["name"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_nothing_of_the_clock_or_the_user_is_in_a_shard(folder, tmp_path):
    packed(folder, tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "train-000000.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@dataclass(frozen=True)
class Raw(Files):
    """Images without files: names without suffixes, several labels, and a note."""

    images: tuple[bytes, ...] = ()
    accepted: LabelSets | None = field(default_factory=lambda: LabelSets([[0], [0, 1], []]))

    def read(self, index: int) -> bytes:
        return self.images[index]


def test_images_without_files_keep_bytes_names_labels_and_notes(tmp_path):
    images = (b"P6 1 1 255\nabc", b"\xff\xd8\xff", b"?")
    ids = ("batch/1", "caf\udce9.\u00fc", "x.y")
    source = Raw(
        dataset="mine", split="val", root=tmp_path, class_names=("a", "b"), labels=np.array([0, 1, 1]), ids=ids,
        notes=("one is missing",), images=images,
    )  # fmt: skip
    pack([source], tmp_path / "shards", data=Data(dataset="folder", path=str(tmp_path / "nowhere")), verify=True)
    found = SHARDS.open(tmp_path / "shards", Data(dataset="folder"), "val")
    assert (found.fingerprint, tuple(found.ids)) == (source.fingerprint, ids)
    assert (found.dataset, found.notes, tuple(found.class_names)) == ("mine", ("one is missing",), ("a", "b"))
    assert [row.tolist() for row in found.accepted.rows] == [[0], [0, 1], []]
    with tarfile.open(tmp_path / "shards" / "val-000000.tar") as tar:
        assert tar.getnames()[::2] == ["000000000.ppm", "000000001.jpg", "000000002.bin"]


# Interruptions


@dataclass(frozen=True)
class Interrupting:
    """Stands for a source; raises at one image."""

    source: Source
    at: int
    error: BaseException

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> bytes:
        if index == self.at:
            raise self.error
        return self.source.read(index)


@pytest.mark.parametrize("at", [0, 5, 8, 20])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), DeitkitError("cannot read image train/dog/x.png")])
def test_an_interrupted_pack_goes_on_and_ends_as_if_it_never_was(folder, tmp_path, at, error):
    root, (train, val) = tmp_path / "shards", sources_of(folder)
    packed(folder, tmp_path / "whole")
    with pytest.raises(type(error)):
        packed(folder, root, sources=[Interrupting(train, at, error), val])
    whole = contents(tmp_path / "whole")
    assert contents(root).items() <= whole.items()
    assert not list((root / UNFINISHED).glob("*.tar"))
    with pytest.raises(DeitkitError, match="unfinished"):
        SHARDS.open(root, Data(dataset="folder"), "train")
    times = {path.name: path.stat().st_mtime_ns for path in root.glob("*.tar")}
    result = packed(folder, root)
    assert contents(root) == whole
    assert result.kept == len(times)
    assert all((root / name).stat().st_mtime_ns == time for name, time in times.items())


def test_a_killed_pack_leaves_only_whole_shards(folder, tmp_path):
    packed(folder, tmp_path / "whole")
    script = f"""
import os, signal
from pathlib import Path
from deitkit.data.pack.pack import pack
from deitkit.data.open import open_source
from deitkit.recipe.schema import Data
data = Data(dataset="folder", path={str(folder)!r})
def tell(what, done, total):
    if done == 11: os.kill(os.getpid(), signal.SIGKILL)
pack([open_source(data, split) for split in ("train", "val")], Path({str(tmp_path / "shards")!r}), data=data,
     shard_bytes=20_000, progress=tell)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 0 < len(contents(tmp_path / "shards")) < len(contents(tmp_path / "whole"))
    assert packed(folder, tmp_path / "shards").kept > 0
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_a_whole_pack_is_left_as_it_is(folder, tmp_path):
    root = tmp_path / "shards"
    packed(folder, root)
    times = {path.name: path.stat().st_mtime_ns for path in root.iterdir()}
    result = packed(folder, root)
    assert result.kept == sum(part.shards for part in result.splits)
    assert {path.name: path.stat().st_mtime_ns for path in root.iterdir()} == times


def test_a_full_disk_is_said_and_nothing_half_is_taken_for_whole(folder, tmp_path):
    root, limits = tmp_path / "shards", resource.getrlimit(resource.RLIMIT_FSIZE)
    packed(folder, tmp_path / "whole", shard_bytes=10**6)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))
    try:
        with pytest.raises(DeitkitError, match="the disk is full") as caught:
            packed(folder, root, shard_bytes=10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "repeat the command" in caught.value.remedy
    assert not list(root.rglob("*.tar"))
    packed(folder, root, shard_bytes=10**6)
    assert contents(root) == contents(tmp_path / "whole")


# What is refused


def test_another_pack_is_replaced_only_when_asked(folder, tmp_path, image_folder):
    root = tmp_path / "shards"
    packed(folder, root)
    before = contents(root)
    with pytest.raises(DeitkitError, match="shard_bytes: there 20000, wanted 30000") as caught:
        packed(folder, root, shard_bytes=30_000)
    assert "--overwrite" in caught.value.remedy
    image_folder({"train/cat": 13})
    with pytest.raises(DeitkitError, match="train images: there 21, wanted 22"):
        packed(folder, root)
    assert contents(root) == before
    (root / "mine.txt").write_text("kept")
    packed(folder, root, shard_bytes=10**6, overwrite=True, verify=True)
    assert len(SHARDS.open(root, Data(dataset="folder"), "train")) == 22
    assert sorted(path.name for path in root.glob("*.tar")) == ["train-000000.tar", "val-000000.tar"]
    assert (root / "mine.txt").read_text() == "kept"


def test_an_unfinished_other_pack_is_not_gone_on_with(folder, tmp_path):
    root, (train, val) = tmp_path / "shards", sources_of(folder)
    with pytest.raises(KeyboardInterrupt):
        packed(folder, root, sources=[Interrupting(train, 8, KeyboardInterrupt()), val])
    with pytest.raises(DeitkitError, match="shard_bytes: there 20000, wanted 9000"):
        packed(folder, root, shard_bytes=9_000)
    packed(folder, root, shard_bytes=9_000, overwrite=True)
    packed(folder, tmp_path / "whole", shard_bytes=9_000)
    assert contents(root) == contents(tmp_path / "whole")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_written_to(folder, tmp_path, overwrite):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train-000000.tar").write_bytes(b"theirs")
    with pytest.raises(DeitkitError, match="holds files that deitkit did not pack"):
        packed(folder, tmp_path / "theirs", overwrite=overwrite)
    assert contents(tmp_path / "theirs") == {"train-000000.tar": b"theirs"}


@pytest.mark.parametrize("inside", [".", "packed"])
def test_the_images_own_folder_is_no_place_for_shards(folder, inside):
    with pytest.raises(DeitkitError, match="lies inside the images themselves"):
        packed(folder, folder / inside, overwrite=True)


def test_an_image_that_cannot_be_read_is_named(folder, tmp_path):
    sources = sources_of(folder)
    (folder / "train/dog/003.png").unlink()
    with pytest.raises(DeitkitError, match=r"cannot read image .*train/dog/003\.png"):
        packed(folder, tmp_path / "shards", sources=sources)


def test_one_split_of_two_is_not_held_out_twice(folder, tmp_path):
    data = Data(dataset="folder", path=str(folder), val_fraction=0.1)
    with pytest.raises(DeitkitError, match="only train is packed"):
        pack(sources_of(folder)[:1], tmp_path / "shards", data=data)


def test_verify_finds_an_image_that_changed_after_it_was_packed(folder, tmp_path):
    packed(folder, tmp_path / "shards")
    path = folder / "train/cat/001.png"
    path.write_bytes(path.read_bytes()[::-1])
    packed(folder, tmp_path / "shards")
    with pytest.raises(DeitkitError, match=r"1 train images in .* differ from their source: train/cat/001\.png"):
        packed(folder, tmp_path / "shards", verify=True)


def test_a_file_in_the_way_is_said(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeitkitError, match="cannot write"):
        packed(folder, tmp_path / "file")


def test_the_shared_photographs_are_packed_untouched(shared_data, tmp_path):
    names = sorted(path.name for path in (shared_data / "flowers102" / "jpg").iterdir())[:40]
    source = Files(
        dataset="flowers", split="train", root=shared_data / "flowers102" / "jpg", class_names=("a", "b"),
        labels=np.arange(len(names)) % 2, ids=names,
    )  # fmt: skip
    result = pack([source], tmp_path / "shards", data=Data(dataset="folder"), shard_bytes=500_000, verify=True)
    assert result.verified and result.splits[0].images == 40
    found = SHARDS.open(tmp_path / "shards", Data(dataset="folder", validate_on="train"), "train")
    assert found.fingerprint == source.fingerprint
