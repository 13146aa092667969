"""The quickstart as a newcomer runs it, and every verb's own example after it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.app import command_of, function_of
from deitkit.cli.quickstart import stage_recipe
from deitkit.cli.verbs import VERBS, Group
from deitkit.models.reference import Reference
from deitkit.runs.folder import Run
from tests import documents

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"Example: (deitkit .+)")
# A download asks its host, the quickstart has run, and what is finished is not resumed: tests of their own.
APART = ("quickstart", "data download", "runs resume", "serve")  # serve: tests/serve/test_server.py


def every_example() -> dict[str, list[str]]:
    """Verb -> the commands in its docstring."""
    rows = {}
    for name, row in VERBS.items():
        verbs = {f"{name} {sub}": verb for sub, verb in row.verbs.items()} if isinstance(row, Group) else {name: row}
        for verb, place in verbs.items():
            found = EXAMPLE.findall(function_of(place).__doc__ or "")
            assert found, f"{verb} has no Example: line"
            rows[verb] = [" ".join(command.split()) for command in found]
    return rows


def examples() -> dict[str, str]:
    """Verb -> the first of them, which runs where the quickstart has run."""
    return {verb: commands[0] for verb, commands in every_example().items()}


def parsed(verb: str, words: list[str]) -> Any:
    """The words through the verb's own parser; typer's errors for what it does not take."""
    name, _, inner = verb.partition(" ")
    row = VERBS[name]
    command = command_of(inner or name, row.verbs[inner] if isinstance(row, Group) else row)
    return command, command.make_context(verb, words)


def deitkit(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command, comments=True)
    assert words[0] == "deitkit"
    # a database of its own: fiftyone would show the test's dataset among the user's
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FIFTYONE_DATABASE_DIR": str(folder / "fiftyone"),
        "FIFTYONE_DATABASE_NAME": "deitkit_quickstart_test",
    }
    return subprocess.run(
        [sys.executable, "-m", "deitkit", *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("verb", every_example())
def test_every_verb_has_three_examples_that_it_takes(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two where there is hardly anything to say; what they name need not be here."""
    for there in (Reference, "find"), (Run, "open"), (Path, "exists"):
        monkeypatch.setattr(*there, lambda self: self)
    monkeypatch.setattr("deitkit.recipe.load.read_recipe", lambda name: name)
    commands = every_example()[verb]
    for each in commands:
        words = shlex.split(each)
        begin = 1 + len(verb.split())
        assert words[:begin] == ["deitkit", *verb.split()]
        command, context = parsed(verb, words[begin:])
        if verb == "plan":
            parsed(context.params["verb"], context.args)
    assert len(set(commands)) == len(commands) >= (3 if len(command.params) > 1 else 2)


def test_a_short_quickstart_warms_up_shortly() -> None:
    recipe = stage_recipe(Path("runs"), "twin", seed=0, sets=["train.epochs=3"])
    assert (recipe.train.epochs, recipe.schedule.warmup_epochs) == (3, pytest.approx(0.3))


