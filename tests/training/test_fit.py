"""fit, on real digits with a tiny model: what it learns, writes, refuses, and how it goes on after a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.recipe.load import validate
from deitkit.recipe.schema import Data, Recipe
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.runs.environment import processor
from deitkit.runs.folder import Run
from deitkit.training import fit
from deitkit.training.fit import Silent, train_run
from deitkit.training.log import MetricsLog, Sums

TINY: dict[str, Any] = {
    "model": {
        "name": "deit_nano", "image_size": 16, "drop_path": 0.1, "dropout": 0.1, "distilled": True,
        "options": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    },
    "loss": {"second_token": "label"},
    "data": {"dataset": "digits", "crop_ratio": 1.0},
    "stream": {"batch_size": 192, "repeats": 3, "mix_group": 32},
    "optim": {"lr": 2e-3},
    "schedule": {"warmup_epochs": 1.0},
    "ema": {"decay": 0.9},
    "train": {"epochs": 2, "accumulation": 2, "log_every": 1},
    "checkpoint": {"every_steps": 3},
}  # fmt: skip

CLOCK_FIELDS = ("images_per_s", "data_wait_s", "seconds", "memory_mb")


def tiny(**changes: Mapping[str, Any]) -> Recipe:
    values = {key: dict(table) for key, table in TINY.items()}
    for table, keys in changes.items():
        values[table] = {**values.get(table, {}), **keys}
    return validate(values, name="tiny", origins={})


class Crash(Exception):
    """A power cut."""


class CrashAt(Silent):
    def __init__(self, step: int) -> None:
        self.step_of_death = step

    def step(self, step: int, sums: Sums) -> None:
        if step == self.step_of_death:
            raise Crash


def comparable(run: Run) -> dict[str, Any]:
    """Everything that a resumed run must repeat to the last bit."""
    last = load_checkpoint(list_checkpoints(run.checkpoints)[-1])
    lines = [{k: v for k, v in line.items() if k not in CLOCK_FIELDS} for line in run.metrics()]
    result = run.result() or {}
    return {
        "model": last.model, "state": last.state, "metrics": lines, "top1": result["top1"],
        "best": load_checkpoint(run.checkpoints / "best").model,
    }  # fmt: skip


def assert_equal(a: Any, b: Any, path: str = "") -> None:
    """Equal to the last bit, tensor by tensor, number by number."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_equal(left, right, f"{path}/{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_run(tiny(), tmp_path_factory.mktemp("runs") / "unbroken", device="cpu").run


@pytest.mark.parametrize("crashes", [(1,), (4, 9), (7, 8)])
def test_a_crashed_run_resumes_to_the_last_bit(unbroken: Run, tmp_path: Path, crashes: tuple[int, ...]) -> None:
    for index, step in enumerate(crashes):
        with pytest.raises(Crash):
            train_run(tiny(), tmp_path / "run", device="cpu", resume=index > 0, observer=CrashAt(step))
    resumed = train_run(tiny(), tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_resuming_on_another_processor_says_what_is_no_longer_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deitkit.runs.environment.processor", lambda: "an older one")
    with pytest.raises(Crash):
        train_run(tiny(), tmp_path / "run", device="cpu", observer=CrashAt(4))
    monkeypatch.undo()
    listener = Listener()
    train_run(tiny(), tmp_path / "run", device="cpu", resume=True, observer=listener)
    (said,) = [message for message in listener.said if "processor" in message]
    assert said.startswith(f"processor was an older one, is {processor()}: equal to the last bit")


def test_a_run_leaves_what_the_design_names(unbroken: Run) -> None:
    names = {path.name for path in unbroken.path.iterdir()}
    assert {
        "recipe.toml", "recipe.origins.json", "environment.json", "metrics.jsonl", "checkpoints", "model", "model_ema",
        "predictions", "result.json",
    } <= names  # fmt: skip
    assert (unbroken.predictions / "digits-val.parquet").is_file()
    assert unbroken.status() == "finished"
    assert unbroken.recipe().flat() == tiny().flat()


def test_state_holds_only_tensors_numbers_strings_lists_and_dicts(unbroken: Run) -> None:
    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                assert isinstance(key, (str, int)), path
                walk(item, f"{path}/{key}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path}/{index}")
        else:
            assert isinstance(value, (torch.Tensor, int, float, str)), f"{path}: {type(value)}"

    walk(load_checkpoint(list_checkpoints(unbroken.checkpoints)[-1]).state, "state")


def test_metrics_are_json_lines_with_loss_parts_rates_and_evaluations(unbroken: Run) -> None:
    lines = unbroken.metrics()
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 15))
    assert {
        "loss", "loss_label", "loss_distillation", "lr", "grad_norm", "images_per_s", "data_wait_s", "memory_mb"
    } <= steps[0].keys()  # fmt: skip
    evaluations = [line for line in lines if "top1" in line]
    assert [line["step"] for line in evaluations] == [7, 14]
    assert evaluations[0]["top1"].keys() == {"class", "distillation", "fused"}
    assert evaluations[0]["ema_top1"].keys() == {"class", "distillation", "fused"}
    assert evaluations[0].keys() == {"step", "epoch", "top1", "ema_top1", "agreement", "token_cosine"}


