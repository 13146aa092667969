"""`deitkit` alone on a terminal: asking forwards and backwards, the summary, editing in it, and the run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import typer

from deitkit.cli import complete, render
from deitkit.cli.app import run_as
from deitkit.cli.guided import nearby
from deitkit.cli.guided.asker import Asker, Back, Prompt, Row, TypedLines
from deitkit.cli.guided.command import Settled, commands_for, settle
from deitkit.cli.guided.questions import NEW, QUESTIONS, Question
from deitkit.cli.options import workers_or_default
from deitkit.cli.plan import show_plan
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.recipe.keys import recipe_keys
from deitkit.runs.duration import spell_seconds

BEGIN, SET, LEAVE = "begin", "set", "leave"
FIRST = "this is the first question; Ctrl-C leaves"
SUMMARY_HELP = (
    "Choose a line to change it; what follows from it is chosen and measured anew. Nothing is written before the run "
    "begins. The command does the same without questions, today or in a script."
)
SET_HELP = (
    "KEY=VALUE, as --set takes it: optim.lr=1e-4, augment.hflip=0, teacher.labels=soft. KEY= alone takes it back, an "
    "empty line changes nothing."
)


@dataclass
class Guided:
    """One walk through the questions: the answers, how they are written, and the recipe's keys set beside them."""

    asker: Asker
    answers: dict[str, str] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, str] = field(default_factory=dict)  # answers that a step back took away

    def run_to_resume(self) -> str:
        """An interrupted run that is to go on; "" for a new one, unasked where there is none."""
        rows = nearby.interrupted_runs()
        if not rows:
            return ""
        new = Row(NEW, "", "begin a new run")
        text, help_ = "A run was interrupted. Go on with it?", "It goes on from its last checkpoint, bit for bit."
        while True:
            try:
                answer = self.asker.ask(Prompt(text, help_, (*rows, new), rows[0].value))
            except Back:
                self.asker.say(FIRST)
                continue
            return "" if answer == NEW else answer

    # Questions

    def ask_all(self) -> None:
        """Every question that is asked, applies and has no answer; a step back asks the one before again."""
        while question := next(self._open(), None):
            try:
                self._ask(question)
            except Back:
                if before := self._answered(until=question):
                    self._forget(before[-1])
                else:
                    self.asker.say(FIRST)

    def _open(self) -> Iterator[Question]:
        for question in QUESTIONS:
            if question.asked and question.name not in self.answers and question.applies(self.answers):
                yield question

    def _answered(self, *, until: Question | None = None) -> list[Question]:
        asked = QUESTIONS[: QUESTIONS.index(until)] if until else QUESTIONS
        return [each for each in asked if each.asked and each.name in self.answers and each.applies(self.answers)]

    def _ask(self, question: Question) -> None:
        name = question.name
        prompt = question.prompt(self.answers, before=self.answers.get(name) or self.earlier.get(name))
        self.answers[name] = answer = self.asker.ask(prompt)
        self.labels[name] = prompt.shown(answer)
        if name == "images":
            self.asker.say(f"  {nearby.told_of_images(answer)}")

    def _forget(self, question: Question) -> None:
        self.earlier[question.name] = self.answers.pop(question.name)

    # The summary

    def settle(self) -> list[Settled] | None:
        """The summary, again after each edit, until the run is to begin; None where it is not."""
        settled = self._measured()
        while True:
            try:
                answer = self.asker.ask(self._summary(settled))
            except Back:
                self._forget(self._answered()[-1])
                self.ask_all()
                settled = self._measured()
                continue
            if answer == BEGIN:
                return settled
            if answer == LEAVE:
                return None
            if self._edit(answer):
                settled = self._measured()

    def _measured(self) -> list[Settled] | None:
        """The commands settled and shown; None where they cannot run, which is said."""
        try:
            settled = settle(commands_for(self.answers, self.sets), say=self.asker.say)
        except DeitkitError as error:
            self.asker.say_error(error)
            self.asker.say("change a line below, and it is measured again")
            return None
        finally:
            self.asker.drain()
        show(settled)
        return settled

    def _summary(self, settled: Sequence[Settled] | None) -> Prompt:
        rows = [Row(BEGIN, cost_of(settled))] if settled else []
        for question in QUESTIONS:
            if question.applies(self.answers):
                answer = self.labels.get(question.name) or question.answer(self.answers)
                rows.append(Row(question.name, answer, question.label))
        rows += [Row(f"{SET}:{key}", value, key) for key, value in self.sets.items()]
        rows += [Row(SET, "any value of the recipe", "another"), Row(LEAVE, "and write nothing")]
        return Prompt("Begin?", SUMMARY_HELP, tuple(rows), rows[0].value)

    def _edit(self, name: str) -> bool:
        """Ask again what a line of the summary holds, and what follows from it; whether anything is another."""
        before = dict(self.answers), dict(self.sets)
        try:
            if name.startswith(SET):
                self._set_value(name.partition(":")[2])
            else:
                self._ask(next(question for question in QUESTIONS if question.name == name))
                self.ask_all()
        except Back:
            self.answers, self.sets = before
        return (self.answers, self.sets) != before

    def _set_value(self, key: str) -> None:
        """One value of the recipe, as --set takes it; nothing behind the key takes it back."""
        prompt = Prompt(
            "Which value of the recipe?", SET_HELP, default=f"{key}={self.sets.get(key, '')}" if key else "",
            matches=complete.settings, check=checked_setting,
        )  # fmt: skip
        name, _, value = self.asker.ask(prompt).partition("=")
        self.sets.pop(key, None)
        self.sets.pop(name, None)
        if value:
            self.sets[name] = value


