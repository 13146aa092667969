"""The two pictures of README, made of the quickstart's runs: `python docs/pictures/make.py` after `make quickstart`.

`live.svg` is what `deitkit runs watch` shows of the student's run while it trains, replayed from its metrics.
`report.png` is the first screen of `deitkit report` on the fine-tuned student, photographed by a headless Chromium.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.text import Text

from deitkit.cli.picture import Picture
from deitkit.cli.runs.watch import count, time_left
from deitkit.report import build_page, write_page
from deitkit.runs.folder import Run

HERE = Path(__file__).parent
COLUMNS = 84
SHARE = 0.7  # of the run, so that it still trains
PAGE = (1100, 1084)  # pixels: the verdict, the result and the first curves
SCALE = 1.6  # for screens of many pixels
COLOURS = 128  # of the PNG's palette
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Rich's own frame asks a host for its font; a reader's own fixed-width font will do.
FRAME = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, monospace; }}
.{unique_id}-title {{ font: 18px system-ui, "DejaVu Sans", sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Write both pictures beside this file."""
    runs = Path(sys.argv[1] if sys.argv[1:] else "runs/quickstart")
    (HERE / "live.svg").write_text(live_view(Run.open(str(runs / "student"))))
    photograph(runs / "student_32", HERE / "report.png")


def live_view(run: Run) -> str:
    """An SVG of the run's live view when a share of it had passed."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print(Text(f"$ deitkit runs watch runs/quickstart/{run.name}", style="bold"))
    picture = Picture(run.name, run.recipe().train.epochs, total_steps=0)
    for record in begun(run):
        count(picture, record)
        for row in picture.take(record, width=COLUMNS):
            console.print(row)
    for line in picture.lines(width=COLUMNS, eta_s=time_left(picture)):
        console.print(line)
    return console.export_svg(title="deitkit", code_format=FRAME, unique_id="live")


def begun(run: Run) -> Iterator[dict[str, Any]]:
    """The records of the run's first part."""
    for line in run.metrics_path.read_bytes().splitlines():
        record = run.record(line)
        if record and record["epoch"] <= SHARE * run.recipe().train.epochs:
            yield record


def photograph(run: Path, path: Path) -> None:
    """The first screen of the run's report as a PNG.

    Raises:
        SystemExit: no Chromium is installed.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"one of {', '.join(BROWSERS)} must be installed")
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder) / "page.html", Path(folder) / "page.png"
        write_page(build_page([run]), page)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}"]
        look = [f"--window-size={PAGE[0]},{PAGE[1]}", f"--force-device-scale-factor={SCALE}"]
        subprocess.run([browser, *options, *look, page.as_uri()], check=True, capture_output=True)
        with Image.open(picture) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