def test_a_resumed_run_refuses_a_changed_recipe_and_names_every_key(unbroken: Run) -> None:
    with pytest.raises(DeitkitError) as caught:
        train_run(tiny(optim={"lr": 1e-3}, model={"dropout": 0.0}), unbroken.path, device="cpu", resume=True)
    assert "optim.lr: was 0.002, is 0.001" in caught.value.message()
    assert "model.dropout: was 0.1, is 0.0" in caught.value.message()


def test_a_finished_run_is_not_overwritten_and_a_foreign_folder_never(unbroken: Run, tmp_path: Path) -> None:
    before = (unbroken.path / "result.json").read_bytes()
    with pytest.raises(DeitkitError, match="is finished"):
        train_run(tiny(), unbroken.path, device="cpu")
    assert (unbroken.path / "result.json").read_bytes() == before
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DeitkitError, match="did not write"):
        train_run(tiny(), tmp_path, device="cpu", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_run_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path / "run").lock(), pytest.raises(DeitkitError, match="another process"):
        train_run(tiny(), tmp_path / "run", device="cpu")


def test_a_diverging_run_stops_with_a_diagnosis_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    wild = tiny(
        optim={"lr": 1e30, "lr_scaling": "none"}, schedule={"warmup_epochs": 0.0}, checkpoint={"every_steps": 1}
    )
    with pytest.raises(DeitkitError, match="diverged by step") as caught:
        train_run(wild, tmp_path / "run", device="cpu")
    assert "optim.lr" in caught.value.remedy
    for folder in list_checkpoints(tmp_path / "run" / "checkpoints"):
        assert all(torch.isfinite(value).all() for value in load_checkpoint(folder).model.values())


def test_a_teacher_with_other_classes_is_refused_before_a_folder_exists(unbroken: Run, tmp_path: Path) -> None:
    config = json.loads((unbroken.model / "config.json").read_text())
    config["deitkit"]["class_names"] = [f"animal {name}" for name in config["deitkit"]["class_names"]]
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "config.json").write_text(json.dumps(config))
    (teacher / "model.safetensors").write_bytes((unbroken.model / "model.safetensors").read_bytes())
    recipe = tiny(teacher={"model": str(teacher)}, loss={"second_token": "teacher"})
    with pytest.raises(DeitkitError, match="other classes") as caught:
        train_run(recipe, tmp_path / "run", device="cpu")
    assert "deitkit finetune" in caught.value.remedy
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_early_stopping_stops_and_keeps_the_best(tmp_path: Path) -> None:
    stuck = tiny(train={"epochs": 20, "patience": 2}, optim={"lr": 1e-12, "lr_scaling": "none"},
                 schedule={"warmup_epochs": 0.0, "min_lr": 0.0}, ema={"decay": 0.5})  # fmt: skip
    run = train_run(stuck, tmp_path / "run", device="cpu").run
    result = run.result() or {}
    assert result["step"] == 3 * 7
    assert result["best_step"] == 3 * 7  # all are equal: the later one is the best, and none a gain
    assert (result["kept"], result["stopped_early"]) == ("best", True)
    best = load_checkpoint(run.checkpoints / "best").model
    from deitkit.models.load import load_model

    assert_equal(dict(load_model(run.path).student.network.state_dict()), best)


