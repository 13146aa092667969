"""One's own images through every training verb: recipe, model and values by the rule book."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deitkit.cli.app import run
from deitkit.data.open import Source, open_source
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.load import load_recipe
from deitkit.recipe.resolve import TrainingOptions
from deitkit.recipe.schema import Data, Model, Recipe
from deitkit.recipe.shipped import recipe_root
from deitkit.runs.folder import Run
from deitkit.training.suggest import choose

Call = Callable[..., tuple[int, dict[str, Any], str]]
SPEED = 200.0  # images/s, in place of what a busy machine measures


@pytest.fixture(autouse=True)
def _at_a_known_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    monkeypatch.setattr("deitkit.training.own.images_per_s", lambda recipe, classes, device: SPEED)
    torch.set_num_threads(1)


@pytest.fixture
def deitkit(capsys: pytest.CaptureFixture[str]) -> Call:
    """A command line with --json: exit code, what was printed, what was said."""

    def call(*words: object) -> tuple[int, dict[str, Any], str]:
        code = run([*map(str, words), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return call


def images(root: Path, train: int, *, side: int = 4, classes: int = 3) -> Path:
    """So many square images in class folders, and one a class to validate on."""
    for split, count in (("train", train), ("val", classes)):
        for index in range(count):
            path = root / split / f"class_{index % classes}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side), (index % 256, 0, 0)).save(path)
    return root


def a_run(path: Path, **model: Any) -> Path:
    """A run of a tiny transformer that has never trained, with a mean and a std of its own."""
    recipe = Recipe(model=Model(name="deit_nano", options={"depth": 1}, **model))
    started = Run.create(path, recipe, environment={}, overwrite=False)
    pixels = Data(mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25), crop_ratio=1.0)
    info = ModelInfo.of(pixels, recipe.model.size, ("a", "b", "c"))
    save_model(started.model, build_student(recipe.model, 3), info)
    return path


def without_origins(outline: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in outline.items() if key not in ("origins", "recipe")}


def test_start_weights_keep_their_token_mean_std_and_crop(tmp_path: Path, deitkit: Call) -> None:
    data, start = images(tmp_path / "data", 60), a_run(tmp_path / "start", image_size=16, distilled=True)
    _, found, said = deitkit("finetune", "--data", data, "--from", start, "--dry-run")
    assert found["model"]["distilled"] is True
    assert (found["data"]["mean"], found["data"]["std"]) == ([0.5, 0.4, 0.3], [0.25, 0.25, 0.25])
    assert found["data"]["crop_ratio"] == 1.0
    assert found["origins"]["data.mean"] == "as the start weights"
    assert "data.mean = [0.5, 0.4, 0.3]" in said
    _, kept, _ = deitkit("finetune", "--data", data, "--from", start, "--dry-run", "--set", "data.mean=[0.1,0.1,0.1]")
    assert kept["data"]["mean"] == [0.1, 0.1, 0.1]


# Random weights


@pytest.mark.parametrize("count", [4, 31, 306])
@pytest.mark.parametrize("verb", ["pretrain", "distill"])
def test_a_folder_of_any_size_is_enough_from_random_weights(
    verb: str, count: int, tmp_path: Path, deitkit: Call
) -> None:
    data = images(tmp_path / "data", count, side=16)
    taught = ("--teacher", "runs/teacher") if verb == "distill" else ()
    code, found, said = deitkit(verb, *taught, "--data", data, "--device", "cpu", "--dry-run")
    assert code == 0
    assert found["recipe"]["name"] == f"{verb}/own"
    assert found["stream"]["steps_per_epoch"] >= (8 if count >= 16 else 2)
    assert f"chosen for {count} training images" in said
    assert (found["model"]["name"], found["model"]["image_size"]) == ("deit_nano", [32, 32])
    assert found["model"]["distilled"] is (verb == "distill")
    assert found["origins"]["stream.batch_size"].startswith("ours: ")


def test_a_folder_trains_from_random_weights_and_teaches(tmp_path: Path, deitkit: Call) -> None:
    data = images(tmp_path / "data", 24, side=16)
    words = ("--data", data, "--epochs", 1, "-j", 0, "--device", "cpu")
    code, teacher, _ = deitkit("pretrain", "--recipe", "pretrain/convnet", *words)
    assert (code, teacher["run"]) == (0, "runs/pretrain-convnet")
    code, student, _ = deitkit("distill", "--teacher", teacher["run"], *words, "--set", "teacher.check=false")
    assert code == 0
    assert student["top1"].keys() == {"class", "distillation", "fused"}
    code, _, _ = deitkit("pretrain", *words, "-o", "runs/plain")
    assert code == 0


def test_without_a_teacher_the_command_that_trains_one_is_named(tmp_path: Path, deitkit: Call) -> None:
    data = images(tmp_path / "data", 12)
    code, found, _ = deitkit("distill", "--data", data)
    assert code == 2
    assert f"deitkit pretrain --recipe pretrain/convnet --data {data}" in found["remedy"]


def test_imagenet_and_no_data_at_all_get_the_papers_recipe_as_it_is(deitkit: Call) -> None:
    for words in ((), ("--dataset", "imagenet")):
        _, found, said = deitkit("pretrain", *words, "--dry-run")
        assert (found["recipe"]["name"], found["stream"]["batch_size"]) == ("pretrain/deit_tiny", 1024)
        assert "chosen" not in said


def test_a_named_recipe_that_is_too_large_names_the_command_that_fits(tmp_path: Path, deitkit: Call) -> None:
    data = images(tmp_path / "data", 30)
    named = {
        "pretrain": ("--recipe", "pretrain/deit_tiny"),
        "distill": ("--recipe", "distill/deit_tiny", "--teacher", "runs/teacher"),
    }
    for verb, words in named.items():
        code, found, _ = deitkit(verb, *words, "--dataset", "folder", "--data", data, "--dry-run")
        assert code == 2
        assert f"`deitkit {verb} --recipe {verb}/own --dataset folder --data {data}" in found["remedy"]
        again = found["remedy"].split("`")[1].split()[1:]
        assert deitkit(*again, "--dry-run")[0] == 0


# Length


def test_one_epoch_shortens_the_recipes_warm_up_and_says_so(deitkit: Call) -> None:
    code, found, said = deitkit("pretrain", "--recipe", "quickstart/twin", "--epochs", 1, "--dry-run")
    assert (code, found["schedule"]["warmup_epochs"]) == (0, 0.1)
    assert "warm-up shortened from 5 to 0.1 epochs" in said
    assert said.count("shortened") == 1
    assert found["origins"]["schedule.warmup_epochs"].startswith("shortened from 5")


def test_a_warm_up_from_the_command_line_is_not_touched(deitkit: Call) -> None:
    words = ("--epochs", 1, "--set", "schedule.warmup_epochs=3", "--dry-run")
    code, found, _ = deitkit("pretrain", "--recipe", "quickstart/twin", *words)
    assert code == 2
    assert "longer than train.epochs" in found["problems"][0]


def test_a_time_chooses_the_epochs_that_fit(tmp_path: Path, deitkit: Call) -> None:
    data = images(tmp_path / "data", 60)
    _, found, said = deitkit("pretrain", "--data", data, "--time", "1m", "--device", "cpu", "--dry-run")
    assert found["train"]["epochs"] == int(60 * 0.75 * SPEED / 60)
    assert "train.epochs = 150: 1 minutes at 200 images/s" in said
    _, named, _ = deitkit("pretrain", "--recipe", "quickstart/twin", "--time", "10s", "--dry-run")
    assert named["train"]["epochs"] == 2
    assert named["schedule"]["warmup_epochs"] == 0.2


@pytest.mark.parametrize("time", ["0", "-3m", "ten", "nan", "inf", "10000d", "m"])
def test_a_time_that_is_none_is_refused(time: str, deitkit: Call) -> None:
    code, found, _ = deitkit("pretrain", "--recipe", "quickstart/twin", "--time", time, "--dry-run")
    assert code == 2
    assert "--time 30m" in found["remedy"]


# Flags


def test_each_flag_is_its_recipe_key_and_named_as_the_origin(deitkit: Call) -> None:
    words = {
        "--lr": ("optim.lr", 2e-3), "--batch-size": ("stream.batch_size", 32), "--weight-decay": ("optim.weight_decay",
        0.2), "--model": ("model.name", "deit_tiny"), "--epochs": ("train.epochs", 7), "--seed": ("train.seed", 3),
        "--image-size": ("model.image_size", 48), "--val-fraction": ("data.val_fraction", 0.3),
    }  # fmt: skip
    flags = [word for flag, (_, value) in words.items() for word in (flag, value)]
    code, found, _ = deitkit("pretrain", "--recipe", "quickstart/twin", *flags, "--dry-run")
    assert code == 0
    for flag, (key, value) in words.items():
        table, _, name = key.partition(".")
        assert found[table][name] == ([48, 48] if flag == "--image-size" else value)
        assert found["origins"][key] == flag
    _, found, _ = deitkit("pretrain", "--recipe", "quickstart/twin", "--lr", 1, "--set", "optim.lr=2e-3", "--dry-run")
    assert (found["optim"]["lr"], found["origins"]["optim.lr"]) == (2e-3, "--set")


def test_freezing_names_the_parts_that_learn(tmp_path: Path, deitkit: Call) -> None:
    data, start = images(tmp_path / "data", 20), a_run(tmp_path / "start", image_size=16)
    words = ("finetune", "--data", data, "--from", start, "--dry-run", "--freeze")
    for frozen, parts in (("backbone", "classifier"), ("nothing", "all"), ("backbone-but-last-norm",
                          "classifier+last_norm")):  # fmt: skip
        assert deitkit(*words, frozen)[1]["train"]["parts"] == parts
    code, found, _ = deitkit(*words, "backbon")
    assert code == 2
    assert "Did you mean backbone?" in found["error"]


def test_from_belongs_to_finetune_and_the_command_is_named(deitkit: Call) -> None:
    code, found, _ = deitkit("distill", "--recipe", "quickstart/student", "--from", "runs/mine", "--dry-run")
    assert code == 2
    assert found["remedy"] == "deitkit finetune --from runs/mine --teacher runs/quickstart/teacher"


@pytest.mark.parametrize("written", ["'{}'", '"{}"', "{}/", " {} ", "~/data"])
def test_a_path_is_taken_as_people_write_it(
    written: str, tmp_path: Path, deitkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = images(tmp_path / "data", 12)
    code, found, _ = deitkit("pretrain", "--data", written.format(data), "--dry-run")
    assert code == 0
    assert found["data"]["path"] == str(data)


def test_another_name_of_a_data_set_is_understood_and_said(deitkit: Call) -> None:
    _, found, said = deitkit("finetune", "--dataset", "Stanford-Cars", "--dry-run")
    assert found["recipe"]["name"] == "finetune/cars"
    assert said.startswith("data set Stanford-Cars is cars here\n")
    code, refused, _ = deitkit("finetune", "--dataset", "inaturalist", "--dry-run")
    assert code == 2
    assert "inat18 or inat19" in refused["error"]


# Reading once


@pytest.mark.parametrize("verb", ["pretrain", "distill", "finetune"])
def test_a_command_reads_each_recipe_file_once(
    verb: str, tmp_path: Path, deitkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, start = images(tmp_path / "data", 20), a_run(tmp_path / "start", image_size=16, distilled=True)
    more = {"pretrain": (), "distill": ("--teacher", "runs/t"), "finetune": ("--from", start)}[verb]
    seen: list[str] = []
    plain = Path.read_text

    def counting(path: Path, *rest: Any, **named: Any) -> str:
        if path.suffix == ".toml" and path.is_relative_to(recipe_root().resolve()):
            seen.append(path.name)
        return plain(path, *rest, **named)

    monkeypatch.setattr(Path, "read_text", counting)
    assert deitkit(verb, *more, "--data", data, "--dry-run")[0] == 0
    assert "own.toml" in seen
    assert len(seen) == len(set(seen)) + (1 if verb == "distill" else 0)  # distill/own and pretrain/own share a name


def test_choosing_opens_the_images_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    plain = open_source

    def counting(data: Data, split: str) -> Source:
        opened.append(split)
        return plain(data, split)

    monkeypatch.setattr("deitkit.data.open.open_source", counting)
    choose("pretrain", TrainingOptions(recipe="", changes={"data.path": str(images(tmp_path / "data", 20))}))
    assert opened == ["train"]


# Weights that do not say what they are


def test_the_remedy_for_weights_without_a_name_works(tmp_path: Path, deitkit: Call) -> None:
    import timm

    network = timm.create_model("resnet10t", num_classes=3, channels=(16, 32, 64, 96), stem_width=16)
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    data = images(tmp_path / "data", 12)
    words = ("finetune", "--data", data, "--from", tmp_path / "plain.pth", "--epochs", 1, "-j", 0, "--device", "cpu")
    code, found, _ = deitkit(*words)
    assert code == 2
    assert "--model timm:ARCHITECTURE" in found["remedy"]
    named = ("--model", "timm:resnet10t", "--set", "model.options={channels=[16,32,64,96],stem_width=16}",
             "--set", "model.drop_path=0.0", "--image-size", 32)  # fmt: skip
    code, found, _ = deitkit(*words, *named)
    assert code == 0
    assert load_recipe(str(Path(found["run"]) / "recipe.toml")).model.name == "timm:resnet10t"
