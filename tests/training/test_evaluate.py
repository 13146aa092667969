"""What an evaluation tells of a distillation, against predictions, tokens and teacher looked at apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from deitkit.data.open import open_source, subset
from deitkit.distributed import World
from deitkit.models.load import ModelInfo, load_model, save_model
from deitkit.models.student import Student, build_student
from deitkit.predictions.predict import evaluation_loader, predict
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data, Model
from deitkit.runs.folder import Run
from deitkit.teachers import Teacher
from deitkit.teachers.ask import ask_teacher
from deitkit.training.evaluate import Watch, agreements
from deitkit.training.fit import train_run
from deitkit.training.step import Training, build
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

CPU = torch.device("cpu")
DIGITS = Data(dataset="digits", crop_ratio=1.0)
NAMES = tuple("0123456789")


def nano(seed: int, *, distilled: bool = True) -> Student:
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    return build_student(Model(name="deit_nano", image_size=16, distilled=distilled, options=options), 10, seed=seed)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "teacher"
    save_model(folder, nano(7, distilled=False), ModelInfo.of(DIGITS, (16, 16), NAMES))
    return folder


@pytest.fixture(scope="module")
def distilled(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_run(taught_by(teacher), tmp_path_factory.mktemp("runs") / "distilled", device="cpu").run


def taught_by(teacher: Path, **changes: Any) -> Any:
    return tiny(teacher={"model": str(teacher), "check": False}, loss={"second_token": "teacher"}, **changes)


def evaluations(run: Run) -> list[dict[str, Any]]:
    return [line for line in run.metrics() if "top1" in line]


def decisions_of(folder: Path) -> Predictions:
    model = load_model(folder)
    return predict(model.student, model.info, open_source(DIGITS, "val"), name="", device=CPU)


def test_agreements_are_the_shares_of_equal_decisions(distilled: Run, teacher: Path) -> None:
    last = evaluations(distilled)[-1]
    ours, theirs = Predictions.load(distilled.predictions / "digits-val.parquet"), decisions_of(teacher)
    assert ours.ids == theirs.ids
    decided = {head: ours.top1(head) for head in ("class", "distillation", "fused")}
    assert last["agreement"] == {
        "teacher": {head: (mine == theirs.top1("class")).mean() for head, mine in decided.items()},
        "heads": (decided["class"] == decided["distillation"]).mean(),
    }
    assert last["teacher_top1"] == theirs.accuracy("class")
    assert last["top1"] == {head: ours.accuracy(head) for head in decided}


def test_the_tokens_cosine_is_the_mean_over_all_images(distilled: Run) -> None:
    model = load_model(distilled.path)
    with torch.inference_mode():
        loader = evaluation_loader(open_source(DIGITS, "val"), model.info, device=CPU)
        batches = [model.student.tokens(images) for _, images, _ in loader]
    pairs = zip(*((batch.layers[-1], batch.normed) for batch in batches), strict=True)
    last, normed = (torch.cat(parts, dim=1).double() for parts in pairs)
    expected = [(x[0] * x[1]).sum(-1) / (x[0].norm(dim=-1) * x[1].norm(dim=-1)) for x in (last, normed)]
    found = evaluations(distilled)[-1]["token_cosine"]
    assert found.keys() == {"last_block", "final_norm"}
    for value, cosine in zip(found.values(), expected, strict=True):
        assert value == pytest.approx(cosine.mean().item(), abs=1e-6)


def test_a_crashed_distillation_resumes_to_the_last_bit_with_all_that_is_watched(
    distilled: Run, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        train_run(taught_by(teacher), tmp_path / "run", device="cpu", observer=CrashAt(9))
    resumed = train_run(taught_by(teacher), tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(distilled))


def test_a_plain_student_has_one_head_to_agree_and_no_cosine(teacher: Path, tmp_path: Path) -> None:
    recipe = taught_by(teacher, model={"distilled": False}, train={"epochs": 1})
    (record,) = evaluations(train_run(recipe, tmp_path / "run", device="cpu").run)
    assert record["agreement"].keys() == {"teacher"}
    assert record["agreement"]["teacher"].keys() == {"class"}
    assert "token_cosine" not in record


def test_without_teacher_and_second_token_nothing_is_added(tmp_path: Path) -> None:
    recipe = tiny(model={"distilled": False}, loss={"second_token": "teacher"}, train={"epochs": 1})
    (record,) = evaluations(train_run(recipe, tmp_path / "run", device="cpu").run)
    assert record.keys() == {"step", "epoch", "top1", "ema_top1"}


def test_two_heads_without_a_teacher_are_held_against_each_other(tmp_path: Path) -> None:
    (record,) = evaluations(train_run(tiny(train={"epochs": 1}), tmp_path / "run", device="cpu").run)
    assert record["agreement"].keys() == {"heads"}
    assert record.keys() == {"step", "epoch", "top1", "ema_top1", "agreement", "token_cosine"}
    assert -1 <= record["token_cosine"]["final_norm"] <= 1


def test_a_teacher_agrees_with_itself(teacher: Path) -> None:
    training = build(taught_by(teacher, model={"distilled": False}), world=World(), device=CPU, workers=0)
    training.student.network.load_state_dict(load_model(teacher).student.network.state_dict())
    record = Watch(training).evaluate()
    assert record["agreement"] == {"teacher": {"class": 1.0}}
    assert record["teacher_top1"] == record["top1"]["class"]


# The teacher is asked once, and whoever holds its answers may stand for it


def test_the_teacher_is_asked_once_in_a_run_on_whole_chunks(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = build(taught_by(teacher), world=World(), device=CPU, workers=0)
    sizes, whole = [], training.teacher
    assert whole is not None
    inside = whole.members[0].forward
    monkeypatch.setattr(whole.members[0], "forward", lambda images: sizes.append(len(images)) or inside(images))
    watch = Watch(training)
    first, second = watch.evaluate(), watch.evaluate()
    assert first == second
    chunk = training.shape.mix_group * whole.chunk
    assert sizes == [chunk] * -(-len(training.val) // chunk)


def test_a_tape_stands_for_the_teacher(teacher: Path) -> None:
    live = build(taught_by(teacher), world=World(), device=CPU, workers=0)
    record = Watch(live).evaluate()
    decisions = Watch(live).teacher_decisions
    for answers in (decisions, None):
        live.teacher, live.tape = None, cast(Any, SimpleNamespace(validation=lambda answers=answers: answers))
        replayed = Watch(live).evaluate()
        if answers is not None:
            assert replayed == record
        else:
            assert replayed["agreement"].keys() == {"heads"}
            assert "teacher_top1" not in replayed


def test_images_left_out_by_the_student_are_left_out_of_the_teachers_answers(teacher: Path) -> None:
    training = build(taught_by(teacher), world=World(), device=CPU, workers=0)
    watch = Watch(training)
    whole = watch.predict(training.student)
    seen = np.setdiff1d(np.arange(len(training.val)), [0, 17, len(training.val) - 1])
    part = predict(
        training.student, training.info, subset(training.val, seen, "val"), name="", device=CPU
    )  # fmt: skip
    answers = watch._teacher_on(part)
    assert answers is not None
    assert np.array_equal(answers, watch._teacher_on(whole)[seen])  # type: ignore[index]
    assert agreements(part, answers)["agreement"]["teacher"]["class"] == (part.top1("class") == answers).mean()


class TwoRanks(World):
    """One of two ranks; the other one's part is known."""

    other: Any

    def gather(self, part: Any) -> list[Any]:
        return [part, self.other] if self.rank == 0 else [self.other, part]


def test_each_rank_asks_for_its_own_part_and_gets_the_whole(teacher: Path) -> None:
    training = build(taught_by(teacher), world=World(), device=CPU, workers=0)

    def ask(world: World) -> np.ndarray:
        assert isinstance(training.teacher, Teacher)
        return ask_teacher(
            training.teacher, training.val, training.recipe, mix_group=training.shape.mix_group, device=CPU, world=world
        )

    alone, halves = ask(World()), []
    for rank in (0, 1):
        world = TwoRanks(rank, 2)
        object.__setattr__(world, "other", np.full(len(alone), -1))
        halves.append(ask(world))
    assert [(half >= 0).sum() for half in halves] == [180, 180]
    assert np.array_equal(np.maximum(*halves), alone)


def test_watching_leaves_no_hook_behind(distilled: Run, teacher: Path) -> None:
    training: Training = build(taught_by(teacher), world=World(), device=CPU, workers=0)
    Watch(training).evaluate()
    assert not training.student.network.norm._forward_hooks
