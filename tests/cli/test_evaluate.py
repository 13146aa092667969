"""`deitkit evaluate`: protocols, classes matched by name, several data sets, exact counts; on a model made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.predictions.find import predictions_of
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data, Model

Evaluate = Callable[..., Any]
NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """`deitkit evaluate ... --json`; gives what it printed, or the error's object."""

    def call(*words: object) -> Any:
        code = run(["evaluate", *map(str, words), "--json", "--device", "cpu"])
        found = json.loads(capsys.readouterr().out)
        assert code == (2 if "error" in found else 0)
        return found

    return call


def model_folder(path: Path, names: tuple[str, ...] = NAMES, *, distilled: bool = True) -> Path:
    model = Model(
        name="deit_nano", image_size=16, distilled=distilled, options={"embed_dim": 32, "depth": 2, "num_heads": 2}
    )
    student = build_student(model, len(names), seed=1)
    save_model(path, student, ModelInfo.of(Data(dataset="folder", crop_ratio=1.0), (16, 16), names))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model")


def images(root: Path, folders: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            colour = generator.integers(0, 256, size=3)
            pixels = np.clip(generator.normal(colour, 30, size=(20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def val(names: tuple[str, ...], count: int = 9) -> dict[str, int]:
    return {f"val/{name}": count for name in names} | {f"train/{name}": 1 for name in names}


# Classes are matched by name


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", val(NAMES))
    straight = evaluate(model_folder(tmp_path / "straight"), "--data", data, "--logits")
    turned = model_folder(tmp_path / "turned")
    config = json.loads((turned / "config.json").read_text())
    config["deitkit"]["class_names"] = ["dog", "cat", "bee", "ant"]
    (turned / "config.json").write_text(json.dumps(config))
    reversed_ = evaluate(turned, "--data", data, "--logits")
    tables = [Predictions.load(Path(result["predictions"])) for result in (straight, reversed_)]
    assert tables[0].class_names == tables[1].class_names == NAMES
    assert np.array_equal(tables[0].labels, tables[1].labels)
    for head in ("class", "distillation", "fused"):
        assert np.array_equal(tables[0].top1(head), 3 - tables[1].top1(head))
    assert np.allclose(tables[0].head("class").logits, tables[1].head("class").logits[:, ::-1])
    assert tables[0].fingerprint == tables[1].fingerprint


def test_data_with_some_of_the_models_classes_is_judged_among_all(tmp_path: Path, model: Path, capsys) -> None:
    data = images(tmp_path / "data", val(("cat", "bee")))
    assert run(["evaluate", str(model), "--data", str(data), "--json", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert "the data has 2 of the model's 4 classes" in captured.err
    table = Predictions.load(Path(json.loads(captured.out)["predictions"]))
    assert table.class_names == ("bee", "cat", "ant", "dog")
    assert set(table.labels.tolist()) == {0, 1}
    assert table.top1("class").max() < 4


def test_unknown_classes_are_refused_with_the_command_that_helps(
    tmp_path: Path, model: Path, evaluate: Evaluate
) -> None:
    error = evaluate(model, "--data", images(tmp_path / "data", val(("cat", "eel", "fox"))))
    assert "does not know 2 of the data's 3 classes" in error["error"]
    assert any("eel, fox" in problem for problem in error["problems"])
    assert "deitkit finetune --from" in error["remedy"]


# The verdict


def test_means_over_classes_are_shown_where_the_classes_are_unequal_and_each_ones_recall(
    tmp_path: Path, model: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(tmp_path / "data", val(NAMES))
    for path in sorted((data / "val" / NAMES[0]).iterdir())[1:]:
        path.unlink()
    found = evaluate(model, "--data", data, "--per-class")
    table = Predictions.load(Path(found["predictions"]))
    scores = found["accuracy"]["fused"]
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(table.labels, table.top1("fused")))
    means = [recall["fused"] for recall in found["recall"].values()]
    assert sum(means) / len(means) == pytest.approx(scores["balanced_accuracy"])
    assert run(["evaluate", str(model), "--data", str(data), "--device", "cpu"]) == 0
    assert "macro F1" in capsys.readouterr().out


def test_a_model_that_does_not_know_its_class_counts_is_not_adjusted(
    tmp_path: Path, model: Path, evaluate: Evaluate
) -> None:
    error = evaluate(model, "--data", images(tmp_path / "data", val(NAMES)), "--logit-adjustment", "1")
    assert "how many training images" in error["error"]


def test_the_verdict_comes_first_and_top_5_only_of_more_than_ten_classes(
    tmp_path: Path, model: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(tmp_path / "data", val(NAMES))
    found = evaluate(model, "--data", data)
    fused = found["accuracy"]["fused"]
    assert found["verdict"][0].startswith(f"{fused['right']} of 36 right (")
    assert fused.keys() == {"top1", "right", "balanced_accuracy", "macro_f1"}
    assert run(["evaluate", str(model), "--data", str(data), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(found["verdict"])] == found["verdict"]
    assert not any("top-5" in line for line in lines)
    many = tuple(f"class {number:02d}" for number in range(11))
    wide = evaluate(model_folder(tmp_path / "wide", many), "--data", images(tmp_path / "more", val(many, 1)))
    assert wide["accuracy"]["fused"]["top5"] >= wide["accuracy"]["fused"]["top1"]


# Several data sets, classes, counts


def test_several_data_sets_are_measured_in_one_call(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    first, second = images(tmp_path / "one", val(NAMES)), images(tmp_path / "two", val(NAMES, 5))
    both = evaluate(model, "--dataset", f"folder={first}", "--dataset", f"folder={second}")
    assert [result["images"] for result in both] == [36, 20]
    alone = evaluate(model, "--dataset", "folder", "--data", second)
    assert both[1]["accuracy"] == alone["accuracy"]
    assert len({result["predictions"] for result in both}) == 2
    assert "several data sets" in evaluate(
        model, "--dataset", f"folder={first}", "--dataset", f"folder={second}", "--data", first
    )["error"]  # fmt: skip


def test_an_unknown_data_set_is_suggested(model: Path, evaluate: Evaluate) -> None:
    assert "Did you mean flowers102?" in evaluate(model, "--dataset", "flowers12")["error"]


@pytest.mark.parametrize("ratio", ["0", "-0.5", "2", "nan", "inf"])
def test_a_crop_ratio_that_cannot_be_is_refused(model: Path, evaluate: Evaluate, ratio: str) -> None:
    assert "the crop ratio is" in evaluate(model, "--dataset", "digits", "--crop-ratio", ratio)["error"]


def test_each_class_is_counted(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", val(NAMES))
    found = evaluate(model, "--data", data, "--per-class")
    table = Predictions.load(Path(found["predictions"]))
    for number, name in enumerate(NAMES):
        mine = table.labels == number
        assert found["per_class"][name]["images"] == 9 == mine.sum()
        assert found["per_class"][name]["fused"] == (table.top1("fused")[mine] == number).sum()
    assert sum(row["fused"] for row in found["per_class"].values()) == found["accuracy"]["fused"]["right"]


def test_the_crop_ratio_is_stated_and_can_be_chosen(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", val(NAMES))
    assert evaluate(model, "--data", data)["settings"]["crop_ratio"] == 1.0
    assert evaluate(model, "--data", data, "--crop-ratio", "0.5")["settings"]["crop_ratio"] == 0.5
    assert Data().crop_ratio == 0.875


def test_held_out_images_can_be_measured(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", dict.fromkeys(NAMES, 10))
    assert evaluate(model, "--data", data)["images"] == 4, "a tenth, where nothing is said"
    found = evaluate(model, "--data", data, "--val-fraction", "0.2")
    assert found["images"] == 8 == len(open_source(Data(dataset="folder", path=str(data), val_fraction=0.2), "val"))


@pytest.mark.slow
def test_counts_are_exact_on_any_number_of_processes(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", val(NAMES, 7))
    alone = evaluate(model, "--data", data, "--per-class", "--batch-size", "5")
    assert alone["images"] == 28
    for ranks in (2, 3):
        words = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port",
            str(29610 + ranks), "-m", "deitkit", "evaluate", str(model), "--data", str(data), "--per-class",
            "--batch-size", "5", "--json", "--device", "cpu",
        ]  # fmt: skip
        done = subprocess.run(
            words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == alone


# The fusion is fitted, and stored only if asked


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return images(tmp_path / "photos", val(NAMES, 15))


def test_a_fitted_fusion_is_reported_and_changes_nothing(model: Path, photos: Path, evaluate: Evaluate) -> None:
    before = (model / "config.json").read_bytes()
    plain, fitted = (evaluate(model, "--data", photos, *more) for more in ((), ("--fit-fusion",)))
    assert (model / "config.json").read_bytes() == before
    assert fitted["accuracy"] == plain["accuracy"]
    assert fitted["settings"]["fusion"] == "softmax"
    table = Predictions.load(Path(fitted["predictions"]))
    assert table.head("class").logits is None
    report = fitted["fusion_fit"]
    assert (report["images"], report["folds"]) == (60, 5)
    scores = {score["name"]: score for score in report["scores"]}
    assert scores["softmax"]["right"] == plain["accuracy"]["fused"]["right"]
    averaged = evaluate(model, "--data", photos, "--fusion", "average_logits")
    assert scores["average_logits"]["right"] == averaged["accuracy"]["fused"]["right"]
    assert {"weighted_softmax", "weighted_logits", "class", "distillation"} < scores.keys()
    assert [each["kind"] for each in report["fitted"]] == ["weighted_softmax", "weighted_logits"]


def test_a_stored_fusion_is_used_from_then_on_and_can_be_overridden(
    model: Path, photos: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = evaluate(model, "--data", photos)
    stored = evaluate(model, "--data", photos, "--fit-fusion", "--store-fusion")
    choice = stored["fusion_fit"]["choice"]
    assert choice["fitted_on"] == "folder/val, 60 images"
    assert json.loads((model / "config.json").read_text())["deitkit"]["fusion"] == choice
    written = Predictions.load(Path(stored["predictions"]))
    again = evaluate(model, "--data", photos)
    assert again["settings"]["fusion"] == stored["settings"]["fusion"] == choice
    assert again["accuracy"] == stored["accuracy"]
    table = Predictions.load(Path(again["predictions"]))
    assert np.array_equal(table.top1("fused"), written.top1("fused"))
    assert np.allclose(table.head("fused").confidence, written.head("fused").confidence)
    image = next((photos / "val" / "ant").iterdir())
    assert run(["predict", str(image), "-m", str(model), "--json", "--device", "cpu"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    row = [Path(path).resolve() for path in table.paths or []].index(image.resolve())
    assert answer["heads"]["fused"][0]["confidence"] == pytest.approx(table.head("fused").confidence[row, 0], rel=1e-4)
    assert evaluate(model, "--data", photos, "--fusion", "softmax")["accuracy"] == plain["accuracy"]


def test_fitting_prints_tables_and_says_what_is_not_to_be_trusted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = images(tmp_path / "few", val(NAMES, 5))
    words = ["evaluate", str(model), "--data", str(few), "--device", "cpu", "--fit-fusion", "--store-fusion"]
    assert run(words) == 0
    captured = capsys.readouterr()
    for part in ("softmax sum (the paper's)", "weighted logit sum", "McNemar p", "class head's share", "NLL"):
        assert part in captured.out
    assert "these very images" in captured.out
    assert "20 images are too few: the fit is not to be trusted" in captured.err
    assert f"stored in {model}" in captured.err


def test_what_cannot_be_fitted_or_stored_is_refused_beforehand(
    model: Path, photos: Path, tmp_path: Path, evaluate: Evaluate
) -> None:
    plain = model_folder(tmp_path / "plain", distilled=False)
    assert "one head: there is nothing to fuse" in evaluate(plain, "--data", photos, "--fit-fusion")["error"]
    assert "nothing to store" in evaluate(model, "--data", photos, "--store-fusion")["error"]
    two = ("--dataset", f"folder={photos}", "--dataset", f"folder={photos}")
    assert "fitted to one data set" in evaluate(model, *two, "--fit-fusion")["error"]
    file = model / "model.safetensors"
    error = evaluate(file, "--dataset", f"folder={photos}", "--fit-fusion", "--store-fusion")
    assert "no fusion can be stored in it" in error["error"]
    assert "Did you mean softmax?" in evaluate(model, "--data", photos, "--fusion", "sofmax")["error"]


# Several labels or none may be right


def test_real_accuracy_counts_every_accepted_label_and_leaves_out_images_with_none(tmp_path: Path) -> None:
    from deitkit.data.open import LabelSets
    from deitkit.predictions.table import HeadPredictions

    accepted = [[0], [1, 2], [], [3], [0, 3]]
    top = np.array([[0], [2], [1], [1], [3]])
    table = Predictions(
        dataset="imagenet", split="val", fingerprint="f", classifier="c", class_names=NAMES, ids=list("abcde"),
        labels=np.array([0, 1, 1, 3, 0]), heads={"class": HeadPredictions("class", top, np.ones((5, 1), np.float32))},
        accepted=LabelSets(accepted),
    )  # fmt: skip
    assert table.real_accuracy("class") == (3, 4)
    assert table.accuracy("class") == pytest.approx(2 / 5)
    table.save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert loaded.accepted is not None
    assert [row.tolist() for row in loaded.accepted.rows] == accepted
    assert loaded.real_accuracy("class") == (3, 4)


# Every kind of classifier


FUNCTION = """
def make():
    def classify(pixels):
        return pixels.mean(dim=(2, 3)) @ __import__("torch").eye(3, 4)

    classify.class_names, classify.image_size = ["ant", "bee", "cat", "dog"], 16
    classify.mean, classify.std = [0.0] * 3, [1.0] * 3
    return classify
"""


def test_a_python_function_is_evaluated_and_found_again(
    tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTION)
    data = images(tmp_path / "data", val(NAMES))
    found = evaluate("mine.py:make", "--data", data)
    assert Path(found["predictions"]).parts[:2] == ("make", "predictions")
    (table,) = predictions_of(["mine.py:make"], data=str(data), device="cpu")
    assert found["accuracy"]["class"]["top1"] == table.accuracy("class")
    assert "on which images" in evaluate("mine.py:make")["error"]


def test_kept_predictions_are_judged_as_they_are(tmp_path: Path, model: Path, evaluate: Evaluate) -> None:
    data = images(tmp_path / "data", val(NAMES))
    made = evaluate(model, "--data", data)
    kept = evaluate(made["predictions"])
    assert kept["accuracy"] == made["accuracy"]
    assert list(evaluate(made["predictions"] + ":class")["accuracy"]) == ["class"]
    assert "its own images" in evaluate(made["predictions"], "--data", data)["error"]
