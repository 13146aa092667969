"""Whole plans carried out against a host on this machine, and the table of what is served where."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deitkit.catalog import DATASETS
from deitkit.data.download import receive as receiving
from deitkit.data.download.archives import Quiet
from deitkit.data.download.hosts import HOSTS, DownloadPlan, HostedFile
from deitkit.data.download.receive import missing_files, receive
from deitkit.errors import DeitkitError
from tests.data.web import Host

IMAGES = {f"jpg/image_{index:05d}.jpg": bytes([index]) * 3000 for index in range(1, 9)}


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


@pytest.fixture
def host() -> Iterator[Host]:
    """Serves files that are laid out as those of Flowers-102."""
    with Host({"setid.mat": b"set ids", "imagelabels.mat": b"labels", "102flowers.tgz": packed(IMAGES)}) as serving:
        yield serving


@pytest.fixture
def plan(host: Host) -> DownloadPlan:
    return DownloadPlan(
        (host.file("setid.mat"), host.file("imagelabels.mat"), host.file("102flowers.tgz", makes=("jpg",)))
    )


def take(plan: DownloadPlan, root: Path, **options) -> list[str]:
    return [file.name for file in receive(plan, root, sleep=lambda _: None, **options)]


def names(root: Path) -> list[str]:
    """What a person sees."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def is_whole(root: Path) -> bool:
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "jpg").rglob("*")}
    return found == IMAGES and (root / "setid.mat").read_bytes() == b"set ids"


# Plans


def test_a_plan_leaves_what_was_published_and_no_archive(plan: DownloadPlan, tmp_path: Path) -> None:
    root = tmp_path / "data" / "flowers102"
    assert take(plan, root) == ["setid.mat", "imagelabels.mat", "102flowers.tgz"]
    assert names(root) == ["imagelabels.mat", "jpg", "setid.mat"]
    assert is_whole(root)


def test_what_is_there_is_not_fetched_again(host: Host, plan: DownloadPlan, tmp_path: Path) -> None:
    take(plan, tmp_path)
    host.asked.clear()
    assert take(plan, tmp_path) == []
    assert host.asked == []


def test_what_was_removed_is_fetched_again(host: Host, plan: DownloadPlan, tmp_path: Path) -> None:
    take(plan, tmp_path)
    (tmp_path / "jpg").rename(tmp_path / "elsewhere")
    (tmp_path / "setid.mat").unlink()
    assert take(plan, tmp_path) == ["setid.mat", "102flowers.tgz"]
    assert is_whole(tmp_path)


def test_archives_can_be_kept(plan: DownloadPlan, tmp_path: Path) -> None:
    take(plan, tmp_path, keep_archives=True)
    assert names(tmp_path) == ["102flowers.tgz", "imagelabels.mat", "jpg", "setid.mat"]
    assert take(plan, tmp_path) == []


def test_an_archive_that_a_person_put_there_is_used_and_kept(host: Host, plan: DownloadPlan, tmp_path: Path) -> None:
    (tmp_path / "102flowers.tgz").write_bytes(host.files["102flowers.tgz"])
    take(plan, tmp_path)
    assert is_whole(tmp_path)
    assert [request["path"] for request in host.asked] == ["/setid.mat", "/imagelabels.mat"]
    assert (tmp_path / "102flowers.tgz").exists()


def test_another_publication_is_another_file(host: Host, plan: DownloadPlan, tmp_path: Path) -> None:
    take(plan, tmp_path)
    host.files["102flowers.tgz"] = packed({**IMAGES, "jpg/new.jpg": b"new"})
    changed = DownloadPlan((host.file("102flowers.tgz", makes=("jpg",)),))
    assert [file.name for file in missing_files(changed, tmp_path)] == ["102flowers.tgz"]
    with pytest.raises(DeitkitError, match="already has jpg"):
        take(changed, tmp_path)
    assert is_whole(tmp_path)


# Interruptions


def test_an_interruption_at_any_moment_is_made_good_by_the_same_command(
    host: Host, plan: DownloadPlan, tmp_path: Path
) -> None:
    class Stops(Quiet):
        """Raises at the n-th sign of progress."""

        def __init__(self, moment: int) -> None:
            self.left = moment

        def begin(self, title: str, *, total: int | None, done: int = 0) -> None:
            self.advance(0)

        def advance(self, count: int) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    for moment in range(60):
        root = tmp_path / str(moment)
        try:
            take(plan, root, progress=Stops(moment))
            break
        except KeyboardInterrupt:
            assert not (root / "jpg").exists() or moment > 10
        take(plan, root)
        assert is_whole(root)
        assert names(root) == ["imagelabels.mat", "jpg", "setid.mat"]
    assert 10 < moment < 59


