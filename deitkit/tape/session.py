"""Opening a recording: data, teacher and tape, and every reason not to begin. Records nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from deitkit.data.check.left_out import scan_data, settle
from deitkit.data.open import Source, open_source
from deitkit.data.views.stream import StreamShape, plan_stream
from deitkit.distributed import World, be_deterministic
from deitkit.errors import DeitkitError
from deitkit.files import recover_in
from deitkit.recipe.schema import Recipe
from deitkit.tape import Gap, Tape, TapeHeader, TapeLayout, header_of
from deitkit.tape.header import NAME, differences_here, differing, refuse_other_teacher, refuse_other_views
from deitkit.tape.parts import name_epochs
from deitkit.teachers import Teacher, check_chunk, open_teacher


@dataclass(frozen=True)
class Session:
    """Everything that a recording holds."""

    recipe: Recipe
    world: World
    device: torch.device
    train: Source
    val: Source
    shape: StreamShape
    teacher: Teacher
    tape: Tape
    workers: int

    @property
    def tau(self) -> float:
        return self.recipe.teacher.tau if self.recipe.teacher else 1.0


def open_session(
    recipe: Recipe, path: Path, world: World, device: torch.device, epochs: range, *,
    labels: Literal["hard", "soft"] | None, top_k: int | None, workers: int, strict: bool, say: Callable[[str], None],
) -> Session:  # fmt: skip
    """Data, teacher and tape; the tape in `path` must be this very one."""
    spec = recipe.teacher
    if spec is None:
        raise DeitkitError("the recipe has no [teacher]", remedy="--teacher RUN")
    be_deterministic(recipe)
    left_out = settle(recipe.data, scan_data(recipe.data, workers=workers, world=world))
    train = left_out.without(open_source(recipe.data, "train"))
    val = open_source(recipe.data, recipe.data.validate_on)
    shape = plan_stream(len(train), recipe.stream, mixing=recipe.is_mixing)
    check_chunk(shape, spec)
    groups = shape.size // shape.mix_group // spec.chunk * spec.chunk
    layout = TapeLayout(len(train.class_names), shape.mix_group, groups, labels or spec.labels, top_k)
    teacher = open_teacher(recipe, train.class_names).to(device)
    header = header_of(recipe, train, shape, layout=layout, device=device, notes=list(teacher.facts.notes))
    header = replace(header, teacher={**header.teacher, "teacher.fingerprint": teacher.facts.fingerprint})
    if world.is_main:
        _open_folder(path, header, epochs)
    world.barrier()
    tape = Tape.open(path)
    refuse_other_views(tape.header, header, path)
    refuse_other_teacher(tape.header, header, path)
    _refuse_other_layout(tape.header, header, path)
    for message in differences_here(tape.header, header, path, strict=strict):
        say(message)
    for message in left_out.messages:
        say(message)
    for note in teacher.facts.notes:
        say(f"teacher {teacher.facts.reference}: {note}")
    return Session(recipe, world, device, train, val, shape, teacher, tape, workers)


def _open_folder(path: Path, header: TapeHeader, epochs: range) -> None:
    """Begin a tape where there is none; refuse foreign folders, and epochs that somebody is recording."""
    if (path / NAME).is_file():
        for busy in Tape.open(path).recorders():
            if range(max(busy.epochs.start, epochs.start), min(busy.epochs.stop, epochs.stop)):
                raise DeitkitError(
                    f"{name_epochs(busy.epochs)} of {path} are being recorded by another process",
                    value=str(busy.path),
                    remedy=f"--epochs for others; or stop it; if it is dead, delete {busy.path}",
                )
        return
    if path.is_dir():
        recover_in(path, (NAME,), shared=True)  # of a process that was killed while it began
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise DeitkitError(f"{path} is there and no tape", value=str(path), remedy="choose another --output")
    header.write(path)


def _refuse_other_layout(tape: TapeHeader, now: TapeHeader, path: Path) -> None:
    found = differing(
        {"--labels": tape.layout.labels, "--top-k": tape.layout.top_k},
        {"--labels": now.layout.labels, "--top-k": now.layout.top_k},
    )
    if found:
        raise DeitkitError(
            f"tape {path} keeps other answers", value=str(path), problems=found,
            remedy="repeat the command as it was, or choose another --output",
        )  # fmt: skip


def refuse_too_little_room(tape: Tape, gaps: list[Gap]) -> None:
    """Raise where what is missing would not fit on the disk: before the work, not in the middle of it.

    Raises:
        DeitkitError: the tape will be larger than what is free.
    """
    needed = sum(tape.layout.part_bytes(gap.stop - gap.start) for gap in gaps)
    free = shutil.disk_usage(tape.path).free
    if needed > free:
        raise DeitkitError(
            f"{tape.path} will need {needed:,} bytes more, and {free:,} are free",
            value=needed,
            remedy=f"make room, or record fewer --epochs; hard labels take 1, 2 or 4 bytes a view, these "
            f"answers {tape.layout.bytes_per_view}",
        )
