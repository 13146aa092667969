"""The verbs' command lines behind the answers: what the guided start shows, runs, and has a run record as its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from deitkit.cli.data.shared import short_name
from deitkit.cli.guided.questions import QUESTIONS, TEACH_FIRST, Answers, unused
from deitkit.cli.options import ChosenRecipe, RunOptions, TeacherOptions, WhatOptions, workers_or_default
from deitkit.cli.train import options_of
from deitkit.recipe.pick import OWN_CONVNET, Verb
from deitkit.recipe.resolve import TrainingOptions, parse_minutes

TEACHERS_SHARE = 1 / 4  # of the time, where a teacher is trained first
GROUPS = (WhatOptions, TeacherOptions, RunOptions)


@dataclass(frozen=True)
class GuidedCommand:
    """A training verb and the values of its options, by their names in `cli/options.py`."""

    verb: Verb
    values: Mapping[str, Any]

    @property
    def output(self) -> str:
        return str(self.values["output"])

    @property
    def words(self) -> list[str]:
        """As a person would type it, without `deitkit`."""
        named = option_names()
        pairs = [
            (named[name], str(word))
            for name, value in self.values.items()
            for word in (value if isinstance(value, list) else [value])
        ]
        return [self.verb, *(word for pair in pairs for word in pair)]

    def having(self, **values: Any) -> GuidedCommand:
        """The same with other values; None takes one away."""
        kept = {name: value for name, value in {**self.values, **values}.items() if value is not None}
        return replace(self, values=kept)

    def options(self) -> TrainingOptions:
        """What the verb makes of these words."""

        def those(group: type[Any]) -> dict[str, Any]:
            return {each.name: self.values[each.name] for each in fields(group) if each.name in self.values}

        taught = None if self.verb == "pretrain" else TeacherOptions(**those(TeacherOptions))
        what, run = WhatOptions(**those(WhatOptions)), RunOptions(**those(RunOptions))
        return options_of(self.values.get("recipe", ""), what, run, taught)


def option_names() -> dict[str, str]:
    """How each option is written: --data, --from."""
    hints: dict[str, Any] = {"recipe": ChosenRecipe}
    for group in GROUPS:
        hints |= get_type_hints(group, include_extras=True)
    return {name: hint.__metadata__[0].default for name, hint in hints.items()}


def commands_for(answers: Answers, sets: Mapping[str, str]) -> list[GuidedCommand]:
    """What the answers amount to, in the order in which it runs; `sets` are keys of the recipe and their values."""
    values: dict[str, Any] = {}
    for question in QUESTIONS:
        if question.applies(answers):
            values |= question.options(question.answer(answers))
    if values["workers"] == _default_workers():
        del values["workers"]
    verb: Any = answers["goal"]
    command = GuidedCommand(verb, values)
    taught_first = values.get("teacher") == [TEACH_FIRST]
    first = _teachers_command(command, answers) if taught_first else None
    if first is not None:
        command = command.having(teacher=[first.output], time=_share(values.get("time"), 1 - TEACHERS_SHARE))
        sets = {"teacher.check": "false", **sets}  # how good it is, its own run shows
    if sets:
        command = command.having(sets=[f"{key}={value}" for key, value in sets.items()])
    return [first, command] if first is not None else [command]


def _teachers_command(command: GuidedCommand, answers: Answers) -> GuidedCommand:
    """A convnet on the same images, in its share of the time."""
    kept = {name: value for name, value in command.values.items() if name in ("dataset", "data", "device", "workers")}
    values = {"recipe": OWN_CONVNET, **kept, "output": unused(f"runs/{short_name(answers['images'])}-teacher")}
    return GuidedCommand("pretrain", values).having(time=_share(command.values.get("time"), TEACHERS_SHARE))


def _share(time: str | None, share: float) -> str | None:
    """A part of a time, in minutes."""
    minutes = parse_minutes(time or "")
    return None if minutes is None else f"{minutes * share:g}m"


def _default_workers() -> int:
    return workers_or_default(None)