@pytest.mark.parametrize("call", range(1, 20))
def test_a_kill_between_any_two_renames_is_made_good(
    call: int, plan: DownloadPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.replace, [0]

    def killed(source: Path, target: Path) -> None:
        count[0] += 1
        if count[0] == call:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    try:
        take(plan, tmp_path)
    except KeyboardInterrupt:
        assert missing_files(plan, tmp_path)
    monkeypatch.undo()
    take(plan, tmp_path)
    assert is_whole(tmp_path)
    # In doubt whether a person put an archive there, it is kept.
    assert set(names(tmp_path)) - {"102flowers.tgz"} == {"imagelabels.mat", "jpg", "setid.mat"}
    assert [path.name for path in tmp_path.glob(".*")] == [".deitkit-download.json"]


def test_a_truncated_download_is_resumed_and_only_then_unpacked(host: Host, plan: DownloadPlan, tmp_path: Path) -> None:
    size = len(host.files["102flowers.tgz"])
    host.cuts = [7, 6, size // 2, 0, 0, 0, 0]  # both small files, then half of the archive
    with pytest.raises(DeitkitError, match="does not arrive"):
        take(plan, tmp_path)
    assert not (tmp_path / "jpg").exists()
    assert take(plan, tmp_path) == ["102flowers.tgz"]
    assert host.ranges_asked[-1] == f"bytes={size // 2}-"
    assert is_whole(tmp_path)


# Bad


def test_a_bad_archive_with_the_right_checksum_is_kept_and_nothing_of_it_taken(host: Host, tmp_path: Path) -> None:
    host.files["bad.tgz"] = packed({**IMAGES, "../escape.txt": b"out"})
    plan = DownloadPlan((host.file("bad.tgz", makes=("jpg",)),))
    for _ in range(2):
        with pytest.raises(DeitkitError, match=r"'\.\./escape.txt' leads out"):
            take(plan, tmp_path / "root")
        assert names(tmp_path / "root") == ["bad.tgz"]
        assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert len(host.asked) == 1


def test_a_place_that_is_taken_is_found_before_anything_is_fetched(
    host: Host, plan: DownloadPlan, tmp_path: Path
) -> None:
    (tmp_path / "jpg").mkdir()
    with pytest.raises(DeitkitError, match="already has jpg") as caught:
        take(plan, tmp_path)
    assert "move it away" in caught.value.remedy
    assert host.asked == []


def test_two_downloads_into_one_folder_do_not_meet(plan: DownloadPlan, tmp_path: Path) -> None:
    with open(tmp_path / ".deitkit-download.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeitkitError, match="another process"):
            take(plan, tmp_path)
    take(plan, tmp_path)
    assert is_whole(tmp_path)


def test_a_failure_before_the_first_byte_leaves_no_empty_folder_to_be_taken_for_data(
    host: Host, tmp_path: Path
) -> None:
    with pytest.raises(DeitkitError, match="has no gone"):
        take(DownloadPlan((HostedFile(f"{host.address}/gone", f"md5:{'0' * 32}"),)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_an_error(plan: DownloadPlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeitkitError, match="cannot write"):
        take(plan, tmp_path / "file" / "flowers102")


@pytest.mark.parametrize(
    "receipts", [b"", b"[]", b"{", b"\xff", b'{"102flowers.tgz": 3}', b'{"102flowers.tgz": {"entries": 7}}']
)
def test_unreadable_receipts_are_none(receipts: bytes, plan: DownloadPlan, tmp_path: Path) -> None:
    (tmp_path / receiving.RECEIPTS).write_bytes(receipts)
    assert missing_files(plan, tmp_path) == list(plan.files)
    take(plan, tmp_path)
    assert set(json.loads((tmp_path / receiving.RECEIPTS).read_text())) >= {"setid.mat", "102flowers.tgz"}


# The table


def all_files() -> list[HostedFile]:
    return [file for plan in HOSTS.values() for file in plan.files]


def test_every_data_set_of_the_catalog_has_a_plan() -> None:
    assert set(HOSTS) == set(DATASETS)
    for name, plan in HOSTS.items():
        assert plan.files or plan.steps or DATASETS[name].bundled, name
        assert bool(plan.steps) == bool(plan.why), name


def test_no_file_is_served_without_a_checksum_or_over_plain_http() -> None:
    for file in all_files():
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum), file
        assert file.url.startswith("https://")
        assert bool(file.makes) == (".tar" in file.name or file.name.endswith(".tgz")), file


def test_checksums_are_those_that_torchvision_knows() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100, Flowers102
    from torchvision.datasets import inaturalist as inat

    ours = {file.url: file.checksum for file in all_files()}
    theirs = {CIFAR10.url: CIFAR10.tgz_md5, CIFAR100.url: CIFAR100.tgz_md5}
    theirs |= {Flowers102._download_url_prefix + name: md5 for name, md5 in Flowers102._file_dict.values()}
    theirs |= {inat.DATASET_URLS[year]: inat.DATASET_MD5[year] for year in ("2018", "2019")}
    assert {url: ours.get(url) for url in theirs} == {url: f"md5:{md5}" for url, md5 in theirs.items()}
    assert HOSTS["cifar10"].files[0].makes == (CIFAR10.base_folder,)
    assert HOSTS["cifar100"].files[0].makes == (CIFAR100.base_folder,)


def test_addresses_and_checksums_are_those_of_the_official_pages(shared_data: Path) -> None:
    for year in ("2018", "2019"):
        page = (shared_data / "inat" / f"inat{year}_official_README.md").read_text()
        for file in HOSTS[f"inat{year[2:]}"].files:
            assert f"({file.url})" in page
            assert f"`md5sum {file.name}` should produce `{file.checksum.removeprefix('md5:')}`" in page


def test_checksums_and_sizes_are_those_of_the_real_files(shared_data: Path) -> None:
    real = {"real.json": "imagenet", "setid.mat": "flowers102", "imagelabels.mat": "flowers102"}
    rows = {file.name: file for file in all_files()}
    for name, folder in real.items():
        content = (shared_data / folder / name).read_bytes()
        algorithm, _, digest = rows[name].checksum.partition(":")
        assert hashlib.new(algorithm, content).hexdigest() == digest
        assert rows[name].size == len(content)


def test_steps_name_the_folder_so_that_a_shell_takes_it() -> None:
    for step in HOSTS["cars"].steps_for(Path("/my data/cars")):
        assert "ROOT" not in step
    assert "-C '/my data/imagenet'/train" in HOSTS["imagenet"].steps_for(Path("/my data/imagenet"))[1]
