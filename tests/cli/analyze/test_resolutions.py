"""`deitkit analyze resolutions` on tiny real runs: what equals upscaling and evaluating, what is found, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.cli.app import run
from deitkit.models.class_names import imagenet_names
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student, rebuild_student
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data, Model
from deitkit.runs.folder import Run

Call = Callable[..., Any]
ONE_EPOCH = [
    "--set", "train.epochs=1", "--set", "schedule.warmup_epochs=0", "--workers", "0", "--device", "cpu",
]  # fmt: skip
HEADS = ("class", "distillation", "fused")
CLASSES = (2, 5, 9)  # of ImageNet's that the miniature has


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the digits: a student of 16 px, what `upscale` made of it, a run fine-tuned from that, and a stranger."""
    root = tmp_path_factory.mktemp("runs")
    student = ["-r", "quickstart/twin", "--set", "model.image_size=16", "--set", "model.distilled=true",
               "--set", "loss.second_token=label", *ONE_EPOCH]  # fmt: skip
    assert run(["pretrain", "-o", str(root / "student"), *student]) == 0
    assert run(["upscale", str(root / "student"), "--to", "24"]) == 0
    assert run(["finetune", "-r", "quickstart/student_32_labels_only", "--from", str(root / "student_24"),
                "-o", str(root / "tuned"), "--set", "model.image_size=24", *ONE_EPOCH]) == 0  # fmt: skip
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    stranger = build_student(Model(name="deit_nano", image_size=16, distilled=True, options=options), 10)
    info = ModelInfo.of(Data(dataset="digits"), (16, 16), tuple(map(str, range(10))))
    save_model(root / "stranger", stranger, info)
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Copies that a test may change, in a folder of another name."""
    return Path(shutil.copytree(trained, tmp_path / "moved"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command line's JSON, with what was said; or the error, with exit code 2. Figures are drawn where asked for."""

    def run_it(*words: object, fails: bool = False, drawn: bool = False) -> Any:
        with monkeypatch.context() as patch:
            if not drawn:
                patch.setattr("deitkit.analysis.save.draw", lambda figure, suffix, inks=None: b"")
            device = () if words[0] == "upscale" else ("--device", "cpu")
            code = run([*map(str, words), "--json", *device])
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err + captured.out
        found = json.loads(captured.out)
        return found | {"said": captured.err} if isinstance(found, dict) else found

    return run_it


