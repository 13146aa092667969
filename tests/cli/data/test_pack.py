"""`deitkit data pack` through its own function: results, talk, and errors that teach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from PIL import Image

from deitkit.cli.data.pack import pack
from deitkit.data.formats.shards import SHARDS
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

Call = Callable[..., tuple[str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the verb with its options as on the command line; gives stdout and stderr."""
    app = typer.Typer()
    app.command()(pack)

    def run(*words: object) -> tuple[str, str]:
        app([str(word) for word in words], standalone_mode=False)
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_the_example_packs_the_digits(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = call("digits", "-o", "packed/digits")
    assert "1437" in out and "every size checked" in out
    assert "train packed: 1,437" in err
    assert err.endswith("next: deitkit finetune --dataset folder --data packed/digits\n")
    source = SHARDS.open(Path("packed/digits"), Data(dataset="folder"), "val")
    assert source.fingerprint == open_source(Data(dataset="digits"), "val").fingerprint


def test_json_says_what_was_written_and_a_repetition_that_all_was_there(call: Call, tmp_path: Path) -> None:
    words = ("digits", "-o", tmp_path / "digits", "--shard-mb", 1, "--verify", "--json")
    found = json.loads(call(*words)[0])
    assert [(part["split"], part["images"], part["shards"]) for part in found["splits"]] == [
        ("train", 1437, 3), ("val", 360, 1)
    ]  # fmt: skip
    assert (found["verified"], found["kept"]) == (True, 0)
    assert json.loads(call(*words)[0])["kept"] == 4
    assert "4 shards were there; every byte checked" in call(tmp_path / "digits", "--reindex")[0]


def test_images_without_a_val_split_are_packed_undivided_or_as_asked(call: Call, images: Path, tmp_path: Path) -> None:
    whole = json.loads(call(images, "-o", tmp_path / "whole", "--json")[0])
    assert [(part["split"], part["images"]) for part in whole["splits"]] == [("train", 20)]
    found = json.loads(call(images, "-o", tmp_path / "a", "--val-fraction", 0.2, "--json")[0])
    assert [part["images"] for part in found["splits"]] == [16, 4]
    found = json.loads(call(images, "-o", tmp_path / "b", "--split", "train", "--json")[0])
    assert [part["images"] for part in found["splits"]] == [20]


def test_the_folder_is_named_after_the_source(
    call: Call, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("images", "--split", "train")
    assert len(SHARDS.open(tmp_path / "packed" / "images", Data(dataset="folder", validate_on="train"), "train")) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("digist",), "digits"),
        (("digits", "--split", "tset"), "unknown split 'tset'"),
        (("digits", "--reindex"), "cannot be read"),
    ],
)
def test_what_cannot_be_packed_is_said(call: Call, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(DeitkitError, match=message):
        call(*words, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
