"""metrics.jsonl without its bulk: every evaluation, the first and last lines, some others, and the seconds of all.

A small file is read whole. Of a large one (10^6 lines are 280 MB) the bytes are looked through once, block by block,
and only the lines that a picture needs are parsed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

WHOLE = 4 * 2**20  # bytes: a file up to this is read line by line, 0.1 s
SPACED = 3_000  # lines of a larger one that are read, ten for each point of a report's curves
TAIL, LAST = 16 * 2**10, 4 * 2**10  # bytes at its end that are read line by line, with spaced lines and without
BLOCK = 4 * 2**20  # bytes that are held at once
EVALUATION = b'"top1"'
SECONDS = re.compile(rb'"seconds":\s*([0-9.eE+-]+)')


@dataclass(frozen=True)
class ScannedLines:
    """Lines in the file's order; `seconds`: the sum over all lines, None where none has them; `end`: the bytes of whole
    lines; `is_whole`: no line was left out."""

    lines: list[bytes]
    seconds: float | None
    end: int
    is_whole: bool


def scan_metrics(path: Path, *, spaced: int = SPACED) -> ScannedLines:
    """The evaluations, the first and last lines, and `spaced` others at equal distances; all lines of a small file with
    `spaced`."""
    if not path.is_file():
        return ScannedLines([], None, 0, is_whole=True)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        is_whole = bool(spaced) and size <= WHOLE
        found, seconds, end = [], None, 0
        for text in _blocks(file):
            found += text.split(b"\n")[:-1] if is_whole else _chosen(text, end, size=size, spaced=spaced)
            spent = SECONDS.findall(text)
            seconds = sum(map(float, spent), seconds or 0.0) if spent else seconds
            end += len(text)
    return ScannedLines(found, seconds, end, is_whole)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, some MiB at once."""
    rest = b""
    for block in iter(partial(file.read, BLOCK), b""):
        text = rest + block
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if end:
            yield text[:end]


def _chosen(text: bytes, place: int, *, size: int, spaced: int) -> list[bytes]:
    """The lines of a block, which begins at the file's byte `place`, that are looked at."""
    near_end = size - (TAIL if spaced else LAST) - place
    tail = text.rfind(b"\n", 0, max(near_end, 0)) + 1 if len(text) > near_end else len(text)
    starts = {0} if place == 0 else set()
    if spaced:
        stride = max(size // spaced, 1)
        starts |= {text.rfind(b"\n", 0, at) + 1 for at in range(-place % stride, len(text), stride)}
    at = text.find(EVALUATION)
    while at >= 0:
        starts.add(text.rfind(b"\n", 0, at) + 1)
        at = text.find(EVALUATION, text.find(b"\n", at))
    before = sorted(start for start in starts if start < tail)
    return [text[start : text.find(b"\n", start)] for start in before] + text[tail:].split(b"\n")[:-1]
