"""A tape: how answers lie in a file, what half precision and top-k lose, what must be the same, and what is missing."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deitkit.data.open import open_source
from deitkit.data.views.loader import TrainLoader
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.recipe.load import parse_override
from deitkit.recipe.schema import Recipe
from deitkit.tape import Tape, TapeHeader, TapeLayout, header_of, open_tape
from deitkit.tape.header import VIEW_KEYS, files_of, views_of, weights_digest
from deitkit.tape.layout import ERRORS, decode, encode
from deitkit.tape.parts import epoch_folder, gaps_between, list_parts, recorders, write_part
from deitkit.tape.replay import validation_key
from deitkit.teachers.output import TeacherOutput
from deitkit.training.losses import hard_distillation, soft_distillation
from tests.tape.test_record import quick_digits
from tests.training.test_fit import tiny

__all__ = ["quick_digits"]

B, K, G, TAU = 24, 10, 4, 3.0
CPU = torch.device("cpu")


def layout(labels: Any = "hard", top_k: int | None = None, *, classes: int = K, groups: int = 6) -> TapeLayout:
    return TapeLayout(classes, G, groups, labels, top_k)


def logits(classes: int = K, *, spread: float = 4.0) -> torch.Tensor:
    return torch.randn(B, classes) * spread


def softmax(z: torch.Tensor, tau: float = 1.0) -> np.ndarray:
    """In float64, with numpy."""
    e = np.exp((z.double().numpy() - z.double().numpy().max(1, keepdims=True)) / tau)
    return np.asarray(e / e.sum(1, keepdims=True))


# Columns


@pytest.mark.parametrize(
    ("classes", "size"), [(2, 1), (10, 1), (256, 1), (257, 2), (1000, 2), (65_536, 2), (65_537, 4)]
)
def test_a_hard_label_takes_the_smallest_unsigned_integer_that_fits_the_classes(classes: int, size: int) -> None:
    assert layout(classes=classes).bytes_per_view == size
    columns, _ = encode(
        torch.eye(classes)[[0, classes - 1]] if classes < 2000 else torch.zeros(1, 2), layout(), tau=1.0
    )
    assert columns["labels"].max() == (classes - 1 if classes < 2000 else 0) % 256


def test_hard_labels_survive_and_a_part_is_as_long_as_is_said() -> None:
    z, own = logits(), layout()
    columns, errors = encode(z, own, tau=TAU)
    content = own.pack(columns, errors)
    assert len(content) == own.part_bytes(B // G) == B
    again = own.unpack(np.frombuffer(content, np.uint8), B // G)
    assert torch.equal(decode(again, own, CPU).labels, z.argmax(1))


def test_soft_labels_are_log_probabilities_within_half_precision() -> None:
    z, own = logits(), layout("soft")
    columns, _ = encode(z, own, tau=TAU)
    answers = decode(columns, own, CPU)
    assert answers.logits is not None
    exact = np.log(softmax(z))
    assert np.all(np.abs(answers.logits.numpy() - exact) <= 2**-11 * np.abs(exact) + 2**-24)
    assert torch.equal(answers.labels, z.argmax(1))


def test_top_k_keeps_the_likeliest_and_the_mass_of_the_rest_which_is_spread_evenly() -> None:
    z, own = logits(), layout("soft", 3)
    columns, errors = encode(z, own, tau=TAU)
    answers = decode(columns, own, CPU)
    assert answers.logits is not None
    p, found = softmax(z), answers.logits.exp().numpy()
    order = np.argsort(-p, axis=1)
    kept, rest = order[:, :3], order[:, 3:]
    dropped = np.take_along_axis(p, rest, 1).sum(1)
    np.testing.assert_allclose(np.take_along_axis(found, kept, 1), np.take_along_axis(p, kept, 1), rtol=1e-2)
    np.testing.assert_allclose(np.take_along_axis(found, rest, 1), np.repeat(dropped[:, None] / 7, 7, 1), rtol=1e-2)
    assert errors[ERRORS.index("dropped_mass")] == pytest.approx(dropped.sum(), rel=1e-5)


@pytest.mark.parametrize("top_k", [None, 2])
def test_the_error_that_is_reported_is_the_divergence_from_the_teacher(top_k: int | None) -> None:
    z, own = logits(), layout("soft", top_k)
    columns, errors = encode(z, own, tau=TAU)
    replayed = decode(columns, own, CPU).logits
    assert replayed is not None
    for name, tau in (("kl", 1.0), ("kl_at_tau", TAU)):
        p, q = softmax(z, tau), softmax(replayed, tau)
        expected = (p * (np.log(p) - np.log(q))).sum()
        assert errors[ERRORS.index(name)] == pytest.approx(expected, rel=0.02, abs=5e-5)


def test_a_confident_teachers_small_probabilities_survive_for_a_high_temperature() -> None:
    z, own = logits(spread=30.0), layout("soft")  # exp(-60) is no half-precision number
    replayed = decode(encode(z, own, tau=TAU)[0], own, CPU).logits
    assert replayed is not None
    np.testing.assert_allclose(softmax(replayed, 20.0), softmax(z, 20.0), rtol=0.01)


def test_impossible_classes_give_finite_answers_and_a_finite_loss() -> None:
    z = logits()
    z[:, 1:4] = -torch.inf
    for own in (layout("soft"), layout("soft", 8)):
        columns, errors = encode(z, own, tau=TAU)
        answers = decode(columns, own, CPU)
        assert answers.logits is not None and answers.logits.isfinite().all() and np.isfinite(errors).all()
        assert soft_distillation(torch.randn(B, K), answers.logits, tau=TAU).isfinite()


def test_a_tapes_answers_enter_the_same_losses_as_a_live_teachers() -> None:
    z, student = logits(), torch.randn(B, K)
    live = TeacherOutput.of_logits(z)
    tape = decode(encode(z, layout("soft"), tau=TAU)[0], layout("soft"), CPU)
    assert torch.equal(hard_distillation(student, live.labels), hard_distillation(student, tape.labels))
    assert live.logits is not None and tape.logits is not None
    ours, theirs = (
        soft_distillation(student, each.logits, tau=TAU).item() for each in (tape, live) if each.logits is not None
    )
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(("labels", "top_k"), [("hard", 2), ("soft", 0), ("soft", K)])
def test_a_top_k_that_makes_no_sense_is_refused(labels: str, top_k: int) -> None:
    with pytest.raises(DeitkitError, match="top-k"):
        layout(labels, top_k)


# Parts


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    """Epoch 0 whole in three parts, epoch 1 to group 4 of 6; a view's label is its number in the epoch, modulo K."""
    own, path = layout(), tmp_path / "tape"
    path.mkdir()
    TapeHeader({}, ["runs/t"], [None], {}, own, {}, {"recipe": "tiny"}).write(path)
    for epoch, start, stop in ((0, 0, 2), (0, 2, 5), (0, 5, 6), (1, 0, 4)):
        write(path, epoch, start, stop)
    return Tape.open(path)


