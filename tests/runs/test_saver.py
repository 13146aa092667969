"""Checkpoints that are written while training goes on: of one step, one at a time, and never lost in silence."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.runs import checkpoint, saver
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.runs.saver import CheckpointSaver, Snapshot


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Writing waits for it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def live() -> dict[str, Tensor]:
    """A model's weights, one of them in another memory format, as training changes them in place."""
    return {"w": torch.ones(5), "conv": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)}


def snapshot(live: dict[str, Tensor], step: int, name: str | None = None) -> Snapshot:
    moments = {0: {"exp_avg": live["w"] * 1, "step": torch.tensor(float(step))}}
    state = {"optimizer": moments, "progress": {"step": step}, "sums": [{"values": {"loss": live["w"]}}]}
    return Snapshot(step, live, state, metrics_bytes=step, name=name)


def save_and_fail(
    root: Path, live: dict[str, Tensor], error: BaseException, *, written: Callable[[], object]
) -> None:  # fmt: skip
    with CheckpointSaver(root, keep=2, written=written) as failing:
        failing.save(snapshot(live, 1))
        raise error


def test_what_is_written_beside_training_is_of_the_step_and_equal_to_the_last_byte(
    tmp_path: Path, live: dict[str, Tensor], go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CheckpointSaver(tmp_path / "inline", keep=2, written=lambda: None) as inline:
        inline.save(snapshot(live, 1, name="best"))
    monkeypatch.setattr(saver, "LARGE", 0)
    with CheckpointSaver(tmp_path / "beside", keep=2, written=lambda: go.wait(60)) as beside:
        beside.save(snapshot(live, 1, name="best"))
        assert list_checkpoints(tmp_path / "beside") == []
        for tensor in live.values():
            tensor.zero_()  # training goes on
        go.set()
        beside.save(snapshot(live, 2))  # waits for the first
        assert (tmp_path / "beside" / "best" / "manifest.json").is_file()
    for name in ("step-000000001", "best"):
        folders = [tmp_path / way / name for way in ("inline", "beside")]
        for file in ("model.safetensors", "manifest.json", "state.pt"):
            assert folders[0].joinpath(file).read_bytes() == folders[1].joinpath(file).read_bytes(), file
    second = load_checkpoint(tmp_path / "beside" / "step-000000002")
    assert not second.model["conv"].any() and second.state["optimizer"][0]["step"] == 2


def test_a_disk_that_fills_beside_training_is_told_at_the_next_save_and_at_the_end(
    tmp_path: Path, live: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "LARGE", 0)
    with CheckpointSaver(tmp_path, keep=2, written=lambda: None) as first:
        first.save(snapshot(live, 1))

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with CheckpointSaver(tmp_path, keep=2, written=lambda: None) as again:
        again.save(snapshot(live, 2))
        with pytest.raises(DeitkitError, match="the disk is full"):
            again.save(snapshot(live, 3))
        again.wait()  # it was told once
    with (
        pytest.raises(DeitkitError, match="the disk is full"),
        CheckpointSaver(tmp_path, keep=2, written=lambda: None) as last,
    ):
        last.save(snapshot(live, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_second_interruption_does_not_wait_and_a_failed_run_does(
    tmp_path: Path, live: dict[str, Tensor], go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "LARGE", 0)
    with pytest.raises(KeyboardInterrupt):
        save_and_fail(tmp_path / "a", live, KeyboardInterrupt(), written=lambda: go.wait(60))
    assert list_checkpoints(tmp_path / "a") == []
    go.set()
    with pytest.raises(ZeroDivisionError):
        save_and_fail(tmp_path / "b", live, ZeroDivisionError(), written=lambda: None)
    assert [path.name for path in list_checkpoints(tmp_path / "b")] == ["step-000000001"]


def test_where_memory_is_short_nothing_is_copied(
    tmp_path: Path, live: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "LARGE", 0)
    taken = replace(snapshot(live, 1), state={})
    monkeypatch.setattr(saver, "free_memory", lambda: taken.nbytes)
    alone = CheckpointSaver(tmp_path, keep=2, written=lambda: None)
    alone.save(taken)
    assert taken.nbytes == 4 * (5 + 96) and [path.name for path in list_checkpoints(tmp_path)] == ["step-000000001"]
