"""Every verb that writes: nothing is overwritten unasked, and a place that refuses is one error, before the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deitkit.cli.app import build, run
from deitkit.cli.verbs import VERBS, Group

# Models and a run that are there and broken: whoever looks at the output only after opening them says another error.
LINES = {
    "predict": "predict IMAGES --model broken/model",
    "evaluate": "evaluate broken/model",
    "export": "export broken/model --to onnx",
    "report": "report broken/run",
    "teacher check": "teacher check broken/model",
    "data verify": "data verify no/images",
    "data preview": "data preview no/images",
    "recipes copy": "recipes copy pretrain/deit_tiny",
    "recipes schema": "recipes schema",
    "analyze attention": "analyze attention --model broken/model",
    **{
        f"analyze {name}": f"analyze {name} broken/model"
        for name in ("disagreement", "tokens", "positions", "errors", "resolutions", "tradeoff")
    },
}
SUFFIX = {"export": ".onnx", "data preview": ".png", "recipes copy": ".toml"}
LATER = {  # what has to be opened first; these folders go on with what is there and overwrite nothing
    "quickstart": "quickstart --device cpu",
    "pretrain": "pretrain -r quickstart/teacher --epochs 1 --device cpu -j 0",
    "data pack": "data pack digits",
}
# Proven where they are tested.
FOLDERS = {*LATER, "distill", "finetune", "upscale", "tape record", "tape merge", "sweep"}


@pytest.fixture(autouse=True)
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("model/config.json", "{}"), ("run/recipe.toml", "no recipe")):
        path = tmp_path / "here" / "broken" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    monkeypatch.chdir(tmp_path / "here")


def verbs() -> Iterator[tuple[str, object]]:
    for name, row in VERBS.items():
        for inner, verb in row.verbs.items() if isinstance(row, Group) else [("", row)]:
            yield f"{name} {inner}".strip(), verb


def output_of(verb: str, place: Path) -> list[str]:
    folder = verb.startswith("analyze") or verb == "data verify"
    return ["-o", str(place if folder else place / f"x{SUFFIX.get(verb, '.json')}")]


def test_every_verb_with_an_output_is_tried_here() -> None:
    writing = set()
    for name, _ in verbs():
        _, command, _ = build().resolve_command(None, name.split()[:1])
        if " " in name:
            _, command, _ = command.resolve_command(None, name.split()[1:])
        if any("--output" in each.opts for each in command.params):
            writing.add(name)
    assert writing == LINES.keys() | FOLDERS


@pytest.mark.parametrize("verb", LINES)
@pytest.mark.parametrize("place", ["file", "/proc"])
def test_a_place_that_refuses_is_said_before_the_work(
    verb: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run([*LINES[verb].split(), *output_of(verb, tmp_path / place / "new")]) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said and "--output" in said


@pytest.mark.parametrize("verb", LATER)
def test_a_folder_that_cannot_be_made_is_said(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run([*LATER[verb].split(), "-o", str(tmp_path / "file" / "new")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("verb", LINES)
def test_what_is_there_is_refused_before_the_work(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = output_of(verb, tmp_path)
    name = {"data verify": "verify-no-images.json"}.get(verb, f"{verb.split()[-1]}_mine.csv")
    mine = tmp_path / name if words[1] == str(tmp_path) else Path(words[1])
    mine.write_text("mine")
    assert run([*LINES[verb].split(), *words]) == 2
    assert f"{mine} exists" in capsys.readouterr().err.replace("\n", "")
    code = run([*LINES[verb].split(), *words, "--overwrite"])
    assert f"{mine} exists" not in capsys.readouterr().err
    assert (code, mine.read_text() == "mine") == ((0, False) if verb.startswith("recipes") else (2, True))
