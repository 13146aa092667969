"""A hub on this machine: enough of the Hugging Face hub's protocol to make a repository, upload to it and read it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_a_test"
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """`files` by OWNER/NAME and name; `private` by repository; what else was asked for is kept in `others`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.others: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answering(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.files.setdefault(name, {})
            self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
            return self.reply(200, {"url": f"{self.server.address}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        repository, verb = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else ""
        if verb == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for file in json.loads(body)["files"]]  # fmt: skip
            return self.reply(200, {"files": files})
        if verb == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[repository][line["value"]["path"]] = content
            address = f"{self.server.address}/{repository}/commit/{COMMIT}"
            return self.reply(200, {"success": True, "commitOid": COMMIT, "commitUrl": address, "hookOutput": ""})
        self.server.others.append(f"POST {self.path}")
        return self.reply(404, {"error": "no such address"})

    def do_HEAD(self) -> None:
        self.send_file(with_body=False)

    def do_GET(self) -> None:
        self.send_file(with_body=True)

    def send_file(self, *, with_body: bool) -> None:
        """OWNER/NAME/resolve/REVISION/FILE."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        files = self.server.files.get("/".join(parts[:2]), {})
        content = files.get("/".join(parts[4:])) if parts[2:3] == ["resolve"] else None
        if content is None:
            self.server.others.append(f"{self.command} {self.path}")
            return self.reply(404, {"error": "Entry not found"}, code="EntryNotFound", with_body=with_body)
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
        return None

    def reply(self, status: int, content: object, *, code: str = "", with_body: bool = True) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
