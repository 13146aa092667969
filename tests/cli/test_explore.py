"""`deitkit explore` on small models and real images: options, files, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.cli import explore as verb
from deitkit.cli.app import run
from deitkit.cli.options import AnalysisOptions
from deitkit.data.open import open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.predictions.table import Predictions
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Data, Model
from deitkit.runs.folder import Run
from tests.explore.conftest import fiftyone as fiftyone  # a MongoDB of its own, or a skip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Explore = Callable[..., tuple[int, Any, str]]
DIGITS = tuple(str(digit) for digit in range(10))


@pytest.fixture
def explore(fiftyone: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Explore:
    """`deitkit explore ...`; gives exit code, stdout (as JSON with --json) and stderr."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)

    def call(*words: object) -> tuple[int, Any, str]:
        code = run(["explore", *map(str, words), "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return call


def model(folder: Path, names: tuple[str, ...] = DIGITS, *, distilled: bool = True, dataset: str = "digits") -> Path:
    options = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), len(names))
    save_model(folder, student, ModelInfo.of(Data(dataset=dataset), (16, 16), names))
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one head."""
    return model(tmp_path_factory.mktemp("models") / "plain", distilled=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of two classes, as files."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "val" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / "val" / name / f"{number}.png")
    return tmp_path / "pets"


def test_digits_are_shown_with_what_two_models_say_of_them(
    student: Path, plain: Path, explore: Explore, fiftyone: ModuleType
) -> None:
    words = (student, "--teacher", plain, "--name", "two models", "--json")
    code, found, err = explore(*words)
    assert code == 0, err
    tables = {path: Predictions.load(path / "predictions" / "digits-val.parquet") for path in (student, plain)}
    heads = [("student_class", student, "class"), ("student_distillation", student, "distillation"),
             ("student_fused", student, "fused"), ("plain", plain, "class")]  # fmt: skip
    assert {field: each["right"] / each["images"] for field, each in found["answers"].items()} == {
        field: pytest.approx(tables[path].accuracy(head)) for field, path, head in heads
    }
    decided, taught, labels = tables[student].top1("fused"), tables[plain].top1("class"), tables[student].labels
    assert found["views"]["teacher right, student wrong"] == ((taught == labels) & (decided != labels)).sum()
    assert (found["dataset"], found["images"], found["samples"]) == ("two models", "digits/val", 360)

    source, dataset = open_source(Data(dataset="digits"), "val"), fiftyone.load_dataset("two models")
    shown = dataset.match({"image_id": source.ids[7]}).first()
    assert Path(shown.filepath).read_bytes() == source.read(7)
    assert "explore" in dataset.info["deitkit"]["command"] and "--teacher" in dataset.description

    assert "writing labels: 360" in err
    again = explore(*words)
    assert again[:2] == (0, found)
    assert "making them" not in again[2]


def test_the_table_names_every_answer_and_view_and_says_how_to_look(student: Path, explore: Explore) -> None:
    code, out, err = explore(f"{student}:fused", "--name", "one head")
    assert code == 0, err
    assert "FiftyOne dataset one head: 360 images of digits/val" in out
    assert "student_fused" in out and "student_class" not in out and "student wrong" in out
    assert f"to look at it: deitkit explore {student}:fused --name 'one head' --launch" in err


def test_logits_are_stored_on_request_alone(plain: Path, explore: Explore, fiftyone: ModuleType) -> None:
    assert explore(plain, "--name", "logits")[0] == 0
    assert fiftyone.load_dataset("logits").exists("plain.logits").count() == 0
    code, _, err = explore(plain, "--name", "logits", "--logits")
    assert code == 0, err
    kept = Predictions.load(plain / "predictions" / "digits-val.parquet").head("class").logits
    stored = np.stack(fiftyone.load_dataset("logits").values("plain.logits"))
    np.testing.assert_array_equal(stored, kept)


def test_images_that_have_moved_are_named_and_found_again_with_data(
    folder: Path, tmp_path: Path, explore: Explore, fiftyone: ModuleType
) -> None:
    place = model(tmp_path / "pet", ("cat", "dog"), dataset="folder")
    words = (place, "--name", "pets", "--data", folder)
    assert explore(*words)[0] == 0
    table = place / "predictions" / "folder-val-pets.parquet"
    moved = tmp_path / "moved" / "pets"
    shutil.move(folder, moved)
    code, _, err = explore(table, "--name", "pets")
    assert code == 2
    assert f"8 of 8 images are not where they were, the first: {folder}" in err and "--data" in err
    code, _, err = explore(place, "--name", "pets", "--data", moved)
    assert code == 0, err
    files = fiftyone.load_dataset("pets").values("filepath")
    assert len(files) == 8 and all(Path(file).is_relative_to(moved) for file in files)


def test_answers_alone_need_to_be_told_where_images_without_files_are(plain: Path, explore: Explore) -> None:
    assert explore(plain, "--name", "first")[0] == 0
    table = plain / "predictions" / "digits-val.parquet"
    code, _, err = explore(table, "--name", "alone")
    assert code == 2 and "does not say where its images are" in err and "--data" in err
    code, found, err = explore(table, "--dataset", "digits", "--name", "alone", "--json")
    assert code == 0, err
    assert found["samples"] == 360
    code, _, err = explore(table, "--dataset", "digits", "--name", "alone", "--embeddings")
    assert code == 2 and "no model to look into" in err


def test_a_view_that_is_not_there_and_a_port_in_use_are_refused(student: Path, explore: Explore) -> None:
    code, _, err = explore(student, "--name", "views", "--view", "heads disagre")
    assert code == 2 and "Did you mean heads disagree?" in err
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, out, err = explore(student, "--name", "views", "--launch", "--port", port)
    assert code == 2 and f"port {port} of this machine cannot be used" in err and "--port" in err
    assert "heads disagree" in out  # what was built is told before


def test_a_dataset_of_somebody_else_is_refused_without_overwrite(
    plain: Path, explore: Explore, fiftyone: ModuleType
) -> None:
    fiftyone.Dataset("theirs", persistent=True)
    code, _, err = explore(plain, "--name", "theirs")
    assert code == 2 and "was not made by deitkit" in err and "--overwrite" in err
    assert explore(plain, "--name", "theirs", "--overwrite")[0] == 0


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_said_with_a_remedy_and_without_a_traceback(plain: Path) -> None:
    environment = {**os.environ, "FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"}
    done = subprocess.run(
        [sys.executable, "-m", "deitkit", "explore", str(plain), "--device", "cpu", "--json"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)
    assert "MongoDB, does not answer" in error["error"] and "mongodb://127.0.0.1:9" in error["remedy"]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_maps_scores_and_attention_are_made_on_request_and_shown_in_groups_of_their_own(
    student: Path, plain: Path, explore: Explore, fiftyone: ModuleType
) -> None:
    words = (student, "--with", plain, "--name", "extras", "--logits", "--embeddings", "--brain", "--heatmaps", 3)
    code, out, err = explore(*words)
    assert code == 0, err
    assert "attention on 3 images" in err and "hardness_student_fused" in err
    dataset = fiftyone.load_dataset("extras")
    groups = {group.name: list(group.paths) for group in dataset.app_config.sidebar_groups}
    assert {"student_class_attention", "student_attention_difference"} <= set(groups["attention"])
    assert {"uniqueness_student", "mistakenness_student_fused", "hardness_student_fused"} <= set(groups["scores"])
    assert {"student_class_token", "student_distillation_token"} <= set(dataset.list_brain_runs())
    disputed = dataset.load_saved_view("not all agree").limit(3).values("image_id")
    assert set(dataset.exists("student_class_attention").values("image_id")) == set(disputed)

    code, _, err = explore(student, "--name", "extras", "--heatmaps", 2, "--view", "no such view")
    assert code == 2 and "has no saved view" in err
    again = explore(*words)
    assert again[:2] == (0, out)
    assert {
        group.name: list(group.paths) for group in fiftyone.load_dataset("extras").app_config.sidebar_groups
    } == groups


# Whose teacher


@pytest.fixture
def distilled(tmp_path: Path) -> Callable[[str], Run]:
    """A run of the digits whose recipe names this teacher."""

    def made(teacher: str) -> Run:
        recipe = load_recipe("quickstart/student", {"teacher.model": teacher})
        return Run.create(tmp_path / "run", recipe, environment={}, overwrite=True)

    return made


def test_the_recipes_teacher_is_shown_where_it_is_on_this_disk(
    distilled: Callable[[str], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "teacher").mkdir()
    assert verb.own_teacher(str(distilled(str(tmp_path / "teacher")).path), AnalysisOptions()) == str(
        tmp_path / "teacher"
    )
    assert verb.own_teacher(str(distilled(str(tmp_path / "gone")).path), AnalysisOptions()) == ""
    assert capsys.readouterr().err == ""


def test_a_published_teacher_is_shown_where_its_answers_are_kept_and_never_fetched_unasked(
    distilled: Callable[[str], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_of_it = str(distilled("timm:resnet18").path)
    assert verb.own_teacher(run_of_it, AnalysisOptions()) == ""
    assert "--teacher timm:resnet18 makes them" in capsys.readouterr().err
    kept = tmp_path / "resnet18" / "predictions" / "digits-val.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert verb.own_teacher(run_of_it, AnalysisOptions()) == "timm:resnet18"


def test_a_classifier_is_known_by_its_place_and_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x", "b/x"):
        Path(name).mkdir(parents=True)
    places = verb.places_of(["a/x:class", "b/../b/x", "timm:resnet18", "answers.parquet"])
    assert places == {
        "a/x": str(tmp_path / "a" / "x"),
        "b/x": str(tmp_path / "b" / "x"),
        "resnet18": "timm:resnet18",
        "answers": str(tmp_path / "answers.parquet"),
    }


# The App, and Python


@pytest.mark.slow
def test_the_example_from_python_prints_what_scikit_learns_classifiers_get_wrong(fiftyone: ModuleType) -> None:
    example = Path(__file__).parents[2] / "examples" / "explore_predictions.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "deitkit-example: 897 images" in done.stdout and "labelled" in done.stdout
    counts = {
        name.strip(): int(count)
        for count, _, name in (row.strip().partition("  ") for row in done.stdout.splitlines()[1:8])
    }
    wrong = counts["student wrong"] - counts["teacher wrong"]
    assert wrong == counts["teacher right, student wrong"] - counts["student fixes teacher"]


@pytest.mark.slow
def test_the_app_says_where_it_is_and_ends_cleanly_with_ctrl_c(student: Path, fiftyone: ModuleType) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "SSH_CONNECTION": "203.0.113.9 50022 192.0.2.7 22", "USER": "ada", "DISPLAY": ""}
    words = ["explore", str(student), "--name", "launched", "--launch", "--port", str(port), "--device", "cpu"]
    app = subprocess.Popen(
        [sys.executable, "-m", "deitkit", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where a shell started the tests with `&`
    )  # fmt: skip
    assert app.stderr is not None
    told = ""
    while "from your own machine" not in told:
        line = app.stderr.readline()
        assert line, told
        told += line
    assert f"the App is at http://127.0.0.1:{port} on this machine" in told
    assert f"ssh -N -L {port}:127.0.0.1:{port} ada@192.0.2.7" in told
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    os.killpg(app.pid, signal.SIGINT)  # as a terminal does: to all processes at once
    out, err = app.communicate(timeout=60)
    assert app.returncode == 0, err
    assert "Traceback" not in err and err.endswith("closed\n")
    assert out.rstrip().splitlines()[-1].startswith(" student wrong")  # data alone: what fiftyone says is talk
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    pytest.fail("the App still answers")
