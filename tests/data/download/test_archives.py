"""Archives: unpacked like the system's own tar would, whole or not at all, and never outside their folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from deitkit.data.download import archives
from deitkit.data.download.archives import QUIET, ExtractionProgress, move_into_place, unpack_aside, unpacked_folder
from deitkit.errors import DeitkitError

TREE = {f"jpg/image_{index:05d}.jpg": os.urandom(700 * index) for index in range(40)} | {
    "jpg/deep/er/x.jpg": b"x",
    "readme.txt": b"",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress,
}  # fmt: skip


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in more:
            packed.addfile(info)
    return buffer.getvalue()


def unpack(archive: Path, folder: Path, *, progress: ExtractionProgress = QUIET) -> tuple[str, ...]:
    entries = unpack_aside(archive, folder, progress=progress)
    move_into_place(archive, folder)
    return entries


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Path]:
    """Writes an archive into a folder of its own; gives its path."""

    def write(content: bytes, name: str = "set.tar") -> Path:
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).write_bytes(content)
        return tmp_path / "root" / name

    return write


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, the archive apart."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("set.")
    }


def refuses(archive: Path, words: str) -> DeitkitError:
    """Unpacking raises, and nothing at all is left of it, inside the folder or beside it."""
    above = sorted(archive.parent.parent.iterdir())
    with pytest.raises(DeitkitError, match=words) as caught:
        unpack(archive, archive.parent)
    assert list(archive.parent.iterdir()) == [archive]
    assert sorted(archive.parent.parent.iterdir()) == above
    return caught.value


# Whole


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_tar_is_unpacked_as_tar_itself_does(kind: str, packed: Callable[..., Path], tmp_path: Path) -> None:
    archive = packed(COMPRESS[kind](tar_of(TREE)), f"set.{kind}")
    assert unpack(archive, archive.parent) == ("jpg", "readme.txt")
    (tmp_path / "reference").mkdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path / "reference")], check=True)
    assert tree(archive.parent) == tree(tmp_path / "reference") == TREE


def test_a_tar_that_the_system_packed_with_folders_dots_and_long_names_is_read(tmp_path: Path) -> None:
    for name, content in {**TREE, f"jpg/{'long' * 40}/{'name' * 50}.jpg": b"far"}.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "source" / "empty").mkdir()
    (tmp_path / "root").mkdir()
    for style in ("gnu", "posix"):
        archive = tmp_path / f"set.{style}"
        subprocess.run(
            ["tar", f"--format={style}", "-czf", str(archive), "-C", str(tmp_path / "source"), "."], check=True
        )
        unpack(archive, tmp_path / "root" / style)
        assert tree(tmp_path / "root" / style) == tree(tmp_path / "source")
        assert (tmp_path / "root" / style / "empty").is_dir()


def test_compression_is_told_by_content_and_not_by_name(packed: Callable[..., Path]) -> None:
    archive = packed(tar_of(TREE), "set.tar.gz")  # as ImageNet-V2 is published
    unpack(archive, archive.parent)
    assert tree(archive.parent) == TREE


def test_several_archives_share_a_folder_with_other_files(packed: Callable[..., Path]) -> None:
    (root := packed(tar_of({"train.json": b"{}"}), "set.1.tar").parent)
    packed(tar_of(TREE), "set.2.tar")
    (root / "setid.mat").write_bytes(b"mat")
    unpack(root / "set.1.tar", root)
    unpack(root / "set.2.tar", root)
    assert tree(root) == {**TREE, "train.json": b"{}", "setid.mat": b"mat"}


def test_modes_and_owners_of_the_archive_are_not_taken(packed: Callable[..., Path]) -> None:
    info = tarfile.TarInfo("script")
    info.mode, info.uid = 0o6777, 12345
    archive = packed(tar_of({}, info))
    unpack(archive, archive.parent)
    assert (archive.parent / "script").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH) == 0
    assert (archive.parent / "script").stat().st_uid == os.getuid()


# Escapes


@pytest.mark.parametrize("name", ["../out.txt", "jpg/../../out.txt", "..", "jpg/../.."])
def test_a_member_that_leads_out_is_refused_by_name(name: str, packed: Callable[..., Path]) -> None:
    error = refuses(packed(tar_of({**TREE, name: b"out"})), "leads out of the folder")
    assert repr(name) in error.what


def test_an_absolute_name_stays_in_the_folder(packed: Callable[..., Path], tmp_path: Path) -> None:
    archive = packed(tar_of({str(tmp_path / "out.txt"): b"out"}))
    unpack(archive, archive.parent)
    assert not (tmp_path / "out.txt").exists()
    assert [path.name for path in archive.parent.rglob("out.txt")] == ["out.txt"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../..", "jpg/image_00001.jpg"])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, target: str, packed: Callable[..., Path]) -> None:
    info = tarfile.TarInfo("jpg/link")
    info.type, info.linkname = kind, target
    refuses(packed(tar_of(TREE, info)), "'jpg/link' is a link or a device")


def test_a_file_in_place_of_a_folder_is_refused(packed: Callable[..., Path]) -> None:
    refuses(packed(tar_of(TREE, tarfile.TarInfo("readme.txt/x"))), "readme.txt")


# Damage


@pytest.mark.parametrize("kind", [*COMPRESS])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_archive_leaves_nothing(kind: str, share: float, packed: Callable[..., Path]) -> None:
    content = COMPRESS[kind](tar_of(TREE))
    refuses(packed(content[: int(share * len(content))], f"set.{kind}"), "damaged or truncated")


def test_a_tar_that_stops_exactly_between_two_members_is_truncated(packed: Callable[..., Path]) -> None:
    content = tar_of({f"{index}.jpg": bytes([index]) * 512 for index in range(4)})
    for members in (1, 2, 4):
        archive = packed(content[: members * 1024])
        with tarfile.open(archive) as lenient:  # the standard library finds nothing wrong
            assert len(lenient.getnames()) == members
        refuses(archive, "before its end mark")
    (whole := packed(content[: 4 * 1024 + 512])).exists()  # one block of the mark is enough, as for tar
    assert len(unpack(whole, whole.parent)) == 4


def test_a_garbled_header_is_not_taken_for_the_end(packed: Callable[..., Path]) -> None:
    content = bytearray(tar_of({f"{index}.jpg": bytes([index]) * 512 for index in range(4)}))
    content[2048:2060] = b"garbled name"
    refuses(packed(bytes(content)), "damaged")


def test_the_sum_of_a_compressed_stream_is_checked_to_its_end(packed: Callable[..., Path]) -> None:
    content = bytearray(gzip.compress(tar_of(TREE)))
    content[-8] ^= 1
    refuses(packed(bytes(content), "set.tar.gz"), "damaged.*CRC")
    refuses(packed(bytes(content[:-4]), "set.tar.gz"), "damaged")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 100, bytes(10_240)])
def test_what_is_no_archive_or_an_empty_one_is_refused(content: bytes, packed: Callable[..., Path]) -> None:
    refuses(packed(content), r"damaged|empty")


# Room


def test_a_member_larger_than_the_disk_is_refused_before_it_is_written(packed: Callable[..., Path]) -> None:
    bomb = tarfile.TarInfo("bomb.bin")
    bomb.size = 2**60
    content = tar_of({"a.jpg": b"a" * 512})[:1024] + bomb.tobuf(tarfile.GNU_FORMAT)
    error = refuses(packed(content), "does not fit on the disk")
    assert error.value == "bomb.bin"


def test_a_bomb_of_many_members_stops_when_the_disk_fills(
    packed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [archives.SPARE + 3 * 2**20]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free.append(free[-1] - 2**20) or free[-2]))
    refuses(packed(gzip.compress(tar_of({f"{index}": bytes(2**20) for index in range(9)}))), "3 has 1,048,576 bytes")


# Interruptions


def test_an_interruption_leaves_nothing_and_a_repetition_everything(packed: Callable[..., Path]) -> None:
    class Impatient(archives.Quiet):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    archive = packed(tar_of(TREE))
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, archive.parent, progress=Impatient())
    assert list(archive.parent.iterdir()) == [archive]
    unpack(archive, archive.parent)
    assert tree(archive.parent) == TREE


def test_what_a_killed_process_left_half_unpacked_is_thrown_away(packed: Callable[..., Path]) -> None:
    archive = packed(tar_of(TREE))
    half = unpacked_folder(archive, archive.parent).with_suffix(".unpacking")
    (half / "jpg").mkdir(parents=True)
    (half / "jpg" / "image_00001.jpg").write_bytes(b"half")
    (half / "stale.txt").write_bytes(b"")
    unpack(archive, archive.parent)
    assert tree(archive.parent) == TREE


def test_a_process_killed_between_two_moves_is_taken_up_where_it_was(
    packed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(tar_of(TREE))
    real = os.replace

    def replace_once(source: Path, target: Path) -> None:
        if Path(target).name == "readme.txt":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_once)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, archive.parent)
    assert (archive.parent / "jpg").is_dir() and not (archive.parent / "readme.txt").exists()
    monkeypatch.undo()
    archive.unlink()  # it is not needed any more
    unpack(archive, archive.parent)
    assert tree(archive.parent) == TREE


def test_an_entry_that_is_there_already_is_not_overwritten(packed: Callable[..., Path]) -> None:
    archive = packed(tar_of(TREE))
    (archive.parent / "jpg").mkdir()
    (archive.parent / "jpg" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(DeitkitError, match="already has: jpg"):
        unpack(archive, archive.parent)
    assert tree(archive.parent / "jpg") == {"mine.jpg": b"mine"}
    (archive.parent / "jpg").rename(archive.parent / "my_jpg")
    unpack(archive, archive.parent)
    assert tree(archive.parent) == {**TREE, "my_jpg/mine.jpg": b"mine"}