def rows_of(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    table = next(each for each in found["tables"] if each["name"] == name)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def accuracies(found: dict[str, Any], weights: str, size: str, column: str = "top1") -> dict[str, float]:
    rows = [row for row in rows_of(found, "accuracy") if (row["weights"], row["size"]) == (weights, size)]
    return {row["head"]: row[column] for row in rows}


def evaluated(model: Path, *words: object) -> dict[str, float]:
    """Each head's top-1, counted from the predictions that `deitkit evaluate` writes."""
    place = model / "evaluated.parquet"
    assert run(["evaluate", *map(str, (model, *words)), "--device", "cpu", "-o", str(place)]) == 0
    table = Predictions.load(place)
    return {head: float((table.top1(head) == table.labels).mean()) for head in table.heads}


# What is measured


@pytest.mark.parametrize(("size", "mode"), [("24", "bicubic"), ("20x24", "nearest")])
def test_accuracy_as_it_is_is_that_of_upscaling_and_evaluating(runs: Path, call: Call, size: str, mode: str) -> None:
    found = call("analyze", "resolutions", runs / "student", "--sizes", size, "--no-speed", "--mode", mode)
    assert run(["upscale", str(runs / "student"), "--to", size, "-o", str(runs / "larger"), "--mode", mode]) == 0
    assert accuracies(found, "as it is", size) == evaluated(runs / "larger")
    assert accuracies(found, "as trained", "16") == evaluated(runs / "student")
    assert tuple(accuracies(found, "as trained", "16")) == HEADS
    assert accuracies(found, "tuned", "24") == evaluated(runs / "tuned")


def test_cost_and_accuracy_of_every_size_are_shown_and_saved(runs: Path, call: Call) -> None:
    words = ("--sizes", "8,24", "--seconds", "0.1", "--batch-size", "4", "--limit", "40")
    found = call("analyze", "resolutions", runs / "student", *words, drawn=True)
    small, own, large = rows_of(found, "resolutions")
    assert [(row["size"], row["patches"], row["tokens"]) for row in (small, own, large)] == [
        ("8", "2x2", 6), ("16", "4x4", 18), ("24", "6x6", 38)
    ]  # fmt: skip
    assert small["GMACs"] < own["GMACs"] < large["GMACs"] and small["images/s"] > large["images/s"] > 0
    assert (own["fine-tuned"], large["fine-tuned"]) == (None, accuracies(found, "tuned", "24")["fused"])
    assert {row["batch"] for row in rows_of(found, "speed")} == {4}
    assert found["numbers"]["conditions"]["batch_size"] == 4 and found["numbers"]["mode"] == "bicubic"
    names = {path.name for path in (runs / "student" / "reports").iterdir()}
    assert {
        "resolutions.json",
        "resolutions_resolutions.csv",
        "resolutions_accuracy.png",
        "resolutions_speed.svg",
    } <= names
    assert "timing 3 in turn" in found["said"] and "24 px as it is: class" in found["said"]
    assert run(["report", str(runs / "student"), "-o", str(runs / "page.html")]) == 0
    assert "trained at that size (deciding head)" in (runs / "page.html").read_text()


def test_few_images_are_the_same_ones_for_both(runs: Path, call: Call) -> None:
    found = call("analyze", "resolutions", runs / "student", "--sizes", "24", "--limit", 30, "--no-speed")
    table = Predictions.load(runs / "tuned" / "predictions" / "digits-val.parquet")
    chosen = np.linspace(0, 359, 30).round().astype(int)
    right = {head: float((table.top1(head) == table.labels)[chosen].mean()) for head in table.heads}
    assert accuracies(found, "tuned", "24") == right
    assert {row["images"] for row in rows_of(found, "accuracy")} == {30}
    # Without kept predictions the same images are classified, and a part is not kept.
    (runs / "tuned" / "predictions" / "digits-val.parquet").unlink()
    again = call("analyze", "resolutions", runs / "student", "--sizes", "24", "--limit", 30, "--no-speed")
    assert accuracies(again, "tuned", "24") == right
    assert not (runs / "tuned" / "predictions" / "digits-val.parquet").exists()
    whole = call("analyze", "resolutions", runs / "student", "--sizes", "24", "--no-speed")
    assert {row["images"] for row in rows_of(whole, "accuracy")} == {360}
    assert (runs / "tuned" / "predictions" / "digits-val.parquet").exists()


def test_a_convnet_runs_at_other_sizes_as_it_is(tmp_path: Path, call: Call) -> None:
    info = ModelInfo.of(Data(dataset="digits"), (32, 32), tuple(map(str, range(10))))
    save_model(tmp_path / "net", rebuild_student("resnet10t", {"num_classes": 10}), info)
    found = call("analyze", "resolutions", tmp_path / "net", "--sizes", "48", "--limit", 20, "--no-speed")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    config["deitkit"]["size"] = [48, 48]
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    whole = call("analyze", "resolutions", tmp_path / "net", "--sizes", "48", "--limit", 20, "--no-speed")
    assert accuracies(found, "as it is", "48") == accuracies(whole, "as trained", "48")
    assert "patches" not in rows_of(found, "resolutions")[0] and found["numbers"]["mode"] is None


def test_cost_alone_reads_no_image(runs: Path, call: Call) -> None:
    words = ("--no-accuracy", "--no-speed", "--data", runs / "nowhere", "--sizes", "24", "-o", runs / "out")
    found = call("analyze", "resolutions", runs / "student", *words)
    assert {each["name"] for each in found["tables"]} == {"resolutions"}
    assert (runs / "out" / "resolutions.json").is_file()


# What was fine-tuned from it


def test_runs_beside_it_that_started_from_it_are_found(runs: Path, call: Call) -> None:
    found = call("analyze", "resolutions", runs / "student", "--sizes", "8", "--limit", 10, "--no-speed")
    assert found["numbers"]["finetuned"] == ["tuned"]
    assert found["numbers"]["sizes"] == [[8, 8], [16, 16], [24, 24]], "its size is there, too"
    assert f"fine-tuned from it, at 24 px: {runs / 'tuned'}" in found["said"]
    assert call("analyze", "resolutions", runs / "stranger", "--limit", 10, "--no-speed")["numbers"]["finetuned"] == []
    none = call("analyze", "resolutions", runs / "student", "--no-finetuned", "--limit", 10, "--no-speed")
    assert none["numbers"]["finetuned"] == []


def test_a_run_that_started_from_it_at_once_is_found_and_an_unfinished_one_named(runs: Path, call: Call) -> None:
    recipe = (runs / "tuned" / "recipe.toml").read_text()
    (line,) = (line for line in recipe.splitlines() if line.startswith("weights = "))
    (runs / "tuned" / "recipe.toml").write_text(recipe.replace(line, f'weights = "{runs / "student"}"'))
    shutil.copytree(runs / "tuned", runs / "unfinished")
    shutil.rmtree(runs / "unfinished" / "model")
    (runs / "unfinished" / "result.json").unlink()
    found = call("analyze", "resolutions", runs / "student", "--limit", 10, "--no-speed")
    assert found["numbers"]["finetuned"] == ["tuned"]
    assert "unfinished is left out" in found["said"] and "has no model yet" in found["said"]
    error = call("analyze", "resolutions", runs / "student", "--finetuned", runs / "unfinished", fails=True)
    assert "has no model yet: the run is interrupted" in error["error"] and "--resume" in error["remedy"]
    assert Run(runs / "unfinished").status() == "interrupted"


def test_named_runs_are_taken_instead(runs: Path, call: Call) -> None:
    shutil.copytree(runs / "tuned", runs.parent / "elsewhere")
    words = ("--finetuned", runs.parent / "elsewhere", "--finetuned", runs / "tuned", "--limit", 10, "--no-speed")
    rows = rows_of(call("analyze", "resolutions", runs / "student", *words), "resolutions")
    assert [row["run"] for row in rows if row["size"] == "24"] == ["elsewhere", "tuned"]


def test_predictions_of_other_images_are_refused(runs: Path, call: Call) -> None:
    place = runs / "tuned" / "predictions" / "digits-val.parquet"
    replace(Predictions.load(place), fingerprint="another").save(place)
    error = call("analyze", "resolutions", runs / "student", "--no-speed", fails=True)
    assert "are of other images than these" in error["error"] and "deitkit evaluate" in error["remedy"]


# ImageNet, ReaL and V2


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf with 9 images of three classes as ImageNet, with ReaL labels, and 6 as ImageNet-V2."""
    generator, shelf, names = np.random.default_rng(0), tmp_path / "shelf", imagenet_names()
    real: list[list[int]] = [[] for _ in range(50_000)]
    for number in range(1, 10):
        label = CLASSES[number % 3]
        real[number - 1] = [label, label + 1] if number > 2 else []
        draw(shelf / "imagenet" / "val" / names[label] / f"ILSVRC2012_val_{number:08d}.JPEG", generator)
    (shelf / "imagenet" / "real.json").write_text(json.dumps(real))
    for number in range(6):
        draw(shelf / "imagenet_v2" / str(CLASSES[number % 3]) / f"{number}.jpeg", generator)
    monkeypatch.setenv("DEITKIT_DATA", str(shelf))
    return shelf


def draw(path: Path, generator: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path, format="JPEG")


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """A model of ImageNet's classes at 16 px, and another as if fine-tuned from it at 24."""
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    for name, size, seed in (("base", 16, 0), ("tuned", 24, 1)):
        student = build_student(Model(name="deit_nano", image_size=size, options=options), 1000, seed=seed)
        # Answers of random weights: let the three classes that there are compete.
        student.network.head.bias.data[list(CLASSES)] += 5
        save_model(tmp_path / name, student, ModelInfo.of(Data(dataset="imagenet"), (size, size), imagenet_names()))
    return tmp_path / "base"


def test_real_and_v2_stand_beside_top1(imagenet: Path, thousand: Path, call: Call) -> None:
    words = ("--sizes", "24", "--finetuned", thousand.with_name("tuned"), "--no-speed")
    found = call("analyze", "resolutions", thousand, *words)
    larger = thousand.with_name("larger")
    call("upscale", thousand, "--to", "24", "-o", larger)
    for weights, model in (("as it is", larger), ("tuned", thousand.with_name("tuned"))):
        one, two = call("evaluate", model, "--dataset", "imagenet", "--dataset", "imagenet_v2")
        assert accuracies(found, weights, "24") == {"class": one["accuracy"]["class"]["top1"]}
        assert accuracies(found, weights, "24", "real") == {"class": one["accuracy"]["class"]["real"]}
        assert accuracies(found, weights, "24", "v2") == {"class": two["accuracy"]["class"]["top1"]}
        assert accuracies(found, weights, "24", "judged") == {"class": 7}
    columns = rows_of(found, "resolutions")[1]
    assert {"real", "fine-tuned real", "v2", "fine-tuned v2"} <= columns.keys()


def test_an_absent_v2_is_said_once(imagenet: Path, thousand: Path, call: Call) -> None:
    shutil.rmtree(imagenet / "imagenet_v2")
    found = call("analyze", "resolutions", thousand, "--sizes", "8,24", "--no-speed")
    assert found["said"].count("ImageNet-V2 is not in") == 1 and "v2" not in rows_of(found, "accuracy")[0]


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sizes", "17"], "17 px: no multiple of the patch, 4x4 px"), (["--sizes", "16,big"], "'big' is no size"),
        (["--sizes", ","], "'' is no size"), (["--mode", "cubic"], "Did you mean bicubic?"),
        (["--finetuned", "stranger"], "is of another architecture"), (["--finetuned", "."], "neither a run nor"),
        (["--finetuned", "student_24"], "itself: not fine-tuned"), (["--finetuned", "gone"], "gone does not exist"),
        (["--finetuned", "tuned", "--no-finetuned"], "leave one of them out"), (["--batch-size", "0"], "--batch-size"),
        (["--amp", "int8"], "unknown --amp"), (["--data", "nowhere"], "nowhere does not exist"),
        (["--seconds", "0"], "--seconds"), (["--limit", "0"], "--limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_a_remedy(
    trained: Path, call: Call, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(trained)
    error = call("analyze", "resolutions", "student", *options, fails=True)
    assert words in json.dumps(error, ensure_ascii=False)
    assert error.get("remedy") or error.get("choices")


@pytest.mark.parametrize("word", ["gone.onnx", "teacher.py:make", "student/predictions/digits-val.parquet"])
def test_what_has_one_size_is_refused(word: str, call: Call) -> None:
    error = call("analyze", "resolutions", word, fails=True)
    assert "this needs a model" in error["error"] and error["remedy"]


def test_a_checkpoint_is_measured_as_the_run_is(runs: Path, call: Call) -> None:
    best = call("analyze", "resolutions", f"{runs / 'student'}@best", "--sizes", "16", "--no-speed")
    assert rows_of(best, "accuracy")[0]["images"] == 360
    assert best["title"].startswith("student@best") and best["numbers"]["finetuned"] == []
