"""A program on a real pseudo-terminal, as a person has it: keys in, screen out."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte

UP, DOWN, LEFT, END, ESCAPE, TAB, ENTER, F1 = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[F", "\x1b", "\t", "\r", "\x1bOP"
CTRL_C, CTRL_U = "\x03", "\x15"


class Terminal:
    """A real pseudo-terminal with deitkit on it, in its foreground."""

    def __init__(self, folder: Path, *words: str, columns: int = 100, lines: int = 30, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        whole = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", **environment}
        whole = {key: value for key, value in whole.items() if key not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-m", "deitkit", *words]
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)
        self.resize(columns, lines)
        self.process = subprocess.Popen(command, cwd=folder, env=whole, preexec_fn=lambda: os.login_tty(theirs))
        os.close(theirs)
        self.seen = ""
        self.raw = ""

    def expect(self, words: str, *, seconds: float = 60) -> None:
        """Wait until it wrote these words, after those expected before."""
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.seen}"
            if not self._read():
                assert words in self.seen, self.seen
        self.seen = self.seen.split(words, 1)[1]

    def shows(self, *words: str, seconds: float = 60) -> str:
        """Wait until all these words stand on the screen together; the whole of it.

        A screen is drawn in pieces: what is asserted of it is waited for, never read off at the first word.
        """
        deadline = time.monotonic() + seconds
        while missing := [text for text in words if text not in self.picture()]:
            there = self._read() and time.monotonic() < deadline
            assert there or all(text in self.picture() for text in words), f"no {missing}:\n{self.picture()}"
        return self.picture()

    def picture(self) -> str:
        """The screen as a person sees it now."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def _read(self) -> bool:
        """Take in what comes within a moment; False once the program is gone."""
        if select.select([self.ours], [], [], 0.2)[0]:
            try:
                text = os.read(self.ours, 65536).decode(errors="replace")
            except OSError:
                return False
            self.seen += text
            self.raw += text
            self.stream.feed(text)
        return True

    def answer(self, text: str) -> None:
        self.press(f"{text}\n")

    def press(self, *keys: str) -> None:
        os.write(self.ours, "".join(keys).encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def leave(self) -> int:
        """Press Ctrl-C, as a person does: again after a while where it fell between two questions."""
        for _ in range(12):
            self.press(CTRL_C)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if not self._read():
                    return self.process.wait(timeout=60)
        raise AssertionError(f"Ctrl-C does not end it:\n{self.picture()}")

    def end(self, *, seconds: float = 60) -> int:
        """Its exit code, once it has ended and all that it wrote is taken in."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, self.picture()
        return self.process.wait(timeout=seconds)
