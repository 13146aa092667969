"""The pictures of README: there, small, and without anything from elsewhere."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deitkit.recipe.load import load_recipe
from deitkit.runs.folder import Run

ROOT = Path(__file__).parents[1]
PICTURE = re.compile(r'<img src="([^"]+)"|!\[[^]]*\]\(([^)]+)\)')
MOST_BYTES = 300_000


def pictures() -> list[Path]:
    return [ROOT / "".join(found) for found in PICTURE.findall((ROOT / "README.md").read_text())]


def test_readmes_pictures_are_there_and_small() -> None:
    found = pictures()
    assert [path.name for path in found] == ["live.svg", "report.png"]
    for path in found:
        assert path.stat().st_size < MOST_BYTES


def text_of(svg: str) -> str:
    """Its words, a line a row; ET's error where it is no XML."""
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(text.itertext()).replace("\xa0", " ") for text in texts)


@pytest.mark.parametrize("path", [path for path in pictures() if path.suffix == ".svg"], ids=lambda path: path.name)
def test_a_drawn_picture_asks_no_host(path: Path) -> None:
    svg = path.read_text()
    assert "deitkit runs watch" in text_of(svg)
    assert not re.search(r"@font-face|@import|href=|url\((?!#)", svg)


def test_the_live_picture_shows_a_runs_first_part(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path / "run", load_recipe("quickstart/teacher", {"train.epochs": 10}), environment={}, overwrite=False
    )
    step = {"loss": 2.0, "lr": 1e-3, "images_per_s": 1.0, "seconds": 1.0, "data_wait_s": 0.0}
    lines = [{"step": 22 * epoch, "epoch": float(epoch), **step} for epoch in range(1, 11)]
    lines[5:5] = [{"step": 110, "epoch": 5.0, "top1": {"class": 0.5}}]
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = text_of(runpy.run_path(str(ROOT / "docs" / "pictures" / "make.py"))["live_view"](run))
    assert "50.00%" in words and "70%  epoch 7.0/10  3 s left" in words