@pytest.mark.slow
def test_a_quickstart_of_one_epoch_runs_every_stage_and_explains_itself(tmp_path: Path) -> None:
    short = "--set train.epochs=1"
    done = deitkit(f"deitkit quickstart -o runs/short {short}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "final norm" in done.stdout
    commands = [line.strip() for line in done.stderr.splitlines() if line.startswith("  deitkit")]
    assert len(commands) == 3
    assert (tmp_path / "runs/short/student_32/reports/disagreement_matrix.png").is_file()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples in it, where the quickstart has run."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    done = deitkit("deitkit quickstart --json", folder)
    assert done.returncode == 0, done.stderr
    (folder / "quickstart.json").write_text(done.stdout)
    return folder


@pytest.mark.slow
def test_the_fused_heads_reach_96_percent_and_everything_is_reported(workplace: Path) -> None:
    found = json.loads((workplace / "quickstart.json").read_text())
    assert found["top1"]["student_32"]["fused"] >= 0.96
    assert found["top1"].keys() == {"teacher", "twin", "student", "teacher_32", "student_32"}
    matrix = found["disagreement"]["tables"][0]
    assert [row[0] for row in matrix["rows"]] == [
        "ground truth", "teacher_32", "twin", "student_32 class", "student_32 distillation", "student_32 fused"
    ]  # fmt: skip
    cosine = found["tokens"]["numbers"]["cosine"]["student_32"]
    assert {"embedding", "input", "block 1", "block 4", "final norm"} <= cosine.keys()
    reports = workplace / "runs" / "quickstart" / "student_32" / "reports"
    assert {path.suffix for path in reports.iterdir()} >= {".json", ".csv", ".png", ".svg"}


RECORD = "deitkit tape record --recipe quickstart/student --teacher runs/quickstart/teacher"
# What an example takes for granted.
BEFORE = {
    "tape show": [f"{RECORD} --epochs 0:1 -o tapes/digits"],
    "tape merge": [f"{RECORD} --epochs 0:1 -o tapes/a", f"{RECORD} --epochs 1:2 -o tapes/b"],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", [verb for verb in examples() if verb not in APART])
def test_every_verbs_example_runs(verb: str, workplace: Path) -> None:
    for command in BEFORE.get(verb, ()):
        assert deitkit(command, workplace).returncode == 0
    done = deitkit(examples()[verb], workplace)
    if verb == "explore" and "MongoDB, does not answer" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).strip()


@pytest.mark.slow
def test_the_example_of_a_download_asks_the_host(workplace: Path) -> None:
    done = deitkit(f"{examples()['data download']} --mirror http://127.0.0.1:9", workplace)  # nobody listens there
    assert done.returncode == 2
    assert "127.0.0.1 cannot be reached" in done.stderr


@pytest.mark.slow
def test_the_example_of_resuming_says_that_the_run_is_finished(workplace: Path) -> None:
    done = deitkit(examples()["runs resume"], workplace)
    assert done.returncode == 2
    assert "is finished" in done.stderr


@pytest.mark.slow
def test_a_second_quickstart_is_refused_and_resume_keeps_what_is_finished(workplace: Path) -> None:
    again = deitkit("deitkit quickstart", workplace)
    assert again.returncode == 2
    assert "--resume" in again.stderr and "--overwrite" in again.stderr
    before = (workplace / "runs" / "quickstart" / "twin" / "metrics.jsonl").read_bytes()
    assert deitkit("deitkit quickstart --resume", workplace).returncode == 0
    assert (workplace / "runs" / "quickstart" / "twin" / "metrics.jsonl").read_bytes() == before


# README and docs

# Why a command of theirs cannot run here. The first that is found in it counts.
ELSEWHERE = {
    "--launch": "opens the App; tests/explore/test_app.py looks at it",
    "--view": "opens the App; tests/explore/test_app.py looks at it",
    "deitkit serve": "serves until it is ended; tests/serve/test_server.py asks it",
    "timm:": "published weights come from a hub",
    "/data/": "a data set of the user's",
    "--dataset": "a data set of the user's",
    "tapes/regnety": "published weights come from a hub",
    "resnet56": "ResNet-56 is downloaded by hand; tests/teachers/test_examples.py has it",
    "distill/cifar10_nano": "a comparison on CIFAR-10: an hour",
    "runs/modes": "fifteen trainings: an hour",
    "finetune-teacher_fixres": "from a teacher that took days",
    "teacher_fixres": "from a teacher that took days",
    "download": "asks a public host; test_the_example_of_a_download_asks_the_host",
    "--val-fraction 0.1": "its start is published weights from a hub",
    "teacher check runs/teacher": "of one epoch, it is not fit to teach; the example of teacher check runs",
    "--recipe R": "R stands for any recipe; the example of tape record runs",
    "--tape tapes/mine": "R stands for any recipe",
}
# What their words stand for where the quickstart has run.
MEANT = {
    "FOLDER": "IMAGES", "TEACHER": "runs/quickstart/teacher_32", "runs/a": "runs/quickstart/twin",
    "runs/d": "runs/quickstart/student_32", "IMAGE...": "examples/digits", "DATA": "IMAGES",
}  # fmt: skip
TRAINS = ("pretrain", "distill", "finetune")


def named(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)[:80]


def reason_elsewhere(words: tuple[str, ...]) -> str:
    if len(words) == 1:
        return "asks; tests/cli/test_guided.py answers"
    return next((reason for part, reason in ELSEWHERE.items() if part in " ".join(words)), "")


@pytest.mark.parametrize(("document", "words"), documents.commands(), ids=named)
def test_a_documents_command_is_one_that_the_parser_takes(
    document: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (Reference, "find"), (Run, "open"), (Path, "exists"):
        monkeypatch.setattr(*there, lambda self: self)
    monkeypatch.setattr("deitkit.recipe.load.read_recipe", lambda name: name)
    if len(words) == 1:
        return
    begin = 2 + isinstance(VERBS[words[1]], Group)
    _, context = parsed(" ".join(words[1:begin]), list(words[begin:]))
    if words[1] == "plan":
        parsed(context.params["verb"], context.args)


@pytest.fixture(scope="module")
def own_images(workplace: Path) -> Path:
    """IMAGES, a folder of class folders, and photos: real digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:120], digits.target[:120], strict=True)):
        for folder in (f"IMAGES/digit {label}", *(["photos"] if number < 6 else [])):
            (workplace / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9).astype("uint8")).resize((32, 32)).save(workplace / folder / f"{number}.png")
    return workplace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "words"),
    [each for each in documents.commands() if not reason_elsewhere(each[1])],
    ids=named,
)
def test_a_documents_command_runs(document: str, words: tuple[str, ...], own_images: Path) -> None:
    """In the documents' order: a run that one command makes is there for the next."""
    said = [MEANT.get(word, word) for word in words]
    if words[1] in TRAINS:
        # The teacher of one epoch is not fit to teach, which the check says.
        said += ["--epochs", "1", "--overwrite", *(["--set", "teacher.check=false"] if words[1] == "distill" else [])]
    if words[1] == "export":  # as the verb's own example did
        said += ["--overwrite"]
    done = deitkit(shlex.join(said), own_images)
    if words[1] == "explore" and "MongoDB, does not answer" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


def test_most_commands_of_the_readme_run_and_every_reason_is_needed() -> None:
    said = [words for document, words in documents.commands()]
    here = [words for words in said if not reason_elsewhere(words)]
    assert len(here) > 15
    for part in ELSEWHERE:
        assert any(part in " ".join(words) for words in said), part
