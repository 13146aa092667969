"""The verbs on tiny real images, through the command line's own entry: results, files, and errors that teach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.recipe.schema import Data

Deitkit = Callable[..., tuple[int, str, str]]
FAST = [
    "--set", "train.epochs=1", "--set", "model.image_size=16", "--workers", "0", "--device", "cpu",
]  # fmt: skip


@pytest.fixture
def deitkit(capsys: pytest.CaptureFixture[str]) -> Deitkit:
    """Run a command line; gives exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 digits of two classes as an image folder with train and val."""
    root, source = tmp_path_factory.mktemp("images"), open_source(Data(dataset="digits"), "train")
    for digit in (3, 8):
        chosen = [index for index, label in enumerate(source.labels.tolist()) if label == digit][:20]
        for count, index in enumerate(chosen):
            path = root / ("val" if count < 4 else "train") / f"digit_{digit}" / f"{count}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(index))
    assert load_digits().target.tolist().count(3) > 20
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a distilled student on the digits, one epoch each."""
    root = tmp_path_factory.mktemp("runs")
    assert run(["pretrain", "-r", "quickstart/teacher", "-o", str(root / "teacher"), *FAST]) == 0
    assert run(
        ["distill", "-r", "quickstart/student", "--teacher", str(root / "teacher"), "-o", str(root / "student"),
         "--set", "schedule.warmup_epochs=0", *FAST]
    ) == 0  # fmt: skip
    return root


