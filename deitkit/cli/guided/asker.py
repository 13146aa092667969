"""How a question is put and what comes back, whoever draws it; and questions line by line, for terminals that cannot
move a cursor: a number, the answer itself, ? or <.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from deitkit.cli import render
from deitkit.errors import DeitkitError, did_you_mean


class Back(Exception):
    """The question before is wanted again."""


@dataclass(frozen=True)
class Row:
    """A line of a list: the answer, what it is in words, and how it is written where the answer itself says little."""

    value: str
    words: str = ""
    label: str = ""

    @property
    def shown(self) -> str:
        return self.label or self.value


Matches = Callable[[str], Iterable[tuple[str, str]]]  # what was begun -> what it may become, and what that is


def no_matches(_: str) -> Iterable[tuple[str, str]]:
    return ()


@dataclass(frozen=True)
class Prompt:
    """A question as it is put: rows to choose from, and what may be `typed` in place of them; one of both at least.

    `check` gives the answer as it is kept, or raises a DeitkitError, which is shown before it is asked again.
    """

    text: str
    help: str
    rows: tuple[Row, ...] = ()
    default: str = ""
    typed: str = ""
    matches: Matches = no_matches
    check: Callable[[str], str] = str.strip

    def shown(self, answer: str) -> str:
        """How an answer is written."""
        return next((row.shown for row in self.rows if row.value == answer), answer)


class Asker(Protocol):
    """Puts questions to a person; the terminal is as it was once it is left."""

    def __enter__(self) -> Asker: ...
    def __exit__(self, *error: object) -> None: ...

    def ask(self, prompt: Prompt) -> str:
        """The answer, once it can be used.

        Raises:
            Back: the person goes back.
            KeyboardInterrupt: the person leaves.
        """

    def drain(self) -> None:
        """Forget keys that were pressed while something was measured: they were meant for nothing that comes."""

    def say(self, text: str) -> None: ...
    def say_error(self, error: DeitkitError) -> None: ...


HELP, BACK = "?", "<"


class TypedLines:
    """Writes to stderr, reads stdin; the end of it leaves."""

    def __enter__(self) -> TypedLines:
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to put back."""

    def drain(self) -> None:
        """Lines are read whole; what waits is meant."""

    def ask(self, prompt: Prompt) -> str:
        self._show(prompt)
        while True:
            text = self._read(prompt)
            if text == BACK:
                raise Back
            if text == HELP:
                self.say(prompt.help)
                continue
            try:
                return prompt.check(self._meant(prompt, text))
            except DeitkitError as error:
                self.say_error(error)

    def say(self, text: str) -> None:
        render.say(text)

    def say_error(self, error: DeitkitError) -> None:
        render.say_error(error.message())

    def _show(self, prompt: Prompt) -> None:
        self.say(f"\n{prompt.text}")
        for number, row in enumerate(prompt.rows, start=1):
            self.say(f"  {number}  {row.shown}" + (f"  {row.words}" if row.words else ""))
        self.say(f"({HELP} help, {BACK} back, Ctrl-C leaves" + (f"; or: {prompt.typed})" if prompt.typed else ")"))

    @staticmethod
    def _read(prompt: Prompt) -> str:
        default = f"[{prompt.shown(prompt.default)}] " if prompt.default or prompt.rows else ""
        print(f"{render.escaped(default)}> ", end="", file=sys.stderr, flush=True)  # noqa: T201
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        return line.strip()

    @staticmethod
    def _meant(prompt: Prompt, text: str) -> str:
        """The answer behind a line: nothing is the default, a number a row, a row's words the row."""
        if not text:
            return prompt.default
        if text.isdecimal() and 0 < int(text) <= len(prompt.rows):
            return prompt.rows[int(text) - 1].value
        for row in prompt.rows:
            if text in (row.value, row.label):
                return row.value
        if prompt.typed:
            return text
        names = [row.shown for row in prompt.rows]
        raise DeitkitError(f"{text!r} is none of them.{did_you_mean(text, names)}", value=text, choices=names)
