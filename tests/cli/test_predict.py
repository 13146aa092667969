"""`deitkit predict` on files of every kind: one row an image, and no image takes another one's answer with it."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deitkit.cli.app import run
from deitkit.models.folder import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

Capture = pytest.CaptureFixture[str]
CLASSES = ("ant", "bee/wasp", "cat")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights and three classes, with both heads."""
    folder = tmp_path_factory.mktemp("model") / "student"
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 3, seed=0)
    save_model(folder, student, ModelInfo.of(Data(dataset="folder", crop_ratio=1.0), (16, 16), CLASSES))
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures, two of them one folder deeper, one broken file, and what systems leave behind."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for place in ("0.png", "1.png", "2.PNG", "3.png", "4.png", "deeper/0.png", "deeper/1.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / place)
    (folder / "broken.png").write_bytes(b"no picture")
    for litter in ("._0.png", "__MACOSX/0.png", ".hidden/0.png"):
        (folder / litter).parent.mkdir(exist_ok=True)
        (folder / litter).write_bytes(b"no picture either")
    return folder


def test_the_others_are_answered_where_one_is_damaged(photos: Path, model: str, capsys: Capture) -> None:
    assert run(["predict", "photos", "--model", model, "-o", "new/answers.json", "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    answers = {answer["image"]: answer for answer in json.loads(Path("new/answers.json").read_text())}
    assert len(answers) == 8
    assert "broken.png" in answers["photos/broken.png"]["problem"]
    assert all("heads" in answer for image, answer in answers.items() if image != "photos/broken.png")
    assert "1 of 8 images cannot be read" in shown.err and "photos/broken.png" in shown.err
    assert not any(litter in shown.out for litter in ("._", "MACOSX", "hidden"))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_answers_do_not_depend_on_the_batch_or_on_workers(
    photos: Path, model: str, capsys: Capture, batch: int
) -> None:
    found = []
    for words in (["--batch-size", "2"], ["--batch-size", str(batch), "-j", "1" if batch == 3 else "0"]):
        assert run(["predict", "photos", "--model", model, "--jsonl", "--device", "cpu", *words]) == 2
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    first, second = found
    assert [answer["image"] for answer in first] == [answer["image"] for answer in second]
    for a, b in zip(first, second, strict=True):
        if "heads" in a:
            assert [guess["class"] for guess in a["heads"]["fused"]] == [
                guess["class"] for guess in b["heads"]["fused"]
            ]
            assert a["heads"]["fused"][0]["confidence"] == pytest.approx(b["heads"]["fused"][0]["confidence"], abs=1e-5)


def test_every_format_says_the_same(photos: Path, model: str) -> None:
    (photos / "broken.png").unlink()
    for suffix in ("csv", "jsonl", "json", "parquet"):
        assert run(["predict", "photos", "--model", model, "-o", f"a.{suffix}", "--device", "cpu"]) == 0
    with open("a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    table = pq.read_table("a.parquet").to_pylist()
    assert json.loads(Path("a.json").read_text()) == lines
    expected = [(line["image"], line["heads"]["fused"][0]["class"]) for line in lines]
    assert [(row["image"], row["decision"]) for row in rows] == expected
    assert [(row["image"], row["decision"]) for row in table] == expected
    for line, row in zip(lines, table, strict=True):
        heads = {line["heads"][head][0]["class"] for head in ("class", "distillation")}
        assert row["heads_disagree"] == (len(heads) > 1)


def test_images_are_named_by_files_patterns_lists_and_stdin(
    photos: Path, model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("list.txt").write_text("photos/3.png\n\nphotos/4.png\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/2.PNG\n"))
    words = ["photos/0.png", "photos/deeper/*.png", "-", "--list", "list.txt"]
    assert run(["predict", *words, "--model", model, "--csv", "--device", "cpu"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    names = ["0.png", "deeper/0.png", "deeper/1.png", "2.PNG", "3.png", "4.png"]
    assert [row["image"] for row in rows] == [f"photos/{name}" for name in names]


def test_images_are_copied_into_folders_of_their_classes(photos: Path, model: str) -> None:
    before = sorted(path for path in photos.rglob("*") if path.is_file())
    assert run(["predict", "photos", "--model", model, "--sort-into", "sorted", "--device", "cpu"]) == 2
    copied = [path for path in Path("sorted").rglob("*") if path.is_file()]
    assert len(copied) == 7  # two files are called 0.png and two 1.png: none takes another's place
    assert {path.parent.name for path in copied} <= {name.replace("/", "_") for name in CLASSES}
    assert sorted(path for path in photos.rglob("*") if path.is_file()) == before
    assert run(["predict", "photos", "--model", model, "--sort-into", "sorted", "--device", "cpu"]) == 2
    assert len([path for path in Path("sorted").rglob("*") if path.is_file()]) == 7


def test_one_row_an_image_and_the_heads_on_request(photos: Path, model: str, capsys: Capture) -> None:
    assert run(["predict", "photos/0.png", "--model", model, "--device", "cpu"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if "%" in line]) == 1
    assert run(["predict", "photos/0.png", "--model", model, "--heads", "--top", "99", "--device", "cpu"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if "%" in line]) == 9  # 3 heads x 3 classes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no image is named"),
        (("photos/none.png",), "does not exist"),
        (("photos", "-o", "answers.xlsx"), "unknown ending"),
        (("photos", "--csv", "--jsonl"), "one format"),
        (("photos", "--list", "none.txt"), "cannot be read"),
        (("photos", "--top", "0"), "--top"),
        (("photos", "--batch-size", "0"), "--batch-size"),
    ],
)
def test_what_cannot_be_done_is_refused(
    photos: Path, model: str, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert run(["predict", *words, "--model", model, "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("answers.xlsx").exists()


def test_a_file_name_that_is_not_utf8_gets_its_answer(photos: Path, model: str) -> None:
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "0.png").read_bytes())
    (photos / "broken.png").unlink()
    assert run(["predict", "photos", "--model", model, "-o", "a.csv", "--device", "cpu"]) == 0
    assert b"photos/caf\xe9.png" in Path("a.csv").read_bytes()
