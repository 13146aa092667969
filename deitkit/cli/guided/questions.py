"""The questions, in the order in which they are asked: each a row of QUESTIONS, and nothing else knows them by name.

A new question is one more row: its words and help, what there is to choose from, how an answer is checked, when it
applies, and the options of the verb that it sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deitkit.catalog import DATASETS
from deitkit.cli import complete
from deitkit.cli.data.shared import data_of, short_name
from deitkit.cli.guided import nearby
from deitkit.cli.guided.asker import Matches, Prompt, Row, no_matches
from deitkit.cli.options import MOST_WORKERS, workers_or_default
from deitkit.errors import DeitkitError
from deitkit.recipe.resolve import parse_minutes, plain_path

Answers = Mapping[str, str]  # a question's name -> its answer; those not asked are left to their default

DIGITS, NEW, TEACH_FIRST = "digits", "new", "first"


@dataclass(frozen=True)
class Question:
    """`label` is its name in the summary. One that is not `asked` has its default until it is edited there.

    `rows` are looked for when it is asked, and the first is the default where no other is named; `typed` says what may
    stand in their place. `options` are the verb's, by their names in `cli/options.py`.
    """

    name: str
    label: str
    text: str
    help: str
    options: Callable[[str], dict[str, Any]]
    default: Callable[[Answers], str] | None = None
    rows: Callable[[Answers], list[Row]] = lambda _: []
    check: Callable[[str, Answers], str] = lambda answer, _: answer.strip()
    applies: Callable[[Answers], bool] = lambda _: True
    typed: str = ""
    matches: Matches = no_matches
    asked: bool = True

    def answer(self, answers: Answers) -> str:
        """Its answer, or its default."""
        if self.name in answers:
            return answers[self.name]
        return self.default(answers) if self.default else self.rows(answers)[0].value

    def prompt(self, answers: Answers, *, before: str | None = None) -> Prompt:
        """How it is put; `before` was answered earlier."""
        rows = self.rows(answers)
        default = before or (self.default(answers) if self.default else rows[0].value)
        if rows and default not in (row.value for row in rows):
            rows = [Row(default, "as before"), *rows]
        return Prompt(
            self.text, self.help, tuple(rows), default, self.typed, self.matches,
            lambda answer: self.check(answer, answers),
        )  # fmt: skip


# Images


def _image_rows(answers: Answers) -> list[Row]:
    return [*nearby.folders_with_images(), *nearby.datasets_here()]


def _checked_images(answer: str, answers: Answers) -> str:
    """A data set's name, or a folder that opens."""
    from deitkit.data.open import open_source

    answer = plain_path(answer)
    open_source(data_of(answer), "train")
    return answer


def _image_options(answer: str) -> dict[str, Any]:
    return {"dataset": answer} if answer in DATASETS or answer.startswith("hf:") else {"data": answer}


# What is wanted

GOALS = (
    Row("finetune", "an earlier model, further, on these images: best for few of them", "fine-tune"),
    Row("distill", "a small transformer that learns from a teacher, too", "distil"),
    Row("pretrain", "a small transformer, from random weights", "pretrain"),
)


def _goal(answers: Answers) -> str:
    """Published weights are for photographs; the digits are the quickstart's."""
    return "distill" if answers.get("images") == DIGITS else "finetune"


def _is(goal: str) -> Callable[[Answers], bool]:
    return lambda answers: answers.get("goal") == goal


def _start_rows(answers: Answers) -> list[Row]:
    return [*nearby.finished_runs(), *(Row(name, words) for name, words in nearby.PUBLISHED.items())]


def _teacher_rows(answers: Answers) -> list[Row]:
    first = Row(TEACH_FIRST, "on the same images, before: a convnet, in a quarter of the time", "train one first")
    return [first, *nearby.finished_runs()]


def _checked_model(answer: str, answers: Answers) -> str:
    """A reference to something that is there; what it holds is looked at before the summary."""
    from deitkit.models.reference import Reference

    if answer != TEACH_FIRST:
        Reference.find(answer.strip())
    return answer.strip()


# How long, on what, where to

TIMES = (
    Row("5m", "a first look", "5 minutes"), Row("30m", "", "30 minutes"), Row("2h", "", "2 hours"),
    Row("8h", "a night", "8 hours"), Row("all", "as many epochs as so many images ask for", "as long as it takes"),
)  # fmt: skip


