"""Training from a tape and with the live teacher: equal to the last bit, with mixup and cutmix, whatever else differs.

Weights, EMA, optimiser, losses and evaluations are compared, with what is watched of the teacher.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from deitkit.data.views import loader as loader_module
from deitkit.data.views.mix import MixPlans
from deitkit.errors import DeitkitError
from deitkit.recipe.load import to_toml
from deitkit.recipe.schema import Recipe
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.runs.folder import Run
from deitkit.tape import Tape
from deitkit.tape.record import record_tape
from deitkit.training.fit import train_run
from tests.tape.test_record import command, quick_digits, taught, teacher
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable

__all__ = ["quick_digits", "teacher"]

EPOCHS = 2


@pytest.fixture(scope="module")
def tape(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tapes") / "tape"
    record_tape(taught(teacher), path, epochs=range(EPOCHS), device="cpu")
    return path


def student(teacher: Path, tape: Path | None = None, /, **changes: Mapping[str, Any]) -> Recipe:
    spec = {**changes.pop("teacher", {}), **({} if tape is None else {"tape": str(tape)})}
    train = {"epochs": 1, **changes.pop("train", {})}
    return taught(teacher, teacher=spec, train=train, schedule={"warmup_epochs": 0.0}, **changes)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_tape_and_live_teacher_give_equal_students(
    teacher: Path, tape: Path, tmp_path: Path, accumulation: int
) -> None:
    train = {"accumulation": accumulation}
    live = train_run(student(teacher, train=train), tmp_path / "live", device="cpu").run
    replayed = train_run(student(teacher, tape, train=train), tmp_path / "tape", device="cpu").run
    assert_equal(comparable(replayed), comparable(live))
    losses = [line["loss_distillation"] for line in replayed.metrics() if "loss" in line]
    assert len(losses) == 7 and all(loss > 0 for loss in losses)


def test_mixup_and_cutmix_both_happen_in_what_is_compared(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[MixPlans] = []
    mix = loader_module.mix_groups
    monkeypatch.setattr(
        loader_module, "mix_groups", lambda images, plans, **more: (drawn.append(plans), mix(images, plans, **more))[1]
    )
    record_tape(taught(teacher), tmp_path / "tape", epochs=range(1), device="cpu")
    cutmix = [kind for plans in drawn for kind in plans.cutmix.tolist()]
    assert 0 < sum(cutmix) < len(cutmix)
    assert max(lam for plans in drawn for lam in plans.lam.tolist()) < 1.0


def test_equal_across_a_resume_and_even_where_the_live_teacher_began(teacher: Path, tape: Path, tmp_path: Path) -> None:
    live = train_run(student(teacher), tmp_path / "live", device="cpu").run
    for name, first in (("tape", student(teacher, tape)), ("mixed", student(teacher))):
        with pytest.raises(Crash):
            train_run(first, tmp_path / name, device="cpu", observer=CrashAt(4))
        resumed = train_run(student(teacher, tape), tmp_path / name, device="cpu", resume=True).run
        assert_equal(comparable(resumed), comparable(live))


def test_the_teacher_is_not_needed_at_all(teacher: Path, tape: Path, tmp_path: Path) -> None:
    gone = tmp_path / "teacher"
    shutil.copytree(teacher, gone)
    record_tape(taught(gone), tmp_path / "tape", epochs=range(1), device="cpu")
    live = train_run(student(gone), tmp_path / "live", device="cpu").run
    shutil.rmtree(gone)
    replayed = train_run(student(gone, tmp_path / "tape"), tmp_path / "run", device="cpu").run
    assert_equal(comparable(replayed), comparable(live))
    with pytest.raises(DeitkitError, match="another teacher"):
        train_run(student(tmp_path / "somebody", tmp_path / "tape"), tmp_path / "run2", device="cpu")
    assert not (tmp_path / "run2" / "recipe.toml").exists()


def test_chunks_of_several_groups_are_kept(teacher: Path, tmp_path: Path) -> None:
    spec, train = {"chunk": 3}, {"accumulation": 2}
    record_tape(taught(teacher, teacher=spec), tmp_path / "tape", epochs=range(1), device="cpu")
    live = train_run(student(teacher, teacher=spec, train=train), tmp_path / "live", device="cpu").run
    again = student(teacher, tmp_path / "tape", teacher=spec, train=train)
    assert_equal(comparable(train_run(again, tmp_path / "run", device="cpu").run), comparable(live))


def test_students_of_other_sizes_and_batches_learn_from_the_same_tape(
    teacher: Path, tape: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "stream": {"batch_size": 96}, "model": {"options": {"embed_dim": 48, "depth": 1, "num_heads": 3}}
    }  # fmt: skip
    live = train_run(student(teacher, train={"accumulation": 1}, **changes), tmp_path / "live", device="cpu").run
    replayed = student(teacher, tape, train={"accumulation": 1}, **changes)
    assert_equal(comparable(train_run(replayed, tmp_path / "run", device="cpu").run), comparable(live))


def weights(run: Run) -> torch.Tensor:
    model = load_checkpoint(list_checkpoints(run.checkpoints)[-1]).model
    return torch.cat([value.flatten().double() for value in model.values() if value.is_floating_point()])


@pytest.mark.slow
def test_soft_labels_differ_by_half_precision_alone(teacher: Path, tmp_path: Path) -> None:
    spec = {"labels": "soft"}
    record_tape(taught(teacher, teacher=spec), tmp_path / "soft", epochs=range(1), device="cpu")
    record_tape(taught(teacher, teacher=spec), tmp_path / "top", epochs=range(1), top_k=2, device="cpu")
    live = train_run(student(teacher, teacher=spec), tmp_path / "live", device="cpu").run
    runs = [
        train_run(student(teacher, tmp_path / name, teacher=spec), tmp_path / f"{name}-run", device="cpu").run
        for name in ("soft", "top")
    ]
    moved = (weights(live) - weights(train_run(student(teacher), tmp_path / "hard", device="cpu").run)).norm()
    whole, top = ((weights(run) - weights(live)).norm() / moved for run in runs)
    assert whole < 0.02 and whole < top
    losses = [[line["loss"] for line in run.metrics() if "loss" in line] for run in (runs[0], live)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_soft_tape_serves_hard_students_to_the_last_bit(teacher: Path, tmp_path: Path) -> None:
    record_tape(taught(teacher), tmp_path / "soft", epochs=range(1), labels="soft", top_k=2, device="cpu")
    live = train_run(student(teacher), tmp_path / "live", device="cpu").run
    replayed = train_run(student(teacher, tmp_path / "soft"), tmp_path / "run", device="cpu").run
    assert_equal(comparable(replayed), comparable(live))


def test_a_tape_that_is_too_short_is_refused_before_a_folder_exists(teacher: Path, tape: Path, tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="epochs 2 to 3"):
        train_run(student(teacher, tape, train={"epochs": 4}), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "recipe.toml").exists()


# Several processes


def torchrun(recipe: Recipe, output: Path, *, ranks: int, workers: int, resume: bool = False) -> Run:
    file = output.with_suffix(".toml")
    file.write_text(to_toml(recipe))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "deitkit",
         "distill", "--recipe", str(file), "--output", str(output), "--workers", str(workers), "--device", "cpu"],
        check=True, capture_output=True,
    )  # fmt: skip
    return Run(output)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 0), (2, 2)])
def test_equal_on_processes_and_workers(teacher: Path, tape: Path, tmp_path: Path, ranks: int, workers: int) -> None:
    train = {"accumulation": 1, "epochs": 2}
    live = torchrun(student(teacher, train=train), tmp_path / "live", ranks=ranks, workers=workers)
    replayed = torchrun(student(teacher, tape, train=train), tmp_path / "tape", ranks=ranks, workers=workers)
    assert_equal(comparable(replayed), comparable(live))


@pytest.mark.slow
def test_a_student_learns_while_the_recording_runs_ahead(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    path = tmp_path / "tape"
    recorder = subprocess.Popen(command(teacher, tmp_path), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(path.glob("recording-*.json")):
        assert recorder.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    assert Tape.open(path).gaps(range(2))
    replayed = train_run(student(teacher, path, train={"epochs": 2}), tmp_path / "run", device="cpu").run
    assert recorder.wait(timeout=60) == 0
    live = train_run(student(teacher, train={"epochs": 2}), tmp_path / "live", device="cpu").run
    assert_equal(comparable(replayed), comparable(live))