def error_of(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2, err
    assert "Traceback" not in err
    return err


# Results


def test_evaluate_measures_every_head_and_writes_predictions(runs: Path, deitkit: Deitkit) -> None:
    code, out, _ = deitkit("evaluate", runs / "student", "--json", "--device", "cpu", "--logits")
    found = json.loads(out)
    assert code == 0
    assert found["accuracy"].keys() == {"class", "distillation", "fused"}
    assert found["images"] == 360
    assert Path(found["predictions"]).is_file()


def test_predict_names_classes_for_files_and_folders(runs: Path, folder: Path, deitkit: Deitkit) -> None:
    code, out, _ = deitkit("predict", folder / "val", "--model", runs / "student", "--json", "--device", "cpu")
    found = json.loads(out)
    assert code == 0
    assert len(found) == 8
    assert {head: len(guesses) for head, guesses in found[0]["heads"].items()} == {
        "class": 5, "distillation": 5, "fused": 5
    }  # fmt: skip


def test_upscale_writes_a_model_that_fine_tunes(runs: Path, tmp_path: Path, deitkit: Deitkit) -> None:
    code, out, _ = deitkit("upscale", runs / "student", "--to", "24", "-o", tmp_path / "larger", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["grid"], found["new_grid"]) == ([4, 4], [6, 6])
    assert found["norm_after"].keys() == {"bicubic", "bilinear", "nearest", "bicubic-antialias"}
    code, out, _ = deitkit(
        "finetune", "-r", "quickstart/student_32", "--from", tmp_path / "larger", "--teacher", runs / "teacher",
        "-o", tmp_path / "tuned", "--json", *FAST, "--set", "model.image_size=24",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["top1"].keys() == {"class", "distillation", "fused"}


def test_a_folder_of_ones_own_images_trains(folder: Path, tmp_path: Path, deitkit: Deitkit) -> None:
    code, out, _ = deitkit(
        "pretrain", "-r", "quickstart/twin", "--data", folder, "-o", tmp_path / "run", "--json", *FAST,
        "--set", "stream.batch_size=16", "--set", "schedule.warmup_epochs=0",
    )  # fmt: skip
    assert code == 0
    assert 0.0 <= json.loads(out)["top1"]["class"] <= 1.0
    names = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["deitkit"]["class_names"]
    assert names == ["digit_3", "digit_8"]


@pytest.mark.parametrize(
    ("verb", "recipe"),
    [("pretrain", "pretrain/deit_tiny"), ("distill", "distill/deit_base"), ("finetune", "finetune/deit_base_384")],
)
def test_a_dry_run_without_data_takes_table_6_and_says_so(
    verb: str, recipe: str, deitkit: Deitkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    more = ("--from", "runs/base") if verb == "finetune" else ()
    code, out, _ = deitkit(verb, "-r", recipe, "--dry-run", "--json", *more)
    found = json.loads(out)
    assert code == 0
    assert found["recipe"]["name"] == recipe
    assert "Table 6" in found["data"]["sizes_from"]
    batch = found["stream"]["batch_size"]
    assert found["stream"]["steps_per_epoch"] == 1_281_167 // batch
    assert found["stream"]["views_per_epoch"] == 1_281_167 // batch * batch
    assert isinstance(found["optim"]["lr"], float)
    assert found["model"]["parameters"] > 5_000_000
    assert found["origins"].keys() >= {"optim.lr", "stream.repeats", "model.name"}
    assert not any(tmp_path.iterdir())


def test_the_papers_recipe_dry_runs_to_the_papers_numbers(deitkit: Deitkit) -> None:
    _, out, _ = deitkit("pretrain", "-r", "pretrain/deit_base", "--dry-run", "--json")
    found = json.loads(out)
    assert found["optim"]["lr"] == 5e-4
    assert found["optim"]["lr_scaled"] == pytest.approx(1e-3)
    assert found["stream"]["steps_per_epoch"] == 1251
    assert found["stream"]["distinct_images_per_epoch"] == pytest.approx(1_281_024 / 3, abs=64)
    assert found["stream"]["decodes_per_view"] == pytest.approx(0.375)
    assert found["model"]["parameters"] == 86_567_656
    assert found["origins"]["optim.lr"].startswith("Table 9")


# Bad input: each a clear error with the remedy, exit code 2, nothing lost


def test_an_unknown_recipe_suggests_the_nearest(deitkit: Deitkit) -> None:
    err = error_of(deitkit("pretrain", "-r", "pretrain/diet_tiny", "--dry-run"))
    assert "Did you mean pretrain/deit_tiny" in err


def test_all_wrong_keys_and_values_are_told_at_once(deitkit: Deitkit) -> None:
    err = error_of(
        deitkit("pretrain", "-r", "quickstart/twin", "--set", "optim.lrr=1", "--set", "train.epochs='many'",
                "--set", "stream.batch_size=0", "--dry-run")
    )  # fmt: skip
    assert "optim.lrr: unknown key. Did you mean optim.lr?" in err
    assert "train.epochs" in err and "many" in err
    assert "stream.batch_size" in err


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["schedule.min_lr=1"], "schedule.min_lr 1 is above"),
        (["model.distilled=true"], "distillation token would learn nothing"),
        (["stream.batch_size=48", "stream.mix_group=32"], "not made of mix groups"),
        (["train.accumulation=3", "stream.mix_group=32"], "do not divide among"),
        (["stream.batch_size=5000"], "fewer than one batch"),
    ],
)
def test_contradictions_are_errors_before_anything_is_built(
    sets: list[str], words: str, deitkit: Deitkit, tmp_path: Path
) -> None:
    options = [word for text in sets for word in ("--set", text)]
    err = error_of(deitkit("pretrain", "-r", "quickstart/twin", "-o", tmp_path / "run", "--device", "cpu", *options))
    assert words in err
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_verbs_refuse_recipes_of_another_kind_and_name_the_right_verb(deitkit: Deitkit) -> None:
    assert "deitkit distill" in error_of(deitkit("pretrain", "-r", "quickstart/student", "--dry-run"))
    assert "--teacher" in error_of(deitkit("distill", "-r", "quickstart/twin", "--dry-run"))
    assert "--from" in error_of(deitkit("finetune", "-r", "quickstart/twin", "--dry-run"))
    assert "deitkit finetune" in error_of(deitkit("distill", "-r", "quickstart/student_32", "--dry-run"))


