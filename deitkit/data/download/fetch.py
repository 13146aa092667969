"""A file from a public host: resumed, checksummed, renamed into place when whole. Knows no data set and prints nothing.

What has arrived lies in NAME.part; NAME.part.json holds what the host called this version of its file (ETag or
Last-Modified), so that pieces of two versions are not put together. Nothing is taken for whole before its checksum is
the published one.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from deitkit import __version__
from deitkit.data.download.archives import QUIET, SPARE, ExtractionProgress
from deitkit.data.download.hosts import HostedFile
from deitkit.data.download.part import CHUNK, PartialFile, digest_of, new_sum, read_into, writing
from deitkit.errors import DeitkitError

ATTEMPTS = 4  # in a row without a new byte
TIMEOUT = 30  # seconds without a byte
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP codes that a host may get over
GONE = (404, 410)


class _CutShort(Exception):
    """A transfer that may go better next time; `offline` if the host was not even reached."""

    def __init__(self, what: str, *, offline: bool = False) -> None:
        self.offline = offline
        super().__init__(what)


def fetch(
    file: HostedFile, folder: Path, *, mirror: str = "", progress: ExtractionProgress = QUIET,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:  # fmt: skip
    """The file in `folder`, downloaded unless it is there already; an interrupted download goes on where it was.

    Raises:
        DeitkitError: no network, no such file on the host, no room, or contents that differ from the published sum.
    """
    place = folder / file.name
    if place.exists():
        return _accept(place, file, progress)
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url
    if urlsplit(url).scheme not in ("http", "https"):
        raise DeitkitError(
            f"the mirror {mirror!r} is no http(s) address", value=mirror, remedy=f"copy the files to {folder} by hand"
        )
    part = PartialFile(place, file, progress)
    fruitless, farthest, anew = 0, part.size, False
    while not part.is_right():
        try:
            _transfer(url, part, progress)
        except _CutShort as cut:
            fruitless = 0 if part.size > farthest else fruitless + 1
            farthest = max(farthest, part.size)
            if fruitless >= ATTEMPTS:
                raise _given_up(url, part, cut) from cut
            progress.say(f"{file.name}: {cut}; trying again")
            sleep(2.0 ** (fruitless - 1))
            continue
        if part.is_right():
            break
        if anew or not part.mixed:
            raise _wrong(url, part)
        progress.say(f"{file.name}: its pieces do not make the published file; fetching it anew")
        part.reset()
        farthest, anew = 0, True
    part.place()
    return place


def _transfer(url: str, part: PartialFile, progress: ExtractionProgress) -> None:
    """Add one answer of the host; returns where the answer properly ends.

    Raises:
        DeitkitError: an answer that repeating will not mend.
        _Cut: one that it may.
    """
    if part.file.size is not None and part.size == part.file.size:
        return
    headers = {"User-Agent": f"deitkit/{__version__}", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        headers |= {"If-Range": version} if (version := part.version(url)) else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            total = _begin(response, url, part)
            progress.begin(f"downloading {part.file.name}", total=total or part.file.size, done=part.size)
            part.take(_body(response, url, part))
    except HTTPError as error:
        _judge(error, url, part)
        return
    except (OSError, HTTPException) as error:
        raise _unreached(error, url) from error
    expected = total or part.file.size
    if expected is None and not part.is_right():
        raise _CutShort("the answer ended without a length and with another checksum")
    if expected is not None and part.size < expected:
        raise _CutShort(f"the answer was cut after {part.size:,} of {expected:,} bytes")


def _begin(response: Any, url: str, part: PartialFile) -> int | None:
    """Judge an answer's head; gives the whole file's bytes, if they are told. Forgets the part if it is of no use."""
    file, host = part.file, urlsplit(url).hostname
    if response.headers.get_content_type() == "text/html":
        raise DeitkitError(
            f"{host} answered with a web page, not with {file.name}", value=response.url, remedy=_remedy(url, part)
        )
    told = response.headers.get("Content-Length", "")
    total = int(told) if told.isdecimal() else None
    resumed = response.status == 206
    if resumed:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != part.size:
            part.reset()
            raise _CutShort("the host sent another part than was asked for")
        total = int(found[2]) if found[2] != "*" else None
    if total is not None and file.size is not None and total != file.size:
        raise DeitkitError(
            f"{host} serves another {file.name}: {total:,} bytes, {file.size:,} were published",
            value=response.url,
            remedy=_remedy(url, part),
        )
    if part.size and not resumed:
        part.progress.say(f"{file.name}: {host} begins anew: its file changed, or it cannot resume")
        part.reset()
    refuse_full(part, total or file.size)
    version = response.headers.get("ETag", "")
    part.note_version(url, version if version.startswith('"') else response.headers.get("Last-Modified", ""))
    return total


def _body(response: Any, url: str, part: PartialFile) -> Iterator[bytes]:
    """The answer's bytes as they come: whatever the network raises is a cut."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, HTTPException) as error:
            raise _CutShort(f"the connection broke ({_reason(error)})") from error
        if not chunk:
            return
        yield chunk
        if part.file.size is not None and part.size > part.file.size:
            raise _wrong(url, part)