def write(path: Path, epoch: int, start: int, stop: int) -> Path:
    numbers = (np.arange(start * G, stop * G) + epoch) % K
    return write_part(path, epoch, range(start, stop), layout().pack({"labels": numbers}, np.zeros(3)))


@pytest.mark.parametrize("groups", [range(6), range(1, 2), range(1, 5), range(4, 6), range(5, 6)])
def test_answers_are_found_wherever_the_parts_were_cut(tape: Tape, groups: range) -> None:
    expected = torch.arange(groups.start * G, groups.stop * G) % K
    assert torch.equal(tape.answers(0, groups, CPU).labels, expected)


def test_a_part_is_a_plain_array_for_anybody(tape: Tape) -> None:
    part = list_parts(tape.path, 0, tape.layout)[0][1]
    assert np.memmap(part.path, np.uint8, mode="r").tolist() == [number % K for number in range(8, 20)]


def test_parts_may_overlap(tape: Tape) -> None:
    write(tape.path, 1, 3, 6)
    write(tape.path, 1, 1, 2)
    assert torch.equal(tape.answers(1, range(6), CPU).labels, (torch.arange(24) + 1) % K)


def test_what_no_part_holds_is_named_by_epoch_and_group(tape: Tape) -> None:
    assert tape.gaps(range(3)) == [(1, 4, 6), (2, 0, 6)]
    assert tape.gaps(range(2), 4) == []
    with pytest.raises(DeitkitError, match="too short") as caught:
        tape.refuse_gaps(range(5), 6)
    assert caught.value.problems == ("epoch 1: groups 4 to 5 of 6", "epochs 2 to 4")
    assert "--epochs 1:5" in caught.value.remedy
    with pytest.raises(DeitkitError, match="epoch 1: groups 5 to 5"):
        tape.answers(1, range(5, 6), CPU)


