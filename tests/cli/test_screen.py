"""Lines drawn over and over: no stale copy after any resize of the terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console
from rich.text import Text

from deitkit.cli.screen import Keys, Region


class Terminal:
    """A terminal that wraps what it holds anew when it is resized, as today's do. Knows what `Region` writes."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = [""]  # as written; each takes one row or, wrapped, several

    def write(self, text: str) -> None:
        for part in re.split(r"(\x1b\[\d*A|\x1b\[J|\x1b\[\?25[lh]|\n|\r)", text):
            if part.endswith("A") and part.startswith("\x1b"):
                self._up(int(part[2:-1]))
            elif part == "\n":
                self.lines.append("")
            elif part and not part.startswith(("\x1b", "\r")):
                self.lines[-1] += re.sub(r"\x1b\[[\d;]*m", "", part)
            elif part == "\x1b[J" and not self.went_up:
                self.lines[-1] = ""
            self.went_up = part.endswith("A")

    def _up(self, rows: int) -> None:
        """Rows above the cursor's own, which is the last line's last one, go; what is not gone up to stays."""
        left = rows + 1
        while left > 0:
            left -= max(1, -(-len(self.lines[-1]) // self.width))
            self.lines.pop()
        assert left == 0, "the cursor stands in the middle of a line"
        self.lines.append("")

    went_up = False


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> Region:
    region = Region()
    region.console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    return region


def test_what_is_drawn_takes_the_place_of_what_was(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(80)
    monkeypatch.setattr(Region, "_write", staticmethod(terminal.write))
    for number in range(5):
        region.draw([Text(f"first {number}"), Text(f"second {number}")])
    assert terminal.lines == ["first 4", "second 4"]


@pytest.mark.parametrize("widths", [(80, 40, 80), (80, 17, 120, 39), (120, 119, 118, 60, 7, 200)])
def test_no_copy_stays_after_a_resize(region: Region, monkeypatch: pytest.MonkeyPatch, widths: tuple[int, ...]) -> None:
    terminal = Terminal(widths[0])
    monkeypatch.setattr(Region, "_write", staticmethod(terminal.write))
    region.console.width = widths[0]
    region.print_above(Text("a row that stays"))
    for width in widths:
        terminal.width = region.console.width = width
        region.draw([Text("x" * 70), Text("y" * 30)])
        region.draw([Text("x" * 70), Text("y" * 30)])
        assert terminal.lines[0] == "a row that stays"
        assert len(terminal.lines) == 3
        assert all(len(line) < width for line in terminal.lines[1:])


def test_no_more_lines_than_the_terminal_has_are_drawn(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(80)
    monkeypatch.setattr(Region, "_write", staticmethod(terminal.write))
    region.console.height = 4
    region.draw([Text(str(number)) for number in range(10)])
    assert terminal.lines == ["0", "1", "2"]


def test_rows_that_stay_stand_above_the_region(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(80)
    monkeypatch.setattr(Region, "_write", staticmethod(terminal.write))
    region.draw([Text("bar")])
    region.print_above(Text("epoch 1"))
    region.draw([Text("bar")])
    assert terminal.lines == ["epoch 1", "bar"]
    region.leave()
    assert terminal.lines == ["epoch 1", "bar", ""]


def test_a_terminal_that_is_gone_ends_nothing(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    region.draw([Text("bar")])


def test_without_a_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    keys = Keys()
    assert not keys.there_are() and keys.pressed() == ""
    keys.release()
    monkeypatch.setattr(sys, "stdin", None)
    assert not keys.there_are()
