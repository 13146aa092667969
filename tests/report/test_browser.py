"""The page in a real browser: its script, its colours, and paper. Skips where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deitkit.report import build_page
from deitkit.runs.folder import Run
from tests.report.conftest import NAMES, MakeRun
from tests.report.reading import read

pytestmark = pytest.mark.slow
CLICK = """<script>
addEventListener("load", () => {
  const buttons = [...document.querySelectorAll("th button")];
  const heading = buttons.find((button) => button.textContent === "class head");
  heading.click();
  heading.click();
  document.querySelector("button.theme").click();
  document.title = getComputedStyle(document.body).backgroundColor;
});
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


def browse(chromium: str, page: Path, *options: str) -> str:
    """What the browser prints."""
    words = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={page.parent}/profile",
        *options,
    ]
    return subprocess.run([*words, page.as_uri()], capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_heading_sorts_its_table_and_the_button_changes_the_colours(
    student: Run, tmp_path: Path, chromium: str
) -> None:
    html, page = build_page([student.path]).html, tmp_path / "page.html"
    page.write_text(html.replace("</body>", f"{CLICK}</body>"))
    reader = read(browse(chromium, page, "--dump-dom"))
    assert reader.all("title")[0].text.strip() == "rgb(20, 24, 29)"
    assert reader.all("html")[0].attributes["data-theme"] == "dark"
    (heading,) = [element for element in reader.all("th") if "aria-sort" in element.attributes]
    assert heading.attributes["aria-sort"] == "descending" and "class head" in heading.text
    table = next(element for element in reader.all("table") if "Accuracy by class" in element.text)
    column = [float(share) for share in re.findall(r" 15 ([\d.]+)% ", " ".join(table.text.split()))]
    assert len(column) == len(NAMES) and column == sorted(column, reverse=True)


def test_paper_has_everything_even_what_is_collapsed(student: Run, tmp_path: Path, chromium: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(build_page([student.path]).html.replace('lang="en"', 'lang="en" data-theme="dark"'))
    browse(chromium, page, f"--print-to-pdf={tmp_path}/page.pdf", "--no-pdf-header-footer")
    whole = (tmp_path / "page.pdf").stat().st_size
    closed = re.sub(r"<details>.*?</details>", "", page.read_text(), flags=re.DOTALL)
    page.write_text(closed)
    browse(chromium, page, f"--print-to-pdf={tmp_path}/less.pdf", "--no-pdf-header-footer")
    assert whole > 1.1 * (tmp_path / "less.pdf").stat().st_size


def test_four_runs_with_all_that_can_be_measured_fit_on_less_than_twelve_pages(
    make_run: MakeRun, tmp_path: Path, chromium: str
) -> None:
    runs = [make_run(f"run {number}").path for number in range(4)]
    page = tmp_path / "page.html"
    page.write_text(build_page(runs).html)
    browse(chromium, page, f"--print-to-pdf={tmp_path}/page.pdf", "--no-pdf-header-footer")
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) < 12
