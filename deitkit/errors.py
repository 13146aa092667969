"""Errors that are the user's to fix, and interruptions. Knows no command line and prints nothing."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TypeVar

Choice = TypeVar("Choice", bound=str)


class DeitkitError(Exception):
    """What is wrong, the value, the choices and the remedy.

    Only the command line turns it into a message and exit code 2. Anything else that is raised is a bug.
    """

    def __init__(
        self,
        what: str,
        *,
        value: object = None,
        choices: Iterable[str] = (),
        remedy: str = "",
        problems: Sequence[str] = (),
    ) -> None:
        self.what = what
        self.value = value
        self.choices = tuple(choices)
        self.remedy = remedy
        self.problems = tuple(problems)
        super().__init__(self.message())

    def message(self) -> str:
        """The whole error as plain text, one thought a line."""
        lines = [self.what]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.choices:
            lines.append(f"  choices: {', '.join(self.choices)}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """For `--json`: the parts, with empty ones left out."""
        parts: dict[str, object] = {
            "error": self.what,
            "value": None if self.value is None else str(self.value),
            "choices": list(self.choices),
            "problems": list(self.problems),
            "remedy": self.remedy,
        }
        return {key: part for key, part in parts.items() if part}


class Interrupted(Exception):
    """A signal arrived, the step was finished and the run saved. `signal` is its number."""

    def __init__(self, signal: int, step: int) -> None:
        self.signal = signal
        self.step = step
        super().__init__(f"interrupted by signal {signal} after step {step}")


def quoted(word: object) -> str:
    """A word of a suggested command, as a shell takes it."""
    return shlex.quote(str(word))


def one_of(name: str, choices: Sequence[Choice], *, what: str) -> Choice:
    """The choice of that name.

    Raises:
        DeitkitError: there is none; the nearest is suggested.
    """
    for choice in choices:
        if choice == name:
            return choice
    raise DeitkitError(f"unknown {what} {name!r}.{did_you_mean(name, choices)}", value=name, choices=choices)


def is_installed(package: str) -> bool:
    """Whether a package can be imported; nothing is."""
    try:
        return find_spec(package) is not None
    except ValueError:  # None in its place in sys.modules
        return False


def require(what: str, *packages: str, extra: str, instead: str = "") -> None:
    """Check that packages of one of deitkit's extras are there, before anything is done; none is imported.

    Raises:
        DeitkitError: one is not; `what` needs them, and `instead` would do.
    """
    if missing := [package for package in packages if not is_installed(package)]:
        names = f"{' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        remedy = f"pip install 'deitkit[{extra}]'" + (f", or {instead}" if instead else "")
        raise DeitkitError(f"{what} needs {names}", value=missing[0], remedy=remedy)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """` Did you mean X?` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