def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeitkitError, match="no CUDA device"):
        train_run(tiny(), tmp_path / "run", device="cuda")


# Unreadable images


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """60 digits as an image folder; a training and a validation image are cut short."""
    source = open_source(Data(dataset="digits"), "train")
    for count, index in enumerate(range(60)):
        path = tmp_path / "digits" / ("val" if count < 12 else "train") / str(source.labels[index] % 2) / f"{count}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(index)[: 60 if count in (5, 40) else None])
    return tmp_path / "digits"


class Hears(CrashAt):
    """Remembers what was said."""

    def __init__(self, step_of_death: int = -1) -> None:
        super().__init__(step_of_death)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_replaced_images_are_counted_in_metrics_and_named_at_the_end_also_over_a_crash(
    damaged: Path, tmp_path: Path
) -> None:
    data = {"dataset": "folder", "path": str(damaged), "on_bad_image": "replace"}
    recipe = tiny(data=data, stream={"batch_size": 24, "repeats": 1, "mix_group": 4}, train={"epochs": 4})
    hears = Hears()
    whole = train_run(recipe, tmp_path / "whole", observer=hears).run
    with pytest.raises(Crash):
        train_run(recipe, tmp_path / "broken", observer=CrashAt(5))
    resumed = train_run(recipe, tmp_path / "broken", resume=True).run
    assert_equal(comparable(whole), comparable(resumed))
    assert sum(line.get("replaced_images", 0) for line in whole.metrics()) == 4  # once an epoch
    results = [json.loads((run.path / "result.json").read_text()) for run in (whole, resumed)]
    for result in results:
        assert (result["images"], result["replaced"]) == (11, 4)
        assert [Path(name).name for name in result["unreadable"]] == ["40.png"]
    assert any("stood in 4 times for 1 unreadable images" in text for text in hears.said)


def test_metrics_shorter_than_the_checkpoint_knows_never_stop_a_run(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", enabled=True)
    log.path.write_text('{"step": 1}\n{"st')
    assert log.cut(100) == 88
    log.write({"step": 2})
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_teacher_with_other_weights_under_the_same_path_is_refused_by_name(unbroken: Run, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(unbroken.model, teacher)
    recipe = tiny(loss={"second_token": "teacher"}, teacher={"model": str(teacher), "check": False})
    with pytest.raises(Crash):
        train_run(recipe, tmp_path / "run", device="cpu", observer=CrashAt(4))
    change_weights(teacher, lambda value: value + 1)
    with pytest.raises(DeitkitError, match=r"the teacher .*teacher is another one"):
        train_run(recipe, tmp_path / "run", device="cpu", resume=True)


def test_start_weights_that_are_not_finite_are_refused(unbroken: Run, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(unbroken.model, start)
    change_weights(start, lambda value: value * float("nan"))
    with pytest.raises(DeitkitError, match="not finite"):
        train_run(tiny(start={"weights": str(start)}), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def change_weights(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"] = change(weights["head.bias"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_overwriting_that_fails_leaves_the_old_run(unbroken: Run, tmp_path: Path, monkeypatch: Any) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(unbroken.path, run.path)
    with pytest.raises(DeitkitError, match="-1 workers"):
        train_run(tiny(train={"seed": 3}), run.path, device="cpu", overwrite=True, workers=-1)

    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fit, "train_step", fail)
    with pytest.raises(DeitkitError, match="memory ran out at step 1"):
        train_run(tiny(train={"seed": 3}), run.path, device="cpu", overwrite=True)
    assert_equal(comparable(run), comparable(unbroken))
    assert run.status() == "finished"


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device")
    for device in ("mps", "meta"):
        with pytest.raises(DeitkitError, match=device.upper() if device == "mps" else "does not run on"):
            train_run(tiny(), tmp_path / "run", device=device)
