"""Who watches a run, and what they may ask of it. Knows no terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from deitkit.training.log import Sums
from deitkit.training.step import Training

logger = logging.getLogger(__name__)

# What a person who watches may ask for between two steps; "pause" until it is taken back.
Request = Literal["", "evaluate", "checkpoint", "pause", "stop"]


class Observer(Protocol):
    """Who watches a run: the live view, or nobody. Called by `fit` only."""

    def start(self, training: Training, *, first_step: int) -> None: ...
    def step(self, step: int, sums: Sums) -> None: ...
    def logged(self, record: Mapping[str, Any]) -> None: ...
    def doing(self, what: str) -> None: ...
    def asked(self) -> Request: ...
    def say(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """An observer that looks away."""

    def start(self, training: Training, *, first_step: int) -> None:
        """A run begins."""

    def step(self, step: int, sums: Sums) -> None:
        """An optimiser step ended."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""

    def doing(self, what: str) -> None:
        """Something began that is no step and takes a while."""

    def asked(self) -> Request:
        """What is asked for since the last call: nothing."""
        return ""

    def say(self, text: str) -> None:
        """Something that a person should know."""

    def stop(self) -> None:
        """The run ended, whichever way."""


class Logged(Silent):
    """Tells the logger what a person should know, for programs that draw no view of their own."""

    def say(self, text: str) -> None:
        logger.info(text)