def test_a_file_that_is_cut_short_counts_as_missing_and_is_named(tape: Tape) -> None:
    part = list_parts(tape.path, 0, tape.layout)[0][1].path
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DeitkitError, match=r"epoch 0: groups 2 to 4 of 6") as caught:
        tape.refuse_gaps(range(1), 6)
    assert part.name in caught.value.message()


def test_changed_bytes_are_found(tape: Tape) -> None:
    part = list_parts(tape.path, 0, tape.layout)[0][0].path
    content = bytearray(part.read_bytes())
    content[3] ^= 1
    part.write_bytes(content)
    with pytest.raises(DeitkitError, match="is damaged") as caught:
        tape.answers(0, range(1), CPU)
    assert "delete this file" in caught.value.remedy
    with pytest.raises(DeitkitError, match="is damaged"):
        tape.errors(verify=True)


@pytest.mark.parametrize(
    ("held", "expected"),
    [([], [(0, 9)]), ([(0, 9)], []), ([(2, 4)], [(0, 2), (4, 9)]), ([(0, 2), (1, 5), (7, 12)], [(5, 7)])],
)
def test_gaps_are_what_the_parts_leave(held: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    from deitkit.tape import TapePart

    parts = [TapePart(a, b, Path()) for a, b in held]
    assert [(gap.start, gap.stop) for gap in gaps_between(parts, 0, range(9))] == expected


def test_what_is_not_a_tape_is_said_and_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="does not exist") as caught:
        Tape.open(tmp_path / "nothing")
    assert "deitkit tape record" in caught.value.remedy
    with pytest.raises(DeitkitError, match=r"no tape\.json"):
        Tape.open(tmp_path)
    (tmp_path / "tape.json").write_text('{"format": 1, "views": ')
    with pytest.raises(DeitkitError, match="is damaged"):
        Tape.open(tmp_path)
    (tmp_path / "tape.json").write_text('{"format": 99}')
    with pytest.raises(DeitkitError, match="another format"):
        Tape.open(tmp_path)


# A recording that goes on


def sign(path: Path, *, epochs: tuple[int, int] = (0, 9), host: str = "elsewhere", pid: int = 1) -> Path:
    file = path / f"recording-{host}-{pid}.json"
    file.write_text(json.dumps({"epochs": epochs}))
    return file


