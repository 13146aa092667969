"""The lower lines of a terminal, drawn over and over, and single keys. Knows no run; writes to stderr alone.

Rich's Live leaves stale copies when a terminal becomes narrower, because it counts lines as it wrote them and the
terminal wraps them anew. `Region` counts them as they stand now.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

UP_AND_CLEAR = "\r\x1b[{}A\x1b[J"
CLEAR_BELOW = "\r\x1b[J"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Region:
    """Some lines at the end of a terminal. What is printed above them stays."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self._drawn: list[int] = []  # cells of each line as it was written

    @property
    def width(self) -> int:
        """Cells that a line may take; the last one is left free, because writing it wraps on some terminals."""
        return max(self.console.size.width - 1, 1)

    def draw(self, lines: Sequence[Text]) -> None:
        """Put these lines in place of the last ones; what does not fit is cut."""
        height = max(self.console.size.height - 1, 1)
        shown = [self._cut(line) for line in lines[:height]]
        text = "\n".join(self._ansi(line) for line in shown)
        self._write(HIDE_CURSOR + self._back_to_start() + text + SHOW_CURSOR)
        self._drawn = [line.cell_len for line in shown]

    def print_above(self, line: Text) -> None:
        """A line that stays, above the region; `draw` puts the region back."""
        self._write(self._back_to_start() + self._ansi(line) + "\n")
        self._drawn = []

    def leave(self) -> None:
        """End with the lines as they stand; the next output begins below them."""
        if self._drawn:
            self._write("\n")
        self._drawn = []

    def _back_to_start(self) -> str:
        """From the end of the last line to the start of the first, however the terminal wrapped them since."""
        if not self._drawn:
            return CLEAR_BELOW
        width = max(self.console.size.width, 1)
        rows = sum(max(1, -(-cells // width)) for cells in self._drawn) - 1
        return UP_AND_CLEAR.format(rows) if rows else CLEAR_BELOW

    def _cut(self, line: Text) -> Text:
        line = line.copy()
        line.truncate(self.width, overflow="ellipsis" if self.speaks("…") else "crop")
        return line

    def _ansi(self, line: Text) -> str:
        with self.console.capture() as capture:
            self.console.print(line, end="", soft_wrap=True)
        return capture.get()

    def speaks(self, text: str) -> bool:
        """Whether the terminal's encoding has these characters."""
        try:
            text.encode(self.console.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    @staticmethod
    def _write(text: str) -> None:
        # The view is for somebody who looks: a terminal that is gone must not end the training behind it.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Keys:
    """Single keys from the terminal, without Enter and without waiting; none where a program stands before stdin."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    @staticmethod
    def there_are() -> bool:
        """Whether a person can press a key: a terminal, and this process in its foreground."""
        try:
            return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except (OSError, ValueError, AttributeError):  # closed, or no file at all
            return False

    def pressed(self) -> str:
        """The keys since the last call, in order; "" for none."""
        if not self.there_are():
            return ""
        stdin = sys.stdin.fileno()
        if self._before is None or termios.tcgetattr(stdin)[3] & termios.ICANON:  # again after Ctrl-Z and fg
            self._before = self._before or termios.tcgetattr(stdin)
            tty.setcbreak(stdin, termios.TCSANOW)
        keys = b""
        while select.select([stdin], [], [], 0)[0] and (more := os.read(stdin, 64)):
            keys += more
        return keys.decode(errors="replace")

    def release(self) -> None:
        """Give the terminal back as it was."""
        if self._before is not None and self.there_are():
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
        self._before = None
