"""The guided start: every question on a real pseudo-terminal, and the commands that its answers come to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer

import deitkit
from deitkit.cli.app import run
from deitkit.cli.guided import command as settling
from deitkit.cli.guided import flow, nearby
from deitkit.cli.guided.asker import Back, Prompt
from deitkit.cli.guided.command import GuidedCommand, commands_for, option_names, recipe_of
from deitkit.cli.guided.flow import Guided, checked_setting
from deitkit.cli.guided.questions import QUESTIONS
from deitkit.cli.options import RunOptions, TeacherOptions, WhatOptions
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Recipe
from deitkit.runs.folder import Run
from deitkit.training.plan import RunPlan
from tests.cli.terminal import CTRL_U, DOWN, END, ENTER, ESCAPE, F1, LEFT, TAB, UP, Terminal
from tests.training.test_own import SPEED, a_run
from tests.training.test_own import images as square_images
from tests.training.test_plan import made_up

BACK = "<"
ROOT = Path(deitkit.__file__).parents[1]
Capture = pytest.CaptureFixture[str]


class Scripted:
    """Answers from a list; a wrong one is noted, and the next is taken."""

    def __init__(self, *answers: str) -> None:
        self.answers: Iterator[str] = iter(answers)
        self.prompts: list[Prompt] = []
        self.said: list[str] = []

    def ask(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        while True:
            answer = next(self.answers)
            if answer == BACK:
                raise Back
            try:
                return prompt.check(answer or prompt.default)
            except DeitkitError as error:
                self.say_error(error)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None: ...

    def drain(self) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)

    def say_error(self, error: DeitkitError) -> None:
        self.said.append(error.message())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with images; training takes no time there, and its pace is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    monkeypatch.setattr("deitkit.training.own.images_per_s", lambda recipe, classes, device: SPEED)
    monkeypatch.setattr(settling, "_plan", lambda recipe, command, stand_in: made_up(epochs=recipe.train.epochs))
    square_images(tmp_path / "photos", 60)
    return tmp_path


def commands(*answers: str) -> list[GuidedCommand]:
    """What the answers come to."""
    walk = Guided(Scripted(*answers, "begin"))
    walk.ask_all()
    settled = walk.settle()
    assert settled is not None
    return [each.command for each in settled]


# The commands


@pytest.mark.parametrize("minutes", [0.1, 3.0, 600.0])
@pytest.mark.parametrize("goal", ["pretrain", "distill", "finetune"])
def test_the_verbs_choose_the_same_for_its_command(goal: str, minutes: float, folder: Path, capsys: Capture) -> None:
    a_run(folder / "start", image_size=24, distilled=True)
    earlier = {"pretrain": (), "distill": ("start",), "finetune": ("start",)}[goal]
    (command,) = commands("photos", goal, *earlier, f"{minutes}m")
    recipe = recipe_of(command)
    capsys.readouterr()
    assert run([*command.words, "--dry-run", "--json"]) == 0
    outline = json.loads(capsys.readouterr().out)
    for key, value in recipe.flat().items():
        table, _, name = key.partition(".")
        if value is not None and outline[table] is not None and key != "model.image_size":
            assert outline[table][name] == value, key


@pytest.mark.parametrize("goal", ["pretrain", "distill", "finetune"])
def test_a_time_gives_what_the_verb_makes_of_it(goal: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(folder / "start", image_size=24)
    monkeypatch.setattr(settling, "_plan", lambda *_: made_up(step_s=1e-9, evaluation_s=0.0, checkpoint_s=0.0))
    earlier = {"pretrain": (), "distill": ("start",), "finetune": ("start",)}[goal]
    (command,) = commands("photos", goal, *earlier, "1m")
    assert "time" not in command.values
    assert recipe_of(command).flat() == recipe_of(command.having(epochs=None, time="1m")).flat()


def test_a_run_that_would_take_longer_is_shortened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading and evaluating may take more than the rule leaves for them."""
    measured: list[int] = []

    def slow(recipe: Recipe, *_: object) -> RunPlan:
        measured.append(recipe.train.epochs)
        return made_up(epochs=recipe.train.epochs, step_s=0.5, evaluations=20)

    monkeypatch.setattr(settling, "_plan", slow)
    walk = Guided(Scripted("photos", "pretrain", "1m", "begin"))
    walk.ask_all()
    (settled,) = walk.settle() or ()
    assert settled.command.values["epochs"] == settled.recipe.train.epochs == settled.plan.epochs < measured[0]
    assert settled.plan.evaluations == -(-settled.plan.epochs // settled.recipe.train.eval_every)


def test_a_start_keeps_its_token_mean_and_std(folder: Path) -> None:
    a_run(folder / "start", image_size=16, distilled=True)
    (command,) = commands("photos", "finetune", "start", "1m")
    recipe = recipe_of(command)
    assert recipe.model.distilled
    assert recipe.data.mean == (0.5, 0.4, 0.3) and recipe.data.std == (0.25, 0.25, 0.25)


def test_a_teacher_that_is_trained_first_takes_a_quarter_of_the_time(folder: Path) -> None:
    walk = Guided(Scripted("photos", "distill", "first", "4m", "begin"))
    walk.ask_all()
    first, then = commands_for(walk.answers, walk.sets)
    assert first.words[:3] == ["pretrain", "--recipe", "pretrain/convnet"]
    assert (first.values["time"], then.values["time"]) == ("1m", "3m")
    assert then.values["teacher"] == [first.output] == ["runs/photos-teacher"]
    settled = walk.settle()
    assert settled is not None and len(settled) == 2


def test_words_are_read_back_as_the_options_they_were(folder: Path) -> None:
    """The command that is shown and recorded, through the verb's own parser."""
    from deitkit.cli.app import command_of
    from deitkit.cli.verbs import VERBS, Verb

    known = {
        "dataset": "digits",
        "teacher": ["a b", "c"],
        "epochs": 3,
        "output": "my runs/x",
        "sets": ["optim.lr=1e-4"],
    }
    command = GuidedCommand("distill", known)
    row = VERBS["distill"]
    assert isinstance(row, Verb)
    read = command_of("distill", row).make_context("distill", command.words[1:]).params
    assert {name: read[name] for name in known} == known


def test_every_option_of_the_training_verbs_has_its_name() -> None:
    named = option_names()
    assert named["start"] == "--from" and named["sets"] == "--set" and named["recipe"] == "--recipe"
    assert all(name.startswith("--") for name in named.values())
    assert {*WhatOptions().__dict__, *TeacherOptions().__dict__, *RunOptions().__dict__} < {*named}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_every_question_has_help_and_something_to_answer(question: Any) -> None:
    assert question.help.endswith(".") and question.text.endswith("?")
    prompt = question.prompt({"images": "digits", "goal": "distill"})
    assert prompt.rows or prompt.typed or prompt.default


def test_gpus_are_offered_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    device = next(question for question in QUESTIONS if question.name == "device")
    nearby.devices.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    try:
        rows = device.prompt({}).rows
        assert [row.value for row in rows if row.value != "mps"] == ["cuda:0", "cuda:1", "cpu"]
        assert rows[0].words == "NVIDIA H100, 80 GiB"
        assert device.applies({}) and device.options("cuda:1") == {"device": "cuda:1"}
    finally:
        nearby.devices.cache_clear()


# Walking


def test_back_asks_the_question_before_with_its_answer(folder: Path) -> None:
    asker = Scripted(BACK, "photos", "pretrain", BACK, "", "3m")
    walk = Guided(asker)
    walk.ask_all()
    assert "first question" in asker.said[0]
    assert [prompt.text for prompt in asker.prompts] == [
        "Which images?", "Which images?", "What do you want to do?", "How long may it take?", "What do you want to do?",
        "How long may it take?",
    ]  # fmt: skip
    assert walk.answers == {"images": "photos", "goal": "pretrain", "time": "3m"}


def test_any_line_of_the_summary_is_edited_and_what_follows_is_asked(folder: Path) -> None:
    a_run(folder / "start")
    walk = Guided(Scripted(
        "photos", "pretrain", "1m", "goal", "finetune", "start", "output", "runs/mine", "workers", "nine", "2",
        "set", "optim.lrr=1", "optim.lr=1e-4", "set", "train.seed=3", "set:train.seed", "train.seed=", "begin",
    ))  # fmt: skip
    walk.ask_all()
    settled = walk.settle()
    assert settled is not None
    words = settled[-1].command.words
    assert words[0] == "finetune" and "runs/mine" in words and "optim.lr=1e-4" in words
    assert settled[-1].recipe.optim.lr == 1e-4 and settled[-1].recipe.train.seed == 0


def test_what_cannot_run_is_said_and_another_answer_taken(folder: Path) -> None:
    a_run(folder / "start")
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{}")
    asker = Scripted("photos", "finetune", "broken", "1m", "start", "start", "begin")
    walk = Guided(asker)
    walk.ask_all()
    assert walk.settle() is not None
    assert any("change a line below" in said for said in asker.said)
    assert not any(prompt.rows[0].value == "begin" for prompt in asker.prompts[4:5])


def test_leaving_from_the_summary_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    walk = Guided(Scripted("photos", "pretrain", "1m", "leave"))
    walk.ask_all()
    assert walk.settle() is None
    assert sorted(folder.rglob("*")) == before


def test_a_setting_is_a_key_of_the_recipe() -> None:
    assert checked_setting(" optim.lr = 1e-4 ") == "optim.lr=1e-4"
    assert checked_setting("") == ""
    with pytest.raises(DeitkitError, match=r"Did you mean optim\.lr\?"):
        checked_setting("optim.lrr=1")
    with pytest.raises(DeitkitError, match="key=value"):
        checked_setting("optim.lr")


@pytest.mark.parametrize("question", range(6))
def test_ctrl_c_at_any_question_leaves_nothing_behind_and_says_so(
    question: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    a_run(folder / "runs" / "x")
    given = iter(["new", "photos", "distill", "runs/x", "1m"][:question])

    class Leaving(Scripted):
        def ask(self, prompt: Prompt) -> str:
            if (answer := next(given, None)) is None:
                raise KeyboardInterrupt
            return prompt.check(answer)

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(flow, "asker", Leaving)
    with pytest.raises(typer.Exit) as left:
        flow.guided()
    assert left.value.exit_code == 130 and next(given, None) is None
    assert "nothing was written" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_what_was_to_follow_is_said_where_the_first_command_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(flow, "asker", lambda: Scripted("photos", "distill", "first", "4m", "begin"))
    monkeypatch.setattr("deitkit.cli.app.run", lambda words: ran.append([*sys.argv]) or 2)
    with pytest.raises(typer.Exit):
        flow.guided()
    assert len(ran) == 1 and ran[0][1:3] == ["pretrain", "--recipe"]
    assert "and after it: deitkit distill --data photos --teacher runs/photos-teacher" in capsys.readouterr().err


# On a terminal


def test_lists_help_back_typing_and_completion(folder: Path) -> None:
    terminal = Terminal(folder)
    terminal.shows("Which images?", "> photos", "3 classes, train and val", "Ctrl-C leaves")
    terminal.press(F1)
    terminal.shows("one folder per class")
    terminal.press("?", LEFT)
    terminal.shows("this is the first question")
    terminal.press(END, ENTER)
    terminal.shows("a folder or table of images:")
    terminal.press("nowhere", ENTER)
    terminal.shows("nowhere'.")
    terminal.press(END, ENTER, "pho")
    terminal.shows("photos/")
    terminal.press(TAB, ENTER)
    terminal.shows("60 training images of 3 classes")
    terminal.press(DOWN, DOWN, ENTER)
    terminal.shows("How long may it take?")
    terminal.press(ESCAPE)
    terminal.shows("> pretrain")
    terminal.press(UP, ENTER)
    terminal.shows("Who teaches?", "> train one first")
    terminal.press(ENTER)
    terminal.shows("> 5 minutes")
    terminal.press(END, ENTER)
    terminal.shows("a time, as 45m or 3h:")
    terminal.press("soon", ENTER)
    terminal.shows("is no time to train")
    assert terminal.leave() == 130
    assert "left; nothing was written" in terminal.picture()
    assert [path.name for path in folder.iterdir()] == ["photos"]


def test_runs_are_offered_to_go_on_to_start_from_and_to_teach(folder: Path) -> None:
    a_run(folder / "runs" / "stopped")
    a_run(folder / "runs" / "done").joinpath("result.json").write_text('{"top1": {"class": 0.5}}')
    terminal = Terminal(folder)
    assert "runs/done" not in terminal.shows("> runs/stopped", "begin a new run", "Ctrl-C leaves")
    terminal.press(END, ENTER)
    terminal.shows("Which images?")
    terminal.press(ENTER)
    terminal.shows("What do you want to do?")
    terminal.press(ENTER)
    shown = terminal.shows("From which model?", "> runs/done", "50.0%", "timm:deit_tiny_distilled_patch16_224", "else")
    assert "runs/stopped " not in shown
    terminal.press(END, ENTER)
    terminal.shows("a model:")
    terminal.press("runs/done@nonsense", ENTER)
    terminal.shows("keeps no checkpoint")
    assert terminal.leave() == 130


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24)])
def test_it_fits_small_terminals_without_colour(folder: Path, columns: int, lines: int) -> None:
    terminal = Terminal(folder, columns=columns, lines=lines, NO_COLOR="1")
    terminal.shows("> photos")
    terminal.press(ENTER)
    terminal.shows("> fine-tune", "Ctrl-C")
    terminal.press(DOWN, DOWN, ENTER)
    terminal.shows("> 5 minutes")
    terminal.press(END)
    terminal.shows("> something else")
    terminal.press("?")
    terminal.shows("number of epochs")
    terminal.resize(columns + 7, lines + 3)
    assert terminal.leave() == 130
    assert not re.search(r"\x1b\[[\d;]*(3[0-7]|9[0-7]|38)[;m]", terminal.raw)


