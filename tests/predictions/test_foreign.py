"""ONNX files and Python functions among classifiers: their names, their answers, and when those are made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deitkit.cli.app import run
from deitkit.cli.render import show_notes
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.models.code import teacher_of
from deitkit.models.reference import Reference, is_foreign, short_names
from deitkit.predictions.find import predictions_of
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run

CODE = """
import torch
from safetensors.torch import load_file


def brightest(weights="scores.safetensors"):
    scores = load_file(weights)["scores"]

    def answer(images):
        return images.flatten(1)[:, :64] @ scores

    answer.image_size, answer.mean, answer.std = 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    answer.class_names = list("0123456789")
    return answer
"""


@pytest.fixture(autouse=True)
def _notes_on_stderr() -> None:
    """What is said below the command line is shown, as the command line shows it."""
    show_notes()


@pytest.fixture
def word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A linear classifier of an 8 x 8 image's first channel, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CODE)
    save_file({"scores": torch.randn(64, 10)}, "scores.safetensors")
    return "mine.py:brightest?weights=scores.safetensors"


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine.py:brightest", True), ("mine.py", True), ("nets/mine.py:brightest?weights=a.pt", True), ("a.onnx", True),
        ("package.module:make?size=8", True), ("runs/a", False), ("runs/a:class", False), ("timm:resnet18", False),
        ("a.parquet", False), ("hf-hub:owner/name", False),
    ],
)  # fmt: skip
def test_a_foreign_classifier_is_known_by_its_form(text: str, expected: bool) -> None:
    assert is_foreign(text) is expected


def test_a_head_of_a_folder_is_no_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("student").mkdir()
    assert Reference.parse("student:class") == Reference("student", head="class")


def test_foreign_classifiers_are_called_after_their_function_or_file_and_kept_apart_by_arguments() -> None:
    words = ["nets/mine.py:make?weights=w/a.pt", "nets/mine.py:make?weights=w/b.pt", "x/r20.onnx", "x/r56.onnx"]
    references = [Reference.parse(word) for word in words]
    assert list(short_names(references).values()) == ["a/make", "b/make", "r20", "r56"]
    assert [str(each.folder) for each in references] == ["make-a", "make-b", "r20", "r56"]


# Answers


def test_its_predictions_are_its_own_answers_for_the_split(word: str) -> None:
    (table,) = predictions_of([word], dataset="digits", device="cpu", keep_logits=True)
    source = open_source(Data(dataset="digits"), "val")
    assert table.classifier == "brightest"
    assert table.ids == list(source.ids)
    logits = table.head("class").logits
    assert logits is not None
    assert np.array_equal(logits.argmax(axis=1), table.top1("class"))
    assert Path("brightest-scores/predictions/digits-val.parquet").is_file()
    # The digits are 8 x 8 px of 0..16 to begin with; shown whole, the pixels are those of scikit-learn.
    from sklearn.datasets import load_digits

    pixels = {row.tobytes() for row in load_digits().data.astype(np.uint8)}
    assert len(pixels) == len(load_digits().data)
    from safetensors.torch import load_file

    scores = load_file("scores.safetensors")["scores"].numpy()
    views = np.stack([_first_channel(source.read(index)) for index in range(len(source))])
    np.testing.assert_allclose(logits, views @ scores, rtol=1e-4, atol=1e-4)


def _first_channel(encoded: bytes) -> np.ndarray:
    from deitkit.data.views.augment import decode, evaluation_view

    data = Data(dataset="digits")
    view = evaluation_view(decode(encoded, "a digit"), (8, 8), data.crop_ratio, data.interpolation)
    return view[0].astype(np.float32).reshape(-1) / 255


def test_they_are_found_again_and_made_anew_when_a_file_has_changed(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = predictions_of([word], dataset="digits", device="cpu")
    assert "making them" in capsys.readouterr().err
    (again,) = predictions_of([word], dataset="digits", device="cpu")
    assert "making them" not in capsys.readouterr().err
    assert np.array_equal(first.top1("class"), again.top1("class"))
    save_file({"scores": torch.randn(64, 10)}, "scores.safetensors")
    (other,) = predictions_of([word], dataset="digits", device="cpu")
    assert "making them" in capsys.readouterr().err
    assert not np.array_equal(first.top1("class"), other.top1("class"))


def test_they_are_made_anew_beside_a_run_that_shows_images_otherwise(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions_of([word], dataset="digits", device="cpu")
    changes = {"teacher.model": word, "data.crop_ratio": 0.5}
    student = Run.create(Path("student"), load_recipe("quickstart/student", changes), environment={}, overwrite=False)
    capsys.readouterr()
    for expected in (True, False):
        (table,) = predictions_of([word], like=str(student.path), device="cpu")
        assert ("making them" in capsys.readouterr().err) is expected
        assert table.settings["crop_ratio"] == 0.5


def test_one_that_does_not_name_its_classes_is_told_how(word: str) -> None:
    Path("mine.py").write_text(CODE.replace("answer.class_names", "answer.nothing"))
    with pytest.raises(DeitkitError, match="does not say which class") as caught:
        predictions_of([word], dataset="digits", device="cpu")
    assert "attribute class_names" in caught.value.remedy


def test_alone_it_does_not_say_on_which_images(word: str) -> None:
    with pytest.raises(DeitkitError, match="on which images") as caught:
        predictions_of([word], device="cpu")
    assert "--dataset" in caught.value.remedy


def test_two_are_compared_by_the_verb_without_any_run(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"scores": torch.randn(64, 10)}, "other.safetensors")
    words = [word, "mine.py:brightest?weights=other.safetensors", "--dataset", "digits", "--device", "cpu", "--json"]
    code = run(["analyze", "disagreement", *words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert '"scores/brightest"' in captured.out
    assert '"other/brightest"' in captured.out


# A recipe's own


def test_a_recipes_python_teacher_is_asked_only_where_it_was_asked_before(word: str) -> None:
    recipe = load_recipe("quickstart/student", {"teacher.model": word})
    student = Run.create(Path("student"), recipe, environment={}, overwrite=False)
    assert teacher_of(str(student.path)) == ""
    predictions_of([word], dataset="digits", device="cpu")
    assert teacher_of(str(student.path)) == word
