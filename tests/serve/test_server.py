"""The real server: a browser's page, a thousand requests at once with bad ones among them, neighbours, its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from deitkit.cli.app import run
from tests.serve.conftest import encoded

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
REQUESTS, AT_ONCE = 1000, 16


class Server:
    """A server of its own process, once it answers."""

    def __init__(self, *words: str, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deitkit", "serve", *words, "--port", "0", "--device", "cpu"],
            stderr=subprocess.PIPE, text=True, cwd=folder, env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whatever the tests were started with
        )  # fmt: skip
        assert self.process.stderr is not None
        said = ""
        while (found := re.search(r"http://\S+", said)) is None:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        self.address = found[0]

    def post(self, path: str, body: bytes) -> tuple[int, object]:
        try:
            with urllib.request.urlopen(urllib.request.Request(self.address + path, data=body), timeout=120) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def memory_mb(self) -> float:
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024  # type: ignore[index]

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=120)


@pytest.fixture(scope="module")
def server(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(model, folder=tmp_path_factory.mktemp("server"))
    yield server
    server.process.kill()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_a_thousand_requests_sixteen_at_a_time_with_bad_files_among_them(server: Server) -> None:
    good, large, bad = encoded(), encoded(side=600, kind="JPEG"), b"no picture"

    def ask(number: int) -> int:
        kind = (good, large, bad, good)[number % 4]
        status, answer = server.post("/explain" if number % 10 == 3 else "/predict", kind)
        assert status == (422 if kind is bad else 200), answer
        return status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert len(list(pool.map(ask, range(REQUESTS // 4)))) == REQUESTS // 4
        before = server.memory_mb()
        list(pool.map(ask, range(REQUESTS)))
    assert server.memory_mb() < before + 64


def test_the_page_in_a_browser_shows_answer_pictures_and_heads(server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    page = urllib.request.urlopen(server.address + "/", timeout=60).read().decode()
    drop = """<script>addEventListener("load", () => {
      const canvas = document.createElement("canvas"); canvas.width = canvas.height = 40;
      canvas.getContext("2d").fillRect(5, 5, 20, 20);
      canvas.toBlob(blob => {
        const data = new DataTransfer(); data.items.add(new File([blob], "drawn.png", {type: "image/png"}));
        dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
      });
    });</script>"""
    local = tmp_path / "page.html"
    base = f'<base href="{server.address}/">'
    local.write_text(
        page.replace("<head>", "").replace('<meta charset="utf-8">', f'<meta charset="utf-8">{base}') + drop
    )
    words = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-web-security",
        "--virtual-time-budget=20000", f"--user-data-dir={tmp_path}/profile", "--dump-dom", local.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout
    assert re.search(r'id="decision">(ant|bee|cat), \d+\.\d %', shown), shown[-3000:]
    assert shown.count("<section>") == 3 and shown.count("data:image/png;base64") == 3
    assert "what the distillation token reads" in shown


def test_the_nearest_training_images_of_a_run_begin_with_the_image_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    for number in range(60):
        path = tmp_path / "images" / f"digit {digits.target[number] % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15.9).astype("uint8")).resize((32, 32)).save(path)
    words = ["--data", "images", "--epochs", "1", "-o", "run", "--device", "cpu", "-j", "0"]
    assert run(["pretrain", *words]) == 0
    server = Server("run", "--neighbours", folder=tmp_path)
    try:
        asked = next((tmp_path / "images").rglob("7.png"))
        _, answer = server.post("/explain", asked.read_bytes())
        assert isinstance(answer, dict)
        nearest = answer["neighbours"]
        cosines = [each["cosine"] for each in nearest]
        assert len(nearest) == 6 and cosines == sorted(cosines, reverse=True)
        assert cosines[0] == pytest.approx(1, abs=1e-4) and nearest[0]["image"].endswith("7.png")
        assert all(each["uri"].startswith("data:image/jpeg") for each in nearest)
        assert server.end() == 130
    finally:
        server.process.kill()