def checked_setting(text: str) -> str:
    """KEY=VALUE with a key that recipes have; KEY= takes it back, and nothing changes nothing.

    Raises:
        DeitkitError: it is written otherwise.
    """
    from deitkit.recipe.load import parse_override

    if not text.strip():
        return ""
    name, _ = parse_override(text)
    if name not in recipe_keys() and not name.startswith("model.options."):
        keys = recipe_keys()
        raise DeitkitError(f"{name}: unknown key.{did_you_mean(name, keys)}", value=name, remedy="Tab lists them")
    return f"{name}={text.partition('=')[2].strip()}"


def show(settled: Sequence[Settled]) -> None:
    """What the last of them takes, in full; of a teacher before it the time; and the commands."""
    *first, last = settled
    show_plan(last.plan, workers=workers_or_default(last.command.options().workers))
    for each in first:
        render.say(f"before it, its teacher: {each.plan.model}, {spell_seconds(each.plan.total_s)}")
    render.say("the same without questions:" if not first else "the same without questions, one after the other:")
    for each in settled:
        render.say(f"  {shlex.join(['deitkit', *each.command.words])}")


def cost_of(settled: Sequence[Settled]) -> str:
    """Time of all together, and the most memory: `about 4 min 10 s, 312 MiB a step`."""
    memory = [each.plan.memory_mb for each in settled if each.plan.memory_mb is not None]
    time = f"about {spell_seconds(sum(each.plan.total_s for each in settled))}"
    return time + (f", {max(memory):,.0f} MiB a step" if memory else "")


LEFT = "left; nothing was written"


def guided() -> None:
    """Asks what you have and want, shows what it takes, and runs it."""
    try:
        commands = _commands()
    except KeyboardInterrupt:
        render.say(f"\n{LEFT}")
        raise typer.Exit(130) from None
    if not commands:
        render.say(LEFT)
    for number, words in enumerate(commands, start=1):
        _run(words, then=commands[number:])


def _commands() -> list[list[str]]:
    with asker() as person:
        walk = Guided(person)
        if run := walk.run_to_resume():
            return [["runs", "resume", run]]
        walk.ask_all()
        return [each.command.words for each in walk.settle() or ()]


def _run(words: Sequence[str], *, then: Sequence[Sequence[str]]) -> None:
    """The verb itself, whose command line the run records; where it fails, what was to follow is said."""
    render.say(f"$ {shlex.join(['deitkit', *words])}")
    if code := run_as(words):
        for later in then:
            render.say(f"and after it: {shlex.join(['deitkit', *later])}")
        raise typer.Exit(code)


def asker() -> Asker:
    """Arrow keys where the terminal has a cursor to move, else line by line."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", "") or not render.talks_to_a_terminal():
        return TypedLines()
    from deitkit.cli.guided.menus import Menus

    return Menus()