def _checked_time(answer: str, answers: Answers) -> str:
    answer = answer.strip().replace(" ", "") or "all"
    if answer != "all":
        parse_minutes(answer)
    return answer


def _checked_device(answer: str, answers: Answers) -> str:
    from deitkit.distributed import pick_device

    return str(pick_device(answer))


def _output(answers: Answers) -> str:
    """runs/IMAGES-VERB, or the first of its numbered neighbours that is free."""
    return unused(f"runs/{short_name(answers['images'])}-{answers['goal']}")


def unused(path: str) -> str:
    number, free = 1, Path(path)
    while free.exists():
        number += 1
        free = Path(f"{path}-{number}")
    return str(free)


def _checked_output(answer: str, answers: Answers) -> str:
    from deitkit.runs.folder import Run

    if not (answer := plain_path(answer)):
        raise DeitkitError("a run needs a folder", remedy="for example runs/mine")
    Run(Path(answer)).refuse_occupied(overwrite=False)
    return answer


def _checked_workers(answer: str, answers: Answers) -> str:
    if not answer.strip().isdecimal() or int(answer) > MOST_WORKERS:
        raise DeitkitError(f"{answer!r} is no number of processes", value=answer, remedy=f"0 to {MOST_WORKERS}")
    return answer.strip()


def _workers(answers: Answers) -> str:
    return str(workers_or_default(None))


QUESTIONS = (
    Question(
        "images", "images", "Which images?",
        "A folder with one folder per class; or train, val and test folders with such in them. Without val, a tenth is "
        "held out to judge by. Tables and shards are read, too: docs/data.md.",
        options=_image_options, rows=_image_rows, check=_checked_images, typed="a folder or table of images",
        matches=nearby.paths,
    ),
    Question(
        "goal", "what", "What do you want to do?",
        "Fine-tuning begins with what an earlier model has learned and needs the fewest images. Distilling trains a "
        "small model from nothing that also learns from the answers of a better one. Pretraining uses labels alone.",
        options=lambda answer: {}, default=_goal, rows=lambda _: list(GOALS),
    ),
    Question(
        "start", "start", "From which model?",
        "A run of yours, or published weights, which are fetched once. Its architecture, distillation token, mean and "
        "std are kept. RUN@best, hf-hub:OWNER/NAME, FILE.safetensors and FILE.pth can be typed.",
        options=lambda answer: {"start": answer}, rows=_start_rows,
        check=_checked_model, applies=_is("finetune"), typed="a model", matches=complete.references,
    ),
    Question(
        "teacher", "teacher", "Who teaches?",
        "A model that knows the same classes. A convnet often teaches a transformer better than another transformer. "
        "Runs, model folders, timm:NAME, FILE.onnx and FILE.py:FUNCTION can be typed.",
        options=lambda answer: {"teacher": [answer]}, rows=_teacher_rows,
        check=_checked_model, applies=_is("distill"), typed="a model", matches=complete.references,
    ),
    Question(
        "time", "time", "How long may it take?",
        "The number of epochs follows from it, as measured on this machine, and rate and augmentation follow from "
        "that; never more epochs than so many images ask for. 45m, 1.5h or 2d can be typed.",
        options=lambda answer: {} if answer == "all" else {"time": answer},
        rows=lambda _: list(TIMES), check=_checked_time, typed="a time, as 45m or 3h",
    ),
    Question(
        "device", "device", "On which device?",
        "One process trains on one device; the same command under torchrun trains on several.",
        options=lambda answer: {"device": answer},
        rows=lambda _: list(nearby.devices()), check=_checked_device, applies=lambda _: len(nearby.devices()) > 1,
    ),
    Question(
        "output", "folder", "In which folder should the run be?",
        "It is made by the run, and must not be there before.",
        options=lambda answer: {"output": answer}, default=_output, check=_checked_output, asked=False,
    ),
    Question(
        "workers", "workers", "How many processes decode images?",
        "More help where the plan says that steps wait for data.",
        options=lambda answer: {"workers": int(answer)}, default=_workers, check=_checked_workers, asked=False,
    ),
)  # fmt: skip
