"""Writing: whole or not at all, never over what is there, through devices and pipes, and disks that refuse."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deitkit import files
from deitkit.errors import DeitkitError
from deitkit.files import output_file, output_folder, saving, write_atomic


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# What is there


def test_a_file_that_is_there_is_refused_and_replaced_when_asked(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    assert output_file(mine, overwrite=False) == mine
    mine.write_text("mine")
    with pytest.raises(DeitkitError, match=r"mine\.json exists") as caught:
        output_file(mine, overwrite=False)
    assert "--overwrite" in caught.value.remedy
    assert output_file(mine, overwrite=True) == mine
    assert (mine.read_text(), left(tmp_path)) == ("mine", ["mine.json"])


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(DeitkitError, match="exists"):
        output_file(tmp_path / "link", overwrite=False)


def test_of_a_folder_only_the_files_of_that_name_count(tmp_path: Path) -> None:
    for name in ("notes.txt", "errors.py.txt", "tokens"):
        (tmp_path / name).write_text("mine")
    assert output_folder(tmp_path, stem="tokens", overwrite=False) == tmp_path
    (tmp_path / "tokens_depth.csv").write_text("mine")
    with pytest.raises(DeitkitError, match=r"tokens_depth\.csv exists"):
        output_folder(tmp_path, stem="tokens", overwrite=False)
    assert output_folder(tmp_path, stem="tokens", overwrite=True) == tmp_path


@pytest.mark.parametrize("folder", files.OWN_FOLDERS)
def test_what_deitkit_keeps_in_a_run_is_its_own(folder: str, tmp_path: Path) -> None:
    kept = tmp_path / "run" / folder
    kept.mkdir(parents=True)
    (kept / "errors.json").write_text("old")
    for ask in (lambda: output_file(kept / "errors.json", overwrite=False),
                lambda: output_folder(kept, stem="errors", overwrite=False)):  # fmt: skip
        with pytest.raises(DeitkitError, match="exists"):
            ask()
    (tmp_path / "run" / "recipe.toml").write_text("")
    assert output_file(kept / "errors.json", overwrite=False)
    assert output_folder(kept, stem="errors", overwrite=False)


def test_a_link_is_followed_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


# Streams


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_atomic(output_file(pipe, overwrite=False), "through")
    reader.join(timeout=10)
    assert got == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode) and left(tmp_path) == ["pipe"]


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_written_to_and_stays_a_device(device: str) -> None:
    path = Path(device)
    if not path.is_char_device():
        pytest.skip(f"no {device} here")
    before = path.stat()
    target = output_file(path, overwrite=True)
    if device == "/dev/full":
        with pytest.raises(DeitkitError, match="the disk is full"):
            write_atomic(target, "x")
    else:
        write_atomic(target, "x")
    after = path.stat()
    assert stat.S_ISCHR(after.st_mode) and (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_where_it_is_a_file_too(name: str, tmp_path: Path) -> None:
    code = f"""
from deitkit.files import output_file, write_atomic
print("before")
write_atomic(output_file({name!r}, overwrite=False), "between\\n")
print("after")
"""
    with open(tmp_path / "out.txt", "w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out.txt").read_text() == "before\nbetween\nafter\n"
    assert left(tmp_path) == ["out.txt"]


# Places that refuse


@pytest.mark.parametrize("place", ["file/x", "file/deeper/x", "/proc/x", "/proc/deeper/x", "a" * 300])
def test_a_place_that_cannot_be_is_refused_before_and_while_writing(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / place
    if len(place) < 300:  # a name's length is only known to the disk
        for ask in (output_file, lambda path, overwrite: output_folder(path, stem="x", overwrite=overwrite)):
            with pytest.raises(DeitkitError, match="cannot write"):
                ask(path, overwrite=True)
    with pytest.raises(DeitkitError, match="cannot write") as caught:
        write_atomic(path, "x")
    assert caught.value.remedy and left(tmp_path) == ["file"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="is a folder"):
        output_file(tmp_path, overwrite=True)


def test_missing_folders_are_made_only_when_it_is_written(tmp_path: Path) -> None:
    path = output_file(tmp_path / "new" / "deeper" / "x.json", overwrite=False)
    assert left(tmp_path) == []
    write_atomic(path, "x")
    assert path.read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_refuses_leaves_what_was_there(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(DeitkitError, match="cannot write") as caught:
        write_atomic(tmp_path / "x", "new")
    assert ("make room" in caught.value.remedy) is (number in files.DISK_FULL)
    assert ((tmp_path / "x").read_text(), left(tmp_path)) == ("old", ["x"])


def test_a_library_s_words_for_a_full_disk_are_understood_and_other_failures_pass() -> None:
    with pytest.raises(DeitkitError, match="the disk is full"), saving(Path("x")):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(ZeroDivisionError), saving(Path("x")):
        raise ZeroDivisionError
    with pytest.raises(BrokenPipeError), saving(Path("x")):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
