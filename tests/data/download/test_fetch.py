"""Downloads from a host on this machine that cuts, lies, changes its files or is not there."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deitkit.data.download import fetch as download
from deitkit.data.download import part
from deitkit.data.download.archives import SPARE
from deitkit.data.download.fetch import ATTEMPTS, fetch
from deitkit.data.download.hosts import HostedFile
from deitkit.errors import DeitkitError
from tests.data.web import Host, sha256_of

CONTENT = b"".join(hashlib.sha256(b"%d" % index).digest() for index in range(20_000))  # 640,000 bytes
OTHER = bytes(reversed(CONTENT))
NAME = "set.tar.gz"


@pytest.fixture
def host() -> Iterator[Host]:
    with Host({NAME: CONTENT}) as serving:
        yield serving


class Watch:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.said: list[str] = []
        self.done = 0

    def begin(self, title: str, *, total: int | None, done: int = 0) -> None:
        self.titles.append(title)
        self.done = done

    def advance(self, count: int) -> None:
        self.done += count

    def say(self, text: str) -> None:
        self.said.append(text)


def get(file: HostedFile, folder: Path, **options) -> Path:
    """Fetch without waiting."""
    return fetch(file, folder, sleep=lambda _: None, **options)


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Whole


def test_a_file_arrives_byte_for_byte_and_nothing_else_stays(host: Host, tmp_path: Path) -> None:
    watch = Watch()
    path = get(host.file(NAME), tmp_path, progress=watch)
    assert path.read_bytes() == CONTENT
    assert only(tmp_path) == [NAME]
    assert watch.titles == [f"downloading {NAME}"]
    assert watch.done == len(CONTENT)


def test_either_checksum_is_checked(host: Host, tmp_path: Path) -> None:
    assert get(replace(host.file(NAME), checksum=sha256_of(CONTENT)), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["lengths", "chunked"])
def test_an_answer_without_a_length_is_whole_when_its_checksum_says_so(how: str, host: Host, tmp_path: Path) -> None:
    host.lengths, host.chunked = False, how == "chunked"
    assert get(host.file(NAME, sized=False), tmp_path).read_bytes() == CONTENT
    assert len(host.asked) == 1


def test_redirects_are_followed_and_keep_the_range(host: Host, tmp_path: Path) -> None:
    host.redirects["old.tar.gz"] = f"/{NAME}"
    host.cuts = [100_000]
    file = replace(host.file(NAME), url=f"{host.address}/old.tar.gz")
    assert get(file, tmp_path).read_bytes() == CONTENT
    assert [request["path"] for request in host.asked] == ["/old.tar.gz", f"/{NAME}"] * 2
    assert host.ranges_asked[-1] == "bytes=100000-"


def test_a_mirror_serves_the_same_name(host: Host, tmp_path: Path) -> None:
    file = replace(host.file(NAME), url=f"http://gone.invalid/far/{NAME}")
    assert get(file, tmp_path, mirror=f"{host.address}/").read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_used_without_a_network(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    file = HostedFile(f"http://gone.invalid/{NAME}", sha256_of(CONTENT))
    assert get(file, tmp_path) == tmp_path / NAME


def test_another_file_of_that_name_is_neither_used_nor_overwritten(host: Host, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(DeitkitError, match="is not the published file") as caught:
        get(host.file(NAME), tmp_path)
    assert hashlib.md5(CONTENT).hexdigest() in caught.value.problems[0]
    assert hashlib.md5(CONTENT[:-1]).hexdigest() in caught.value.problems[1]
    assert (tmp_path / NAME).read_bytes() == CONTENT[:-1]
    assert host.asked == []


# Cut


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_cut_answer_goes_on_where_it_was(sized: bool, lengths: bool, host: Host, tmp_path: Path) -> None:
    host.cuts, host.lengths = [100_000, 1, 200_000], lengths
    assert get(host.file(NAME, sized=sized), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == [None, "bytes=100000-", "bytes=100001-", "bytes=300001-"]
    assert [request.get("If-Range") for request in host.asked] == [None, '"v1"', '"v1"', '"v1"']


def test_a_second_command_goes_on_where_the_first_was(host: Host, tmp_path: Path) -> None:
    host.cuts = [100_000] + [0] * ATTEMPTS
    with pytest.raises(DeitkitError, match="does not arrive") as caught:
        get(host.file(NAME), tmp_path)
    assert "100,000 bytes are kept" in caught.value.remedy
    assert only(tmp_path) == [f"{NAME}.part", f"{NAME}.part.json"]
    host.asked.clear()
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == ["bytes=100000-"]
    assert only(tmp_path) == [NAME]


def test_a_host_that_cannot_resume_begins_anew(host: Host, tmp_path: Path) -> None:
    host.ranges, host.cuts = False, [100_000, 300_000]
    watch = Watch()
    assert get(host.file(NAME), tmp_path, progress=watch).read_bytes() == CONTENT
    assert sum("begins anew" in text for text in watch.said) == 2
    assert watch.done == len(CONTENT)


def test_attempts_without_a_new_byte_are_counted_and_the_waits_double(host: Host, tmp_path: Path) -> None:
    host.ranges, host.cuts = False, [100_000] * 50
    waits: list[float] = []
    with pytest.raises(DeitkitError, match="was cut after 100,000 of 640,000 bytes, 4 times"):
        fetch(host.file(NAME), tmp_path, sleep=waits.append)
    assert waits == [0.5, 1, 2, 4]  # the first one brought bytes
    assert len(host.asked) == ATTEMPTS + 1


def test_a_file_that_changed_on_its_host_is_not_mixed_with_the_old_one(host: Host, tmp_path: Path) -> None:
    host.files[NAME], host.cuts = OTHER, [100_000] + [0] * ATTEMPTS
    with pytest.raises(DeitkitError):
        get(host.file(NAME, published=CONTENT), tmp_path)
    host.files[NAME], host.version = CONTENT, {"ETag": '"v2"'}
    host.asked.clear()
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert [request.get("If-Range") for request in host.asked] == ['"v1"']


def test_a_date_tells_versions_apart_where_the_tag_is_weak(host: Host, tmp_path: Path) -> None:
    host.version = {"ETag": 'W/"v1"', "Last-Modified": "Mon, 02 Jan 2017 10:00:00 GMT"}
    host.cuts = [100_000]
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert host.asked[1]["If-Range"] == "Mon, 02 Jan 2017 10:00:00 GMT"


def test_pieces_that_do_not_fit_together_are_fetched_anew_once(host: Host, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:100_000])
    watch = Watch()
    assert get(host.file(NAME), tmp_path, progress=watch).read_bytes() == CONTENT
    assert host.ranges_asked == ["bytes=100000-", None]
    assert any("fetching it anew" in text for text in watch.said)


def test_a_whole_part_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert get(HostedFile(f"http://gone.invalid/{NAME}", sha256_of(CONTENT)), tmp_path).read_bytes() == CONTENT


def test_more_than_the_host_has_is_thrown_away(host: Host, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT + b"more")
    assert get(host.file(NAME, sized=False), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == ["bytes=640004-", None]


def test_an_answer_that_begins_elsewhere_is_not_appended(host: Host, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:100_000])
    host.shift = 5
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT


def test_a_part_of_another_publication_is_not_continued(host: Host, tmp_path: Path) -> None:
    host.cuts = [100_000] + [0] * ATTEMPTS
    with pytest.raises(DeitkitError):
        get(host.file(NAME, published=OTHER), tmp_path)
    host.asked.clear()
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == [None]


def test_an_interruption_keeps_what_has_arrived(host: Host, tmp_path: Path) -> None:
    class Impatient(Watch):
        def advance(self, count: int) -> None:
            super().advance(count)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(host.file(NAME), tmp_path, progress=Impatient())
    kept = (tmp_path / f"{NAME}.part").read_bytes()
    assert kept and CONTENT.startswith(kept)
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == ([None, f"bytes={len(kept)}-"] if len(kept) < len(CONTENT) else [None])


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_host_is_asked_again(code: int, host: Host, tmp_path: Path) -> None:
    host.failures = [code, code]
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT


def test_a_silent_host_is_asked_again(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    waiting = [0.5]
    host.on_answer = lambda: download.time.sleep(waiting.pop() if waiting else 0)
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert len(host.asked) == 2


# Wrong


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("sized", [True, False])
def test_wrong_contents_are_never_taken_and_both_sums_are_named(
    sized: bool, lengths: bool, host: Host, tmp_path: Path
) -> None:
    host.files[NAME], host.lengths = OTHER, lengths
    with pytest.raises(DeitkitError, match="is not the published file") as caught:
        get(host.file(NAME, published=CONTENT, sized=sized), tmp_path)
    assert hashlib.md5(CONTENT).hexdigest() in caught.value.problems[0]
    assert hashlib.md5(OTHER).hexdigest() in caught.value.problems[1]
    assert str(tmp_path / NAME) in caught.value.remedy
    assert only(tmp_path) == [f"{NAME}.bad"]
    host.files[NAME] = CONTENT
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert only(tmp_path) == [NAME]


def test_another_length_is_noticed_before_the_first_byte_and_the_part_is_kept(host: Host, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:100_000])
    host.ranges, host.files[NAME] = False, b"moved"
    with pytest.raises(DeitkitError, match="5 bytes, 640,000 were published"):
        get(host.file(NAME, published=CONTENT), tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:100_000]


def test_an_endless_answer_is_stopped_at_the_published_length(host: Host, tmp_path: Path) -> None:
    host.files[NAME], host.lengths = CONTENT + OTHER * 20, False
    with pytest.raises(DeitkitError, match="is not the published file"):
        get(host.file(NAME, published=CONTENT), tmp_path)
    assert (tmp_path / f"{NAME}.bad").stat().st_size < 3 * len(CONTENT)


def test_a_login_page_is_not_taken_for_the_file(host: Host, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:100_000])
    host.ranges, host.content_type = False, "text/html; charset=utf-8"
    with pytest.raises(DeitkitError, match="answered with a web page"):
        get(host.file(NAME, sized=False), tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize(("code", "words"), [(404, "has no"), (410, "has no"), (401, "refuses"), (403, "refuses")])
def test_a_refusal_is_final_and_says_what_to_do(code: int, words: str, host: Host, tmp_path: Path) -> None:
    host.failures = [code]
    with pytest.raises(DeitkitError, match=f"{words}.*HTTP {code}") as caught:
        get(host.file(NAME), tmp_path)
    assert f"copy it to {tmp_path / NAME}" in caught.value.remedy
    assert "--mirror" in caught.value.remedy
    assert len(host.asked) == 1


def test_without_a_network_the_error_says_how_to_do_without(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # closed again: nobody listens there
    waits: list[float] = []
    with pytest.raises(
        DeitkitError, match=r"no network: 127\.0\.0\.1 cannot be reached \(Connection refused\)"
    ) as error:
        fetch(HostedFile(f"http://127.0.0.1:{port}/{NAME}", sha256_of(CONTENT)), tmp_path, sleep=waits.append)
    assert f"copy it to {tmp_path / NAME} and repeat the command" in error.value.remedy
    assert waits == [1, 2, 4]


def test_an_unknown_host_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nameless)
    with pytest.raises(DeitkitError, match=r"no network: gone\.invalid .*Name or service not known"):
        get(HostedFile(f"https://gone.invalid/{NAME}", sha256_of(CONTENT)), tmp_path)


def test_a_certificate_that_is_not_trusted_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def distrust(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError("certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise urllib.error.URLError(error)

    monkeypatch.setattr(download, "urlopen", distrust)
    with pytest.raises(DeitkitError, match=r"trusts \(self-signed certificate\)"):
        fetch(HostedFile(f"https://host.invalid/{NAME}", sha256_of(CONTENT)), tmp_path, sleep=pytest.fail)


def test_a_proxy_of_the_environment_is_used(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files[f"http://far.invalid/{NAME}"] = CONTENT  # a proxy is asked for the whole address
    monkeypatch.setenv("http_proxy", host.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    file = HostedFile(f"http://far.invalid/{NAME}", sha256_of(CONTENT))
    assert get(file, tmp_path).read_bytes() == CONTENT
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.mark.parametrize("mirror", ["/srv/mirror", "file:///srv/mirror", "ftp://host/x"])
def test_a_mirror_is_a_web_address(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="no http"):
        get(HostedFile(f"http://gone.invalid/{NAME}", sha256_of(CONTENT)), tmp_path, mirror=mirror)


# Room


@pytest.mark.parametrize(("makes", "needed"), [((), 640_000), (("jpg",), 1_280_000)])  # an archive and its contents
def test_room_is_looked_at_before_the_first_byte(
    makes: tuple[str, ...], needed: int, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SPARE + needed - 1
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    with pytest.raises(DeitkitError, match=f"no room for .*{needed:,} bytes are needed, {free:,} are free"):
        get(host.file(NAME, makes=makes), tmp_path)
    assert not (tmp_path / f"{NAME}.part").exists()
    free += 1
    assert get(host.file(NAME, makes=makes), tmp_path).exists()


def test_a_disk_that_fills_up_keeps_the_part_and_names_the_remedy(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, real_open = [], open

    class Small:
        """A file on a disk that holds 100,000 bytes."""

        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data) -> int:
            room = 100_000 - sum(written)
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(self.file.write(data[:room]))
            return written[-1]

    def small_open(path, mode="r", *rest, **options):
        file = real_open(path, mode, *rest, **options)
        return Small(file) if mode == "ab" else file

    monkeypatch.setattr(part, "open", small_open, raising=False)
    with pytest.raises(DeitkitError, match="the disk is full") as caught:
        get(host.file(NAME), tmp_path)
    assert "make room" in caught.value.remedy
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:100_000]
    monkeypatch.undo()
    host.asked.clear()
    assert get(host.file(NAME), tmp_path).read_bytes() == CONTENT
    assert host.ranges_asked == ["bytes=100000-"]