def test_a_student_that_catches_up_waits_for_the_recording(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(tape.path)
    assert "waits" in tape.refuse_gaps(range(3), 6)[0]
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            write(tape.path, 1, 4, 6)

    monkeypatch.setattr(time, "sleep", nap)
    assert torch.equal(tape.answers(1, range(4, 6), CPU).labels, (torch.arange(16, 24) + 1) % K)
    assert len(naps) == 2


def test_a_student_waits_no_longer_than_somebody_records(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sign(tape.path)
    monkeypatch.setattr(time, "sleep", lambda seconds: file.unlink())
    with pytest.raises(DeitkitError, match="epoch 1: groups 4 to 5"):
        tape.answers(1, range(4, 6), CPU)


def test_epochs_that_nobody_will_record_are_missing_at_once(tape: Tape) -> None:
    sign(tape.path, epochs=(1, 2))
    with pytest.raises(DeitkitError, match="epoch 2"):
        tape.refuse_gaps(range(3), 6)


def test_a_recorder_is_alive_while_it_is_heard_of_or_on_this_machine_runs(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    sign(tmp_path, host=socket.gethostname(), pid=ended.pid)
    assert recorders(tmp_path) == []
    file = sign(tmp_path)
    assert [each.epochs for each in recorders(tmp_path)] == [range(9)]
    os.utime(file, (time.time() - 1000, time.time() - 1000))
    assert recorders(tmp_path) == []
    alive = sign(tmp_path, host=socket.gethostname(), pid=os.getppid())
    assert [each.path for each in recorders(tmp_path)] == [alive]


# What must be the same


def header(**changes: Mapping[str, Any]) -> TapeHeader:
    recipe = taught(**changes)
    train = open_source(recipe.data, "train")
    shape = plan_stream(len(train), recipe.stream, mixing=recipe.is_mixing)
    return header_of(recipe, train, shape, layout=layout(), device=CPU)


def taught(**changes: Mapping[str, Any]) -> Recipe:
    teacher = {"model": "timm:resnet10t", **changes.pop("teacher", {})}
    return tiny(teacher=teacher, loss={"second_token": "teacher"}, **changes)


def first_views(recipe: Recipe) -> torch.Tensor:
    """Two groups of epoch 0."""
    train = open_source(recipe.data, "train")
    shape = plan_stream(len(train), recipe.stream, mixing=recipe.is_mixing)
    (batch,) = next(TrainLoader(train, recipe, replace(shape, batch_size=2 * shape.mix_group)).steps(0, 1))
    return batch.images


@functools.cache
def usual_views() -> torch.Tensor:
    return first_views(taught())


OTHER_VIEWS: dict[str, dict[str, Any]] = {
    "train.seed": {"train": {"seed": 1, "accumulation": 1}},
    "stream.repeats": {"stream": {"repeats": 1}},
    "stream.mix_group": {"stream": {"mix_group": 16}},
    "model.image_size": {"model": {"image_size": 24}},
    "augment.policy": {"augment": {"policy": False}},
    "augment.crop_scale": {"augment": {"crop_scale": [0.5, 1.0]}},
    "augment.crop_aspect": {"augment": {"crop_aspect": [0.5, 1.0]}},
    "augment.hflip": {"augment": {"hflip": 0.0}},
    "augment.magnitude": {"augment": {"magnitude": 5.0}},
    "augment.magnitude_std": {"augment": {"magnitude_std": 0.0}},
    "augment.erasing": {"augment": {"erasing": 0.0}},
    "mix.mixup_alpha": {"mix": {"mixup_alpha": 0.2}},
    "mix.cutmix_alpha": {"mix": {"cutmix_alpha": 0.0}},
    "mix.prob": {"mix": {"prob": 0.0}},
    "mix.switch_prob": {"mix": {"switch_prob": 1.0}},
    "data.mean": {"data": {"mean": [0.5, 0.5, 0.5]}},
    "data.std": {"data": {"std": [0.5, 0.5, 0.5]}},
    "data.interpolation": {"data": {"interpolation": "bilinear"}},
    "data.fingerprint": {"data": {"val_fraction": 0.3}},
}
SAME_VIEWS: dict[str, dict[str, Any]] = {
    "epochs": {"train": {"epochs": 9}},
    "batch size": {"stream": {"batch_size": 96}},
    "accumulation": {"train": {"accumulation": 3}},
    "student": {"model": {"options": {"embed_dim": 64, "depth": 1, "num_heads": 2}, "drop_path": 0.0}},
    "a plain student": {"model": {"distilled": False}},
    "optimiser": {"optim": {"lr": 1e-4, "weight_decay": 0.1}},
    "schedule": {"schedule": {"warmup_epochs": 0.0}},
    "smoothing": {"loss": {"label_smoothing": 0.0}},
}


@pytest.mark.parametrize("key", OTHER_VIEWS)
def test_whatever_changes_the_views_is_in_the_fingerprint_by_its_name(key: str) -> None:
    before, after = usual_views(), first_views(taught(**OTHER_VIEWS[key]))
    assert before.shape != after.shape or not torch.equal(before, after)
    was, now = header().views, header(**OTHER_VIEWS[key]).views
    assert key in {name for name in was if was[name] != now[name]}


@pytest.mark.parametrize("change", SAME_VIEWS)
def test_what_leaves_the_views_alone_is_no_difference(change: str) -> None:
    values = {**SAME_VIEWS[change]}
    loss = values.pop("loss", {})
    recipe = taught(**values)
    recipe = recipe.model_copy(update={"loss": recipe.loss.model_copy(update=loss)})
    assert torch.equal(first_views(recipe), usual_views())
    train = open_source(recipe.data, "train")
    shape = plan_stream(len(train), recipe.stream, mixing=recipe.is_mixing)
    assert views_of(recipe, train, shape) == header().views


def test_every_key_of_data_stream_augment_and_mix_is_in_the_fingerprint_or_left_out_for_a_reason() -> None:
    left_out = {
        "data.dataset", "data.path", "data.val_fraction", "data.split_seed", "data.validate_on", "data.category",
        "data.image_column", "data.label_column", "data.split_column", "data.split_rule", "data.folds", "data.fold",
        "data.group_column", "data.val_fold", "data.label_from",  # data.fingerprint covers them
        "data.crop_ratio",  # evaluation
        "data.on_bad_image",  # of readable images it changes nothing
        "stream.batch_size",
    }  # fmt: skip
    keys = {key for key in taught().flat() if key.startswith(("data.", "stream.", "augment.", "mix."))}
    assert keys - left_out <= header().views.keys()
    assert set(VIEW_KEYS) <= taught().flat().keys()


def test_other_bytes_under_the_same_names_are_other_data(tmp_path: Path) -> None:
    images = open_source(taught().data, "train")
    for index in range(200):
        path = tmp_path / "images" / "train" / str(images.labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.read(index))
    shutil.copytree(tmp_path / "images" / "train", tmp_path / "images" / "val")
    data = {"data": {"dataset": "folder", "path": str(tmp_path / "images")}}
    was = header(**data).views
    for path in (tmp_path / "images" / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    now = header(**data).views
    assert {key for key in was if was[key] != now[key]} == {"data.bytes"}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A tape of 30 epochs of which nobody knows the teacher's weights."""
    own = replace(header(), layout=TapeLayout(10, 32, 44, "hard"))
    (tmp_path / "tape").mkdir()
    own.write(tmp_path / "tape")
    for epoch in range(3):
        write_part(tmp_path / "tape", epoch, range(44), bytes(44 * 32))
    return tmp_path / "tape"


def opened(path: Path, *, strict: bool = False, **changes: Mapping[str, Any]) -> tuple[Tape, list[str]]:
    recipe = taught(**{**changes, "teacher": {"tape": str(path), **changes.get("teacher", {})}})
    train, val = open_source(recipe.data, "train"), open_source(recipe.data, "val")
    shape = plan_stream(len(train), recipe.stream, mixing=recipe.is_mixing)
    return open_tape(recipe, train, val, shape, device=CPU, strict=strict)


def test_a_tape_of_other_views_is_refused_naming_the_key_and_how_to_agree(recorded: Path) -> None:
    with pytest.raises(DeitkitError, match="other views") as caught:
        opened(recorded, mix={"prob": 0.5}, train={"seed": 7})
    assert caught.value.problems == (
        "mix.prob: the tape has 1.0, this run 0.5", "train.seed: the tape has 0, this run 7"
    )  # fmt: skip
    assert "--set mix.prob=1.0 --set train.seed=0" in caught.value.remedy


def test_the_remedy_for_other_views_can_be_pasted_into_a_shell(recorded: Path) -> None:
    with pytest.raises(DeitkitError) as caught:
        opened(recorded, augment={"policy": False, "crop_scale": [0.5, 1.0]})
    given = shlex.split(caught.value.remedy.partition(" if ")[0])
    changes = dict(parse_override(text) for text in given if text != "--set")
    assert changes == {"augment.crop_scale": [0.08, 1.0], "augment.policy": "rand"}


def test_no_setting_makes_other_images_the_same(recorded: Path) -> None:
    with pytest.raises(DeitkitError, match=r"data\.fingerprint") as caught:
        opened(recorded, data={"val_fraction": 0.3}, mix={"prob": 0.5})
    assert "--set" not in caught.value.remedy


def test_a_tape_serves_any_length_and_batch_size_that_it_covers(recorded: Path) -> None:
    for batch_size, epochs in ((192, 2), (96, 3), (384, 1)):
        tape, messages = opened(recorded, stream={"batch_size": batch_size}, train={"epochs": epochs})
        assert tape.layout.groups == 44
        assert "not loaded" in messages[0]
    with pytest.raises(DeitkitError, match="epochs 3 to 4"):
        opened(recorded, train={"epochs": 5})


def test_a_tape_of_another_teacher_is_refused_naming_both(recorded: Path) -> None:
    with pytest.raises(DeitkitError, match="another teacher") as caught:
        opened(recorded, teacher={"model": "timm:regnety_160"})
    message = caught.value.message()
    assert "timm:regnety_160" in message and "timm:resnet10t" in message
    assert "--teacher timm:resnet10t" in caught.value.remedy


@pytest.mark.parametrize(
    ("teacher", "key"),
    [({"chunk": 2}, "teacher.chunk"), ({"mean": [0.5] * 3}, "teacher.mean"), ({"input": "0..1"}, "teacher.input")],
)  # fmt: skip
def test_a_teacher_under_other_settings_is_refused_naming_the_key(
    recorded: Path, teacher: dict[str, Any], key: str
) -> None:
    with pytest.raises(DeitkitError, match=f"{key}: the tape has"):
        opened(recorded, teacher=teacher)


def test_how_the_student_learns_from_the_answers_is_no_difference(recorded: Path) -> None:
    opened(recorded, teacher={"weight": 0.9, "tau": 1.0})


def test_a_file_of_a_teacher_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    teachers = {name: tmp_path / f"{name}.onnx" for name in ("a", "copy", "other")}
    for name, path in teachers.items():
        path.write_bytes(b"weights" if name != "other" else b"others")
    own = replace(header(teacher={"model": str(teachers["a"])}), layout=TapeLayout(10, 32, 44, "hard"))
    folder = tmp_path / "tape"
    folder.mkdir()
    own.write(folder)
    for epoch in range(2):
        write_part(folder, epoch, range(44), bytes(44 * 32))
    opened(folder, teacher={"model": str(teachers["copy"])})
    with pytest.raises(DeitkitError, match="another teacher"):
        opened(folder, teacher={"model": str(teachers["other"])})
    teachers["a"].write_bytes(b"trained further")
    with pytest.raises(DeitkitError, match="another teacher"):
        opened(folder, teacher={"model": str(teachers["a"])})


def test_a_factory_is_known_by_its_code_and_its_arguments_files(tmp_path: Path) -> None:
    code, weights = tmp_path / "nets.py", tmp_path / "w.safetensors"
    code.write_text("def make(): ...")
    weights.write_bytes(b"1")
    reference = f"{code}:make?weights={weights}&depth=3"
    assert [path for path in files_of(reference) if path.is_file()] == [code, weights]
    before = weights_digest(reference)
    weights.write_bytes(b"2")
    assert before is not None and weights_digest(reference) != before
    assert weights_digest("timm:resnet10t") is None


def test_other_versions_are_said_and_under_strict_refused(recorded: Path) -> None:
    values = json.loads((recorded / "tape.json").read_text())
    values["here"]["version of torch"] = "1.0"
    (recorded / "tape.json").write_text(json.dumps(values))
    _, messages = opened(recorded)
    assert any("version of torch: the tape has '1.0'" in message for message in messages)
    with pytest.raises(DeitkitError, match="version of torch"):
        opened(recorded, strict=True)


def test_a_hard_tape_does_not_serve_soft_students(recorded: Path) -> None:
    with pytest.raises(DeitkitError, match="holds hard labels"):
        opened(recorded, teacher={"labels": "soft"})


def test_another_evaluation_has_another_key_for_the_teachers_decisions() -> None:
    recipes = [taught(), taught(data={"crop_ratio": 0.9}), taught(model={"image_size": 24})]
    keys = {validation_key(recipe, open_source(recipe.data, "val")) for recipe in recipes}
    assert len(keys) == 3
    assert epoch_folder(Path("t"), 7).name == "epoch-00007"
