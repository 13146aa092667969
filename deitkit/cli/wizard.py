"""`deitkit` alone on a terminal: asks what you have, what you want and how much time, writes a recipe and runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from deitkit.cli import render
from deitkit.errors import DeitkitError, did_you_mean

if TYPE_CHECKING:
    from deitkit.recipe.schema import Data

GOALS = {
    "1": "train a small vision transformer on them",
    "2": "distil one from a teacher (trained first, if you have none)",
    "3": "fine-tune a model that I have on them",
}

VERBS: dict[str, Literal["pretrain", "distill", "finetune"]] = {"1": "pretrain", "2": "distill", "3": "finetune"}


@dataclass(frozen=True)
class WizardAnswers:
    """What the questions bring out; `images` is a folder or "digits"."""

    images: str
    goal: str
    minutes: float
    earlier: str = ""  # a teacher's or a start's run


def wizard() -> None:
    """Asks what you have and want, writes a recipe and runs it."""
    from deitkit.cli.train import train
    from deitkit.recipe.resolve import TrainingOptions

    answers = ask()
    options = TrainingOptions(recipe="", changes={})
    if answers.goal == "2" and not answers.earlier:
        teacher = unused(Path("runs/my_teacher"))
        share = replace(answers, goal="1", minutes=answers.minutes / 4)
        path = write_recipe(share, unused(Path("my_teacher.toml")), convnet=True)
        train("pretrain", replace(options, recipe=str(path), output=str(teacher)))
        answers = replace(answers, earlier=str(teacher), minutes=answers.minutes * 3 / 4)
        options = replace(options, changes={"teacher.check": False})  # its accuracy was shown a moment ago
    path = write_recipe(answers, unused(Path("my_recipe.toml")))
    verb = VERBS[answers.goal]
    output = unused(Path("runs") / path.stem)
    render.say(f"running: deitkit {verb} --recipe {path} --output {output}")
    train(verb, replace(options, recipe=str(path), output=str(output)))


def ask() -> WizardAnswers:
    """Three questions, asked again until the answer can be used."""
    render.say("Three questions, then it runs. Ctrl-C leaves; nothing is written before the last answer.\n")
    images = ask_images()
    for key, goal in GOALS.items():
        render.say(f"  {key}  {goal}")
    goal = _ask_choice("What do you want?", list(GOALS), default="2")
    earlier = ""
    if goal == "3":
        earlier = _ask_model("Which model? (a run or a model folder)")
    elif goal == "2" and typer.confirm("Do you have a teacher already?", default=False):
        earlier = _ask_model("Which one? (a run or a model folder)")
    minutes = float(typer.prompt("How many minutes may it take?", default=5.0, type=float))
    return WizardAnswers(images, goal, max(minutes, 0.1), earlier)


def ask_images() -> str:
    """A folder that opens, or the digits."""
    from deitkit.data.open import open_source

    while True:
        images: str = typer.prompt("Where are your images? (a folder with one folder per class, or: digits)", "digits")
        try:
            source = open_source(data_of(images), "train")
        except DeitkitError as error:
            render.say_error(error.message())
            continue
        render.say(f"  {len(source):,} training images of {len(source.class_names)} classes\n")
        return images


def data_of(images: str) -> Data:
    """The recipe's [data] table for an answer; a tenth is held out where the folder has no val split."""
    from deitkit.recipe.schema import Data

    if images == "digits":
        return Data(dataset="digits", crop_ratio=1.0)
    has_val = any((Path(images) / name).is_dir() for name in ("val", "valid", "validation", "test"))
    return Data(dataset="folder", path=images, val_fraction=None if has_val else 0.1)


def write_recipe(answers: WizardAnswers, path: Path, *, convnet: bool = False) -> Path:
    """A recipe for the answers, written to a file that was not there."""
    from deitkit.training.suggest import suggest

    text = suggest(
        "pretrain" if convnet else VERBS[answers.goal], data_of(answers.images), minutes=answers.minutes,
        earlier=answers.earlier, convnet=convnet,
    )  # fmt: skip
    path.write_text(text)
    render.say(f"\nwrote {path}:\n\n{text}")
    return path


def unused(path: Path) -> Path:
    """The path, or the first of its numbered neighbours that does not exist."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}_{number}")
    return candidate


def _ask_choice(question: str, choices: list[str], *, default: str) -> str:
    while True:
        answer: str = typer.prompt(question, default=default).strip()
        if answer in choices:
            return answer
        render.say(f"  {answer!r} is none of {', '.join(choices)}.{did_you_mean(answer, choices)}")


def _ask_model(question: str) -> str:
    from deitkit.models.weights import describe

    while True:
        answer: str = typer.prompt(question)
        try:
            describe(answer)
            return answer
        except DeitkitError as error:
            render.say_error(error.message())