def own_images(deitkit: Deitkit, root: Path, tmp_path: Path, *more: str) -> str:
    return error_of(
        deitkit("pretrain", "-r", "quickstart/twin", "--data", root, "-o", tmp_path / "run", *FAST,
                "--set", "stream.batch_size=16", "--set", "schedule.warmup_epochs=0", *more)
    )  # fmt: skip


def test_missing_empty_and_classless_folders_are_told_apart(folder: Path, tmp_path: Path, deitkit: Deitkit) -> None:
    assert "does not exist" in own_images(deitkit, tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in own_images(deitkit, tmp_path / "empty", tmp_path)
    flat = tmp_path / "flat" / "train"
    flat.mkdir(parents=True)
    shutil.copy(folder / "train" / "digit_3" / "4.png", flat)
    assert "class" in own_images(deitkit, tmp_path / "flat", tmp_path)


def test_one_class_is_refused(folder: Path, tmp_path: Path, deitkit: Deitkit) -> None:
    shutil.copytree(folder, tmp_path / "one")
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "one" / split / "digit_8")
    assert "one class" in own_images(deitkit, tmp_path / "one", tmp_path)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_corrupt_image_is_named(folder: Path, tmp_path: Path, deitkit: Deitkit, workers: str) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    broken = tmp_path / "bad" / "train" / "digit_3" / "7.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert "digit_3/7.png" in own_images(deitkit, tmp_path / "bad", tmp_path, "--workers", workers)


def test_cuda_is_refused_where_none_is(deitkit: Deitkit, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    err = error_of(deitkit("pretrain", "-r", "quickstart/twin", "-o", tmp_path / "run", "--device", "cuda"))
    assert "--device cpu" in err


def test_upscaling_a_convnet_is_refused(runs: Path, deitkit: Deitkit, tmp_path: Path) -> None:
    assert "no position embeddings" in error_of(
        deitkit("upscale", runs / "teacher", "--to", "32", "-o", tmp_path / "x")
    )


def test_predict_on_a_missing_file_or_an_empty_folder(runs: Path, deitkit: Deitkit, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "does not exist" in error_of(deitkit("predict", tmp_path / "no.png", "-m", runs / "student"))
    assert "holds no images" in error_of(deitkit("predict", tmp_path / "empty", "-m", runs / "student"))


def test_a_teacher_without_weights_at_hand_names_two_remedies(
    deitkit: Deitkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    err = error_of(
        deitkit("distill", "-r", "quickstart/student", "--teacher", "timm:regnety_160.deit_in1k", "-o",
                tmp_path / "run", *FAST, "--set", "schedule.warmup_epochs=0")
    )  # fmt: skip
    assert "not at hand" in err and "hf download timm/regnety_160.deit_in1k" in err


def test_errors_are_json_where_json_is_asked_for(deitkit: Deitkit) -> None:
    code, out, _ = deitkit("pretrain", "-r", "nope", "--json")
    assert code == 2
    found: dict[str, Any] = json.loads(out)
    assert found["value"] == "nope" and found["remedy"]


def test_predictions_on_other_images_leave_the_runs_own_alone(runs: Path, tmp_path: Path, deitkit: Deitkit) -> None:
    source = open_source(Data(dataset="digits"), "val")
    for index, label in enumerate(source.labels.tolist()[:200]):
        path = tmp_path / "mine" / "val" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(index))
    shutil.copytree(tmp_path / "mine" / "val", tmp_path / "mine" / "train")
    own = runs / "student" / "predictions" / "digits-val.parquet"
    before = own.read_bytes()
    code, out, err = deitkit("evaluate", runs / "student", "--data", tmp_path / "mine", "--json", "--device", "cpu")
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 200
    assert Path(found["predictions"]).name == "folder-val-mine.parquet"
    assert own.read_bytes() == before
