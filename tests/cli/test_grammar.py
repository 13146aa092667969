"""Every way to write a model, in every verb that takes one: it works, or is refused with what would do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from safetensors.torch import load_file

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.models import hub, weight_files
from deitkit.recipe.schema import Data

Deitkit = Callable[..., tuple[int, str]]
TINY = [
    "--set", "model.options={embed_dim=32, depth=1, num_heads=2}", "--set", "model.image_size=16",
    "--set", "stream.batch_size=8", "--set", "stream.mix_group=8", "--set", "stream.repeats=1",
    "--workers", "0", "--device", "cpu",
]  # fmt: skip
FAST = ["--epochs", "1", "--set", "schedule.warmup_epochs=0", *TINY]
QUICK = [*FAST[:4], *FAST[8:]]  # another model than TINY's
TAUGHT = ["--set", "teacher.check=false"]
FUNCTION = """
import torch

def make():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    net.class_names, net.image_size = ["digit_3", "digit_8"], (16, 16)
    return net
"""
DATA = ["--data", "images"]
# What opens a model's weights takes these; what asks for answers takes the heads and what is of another making, too.
MODELS = ("runs/it/student", "student", "runs/it/student/", "runs/it/student@best", "runs/it/student@last",
          "runs/it/student@3", "runs/it/student@ema", "runs/it/student/model")  # fmt: skip
WEIGHTS = ("weights.safetensors", "weights.pth")
ONE_HEAD = ("student:class", "student:distillation", "student:fused")
FOREIGN = ("net.onnx", "mine.py:make", "mine:make")
TABLE = ("runs/it/student/predictions/folder-val.parquet",)
OTHERS = ("timm:resnet10t.c3_in1k", "hf-hub:owner/name@v2", "nothing", "nothing@best", "nothing:class", "mine.py", "",
          "images", "weights.pth@best", "student@7", "student:fussed", "gone.onnx", "gone.parquet", "gone.pth", "a\0b",
          "x" * 5000, "os:nothing_there")  # fmt: skip
VERBS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "predict": (["predict", "images/val/digit_3/0.png", "--device", "cpu", "--model", "REF"], MODELS + WEIGHTS),
    "upscale": (["upscale", "REF", "--to", "24", "--dry-run"], MODELS + WEIGHTS),
    "finetune": (["finetune", "--from", "REF", *DATA, "-o", "OUT", *QUICK], MODELS + WEIGHTS),
    "distill": (["distill", "-r", "quickstart/student", "--teacher", "REF", *DATA, "-o", "OUT", *FAST, *TAUGHT],
                MODELS + ONE_HEAD + FOREIGN[1:]),
    "tape": (["tape", "record", "-r", "quickstart/student", "--teacher", "REF", *DATA, "-o", "OUT", *TINY,
              "--epochs", "0:1"], MODELS + ONE_HEAD + FOREIGN[1:]),
    "check": (["teacher", "check", "REF", "--dataset", "folder", *DATA, "-r", "quickstart/student", "--views", "8",
               *TINY[2:10], "--device", "cpu"], ()),
    "disagreement": (["analyze", "disagreement", "REF", "runs/it/teacher", "--resamples", "2", "--device", "cpu"],
                     MODELS + ONE_HEAD + FOREIGN[1:] + TABLE),
    "errors": (["analyze", "errors", "REF", "runs/it/teacher", "--no-images", "--device", "cpu"], MODELS + ONE_HEAD),
    "tokens": (["analyze", "tokens", "REF", *DATA, "--device", "cpu"], MODELS),
    "positions": (["analyze", "positions", "REF", "--no-accuracy"], MODELS + WEIGHTS),
    "attention": (["analyze", "attention", "images/val/digit_3/0.png", "--model", "REF"], MODELS + WEIGHTS),
    "resolutions": (["analyze", "resolutions", "REF", "--no-accuracy", "--no-speed", "--no-finetuned", "--sizes", "16"],
                    MODELS + WEIGHTS),
    "tradeoff": (["analyze", "tradeoff", "REF", "teacher", "--no-speed", "--x", "parameters", "--device", "cpu"],
                 MODELS + ONE_HEAD + FOREIGN[1:]),
    "report": (["report", "REF", "-o", "OUT.html"], ("runs/it/student", "student", "runs/it/student/")),
    "evaluate": (["evaluate", "REF", *DATA, "--device", "cpu"], MODELS),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with two tiny trained runs and one of each other kind."""
    root, before = tmp_path_factory.mktemp("a folder, größer"), Path.cwd()
    source = open_source(Data(dataset="digits"), "train")
    for digit in (3, 8):
        chosen = [index for index, label in enumerate(source.labels.tolist()) if label == digit][:16]
        for count, index in enumerate(chosen):
            path = root / "images" / ("val" if count < 4 else "train") / f"digit_{digit}" / f"{count}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(index))
    (root / "mine.py").write_text(FUNCTION)
    (root / "student.py").write_text("raise RuntimeError('imported')")
    os.chdir(root)
    try:
        assert run(["pretrain", "-r", "quickstart/teacher", "-o", "runs/it/teacher", *DATA, *FAST[:4], *FAST[6:]]) == 0
        assert run(["distill", "-r", "quickstart/student", "--teacher", "runs/it/teacher", "-o", "runs/it/student",
                    *DATA, *FAST, *TAUGHT, "--set", "ema.decay=0.9"]) == 0  # fmt: skip
        assert (
            run(["analyze", "disagreement", "student", "runs/it/teacher", "--resamples", "2", "--device", "cpu"]) == 0
        )
    finally:
        os.chdir(before)
    state = load_file(root / "runs/it/student/model/model.safetensors")
    torch.save(state, root / "weights.pth")
    (root / "weights.safetensors").write_bytes((root / "runs/it/student/model/model.safetensors").read_bytes())
    return root


