"""`deitkit finetune` through the command line's entry: which recipe it picks, what it chooses, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deitkit.catalog import DATASETS
from deitkit.cli.app import run
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model, Recipe
from deitkit.runs.folder import Run

Outline = dict[str, Any]
DryRun = Callable[..., tuple[Outline, str]]
SIX = ("cifar10", "cifar100", "flowers102", "cars", "inat18", "inat19")


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DryRun:
    """`finetune --dry-run --json` where no data are about: the outline, and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)

    def call(*words: object) -> tuple[Outline, str]:
        code = run(["finetune", *map(str, words), "--dry-run", "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.out
        return json.loads(captured.out), captured.err

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def call(*words: object) -> dict[str, Any]:
        assert run(["finetune", *map(str, words), "--json"]) == 2
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def images(root: Path, *, train: int, classes: int = 3, val: int = 1) -> Path:
    """`train` tiny images in class folders, and `val` a class beside them."""
    for index in range(train):
        save(root / "train" / f"class_{index % classes}" / f"{index}.png", index)
    for label in range(classes):
        for index in range(val):
            save(root / "val" / f"class_{label}" / f"{index}.png", index)
    return root


def save(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (index % 256, 0, 0)).save(path)


def a_run(path: Path, **model: Any) -> Path:
    """A run of a tiny transformer that has never trained."""
    recipe = Recipe(model=Model(name="deit_nano", options={"depth": 1}, **model))
    started = Run.create(path, recipe, environment={}, overwrite=False)
    student = build_student(recipe.model, 3)
    save_model(started.model, student, ModelInfo.of(Data(), recipe.model.size, ("a", "b", "c")))
    return path


# Which recipe


@pytest.mark.parametrize("dataset", [*SIX, "imagenet"])
@pytest.mark.parametrize("size", ["224", "384"])
def test_a_data_set_is_enough(dataset: str, size: str, dry: DryRun) -> None:
    found, said = dry("--dataset", dataset, "--image-size", size)
    name = f"finetune/{dataset}" + ("_384" if size == "384" else "")
    assert found["recipe"]["name"] == name
    assert found["model"]["image_size"] == [int(size), int(size)]
    assert found["data"]["train_size"] == DATASETS[dataset].train_size
    assert said.startswith(f"recipe {name}: data set {dataset}; {size} px, as asked\n")
    assert f"finetune/{dataset}_evening" in said


def test_a_recipe_that_is_named_is_not_second_guessed(dry: DryRun) -> None:
    found, said = dry("--recipe", "finetune/cars_sgd")
    assert found["recipe"]["name"] == "finetune/cars_sgd"
    assert not said


def test_a_teacher_teaches_the_token_that_would_learn_the_label(dry: DryRun) -> None:
    found, said = dry("--dataset", "cars", "--teacher", "runs/finetune-teacher")
    assert found["recipe"]["name"] == "finetune/cars_distilled"
    assert "there is a teacher" in said
    assert found["loss"]["second_token"] == "teacher"
    assert found["origins"]["loss.second_token"] == "--teacher"
    assert found["teacher"]["model"] == "runs/finetune-teacher"
    assert found["loss"]["class_weight"] == 0.5


def test_set_has_the_last_word_on_the_second_token(refused: Callable[..., dict[str, Any]]) -> None:
    words = ("--dataset", "cars", "--teacher", "runs/t", "--set", "loss.second_token=label", "--dry-run")
    assert any("unused" in problem for problem in refused(*words)["problems"])


def test_without_data_and_recipe_the_choices_are_named(refused: Callable[..., dict[str, Any]]) -> None:
    found = refused("--from", "timm:deit_small_patch16_224.fb_in1k")
    assert {"cars", "inat18", "folder"} <= set(found["choices"])
    assert "imagenet_v2" not in found["choices"]
    assert "--data FOLDER" in found["remedy"]


def test_a_misspelt_data_set_is_corrected(refused: Callable[..., dict[str, Any]]) -> None:
    assert "Did you mean flowers102?" in refused("--dataset", "flwers102")["error"]


# Start weights


def test_a_run_brings_its_architecture_and_its_size(dry: DryRun, tmp_path: Path) -> None:
    found, said = dry("--dataset", "cars", "--from", a_run(tmp_path / "run", image_size=16))
    assert found["recipe"]["name"] == "finetune/cars"
    assert found["model"]["name"] == "deit_nano"
    assert found["model"]["options"] == {"depth": 1}
    assert found["model"]["image_size"] == [16, 16]
    assert {found["origins"][f"model.{key}"] for key in ("name", "options", "image_size")} == {"as the start weights"}
    assert "16 px, as the start weights" in said


def test_distilled_start_weights_get_the_distilled_recipe(dry: DryRun, tmp_path: Path) -> None:
    start = a_run(tmp_path / "run", image_size=16, distilled=True)
    found, said = dry("--dataset", "cars", "--from", start)
    assert found["recipe"]["name"] == "finetune/cars_distilled"
    assert "the start weights are distilled" in said
    assert dry("--data", images(tmp_path / "data", train=20), "--from", start)[0]["model"]["distilled"] is True


def test_published_weights_of_384_px_get_the_384_px_recipe(dry: DryRun) -> None:
    found, _ = dry("--dataset", "cars", "--from", "timm:deit_base_distilled_patch16_384.fb_in1k")
    assert found["recipe"]["name"] == "finetune/cars_distilled_384"
    assert found["model"]["name"] == "deit_base"
    small, _ = dry("--dataset", "cars", "--from", "timm:deit_small_patch16_224.fb_in1k")
    assert (small["recipe"]["name"], small["model"]["name"]) == ("finetune/cars", "deit_small")


def test_a_named_recipe_keeps_its_size_and_set_its_architecture(dry: DryRun, tmp_path: Path) -> None:
    start = a_run(tmp_path / "run", image_size=16)
    found, _ = dry("--recipe", "finetune/cars_384", "--from", start)
    assert (found["model"]["name"], found["model"]["image_size"]) == ("deit_nano", [384, 384])
    found, _ = dry("--recipe", "finetune/cars", "--from", start, "--set", "model.name=deit_tiny")
    assert (found["model"]["name"], found["model"]["options"]) == ("deit_tiny", {})


def test_a_dry_run_does_without_start_weights_and_a_run_does_not(
    dry: DryRun, refused: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    found, said = dry("--dataset", "cars", "--from", "runs/nowhere")
    assert found["model"]["name"] == "deit_base"
    assert "runs/nowhere" in said
    data = images(tmp_path / "data", train=20)
    assert "runs/nowhere" in refused("--data", data, "--from", "runs/nowhere")["error"]


# Images of one's own


@pytest.mark.parametrize(("count", "classes"), [(306, 102), (196, 49), (4, 2)])
def test_a_folder_of_any_size_gets_values_that_fit_and_are_said(
    count: int, classes: int, dry: DryRun, tmp_path: Path
) -> None:
    found, said = dry("--data", images(tmp_path / "data", train=count, classes=classes))
    assert found["recipe"]["name"] == "finetune/own"
    assert found["data"]["train_size"] == count
    assert found["stream"]["steps_per_epoch"] >= (8 if count >= 16 else 2)
    assert f"chosen for {count} training images" in said
    for table, key in (("stream", "batch_size"), ("stream", "mix_group"), ("train", "epochs"), ("optim", "lr")):
        assert f"  {table}.{key} = {found[table][key]:g}: " in said
        assert found["origins"][f"{table}.{key}"].startswith("ours: ")


def test_what_is_given_wins_and_the_rest_fits_it(dry: DryRun, tmp_path: Path) -> None:
    data = images(tmp_path / "data", train=100)
    found, said = dry("--data", data, "--epochs", "3", "--set", "stream.batch_size=20", "--set", "optim.lr=0.5")
    assert (found["train"]["epochs"], found["stream"]["batch_size"], found["optim"]["lr"]) == (3, 20, 0.5)
    assert found["schedule"]["warmup_epochs"] == 0.3
    assert 20 % found["stream"]["mix_group"] == 0
    assert (found["origins"]["train.epochs"], found["origins"]["optim.lr"]) == ("--epochs", "--set")
    assert "train.epochs" not in said
    assert dry("--data", data, "--set", "stream={batch_size=20}")[0]["stream"]["batch_size"] == 20


def test_images_held_out_are_not_counted(dry: DryRun, tmp_path: Path) -> None:
    data = images(tmp_path / "data", train=100, val=0) / "train"
    found, said = dry("--data", data, "--val-fraction", "0.2")
    train, val = found["data"]["train_size"], found["data"]["val_size"]
    assert train + val == 100 and 12 <= val <= 28  # by their names, so about a fifth
    assert f"chosen for {train} training images" in said


def test_the_generic_recipe_takes_a_known_data_sets_size_from_table_6(dry: DryRun) -> None:
    found, said = dry("--recipe", "finetune/own", "--dataset", "flowers102")
    assert "chosen for 2,040 training images" in said
    assert "Table 6" in found["data"]["sizes_from"]


def test_a_small_copy_of_a_known_data_set_is_sent_to_the_generic_recipe(
    refused: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    data = images(tmp_path / "data", train=30)
    words = ("--dataset", "imagenet", "--data", data)
    found = refused(*words, "--dry-run")
    assert "fewer than one batch" in found["error"]
    assert f"deitkit finetune --recipe finetune/own --dataset imagenet --data {data}" in found["remedy"]


def test_a_few_images_train_from_a_run_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    start = a_run(tmp_path / "run", image_size=16)
    data = images(tmp_path / "data", train=16)
    words = ["--data", str(data), "--from", str(start), "--epochs", "2", "--workers", "0", "--device", "cpu"]
    assert run(["finetune", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run"] == "runs/finetune-own"
    recipe = Run.open("runs/finetune-own").recipe()
    assert (recipe.model.name, recipe.model.size, recipe.train.epochs) == ("deit_nano", (16, 16), 2)
    assert recipe.origin("stream.batch_size").startswith("ours: ")


def test_pretrain_and_distill_take_size_and_held_out_share_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(tmp_path / "data", train=100, val=0) / "train"
    words = ["--data", str(data), "--val-fraction", "0.1", "--image-size", "24", "--set", "stream.batch_size=16"]
    for verb, recipe in (("pretrain", "quickstart/twin"), ("distill", "quickstart/student")):
        assert run([verb, "--recipe", recipe, *words, "--dry-run", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["model"]["image_size"] == [24, 24]
        assert found["data"]["train_size"] + found["data"]["val_size"] == 100
        assert 4 <= found["data"]["val_size"] <= 16  # by their names, so about a tenth
