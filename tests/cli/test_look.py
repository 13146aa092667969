"""Unreadable images on the command line: found before training by every verb, asked about, and gone on without."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import pytest

from deitkit.cli import look
from deitkit.cli.app import run
from deitkit.data.check.scan import BadImage, Scan
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Data
from tests.cli.terminal import Terminal

Capture = pytest.CaptureFixture[str]
SMALL = (
    "--recipe", "quickstart/teacher", "--set", "data.dataset=folder", "--set", "stream.batch_size=16", "--epochs", "1",
    "--set", "schedule.warmup_epochs=0", "-j", "0", "--device", "cpu", "--output", "run",
)  # fmt: skip


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 digits as an image folder of two classes, with one empty file, in the working folder."""
    monkeypatch.chdir(tmp_path)
    source = open_source(Data(dataset="digits"), "train")
    for index in range(200):
        place = Path("my digits", "val" if index < 40 else "train", str(source.labels[index] % 2))
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:03d}.png").write_bytes(source.read(index))
    empty(Path("my digits"), 100)
    return Path("my digits")


def empty(root: Path, *numbers: int) -> None:
    for number in numbers:
        next(root.rglob(f"{number:03d}.png")).write_bytes(b"")


def test_a_dry_run_and_a_plan_find_unreadable_images(digits: Path, capsys: Capture) -> None:
    words = ("pretrain", *SMALL, "--data", str(digits))
    assert run([*words, "--dry-run", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["data"]["train_size"] == 159
    assert "left out: 1 image that cannot be read: train/" in shown.err
    empty(digits, 1)
    assert run([*words, "--plan", "--json"]) == 0  # an unreadable validation image is left out, too
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["train_images"], plan["val_images"]) == (159, 40)
    empty(digits, 102, 103)
    for wanted in (["--dry-run"], ["--plan"], []):
        assert run([*words, *wanted]) == 2
        assert "4 of 200 images cannot be read, 2.0%: more than 1%" in capsys.readouterr().err
    assert not Path("run").exists()


def test_an_evaluation_names_what_it_leaves_out_and_what_training_could_not_read(digits: Path, capsys: Capture) -> None:
    whole = next(digits.rglob("001.png")).read_bytes()
    empty(digits, 1)
    assert run(["pretrain", *SMALL, "--data", str(digits)]) == 0
    capsys.readouterr()
    assert run(["evaluate", "run"]) == 0
    assert "1 images cannot be read and are left out: val/1/001.png" in capsys.readouterr().err
    next(digits.rglob("001.png")).write_bytes(whole)
    assert run(["evaluate", "run"]) == 0
    said = capsys.readouterr().err
    assert "1 images are measured on that could not be read when the run began: val/1/001.png" in said
    assert "have changed" not in said and "were added" not in said


def test_an_evaluation_says_what_was_added_since_training(digits: Path, capsys: Capture) -> None:
    assert run(["pretrain", *SMALL, "--data", str(digits)]) == 0
    for split in ("train", "val"):
        (digits / split / "0" / "new.png").write_bytes(next(digits.rglob("110.png")).read_bytes())
    next(digits.rglob("120.png")).replace(digits / "val" / "1" / "120.png")
    capsys.readouterr()
    for wanted in ([], ["--data", f"{digits.absolute()}/"]):
        assert run(["evaluate", "run", *wanted]) == 0
        said = capsys.readouterr().err
        assert "the data have changed since training: val had 40 images, now 42" in said
    assert run(["evaluate", "run", "--split", "train"]) == 0
    said = capsys.readouterr().err
    assert "1 of these images were added since the run was trained: it has not learned them: train/0/new.png" in said


def test_the_command_that_goes_on_is_the_one_that_was_given_with_another_image_in_the_place(
    digits: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pretrain", *SMALL, "--data", str(digits), "--overwrite", "--set", "data.on_bad_image=error"]
    monkeypatch.setattr("sys.argv", ["deitkit", *words])
    monkeypatch.setattr(look, "look_at", lambda data, workers: Scan({"train": 160, "val": 40}))  # found later
    assert run(words) == 2
    said = capsys.readouterr().err
    command = shlex.split(said[said.index("deitkit pretrain") :])
    assert command[-3:] == ["--resume", "--set", "data.on_bad_image=replace"] and "--overwrite" not in command


def test_a_place_that_is_taken_is_told_before_any_image_is_looked_at(
    digits: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    monkeypatch.setattr(look, "look_at", lambda data, workers: pytest.fail("images were looked at"))
    assert run(["pretrain", *SMALL, "--data", str(digits)]) == 2
    assert "did not write" in capsys.readouterr().err


@pytest.mark.parametrize(("answers", "goes_on"), [("l\ns\n", True), ("\n", True), ("q\n", False), ("", True)])
def test_whoever_sits_there_may_go_on_list_or_stop(
    answers: str, goes_on: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    recipe = load_recipe("quickstart/teacher", {"data.dataset": "folder", "data.path": "mine"}, origin="test")
    found = Scan({"train": 1_000}, (BadImage("train", "a/1.jpg", "a", "the file is empty"),))
    if goes_on:
        assert look.asked(recipe, found).data.on_bad_image == "leave_out"
    else:
        with pytest.raises(DeitkitError, match="1 of 1,000 images cannot be read"):
            look.asked(recipe, found)
    assert ("a/1.jpg: the file is empty" in capsys.readouterr().err) is answers.startswith("l")


def test_without_an_answer_too_many_stop(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    recipe = load_recipe("quickstart/teacher", {"data.dataset": "folder", "data.path": "mine"}, origin="test")
    found = Scan({"train": 10}, (BadImage("train", "a/1.jpg", "a", "the file is empty"),))
    with pytest.raises(DeitkitError, match="1 of 10 images"):
        look.asked(recipe, found)


def test_many_images_show_how_far_the_look_is(digits: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deitkit.data.check.scan.FEW", 100)
    look.look_at(Data(dataset="folder", path=str(digits)), workers=0)
    said = capsys.readouterr().err
    assert "decoding every image once: 200" in said and "1 cannot be read" in said


@pytest.mark.slow
def test_a_person_at_a_terminal_is_asked(digits: Path) -> None:
    terminal = Terminal(Path.cwd(), "pretrain", *SMALL, "--data", str(digits))
    terminal.expect("1 of 200 images cannot be read")
    terminal.expect("[s]")
    terminal.answer("l")
    terminal.expect("the file is empty")
    terminal.answer("")
    terminal.expect("left out: 1 image")
    assert terminal.end(seconds=120) == 0
    assert 'on_bad_image = "leave_out"' in Path("run/recipe.toml").read_text()
