"""Recording: the live teacher's own answers, whoever shares the work, whatever interrupts it, and what is refused."""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deitkit.data import open as sources
from deitkit.data.open import Source, open_source
from deitkit.data.views.loader import EvalLoader, TrainLoader
from deitkit.data.views.stream import StreamShape, plan_stream
from deitkit.distributed import World
from deitkit.errors import DeitkitError, Interrupted
from deitkit.models.load import ModelInfo, save_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model, Recipe
from deitkit.tape import Gap, Tape, writer
from deitkit.tape.merge import merge_tapes
from deitkit.tape.parts import list_parts
from deitkit.tape.record import record_tape
from deitkit.tape.replay import validation_key
from deitkit.tape.writer import Piece, PieceLoader, cut_pieces, units_of
from deitkit.teachers import open_teacher
from tests.training.test_fit import tiny

CPU = torch.device("cpu")
NAMES = tuple("0123456789")


def write_teacher(folder: Path, *, seed: int = 0) -> Path:
    """A small convnet that has learned nothing, and yet decides for all kinds of classes."""
    options = {"channels": [16, 32, 64, 96], "stem_width": 16}
    student = build_student(Model(name="timm:resnet10t", drop_path=0.0, options=options), 10, seed=seed).train()
    views = torch.randn(256, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        student(views)
    classifier = student.eval().network.fc
    with torch.no_grad():
        classifier.weight.mul_(20)
        classifier.bias.sub_(student(views).classes.mean(0))
    save_model(folder, student, ModelInfo.of(Data(), (16, 16), NAMES))
    return folder


@pytest.fixture(scope="module", autouse=True)
def quick_digits() -> Iterator[None]:
    """The bundled digits are made anew at each opening: here once is enough."""
    made: dict[tuple[str, str], Source] = {}
    make = sources.open_digits

    def open_digits(data: Data, split: str) -> Source:
        key = (data.model_dump_json(), split)
        return made[key] if key in made else made.setdefault(key, make(data, split))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open_digits", open_digits)
        yield


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher")


def taught(teacher: Path, /, **changes: Mapping[str, Any]) -> Recipe:
    spec = {"model": str(teacher), "check": False, **changes.pop("teacher", {})}  # a random one
    return tiny(teacher=spec, loss={"second_token": "teacher"}, **changes)


def shape_of(recipe: Recipe) -> StreamShape:
    return plan_stream(len(open_source(recipe.data, "train")), recipe.stream, mixing=recipe.is_mixing)


def decisions(path: Path, *epochs: int) -> list[list[int]]:
    """The labels of these whole epochs, of 0 and 1 by default."""
    tape = Tape.open(path)
    return [tape.answers(epoch, range(tape.layout.groups), CPU).labels.tolist() for epoch in epochs or (0, 1)]


@pytest.fixture(scope="module")
def whole(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs, recorded at once."""
    path = tmp_path_factory.mktemp("tapes") / "whole"
    record_tape(taught(teacher), path, device="cpu")
    return path


# What is recorded


@functools.cache
def live_decisions(teacher: Path, batch_size: int, chunk: int) -> dict[int, list[int]]:
    """What the live teacher says to the batches of training, by epoch."""
    recipe = taught(teacher, stream={"batch_size": batch_size}, teacher={"chunk": chunk}, train={"accumulation": 1})
    train, shape = open_source(recipe.data, "train"), shape_of(recipe)
    live, said = open_teacher(recipe, train.class_names), dict[int, list[int]]()
    for step, (batch,) in enumerate(TrainLoader(train, recipe, shape).steps(0, 2 * shape.steps_per_epoch)):
        labels = live(batch.images, group=batch.group).argmax(1).tolist()
        said.setdefault(step // shape.steps_per_epoch, []).extend(labels)
    return said


@pytest.mark.parametrize("batch_size", [96, 192, 672])
def test_a_tape_holds_the_live_teachers_decisions_for_any_batch_size(
    teacher: Path, whole: Path, batch_size: int
) -> None:
    for epoch, labels in live_decisions(teacher, batch_size, 1).items():
        assert decisions(whole, epoch)[0][: len(labels)] == labels
        assert min(np.bincount(labels, minlength=10)) < max(np.bincount(labels)) < len(labels) / 2  # a real choice


def test_an_epoch_is_recorded_as_far_as_any_batch_size_could_see(whole: Path) -> None:
    assert Tape.open(whole).layout.groups == 1437 // 32 == 44
    assert not Tape.open(whole).gaps(range(2))


@pytest.mark.parametrize("chunk", [2, 6])
def test_a_teacher_runs_on_its_chunks_in_recording_too(teacher: Path, tmp_path: Path, chunk: int) -> None:
    record_tape(taught(teacher, teacher={"chunk": chunk}), tmp_path / "tape", epochs=range(1), device="cpu")
    assert Tape.open(tmp_path / "tape").layout.groups == 44 // chunk * chunk
    live = live_decisions(teacher, 192, chunk)[0]
    assert decisions(tmp_path / "tape", 0)[0][: len(live)] == live


def test_parts_that_would_cut_chunks_are_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match=r"teacher\.chunk 4 does not divide"):
        record_tape(taught(teacher, teacher={"chunk": 4}), tmp_path / "tape", device="cpu")


def test_workers_change_nothing(teacher: Path, whole: Path, tmp_path: Path) -> None:
    record_tape(taught(teacher), tmp_path / "tape", epochs=range(1), workers=2, device="cpu")
    assert decisions(tmp_path / "tape", 0) == decisions(whole, 0)


def test_the_decisions_on_the_validation_images_are_the_teachers(teacher: Path, whole: Path) -> None:
    recipe = taught(teacher)
    val = open_source(recipe.data, "val")
    live, data = open_teacher(recipe, val.class_names), recipe.data
    loader = EvalLoader(
        val, size=(16, 16), mean=data.mean, std=data.std, crop_ratio=1.0, interpolation="bicubic", batch_size=40
    )
    expected = torch.cat([live(images, group=40).argmax(1) for _, images, _ in loader])
    tape = Tape.open(whole)
    assert tape.validation() is None  # which images is not said
    tape.validation_key = validation_key(recipe, val)
    found = tape.validation()
    assert found is not None and (found == expected.numpy()).mean() > 0.99  # other batches: a tie may fall otherwise


@pytest.mark.parametrize("top_k", [None, 4])
def test_soft_labels_are_the_live_teachers_and_hold_its_decisions(
    teacher: Path, whole: Path, tmp_path: Path, top_k: int | None
) -> None:
    recipe = taught(teacher, teacher={"labels": "soft"})
    record_tape(recipe, tmp_path / "tape", epochs=range(1), top_k=top_k, device="cpu")
    assert decisions(tmp_path / "tape", 0) == decisions(whole, 0)
    tape = Tape.open(tmp_path / "tape")
    train = open_source(recipe.data, "train")
    (first, _) = (
        next(TrainLoader(train, recipe, shape_of(taught(teacher, train={"accumulation": 2}))).steps(0, 1)),
        None,
    )
    live = open_teacher(recipe, train.class_names)(first[0].images, group=32).softmax(1)
    answers = tape.answers(0, range(len(live) // 32), CPU)
    assert answers.logits is not None
    best = live.topk(top_k or 10).indices
    torch.testing.assert_close(
        answers.logits.exp().gather(1, best), live.gather(1, best), rtol=2e-2, atol=1e-6
    )  # fmt: skip
    errors = tape.errors()
    assert errors["dropped_mass"] == 0.0 if top_k is None else 0 < errors["dropped_mass"] < 0.5
    assert 0 <= errors["kl"] < (1e-4 if top_k is None else 0.5)


# Who shares the work


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_what_is_missing_in_whole_chunks_and_image_sets(repeats: int, chunk: int, ranks: int) -> None:
    shape = StreamShape(1000, 24, repeats, 8)
    gaps = [Gap(0, 0, 120), Gap(1, 3 * 5 * 2, 7 * 5 * 2), Gap(4, 110, 120)]
    shares = [list(cut_pieces(gaps, shape, chunk=chunk, world=World(rank, ranks))) for rank in range(ranks)]
    groups = [(piece.epoch, group) for share in shares for piece in share for group in piece.groups]
    assert sorted(groups) == [(gap.epoch, group) for gap in gaps for group in range(gap.start, gap.stop)]
    whole = math.lcm(chunk, repeats)
    edges = {(gap.epoch, edge) for gap in gaps for edge in (gap.start, gap.stop)}
    for share in shares:
        assert all(one.epoch <= other.epoch for one, other in pairwise(share))
        cuts = {(piece.epoch, edge) for piece in share for edge in (piece.groups.start, piece.groups.stop)}
        assert all(edge % whole == 0 for _, edge in cuts - edges)


def test_an_image_is_decoded_once_for_all_its_repeats(teacher: Path) -> None:
    recipe = taught(teacher)
    shape = shape_of(recipe)
    assert [unit.groups for unit in units_of(shape, Piece(0, range(2, 7)))] == [(2,), (3, 4, 5), (6,)]
    loader = PieceLoader(open_source(recipe.data, "train"), recipe, shape)
    pieces = list(cut_pieces([Gap(0, 0, 12)], shape, chunk=1, world=World()))
    assert sum(len(batch.labels) for _, batch in loader.pieces(lambda: iter(pieces))) == 12 * 32
    assert loader.decoded == 4 * 32


def test_epoch_ranges_recorded_apart_are_merged_into_the_same_tape(teacher: Path, whole: Path, tmp_path: Path) -> None:
    for epoch in range(2):
        record_tape(taught(teacher), tmp_path / str(epoch), epochs=range(epoch, epoch + 1), device="cpu")
    merge_tapes([tmp_path / "0", tmp_path / "1"], tmp_path / "both")
    assert decisions(tmp_path / "both") == decisions(whole)
    assert merge_tapes([tmp_path / "1"], tmp_path / "0") == 1
    assert merge_tapes([tmp_path / "0", whole], tmp_path / "both") == 0
    assert {path.name for path in (tmp_path / "both").iterdir()} == {path.name for path in whole.iterdir()}


def test_tapes_of_other_views_are_not_merged(teacher: Path, whole: Path, tmp_path: Path) -> None:
    record_tape(taught(teacher, train={"seed": 5}), tmp_path / "tape", epochs=range(1), device="cpu")
    with pytest.raises(DeitkitError, match=r"train\.seed: the first tape has 0"):
        merge_tapes([whole, tmp_path / "tape"], tmp_path / "both")
    assert not (tmp_path / "both").exists()


@pytest.mark.slow
def test_two_processes_record_the_same_tape(teacher: Path, whole: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *command(teacher, tmp_path)[1:]], check=True, capture_output=True
    )  # fmt: skip
    tape = Tape.open(tmp_path / "tape")
    assert len(list_parts(tape.path, 0, tape.layout)[0]) == 2
    assert decisions(tape.path) == decisions(whole)
    assert {path.name for path in tape.path.glob("validation-*")} == {path.name for path in whole.glob("validation-*")}


# What interrupts it


def after(pieces: int, what: Callable[[], None]) -> Callable[[str, int, int], None]:
    """A progress bar that does something once that many pieces are answered."""
    count = iter(range(1000))
    return lambda name, done, total: what() if next(count) == pieces - 1 else None


def test_a_signal_saves_what_was_answered_and_a_repetition_goes_on(teacher: Path, whole: Path, tmp_path: Path) -> None:
    path, done = tmp_path / "tape", []
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as caught:
            record_tape(
                taught(teacher), path, device="cpu", progress=after(3, lambda n=number: os.kill(os.getpid(), n))
            )
        assert caught.value.signal == number
        assert signal.getsignal(number) is before
        done.append(44 - sum(gap.stop - gap.start for gap in Tape.open(path).gaps(range(1))))
    assert 0 < done[0] < done[1] <= 44
    record_tape(taught(teacher), path, device="cpu")
    assert decisions(path) == decisions(whole)
    assert not list(path.glob("recording-*"))


def test_a_signal_within_the_teachers_own_code_is_no_error_of_the_teacher(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "nets.py"
    code.write_text(
        "import os, signal, torch\n"
        "class Net(torch.nn.Module):\n"
        "    class_names, calls = [str(i) for i in range(10)], 0\n"
        "    def forward(self, images):\n"
        "        self.calls += 1\n"
        "        if self.calls == 35:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return images.mean((1, 2, 3))[:, None] * torch.arange(10)\n"
        "def make(): return Net()\n"
    )
    with pytest.raises(Interrupted):
        record_tape(taught(Path(f"{code}:make")).trusted(), tmp_path / "tape", device="cpu")
    assert 0 < 44 - sum(gap.stop - gap.start for gap in Tape.open(tmp_path / "tape").gaps(range(1))) < 44


def test_what_is_there_is_not_asked_again(teacher: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "tape"
    shutil.copytree(whole, path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    assert record_tape(taught(teacher), path, device="cpu").views == 0
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    next(path.glob("epoch-00001/*")).unlink()
    assert record_tape(taught(teacher), path, device="cpu").views == 44 * 32
    assert decisions(path, 1) == decisions(whole, 1)


def test_answers_are_saved_in_parts_by_number_and_by_time(
    teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PART_VIEWS", 500), ("PART_BYTES", 500), ("PART_S", 0.0)):
        with monkeypatch.context() as patch:
            patch.setattr(writer, name, value)
            record_tape(taught(teacher), tmp_path / name, epochs=range(1), device="cpu")
        tape = Tape.open(tmp_path / name)
        assert len(list_parts(tape.path, 0, tape.layout)[0]) >= 3
        assert decisions(tape.path, 0) == decisions(whole, 0)


def test_a_full_disk_is_an_error_that_keeps_what_is_there(
    teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, parts = tmp_path / "tape", os.fsync, []

    def full(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        parts.append(name)
        if len([name for name in parts if "groups-" in name]) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DeitkitError, match=r"epoch-00001.* the disk is full") as caught:
            record_tape(taught(teacher), path, device="cpu")
    assert "repeat the command" in caught.value.remedy
    assert [gap.epoch for gap in Tape.open(path).gaps(range(2))] == [1]
    assert not list(path.rglob("*.tmp"))
    record_tape(taught(teacher), path, device="cpu")
    assert decisions(path, 1) == decisions(whole, 1)


def test_a_disk_that_will_be_too_small_is_said_before_anything_is_answered(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2815))
    with pytest.raises(DeitkitError, match="will need 2,816 bytes more, and 2,815 are free"):
        record_tape(taught(teacher), tmp_path / "tape", device="cpu")


def command(teacher: Path, root: Path) -> list[str]:
    """`deitkit tape record` with the tests' recipe, as a process."""
    script = root / "record.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom deitkit.tape.record import record_tape\n"
        "from tests.tape.test_record import taught\n"
        "if __name__ == '__main__':\n    record_tape(taught(Path(sys.argv[1])), sys.argv[2], device='cpu')\n"
    )
    return [sys.executable, str(script), str(teacher), str(root / "tape")]


@pytest.mark.slow
def test_a_killed_recording_goes_on_at_once(
    teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words, path = command(teacher, tmp_path), tmp_path / "tape"
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(path.glob("epoch-00000/*.bin")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert list(path.glob("recording-*"))  # it could not clean up
    assert Tape.open(path).recorders() == []
    subprocess.run(words, check=True, capture_output=True)
    assert decisions(path) == decisions(whole)


# What is refused


def test_going_on_with_other_settings_is_refused_naming_the_key(teacher: Path, whole: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in whole.rglob("*") if file.is_file()}
    with pytest.raises(DeitkitError, match=r"train\.seed: the tape has 0, this run 3"):
        record_tape(taught(teacher, train={"seed": 3}), whole, device="cpu")
    with pytest.raises(DeitkitError, match=r"augment\.erasing: the tape has 0\.25, this run 0\.5"):
        record_tape(taught(teacher, augment={"erasing": 0.5}), whole, device="cpu")
    with pytest.raises(DeitkitError, match="--labels: the tape has 'hard', this run 'soft'"):
        record_tape(taught(teacher), whole, labels="soft", device="cpu")
    with pytest.raises(DeitkitError, match=r"train\.precision"):
        record_tape(taught(teacher, train={"precision": "fp32"}), whole, device="cpu")
    with pytest.raises(DeitkitError, match="another teacher"):
        record_tape(taught(write_teacher(tmp_path / "other", seed=1)), whole, device="cpu")
    assert {file: file.read_bytes() for file in whole.rglob("*") if file.is_file()} == before


def test_other_versions_may_go_on_unless_strict(teacher: Path, whole: Path, tmp_path: Path) -> None:
    path, said = tmp_path / "tape", []
    shutil.copytree(whole, path)
    values = json.loads((path / "tape.json").read_text())
    values["here"]["version of pillow"] = "1.0"
    (path / "tape.json").write_text(json.dumps(values))
    with pytest.raises(DeitkitError, match="version of pillow"):
        record_tape(taught(teacher), path, device="cpu", strict=True)
    record_tape(taught(teacher), path, device="cpu", say=said.append)
    assert any("version of pillow" in text for text in said)


def test_epochs_that_another_process_records_are_left_to_it(teacher: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "tape"
    shutil.copytree(whole, path)
    (path / "recording-elsewhere-7.json").write_text('{"epochs": [1, 9]}')
    with pytest.raises(DeitkitError, match=r"epochs 1 to 8 of .* are being recorded"):
        record_tape(taught(teacher), path, device="cpu")
    record_tape(taught(teacher), path, epochs=range(1), device="cpu")


def test_a_foreign_folder_is_never_written_to(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DeitkitError, match="is there and no tape"):
        record_tape(taught(teacher), tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_recipe_without_a_teacher_has_nothing_to_record(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match=r"no \[teacher\]"):
        record_tape(tiny(), tmp_path / "tape", device="cpu")
    assert not (tmp_path / "tape").exists()
