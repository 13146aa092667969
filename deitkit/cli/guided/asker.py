"""How a question is put and what comes back, whoever draws it. Draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from deitkit.errors import DeitkitError


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
