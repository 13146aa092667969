"""A host of files on this machine that behaves as badly as a test asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deitkit.data.download.hosts import HostedFile


@dataclass
class Host:
    """What it serves, how, and what it was asked for. `cuts` are bytes after which answers break off, in their order;
    `failures` are HTTP codes of the first answers."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    chunked: bool = False
    content_type: str = "application/octet-stream"
    version: dict[str, str] = field(default_factory=lambda: {"ETag": '"v1"'})
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    shift: int = 0  # a wrong host: what it sends begins elsewhere than was asked for
    on_answer: Callable[[], None] = lambda: None
    asked: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Host:
        self.server = _Server(("127.0.0.1", 0), type("Answers", (_Answers,), {"host": self}))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def file(
        self, name: str, *, published: bytes | None = None, sized: bool = True, makes: tuple[str, ...] = ()
    ) -> HostedFile:
        """The row that a table of hosts would have, with the checksum of what was published."""
        content = self.files[name] if published is None else published
        size = len(content) if sized else None
        return HostedFile(f"{self.address}/{name}", f"md5:{md5(content).hexdigest()}", size, makes)

    @property
    def ranges_asked(self) -> list[str | None]:
        return [request.get("Range") for request in self.asked]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the tests."""


class _Answers(BaseHTTPRequestHandler):
    host: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.host
        host.asked.append({"path": self.path, **self.headers})
        host.on_answer()
        name = self.path.lstrip("/")
        if host.failures:
            self.head(host.failures.pop(0), {"Content-Length": "0"})
        elif name in host.redirects:
            self.head(302, {"Location": host.redirects[name], "Content-Length": "0"})
        elif name not in host.files:
            self.head(404, {"Content-Length": "0"})
        else:
            self.send(host.files[name])

    def send(self, content: bytes) -> None:
        host, start = self.host, 0
        headers = {"Content-Type": host.content_type, **host.version}
        known = self.headers.get("If-Range")
        same = known is None or known in host.version.values()
        if host.ranges and same and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            start += host.shift
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if host.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif host.lengths:
            headers["Content-Length"] = str(len(body))
        self.head(206 if "Content-Range" in headers else 200, headers)
        cut = host.cuts.pop(0) if host.cuts else len(body)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if host.chunked else body[:cut])
        if host.chunked and cut >= len(body):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def sha256_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"
