"""The documentation as a site: built without a warning, every link inside it leading somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """A page's links and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            if name in ("id", "name") and value:
                self.places.add(value)


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target in pages if target.suffix == ".html" else target.exists()
            if not found or (parts.fragment and target in pages and parts.fragment not in pages[target].places):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 15 and lost == []


def test_the_site_shows_every_verb_and_every_key(site: Path) -> None:
    from deitkit.cli.verbs import VERBS
    from deitkit.recipe.keys import recipe_keys

    shown = Page((site / "reference" / "commands.html").read_text()).places
    assert set(VERBS) <= shown
    keys = (site / "reference" / "recipe-keys.html").read_text()
    assert [key for key in recipe_keys() if f"<code>{key}</code>" not in keys] == []
    assert "Traceback" not in keys and not re.search(r"::: deitkit", (site / "reference" / "python.html").read_text())
