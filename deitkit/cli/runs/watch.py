"""`deitkit runs watch`: a run's live view from another terminal, or over ssh. It only reads the run's folder.

On a terminal the same picture as where it trains; elsewhere a line for each that is logged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from deitkit.cli import render
from deitkit.cli.options import RunName
from deitkit.cli.picture import BARS, Picture
from deitkit.cli.screen import Region

if TYPE_CHECKING:
    from deitkit.runs.folder import Run

PAUSE_S = 0.5  # between two looks at the folder


def watch(run: RunName) -> None:
    """Watch a run that trains in another terminal. Ctrl-C stops watching, not the run.

    Example: deitkit runs watch runs/quickstart/student
    Example: deitkit runs watch runs/mine
    """
    from deitkit.runs.folder import Run

    opened = Run.open(run)
    region = Region() if render.talks_to_a_terminal() else None
    picture = Picture(
        opened.name, opened.recipe().train.epochs, total_steps=0,
        symbols=region.speaks(BARS + "★━") if region else False,
    )  # fmt: skip
    for record in follow(opened):
        if record is not None and ("top1" in record or {"loss", "lr"} <= record.keys()):
            count(picture, record)
            show(picture, record, region)
        if region:
            region.draw(picture.lines(width=region.width, eta_s=time_left(picture)))
    if region:
        region.leave()
    render.say(f"{run} is {opened.status()}")


def show(picture: Picture, record: Mapping[str, Any], region: Any) -> None:
    """A line that stays: an evaluation's row, or off a terminal every record."""
    rows = picture.take(record, width=region.width if region else 10_000)
    if region:
        for row in rows:
            region.print_above(row)
    elif rows:
        for row in rows:
            render.say(row.plain)
    else:
        render.say(f"  step {record['step']}/{picture.total_steps}  loss {record['loss']:.4f}")


def follow(run: Run) -> Iterator[dict[str, Any] | None]:
    """Each line of metrics.jsonl as it comes, None where there is none yet; ends when the run does.

    Of a large file that is there already some lines alone, as `Run.logged` chooses them. A resumed run cuts the file to
    its checkpoint: then reading goes on at the new end.
    """
    before = run.logged()
    yield from before.lines
    read, quiet = before.end, 0
    while True:
        size = run.metrics_path.stat().st_size if run.metrics_path.is_file() else 0
        if size > read and (whole := _whole_lines(run, read)):
            read += len(whole)
            yield from filter(None, map(run.record, whole.splitlines()))
            quiet = 0
            continue
        read = min(read, size)
        # Looking at the lock takes it for a moment, so only after some silence.
        if quiet % 4 == 2 and run.status() != "running":
            return
        quiet += 1
        yield None
        time.sleep(PAUSE_S)


def _whole_lines(run: Run, start: int) -> bytes:
    """What was logged from this byte on, up to the last line's end."""
    with open(run.metrics_path, "rb") as file:
        file.seek(start)
        text = file.read()
    return text[: text.rfind(b"\n") + 1]


def count(picture: Picture, record: Mapping[str, Any]) -> None:
    """The run's number of steps, which its records tell by step and epoch."""
    if record["epoch"]:
        picture.total_steps = max(record["step"], round(record["step"] / record["epoch"] * picture.epochs))


def time_left(picture: Picture) -> float | None:
    """Seconds at the last record's speed, evaluations left out."""
    record = picture.numbers
    if not record or picture.log_steps <= 0:
        return None
    return float(record.get("seconds", 0.0) / picture.log_steps * (picture.total_steps - picture.step))
