"""What a guided command comes to: its recipe, by the verbs' own rules, and its plan, measured as `deitkit plan` does.

Writes nothing that stays.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.cli.guided.command import GuidedCommand
from deitkit.cli.options import workers_or_default
from deitkit.cli.train import refuse_wrong_verb
from deitkit.recipe.resolve import resolve
from deitkit.training.suggest import choose

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe
    from deitkit.training.plan import RunPlan


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
    from deitkit.cli.plan import seconds_to_load
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
