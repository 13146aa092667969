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


class Terminal:
    """A real pseudo-terminal with deitkit on it, in its foreground."""

    def __init__(self, folder: Path, *words: str, columns: int = 100, lines: int = 30) -> None:
        self.ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
        environment = {key: value for key, value in environment.items() if key not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-m", "deitkit", *words]
        self.process = subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=lambda: os.login_tty(theirs))
        os.close(theirs)
        self.resize(columns, lines)
        self.seen = ""

    def expect(self, words: str, *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.seen}"
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.ours, 65536).decode(errors="replace")
                except OSError:
                    assert words in self.seen, self.seen
        self.seen = self.seen.split(words, 1)[1]

    def answer(self, text: str) -> None:
        self.press(f"{text}\n")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
