"""The App: its port, its saved views, the way to it from another machine, and what a real browser shows of it."""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit import explore
from deitkit.errors import DeitkitError
from deitkit.explore import app
from deitkit.explore.app import find_view, tunnel
from tests.explore.conftest import IMAGES, Build, student, teacher

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH, HEIGHT = 1500, 950  # of the browser's window, px


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((explore.ADDRESS, 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_or_none_is_refused(fiftyone: ModuleType) -> None:
    with socket.socket() as other:
        other.bind((explore.ADDRESS, 0))
        other.listen()
        with pytest.raises(DeitkitError, match="cannot be used") as caught:
            explore.launch(None, other.getsockname()[1])
    assert "--port" in caught.value.remedy
    with pytest.raises(DeitkitError, match="port 70000"):
        explore.launch(None, 70_000)


def test_a_view_is_found_whatever_its_case_and_a_near_miss_is_named(build: Build) -> None:
    dataset = build(student())
    dataset.save_view("Dark ones", dataset.limit(1))
    assert find_view(dataset, "HEADS disagree") == "heads disagree"
    assert find_view(dataset, "dark ones") == "Dark ones"
    with pytest.raises(DeitkitError, match="Did you mean heads disagree") as caught:
        find_view(dataset, "heads disagre")
    assert set(caught.value.choices) == set(dataset.list_saved_views())


def test_over_ssh_the_way_to_the_port_is_told_and_elsewhere_nothing() -> None:
    connection = {"SSH_CONNECTION": "203.0.113.9 50022 192.0.2.7 22", "USER": "ada"}
    assert tunnel(5151, connection) == "ssh -N -L 5151:127.0.0.1:5151 ada@192.0.2.7"
    connection["SSH_CONNECTION"] = "203.0.113.9 50022 192.0.2.7 2222"
    assert tunnel(6000, connection) == "ssh -N -L 6000:127.0.0.1:6000 -p 2222 ada@192.0.2.7"
    del connection["USER"]
    assert tunnel(5151, connection).endswith(f" {getpass.getuser()}@192.0.2.7")
    assert tunnel(5151, {"USER": "ada"}) == ""


def test_the_app_listens_on_this_machine_alone_and_counts_values_where_that_takes_no_time(
    shown: Any, fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(fiftyone, "launch_app", lambda dataset, **options: given.append(options))
    port = free_port()
    explore.launch(shown, port, view="heads disagree", open_browser=False)
    monkeypatch.setattr(app, "FEW", IMAGES - 1)
    explore.launch(shown, port)
    small, large = given
    assert (small["address"], small["port"], small["remote"]) == ("127.0.0.1", port, True)
    assert small["view"] == shown.load_saved_view("heads disagree")
    assert (large["remote"], large["view"]) == (False, None)
    assert not small["config"].default_query_performance and large["config"].default_query_performance


# In a browser


@contextmanager
def served(dataset: Any, **options: Any) -> Iterator[str]:
    """The App's address while it runs."""
    port = free_port()
    session = explore.launch(dataset, port, open_browser=False, **options)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        session.close()


def page(url: str, folder: Path) -> str:
    """What a browser shows at the address once the page is at rest; a picture of it lies in the folder."""
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=30000 --dump-dom"
    folder.mkdir()
    own = [f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{HEIGHT}"]
    command = [str(CHROMIUM), *switches.split(), *own, f"--screenshot={folder / 'page.png'}", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


def words(html: str) -> str:
    """The page's text."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def colors(picture: Path) -> set[tuple[int, int, int]]:
    """The colours that the page shows in more than a few places."""
    with Image.open(picture) as image:
        pixels, counts = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(map(int, pixel)) for pixel in pixels[counts > 40]}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_app_shows_the_samples_a_saved_view_and_the_colours(build: Build, name: str, tmp_path: Path) -> None:
    dataset = build(student(), teacher(), teacher="teacher")
    with served(dataset) as address:
        everything = page(f"{address}/datasets/{name}", tmp_path / "all")
        disagreeing = page(f"{address}/datasets/{name}?view=heads-disagree", tmp_path / "view")
    assert f"{IMAGES} samples" in words(everything)
    assert everything.count("Click to select sample") == IMAGES
    assert all(f'title="{group}"' in everything for group in ("CLASSIFIERS", "AGREEMENT", "EVALUATION"))
    right, wrong = (0, 128, 95), (213, 94, 0)
    assert {right, wrong} <= colors(tmp_path / "all" / "page.png")

    differ = int((student().top1("class") != student().top1("distillation")).sum())
    assert 0 < differ < IMAGES
    assert "heads disagree" in disagreeing
    assert f"{differ} samples" in words(disagreeing)
    assert disagreeing.count("Click to select sample") == differ


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_app_opens_at_the_view_that_was_asked_for(build: Build, tmp_path: Path) -> None:
    dataset = build(student(), teacher(), teacher="teacher")
    chosen = len(dataset.load_saved_view("teacher right, student wrong"))
    with served(dataset, view="Teacher right, student wrong") as address:
        shown = page(address, tmp_path / "view")
    assert 0 < chosen < IMAGES
    assert f"{chosen} samples" in words(shown)
    assert shown.count("Click to select sample") == chosen
