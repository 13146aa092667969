"""The first word of a verb: what it does, said before libraries that take seconds to import, and a sign that they do.

An import hook, so that no verb has to think of it: what is answered at once says nothing more.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from deitkit.cli import render

SLOW = frozenset({"torch", "torchvision", "timm", "fiftyone", "sklearn", "scipy", "pyarrow", "matplotlib", "pandas"})
SIGNS = "|/-\\"
SECONDS_A_SIGN = 0.12


def before_slow_imports(words: str) -> None:
    """Say these words once, when the first slow library is about to be imported."""
    if not sys.modules.keys() & SLOW:
        sys.meta_path.insert(0, _SlowImports(words))


class _SlowImports(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it sees the first slow import begin and end."""

    def __init__(self, words: str) -> None:
        self.words = words

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in SLOW or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        if not _moving():
            render.say(self.words)
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def watched(module: ModuleType) -> None:
            with _sign(self.words):
                execute(module)

        loader.exec_module = watched
        return spec


def _moving() -> bool:
    """Whether a sign can be drawn over and over."""
    return render.talks_to_a_terminal() and os.environ.get("TERM") != "dumb"


@contextmanager
def _sign(words: str) -> Iterator[None]:
    """The words with a turning sign, in one line that is gone afterwards. Its thread ends before any process forks."""
    done = threading.Event()
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    line = render.escaped(words)[: max(columns - 3, 1)]

    def turn() -> None:
        turns = 0
        while not done.wait(SECONDS_A_SIGN if turns else 0):
            sys.stderr.write(f"\r{SIGNS[turns % len(SIGNS)]} {line}")
            sys.stderr.flush()
            turns += 1

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