def refuse_full(part: PartialFile, total: int | None) -> None:
    """Raise before the transfer if the disk cannot hold what is still to come, and what an archive unpacks to."""
    if total is None:
        return
    needed = total - part.size + (total if part.file.makes else 0)
    free = shutil.disk_usage(part.target.parent).free
    if needed + SPARE > free:
        contents = " with its contents, which are at least as large" if part.file.makes else ""
        raise DeitkitError(
            f"no room for {part.file.name}{contents}: {needed:,} bytes are needed, {free:,} are free",
            value=part.target,
            remedy="make room, or --data OTHER on a larger disk; what has arrived is kept",
        )


def _judge(error: HTTPError, url: str, part: PartialFile) -> None:
    """Raise what an HTTP error means; 416 after the last byte means that all is there."""
    with error:
        host, name = urlsplit(url).hostname, part.file.name
        if error.code == 416 and part.size:
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            if total in ("", "*", str(part.size)):
                return
            part.reset()
            raise _CutShort(f"the host has {total} bytes, fewer than have arrived; beginning anew")
        if error.code in PASSING:
            raise _CutShort(f"{host} answered {error.code} {error.reason}")
        what = f"{host} has no {name} any more" if error.code in GONE else f"{host} refuses {name}"
        raise DeitkitError(f"{what} (HTTP {error.code} {error.reason})", value=url, remedy=_remedy(url, part))


def _unreached(error: Exception, url: str) -> Exception:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DeitkitError(
            f"{urlsplit(url).hostname} has no certificate that this machine trusts ({reason.verify_message})",
            value=url,
            remedy="mend the system's certificates (behind a proxy: SSL_CERT_FILE=FILE), or the clock",
        )
    return _CutShort(
        f"{urlsplit(url).hostname} cannot be reached ({_reason(error)})", offline=isinstance(error, URLError)
    )


def _given_up(url: str, part: PartialFile, cut: _CutShort) -> DeitkitError:
    what = f"no network: {cut}" if cut.offline else f"{part.file.name} does not arrive: {cut}, {ATTEMPTS} times"
    return DeitkitError(what, value=url, remedy=_remedy(url, part))


def _wrong(url: str, part: PartialFile) -> DeitkitError:
    """The contents differ: they are kept to be looked at, under a name that nothing reads."""
    with writing(part.bad):
        os.replace(part.path, part.bad)
    part.note.unlink(missing_ok=True)
    algorithm = part.file.checksum.partition(":")[0]
    return DeitkitError(
        f"{part.file.name} from {urlsplit(url).hostname} is not the published file",
        value=url,
        problems=[
            f"published: {part.file.checksum}" + (f", {part.file.size:,} bytes" if part.file.size else ""),
            f"arrived: {algorithm}:{part.sum.hexdigest()}, {part.size:,} bytes, kept as {part.bad}",
        ],
        remedy=f"repeat the command; if it comes out the same, the host's file has changed: {_by_hand(url, part)}",
    )


def _remedy(url: str, part: PartialFile) -> str:
    kept = f" ({part.size:,} bytes are kept, it goes on from there)" if part.size else ""
    return f"repeat the command later{kept}; or {_by_hand(url, part)}"


def _by_hand(url: str, part: PartialFile) -> str:
    return f"fetch {url} elsewhere, copy it to {part.target} and repeat the command; --mirror URL names another host"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _accept(place: Path, file: HostedFile, progress: ExtractionProgress) -> Path:
    """A file that is there already, if it is the published one."""
    found = new_sum(file)
    read_into(found, place, progress)
    if found.hexdigest() == digest_of(file):
        return place
    algorithm = file.checksum.partition(":")[0]
    raise DeitkitError(
        f"{place} is not the published file",
        value=place,
        problems=[
            f"published: {file.checksum}" + (f", {file.size:,} bytes" if file.size else ""),
            f"there: {algorithm}:{found.hexdigest()}, {place.stat().st_size:,} bytes",
        ],
        remedy="move it away and repeat the command, which downloads it",
    )