def test_a_terminal_without_a_cursor_is_asked_line_by_line(folder: Path) -> None:
    terminal = Terminal(folder, TERM="dumb")
    terminal.expect("Which images?")
    terminal.expect("1  photos")
    terminal.answer("?")
    terminal.expect("one folder per class")
    terminal.answer("nowhere")
    terminal.expect("choices:")
    terminal.answer("<")
    terminal.expect("first question")
    terminal.answer("")
    terminal.expect("60 training images")
    terminal.answer("nonsense")
    terminal.expect("is none of them")
    terminal.answer("pretrain")
    terminal.expect("How long")
    terminal.answer("<")
    terminal.expect("[pretrain] > ")
    terminal.press("\x04")
    assert terminal.end() == 130
    assert "nothing was written" in terminal.picture()
    assert "\x1b" not in terminal.raw


@pytest.mark.parametrize("how", ["", "<&-", "</dev/null", ">&-"])
def test_off_a_terminal_it_says_what_would_do(how: str, folder: Path) -> None:
    command = f"{sys.executable} -m deitkit {how}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deitkit finetune --from" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_student_with_its_teacher_is_stopped_and_goes_on(tmp_path: Path) -> None:
    square_images(tmp_path / "photos", 60)
    terminal = Terminal(tmp_path, lines=60)
    terminal.shows("> photos")
    terminal.press(ENTER)
    terminal.shows("> fine-tune")
    terminal.press(DOWN, ENTER)
    terminal.shows("> train one first")
    terminal.press(ENTER)
    terminal.shows("> 5 minutes")
    terminal.press(END, ENTER, "0.4m", ENTER)
    terminal.shows("before it, its teacher", "> begin", seconds=240)
    terminal.press(DOWN, DOWN, DOWN, DOWN, DOWN, ENTER)
    terminal.shows("In which folder")
    terminal.press(CTRL_U, "runs/mine", ENTER)
    terminal.shows("--output runs/mine", seconds=240)
    terminal.shows("> begin", seconds=120)
    terminal.press(ENTER)
    terminal.expect("Top-1 of runs/photos-teacher", seconds=240)
    terminal.expect("pause", seconds=120)  # the keys of the live view
    terminal.press("q")
    assert terminal.end(seconds=120) == 130
    assert "deitkit distill" in terminal.picture()
    run = Run.open(tmp_path / "runs" / "mine")
    assert run.status() == "interrupted"
    command = run.environment()["command"]
    assert command[:2] == ["deitkit", "distill"] and "--time" not in command and "--epochs" in command
    terminal = Terminal(tmp_path, lines=60)
    terminal.shows("A run was interrupted", "> runs/mine")
    terminal.press(ENTER)
    terminal.expect("Top-1 of runs/mine", seconds=240)
    assert terminal.end() == 0
    assert (run.result() or {})["top1"].keys() == {"class", "distillation", "fused"}