@pytest.fixture
def deitkit(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Deitkit:
    """Run a command line in that folder, without a network; gives exit code and stderr."""
    monkeypatch.chdir(place)

    def absent(repository: str, *_: object, reference: str, **__: object) -> Path:
        raise hub.not_at_hand(reference, repository, OSError("no network"))

    monkeypatch.setattr(hub, "fetch", absent)

    def call(*words: str) -> tuple[int, str]:
        code = run([word.replace("OUT", str(tmp_path / "out")) for word in words])
        return code, capsys.readouterr().err

    return call


def outcome(deitkit: Deitkit, verb: str, reference: str) -> tuple[int, str]:
    words, _ = VERBS[verb]
    return deitkit(*[reference if word == "REF" else word for word in words])


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_kind_works_or_is_refused_with_what_would_do(deitkit: Deitkit, verb: str, tmp_path: Path) -> None:
    works, wrong = VERBS[verb][1], []
    for number, reference in enumerate((*MODELS, *WEIGHTS, *ONE_HEAD, *FOREIGN, *TABLE, *OTHERS)):
        words = [word.replace("OUT", f"OUT{number}") for word in VERBS[verb][0]]
        code, said = deitkit(*[reference if word == "REF" else word for word in words])
        helped = "remedy:" in said or "choices:" in said or (verb == "check" and "Error" not in said)
        if code not in (0, 2) or (reference in works and code != 0) or (code == 2 and not helped):
            wrong.append(f"{reference[:80]}: {code} {said[-300:]}")
        if reference in ("nothing", "") and code == 0:
            wrong.append(f"{reference!r} was taken")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("verb", ["upscale", "report", "attention", "disagreement", "distill", "finetune"])
def test_one_error_for_what_is_not_there(deitkit: Deitkit, verb: str) -> None:
    code, said = outcome(deitkit, verb, "studnet")
    assert code == 2 and "model studnet does not exist. Did you mean student?" in said and "deitkit runs list" in said


def test_a_heads_name_is_no_python_function(deitkit: Deitkit) -> None:
    code, said = deitkit("analyze", "disagreement", "twin:class", "--data", "images")
    assert code == 2 and "twin does not exist" in said
    code, said = deitkit("upscale", "student:class", "--to", "24", "--dry-run")
    assert code == 2 and "leave out :class" in said


def test_several_runs_of_a_name_are_listed(deitkit: Deitkit, place: Path) -> None:
    other = place / "runs" / "more" / "teacher"
    other.mkdir(parents=True)
    for name in ("recipe.toml", "environment.json", "recipe.origins.json"):
        (other / name).write_bytes((place / "runs/it/teacher" / name).read_bytes())
    try:
        code, said = deitkit("upscale", "teacher", "--to", "24", "--dry-run")
        assert code == 2 and "2 runs are called 'teacher'" in said and "runs/it/teacher, runs/more/teacher" in said
    finally:
        for path in other.iterdir():
            path.unlink()
        other.rmdir()
        other.parent.rmdir()


@pytest.mark.parametrize("name", ["timm:x", "x.pth", "x.parquet", "x.onnx", "a@b", "run:class", "ein Lauf, größer"])
def test_a_folder_of_any_name_is_what_lies_there(deitkit: Deitkit, place: Path, name: str) -> None:
    link = place / name
    link.symlink_to(place / "runs" / "it" / "student", target_is_directory=True)
    try:
        for word in (name, f"{name}/", f"{name}@best"):
            code, said = deitkit("upscale", word, "--to", "24", "--dry-run")
            assert code == 0, said
        code, said = deitkit("analyze", "disagreement", f"{name}:class", "runs/it/teacher", "--device", "cpu")
        assert code == 0, said
    finally:
        link.unlink()


def test_fine_tuning_reads_a_weights_file_once(deitkit: Deitkit, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, load = [], torch.load

    def counting(file: IO[bytes], **options: object) -> object:
        reads.append(file.name)
        return load(file, **options)

    weight_files.forget_weights()
    monkeypatch.setattr(torch, "load", counting)
    code, said = deitkit("finetune", "--from", "weights.pth", *DATA, "-o", "OUT", *QUICK)
    assert code == 0, said
    assert len([path for path in reads if path.endswith("weights.pth")]) == 1


# No code from a file


@pytest.fixture
def trap(place: Path, tmp_path: Path) -> tuple[str, Path]:
    """A recipe whose teacher is a shell command, and the file that it would make."""
    marker, recipe = tmp_path / "executed", tmp_path / "received.toml"
    recipe.write_text(
        f'extends = "quickstart/student"\n[teacher]\nmodel = "os:system?command=touch {marker}"  # command line\n'
    )
    return str(recipe), marker


@pytest.mark.parametrize("verb", [["distill"], ["tape", "record"], ["finetune", "--from", "student"]])
def test_a_recipes_python_function_is_not_executed(deitkit: Deitkit, trap: tuple[str, Path], verb: list[str]) -> None:
    recipe, marker = trap
    code, said = deitkit(*verb, "-r", recipe, *DATA, "-o", "OUT", *TINY, *TAUGHT)
    assert code == 2 and "os:system" in said and "was not" in said and "--trust-code" in said
    assert not marker.exists()
    deitkit(*verb, "-r", recipe, *DATA, "-o", "OUT2", *TINY, *TAUGHT, "--trust-code")
    assert marker.exists()


def test_no_recipe_can_say_that_it_was_given(deitkit: Deitkit, trap: tuple[str, Path]) -> None:
    recipe, marker = trap
    Path(recipe).write_text('given = ["teacher.model"]\n' + Path(recipe).read_text())
    code, said = deitkit("distill", "-r", recipe, *DATA, "-o", "OUT", *TINY)
    assert code == 2 and "given: unknown key" in said and not marker.exists()


def test_a_received_runs_teacher_is_not_executed(deitkit: Deitkit, place: Path, tmp_path: Path) -> None:
    marker, code_file = tmp_path / "executed", tmp_path / "evil.py"
    code_file.write_text(f"open({str(marker)!r}, 'w')\ndef fetched(): ...\n")
    recipe = place / "runs/it/student/recipe.toml"
    before = recipe.read_text()
    recipe.write_text(before.replace('"runs/it/teacher"', f'"{code_file}:fetched"'))
    assert recipe.read_text() != before
    (place / "fetched" / "predictions").mkdir(parents=True)
    try:
        code, said = deitkit("analyze", "disagreement", "student", "--baseline", "runs/it/teacher", "--device", "cpu")
        assert code == 2 and "was not" in said and "fetched" in said
    finally:
        recipe.write_text(before)
        (place / "fetched" / "predictions").rmdir()
        (place / "fetched").rmdir()
    assert not marker.exists()


def test_the_same_teacher_on_the_command_line_counts_as_given(deitkit: Deitkit, place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text('extends = "quickstart/student"\n[teacher]\nmodel = "mine.py:make"\n')
    words = ["distill", "-r", str(recipe), *DATA, *FAST, *TAUGHT]
    code, said = deitkit(*words, "-o", "OUT")
    assert code == 2 and "--teacher mine.py:make" in said
    code, said = deitkit(*words, "-o", "OUT", "--teacher", "mine.py:make")
    assert code == 0, said


def test_a_python_caller_is_refused_the_same(trap: tuple[str, Path]) -> None:
    from deitkit.recipe.load import load_recipe
    from deitkit.teachers import open_teacher

    with pytest.raises(DeitkitError, match="was not"):
        open_teacher(load_recipe(trap[0]), ("a", "b"))
    assert not trap[1].exists()
