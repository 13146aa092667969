"""The verbs' command lines behind the answers, and what they come to: recipes, by the verbs' own rules, and plans.

The command is what the guided start shows, runs, and has a run record as its own. Plans are measured as `deitkit plan`
does, and nothing is written that stays.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from deitkit.cli.data.shared import short_name
from deitkit.cli.guided.questions import QUESTIONS, TEACH_FIRST, Answers, unused
from deitkit.cli.options import ChosenRecipe, RunOptions, TeacherOptions, WhatOptions, workers_or_default
from deitkit.cli.plan import seconds_to_load
from deitkit.cli.train import options_of, refuse_wrong_verb
from deitkit.recipe.pick import OWN_CONVNET, Verb
from deitkit.recipe.resolve import TrainingOptions, parse_minutes, resolve
from deitkit.training.suggest import choose

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe
    from deitkit.training.plan import RunPlan

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


@dataclass(frozen=True)
class Settled:
    """A command whose epochs are fixed, so that it gives the same run whenever it is repeated or resumed."""

    command: GuidedCommand
    recipe: Recipe
    plan: RunPlan


def settle(commands: Sequence[GuidedCommand], *, say: Callable[[str], None]) -> list[Settled]:
    """All of them; where the second one's teacher is the first one's run, an untrained one is measured in its place.

    `say` is told what is measured: it takes some seconds.

    Raises:
        DeitkitError: whatever the verbs would refuse.
    """
    what = "measuring a few steps of {} run ..."
    if len(commands) == 1:
        say(what.format("the"))
        return [_settle(commands[0])]
    first, then = commands
    say(what.format("the teacher's"))
    with tempfile.TemporaryDirectory(prefix="deitkit-guided-") as folder, quietly():
        teacher = _settle(first)
        say(what.format("the student's"))
        _save_untrained(teacher.recipe, Path(folder))
        return [teacher, _settle(then, stand_in=folder)]


def recipe_of(command: GuidedCommand, *, ahead: bool = False) -> Recipe:
    """The recipe that the verb would train by; `ahead` of a teacher that is trained before it.

    Raises:
        DeitkitError: whatever the verb would refuse.
    """
    with quietly():
        recipe = resolve(choose(command.verb, replace(command.options(), dry_run=ahead)))
    refuse_wrong_verb(command.verb, recipe)
    return recipe


def _settle(command: GuidedCommand, *, stand_in: str = "") -> Settled:
    options = command.options()
    recipe = recipe_of(command, ahead=bool(stand_in))
    if options.minutes is None:
        return Settled(command, recipe, _plan(recipe, command, stand_in))
    command = command.having(time=None, epochs=recipe.train.epochs)
    plan = _plan(recipe, command, stand_in)
    if plan.total_s > options.minutes * 60:  # loading and evaluating take more than the rule leaves for them
        epochs = max(1, plan.epochs_within(options.minutes * 60))
        command = command.having(epochs=epochs)
        recipe = recipe_of(command, ahead=bool(stand_in))
        plan = replace(plan.for_epochs(epochs), evaluations=math.ceil(epochs / recipe.train.eval_every))
    return Settled(command, recipe, plan)


def _plan(recipe: Recipe, command: GuidedCommand, stand_in: str) -> RunPlan:
    from deitkit.distributed import pick_device
    from deitkit.recipe.load import override
    from deitkit.training.plan import plan_run

    options = command.options()
    measured = override(recipe, {"teacher.model": stand_in}) if stand_in else recipe
    with quietly():
        return plan_run(
            measured, device=pick_device(options.device), workers=workers_or_default(options.workers),
            folder=Path(command.output), before_s=seconds_to_load(),
        )  # fmt: skip


def _save_untrained(recipe: Recipe, folder: Path) -> None:
    """A model folder of the recipe's network, as random weights leave it."""
    from deitkit.data.open import open_source
    from deitkit.models.folder import ModelInfo
    from deitkit.models.load import save_model
    from deitkit.models.student import build_student

    names = open_source(recipe.data, "train").class_names
    save_model(folder, build_student(recipe.model, len(names)), ModelInfo.of(recipe.data, recipe.model.size, names))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what deitkit says of its choices: the run says it again, where it happens."""
    logger = logging.getLogger("deitkit")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
