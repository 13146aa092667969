"""`deitkit analyze tradeoff` on tiny real models of every kind: whose accuracy, at what cost, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from deitkit.analysis.tradeoff.analyze import open_all
from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, load_model, save_model
from deitkit.models.student import build_student
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data, Model

Tradeoff = Callable[..., dict[str, Any]]
NAMES = tuple(map(str, range(10)))
FAST = [
    "--set", "train.epochs=1", "--set", "model.image_size=16", "--set", "schedule.warmup_epochs=0", "--workers", "0",
    "--device", "cpu",
]  # fmt: skip
# The nearest of ten mean images: a classifier whose accuracy can be counted without any network.
FUNCTION = """
import torch
from sklearn.datasets import load_digits


def make():
    digits = load_digits()
    images, target = torch.tensor(digits.images / 16, dtype=torch.float32).flatten(1), torch.tensor(digits.target)
    means = torch.stack([images[target == digit].mean(dim=0) for digit in range(10)])

    def classify(pixels):
        return -torch.cdist(pixels.mean(dim=1).flatten(1), means) ** 2

    classify.class_names, classify.mean, classify.std = list("0123456789"), [0.0] * 3, [1.0] * 3
    classify.image_size = 8
    return classify


def named(weights):
    return make()


def turned():
    straight = make()

    def classify(pixels):
        return straight(pixels).flip(1)

    classify.__dict__.update(vars(straight), class_names=straight.class_names[::-1])
    return classify
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a distilled student on the digits, one epoch each, and a Python function."""
    root = tmp_path_factory.mktemp("runs")
    assert run(["pretrain", "-r", "quickstart/teacher", "-o", str(root / "teacher"), *FAST]) == 0
    words = ["distill", "-r", "quickstart/student", "--teacher", str(root / "teacher"), "-o", str(root / "student")]
    assert run([*words, "--set", "checkpoint.every_steps=11", *FAST]) == 0
    (root / "nearest.py").write_text(FUNCTION)
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies that a test may change; it works in their folder."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def tradeoff(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tradeoff:
    """The report as JSON with what was said; or the error, with exit code 2. Figures are drawn where asked for."""

    def call(*words: object, fails: bool = False, drawn: bool = False, seconds: float = 0.1) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            if not drawn:
                patch.setattr("deitkit.analysis.save.draw", lambda figure, suffix, inks=None: b"")
            code = run(
                ["analyze", "tradeoff", *map(str, words), "--seconds", str(seconds), "--json", "--device", "cpu"]
            )
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err + captured.out
        found: dict[str, Any] = json.loads(captured.out)
        return found | {"said": captured.err}

    return call


def rows_of(found: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    table = next(each for each in found["tables"] if each["name"] == name)
    return {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}


def right(place: str, head: str) -> int:
    table = Predictions.load(Path(place) / "predictions" / "digits-val.parquet")
    return int((table.top1(head) == table.labels).sum())


# What is compared


def test_models_of_every_kind_stand_beside_each_other(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff("teacher", "student", "nearest.py:make", "--published", drawn=True)
    accuracy, models = rows_of(found, "accuracy"), rows_of(found, "models")
    assert {name: (row["kind"], row["head"]) for name, row in accuracy.items()} == {
        "teacher": ("convnet or other", "class"), "student": ("transformer, distilled", "fused"),
        "make": ("ONNX file or Python function", "class"),
    }  # fmt: skip
    assert accuracy["student"]["right"] == right("student", "fused")
    assert accuracy["teacher"]["right"] == right("teacher", "class")
    assert models["student"]["parameters"] == sum(each.numel() for each in load_model("student").student.parameters())
    assert models["make"]["size"] == "8" and models["make"]["MiB"] is None
    assert all(row["images/s"] > 0 and row["front"] in ("yes", "no") for row in models.values())
    best = max(models.values(), key=lambda row: row["top1"])
    assert best["front"] == "yes"
    names = {path.name for path in (runs / "teacher" / "reports").iterdir()}
    assert {"tradeoff.json", "tradeoff_models.csv", "tradeoff_models.png", "tradeoff_published.svg"} <= names
    assert "the code of nearest.py was executed" in found["said"] and "timing 3 in turn" in found["said"]
    assert run(["report", "teacher", "-o", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "transformer, distilled" in page and "(published, V100): not this machine" in page


def test_a_functions_accuracy_is_that_of_its_rule_on_the_same_images(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff(f"{runs}/nearest.py:make", "nearest.py:turned", "teacher")
    source, digits = open_source(Data(dataset="digits"), "val"), load_digits()
    images, target = digits.images / 16, digits.target
    means = np.stack([images[target == digit].mean(axis=0) for digit in range(10)])
    rows = [int(image_id.rpartition("/")[2].removesuffix(".png")) for image_id in source.ids]
    distances = ((images[rows][:, None] - means) ** 2).sum(axis=(2, 3))
    by_hand = int((distances.argmin(axis=1) == np.asarray(source.labels)).sum())
    assert rows_of(found, "accuracy")["make"]["right"] == pytest.approx(by_hand, abs=1)
    assert found["numbers"]["images"] == len(rows)
    accuracy = rows_of(found, "accuracy")
    assert accuracy["turned"]["right"] == accuracy["make"]["right"], "classes go by their names"


def test_a_function_alone_is_told_on_which_images(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff("nearest.py:named?weights=a/b.pt", "nearest.py:named?weights=a/c.pt", "--dataset", "digits")
    assert set(rows_of(found, "models")) == {"b/named", "c/named"}
    assert found["numbers"]["images"] == 360
    assert Path("named-b/reports/tradeoff.json").is_file(), "no run's folder was named"


def test_heads_and_checkpoints_are_models_of_their_own(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff("student", "student:class", "student:distillation", "student@11")
    accuracy, models = rows_of(found, "accuracy"), rows_of(found, "models")
    assert accuracy["student class"]["right"] == right("student", "class")
    assert accuracy["student distillation"]["head"] == "distillation"
    assert models["student class"]["images/s"] == models["student"]["images/s"], "one network is timed once"
    assert "\nstudent: 16x16 px" in found["said"]
    table = Predictions.load(Path("student/predictions/digits-val@step-000000011.parquet"))
    assert accuracy["student@11"]["right"] == int((table.top1("fused") == table.labels).sum())


def test_a_single_model_is_a_point(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff("student")
    assert found["numbers"]["front"] == ["student"]


def test_predictions_that_are_kept_need_no_images(runs: Path, tradeoff: Tradeoff) -> None:
    recipe = Path("teacher/recipe.toml")
    recipe.write_text(recipe.read_text().replace('dataset = "digits"', 'dataset = "cars"'))
    Path("teacher/predictions/digits-val.parquet").rename("teacher/predictions/cars-val.parquet")
    assert rows_of(tradeoff("teacher"), "accuracy")["teacher"]["right"] > 0


def test_accuracy_against_parameters_needs_no_timing(runs: Path, tradeoff: Tradeoff) -> None:
    found = tradeoff("student", "teacher", "--x", "parameters", "--no-speed")
    assert {each["name"] for each in found["tables"]} == {"models", "accuracy"}
    assert found["figures"][0]["x_label"] == "parameters (millions)" and "timing" not in found["said"]
    error = tradeoff("student", "--no-speed", fails=True)
    assert error["error"] == "--no-speed measures no throughput" and "--x parameters" in error["remedy"]


def test_a_grey_file_of_uint8_pixels_is_given_what_it_takes(runs: Path, tradeoff: Tradeoff) -> None:
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["pixels"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    weights = onnx.numpy_helper.from_array(np.eye(64, 10, dtype=np.float32), "weights")
    graph = onnx.helper.make_graph(
        nodes, "grey", [make("images", onnx.TensorProto.UINT8, ["n", 1, 8, 8])],
        [make("scores", onnx.TensorProto.FLOAT, ["n", 10])], [weights],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="class_names", value=json.dumps(NAMES))
    onnx.save(model, "grey.onnx")
    found = tradeoff("student", "grey.onnx", "--x", "macs")
    row = rows_of(found, "models")["grey"]
    assert (row["size"], row["parameters"], row["GMACs"], row["MiB"], row["front"]) == ("8", 640, None, None, None)
    assert row["images/s"] > 0
    _, entry = open_all(["student", "grey.onnx"])
    assert (entry.candidate.channels, entry.candidate.integer) == (1, True)
    assert "grey: its GMACs of an image cannot be told, so it is in no figure" in found["said"]


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "model gone does not exist"), (["student", "--x", "speed"], "unknown --x"),
        (["student/predictions/digits-val.parquet"], "holds predictions, and no model"), ([], "Missing argument"),
        (["student", "--batch-size", "0"], "--batch-size"), (["nearest.py:male"], "has no function male"),
        (["nearest.py:make"], "none of these says on which images"), (["student@77"], "keeps no checkpoint '77'"),
        (["student:fuzed"], "Did you mean fused?"), (["student", "--amp", "int8"], "unknown --amp"),
        (["student", "--split", "tset"], "unknown split 'tset'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_with_a_remedy(
    trained: Path, tradeoff: Tradeoff, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(trained)
    error = tradeoff(*words, fails=True)
    assert said in json.dumps(error, ensure_ascii=False)
    assert error.get("remedy") or error.get("choices")


def test_an_unfinished_run_is_refused(runs: Path, tradeoff: Tradeoff) -> None:
    shutil.rmtree("student/model")
    Path("student/result.json").unlink()
    error = tradeoff("teacher", "student", fails=True)
    assert "student has no model yet: the run is interrupted" in error["error"]


def test_a_model_without_predictions_and_without_data_is_refused(runs: Path, tradeoff: Tradeoff) -> None:
    error = tradeoff("student", "--data", "nowhere", fails=True)
    assert error["error"] == "nowhere does not exist" and "--data" in error["remedy"]


def test_predictions_of_other_images_are_refused(runs: Path, tradeoff: Tradeoff) -> None:
    place = Path("student/predictions/digits-val.parquet")
    replace(Predictions.load(place), fingerprint="another").save(place)
    error = tradeoff("teacher", "student", fails=True)
    assert "other images, labels or classes" in error["error"] and "deitkit evaluate" in error["remedy"]


def test_a_batch_that_does_not_fit_is_refused_before_images_are_read_for_nothing(
    runs: Path, tradeoff: Tradeoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = type(load_model("student").student).forward

    def full(self: Any, images: torch.Tensor) -> Any:
        if len(images) == 64 and images.shape[-1] == 16 and not images.max() <= 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(type(load_model("student").student), "forward", full)
    error = tradeoff("student", "--batch-size", "64", fails=True)
    assert "64 images of 16x16 px do not fit into the memory" in error["error"]
    assert error["remedy"] == "--batch-size 32"


def test_distilled_is_what_has_the_token_or_had_a_teacher(runs: Path, tradeoff: Tradeoff) -> None:
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    for name, distilled in (("plain", False), ("token", True)):
        student = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), 10)
        save_model(runs / name, student, ModelInfo.of(Data(dataset="digits"), (16, 16), NAMES))
    recipe = Path("teacher/recipe.toml")
    table = Path("student/recipe.toml").read_text().partition("[teacher]")[2].partition("\n[")[0]
    recipe.write_text(recipe.read_text().replace("teacher = false # deitkit default\n", "") + f"\n[teacher]{table}\n")
    found = rows_of(tradeoff("plain", "token", "teacher", "--x", "macs", "--no-speed"), "accuracy")
    assert {name: row["kind"] for name, row in found.items()} == {
        "plain": "transformer", "token": "transformer, distilled", "teacher": "convnet or other, distilled"
    }  # fmt: skip
