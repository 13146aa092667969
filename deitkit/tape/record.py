"""A recording: every reason not to begin it, then what the tape lacks: views, the teacher's answers, files.

What a student of any batch size could see of an epoch is recorded: its first floor(N / G) mix groups, in whole chunks
of the teacher. Views, chunks and precision are those of live training, so the answers are the live teacher's own.
Ranks share each epoch, machines share the epochs, and a repeated command goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

from deitkit.data.check.left_out import scan_data, settle
from deitkit.data.open import Source, counted, open_source
from deitkit.data.views.stream import StreamShape, plan_stream
from deitkit.distributed import World, autocast, be_deterministic, join_world, pick_device
from deitkit.errors import DeitkitError, Interrupted
from deitkit.files import recover_in
from deitkit.recipe.schema import Recipe
from deitkit.runs.signals import ENDING, heard_by
from deitkit.tape import Gap, Tape, TapeHeader, TapeLayout, header_of
from deitkit.tape.header import NAME, differences_here, differing, refuse_other_teacher, refuse_other_views
from deitkit.tape.layout import encode
from deitkit.tape.parts import find_validation, name_epochs, recording, write_validation
from deitkit.tape.replay import validation_key
from deitkit.tape.writer import PartWriter, Piece, PieceLoader, cut_pieces
from deitkit.teachers import Teacher, check_chunk, open_teacher
from deitkit.teachers.ask import ask_teacher

Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass(frozen=True)
class Recorded:
    """What one command recorded: views of this process alone, bytes a view, and how long it took."""

    path: Path
    epochs: range
    views: int
    bytes_per_view: int
    seconds: float


def record_tape(
    recipe: Recipe,
    path: str | Path,
    *,
    epochs: range | None = None,
    labels: Literal["hard", "soft"] | None = None,
    top_k: int | None = None,
    workers: int = 0,
    device: str = "auto",
    strict: bool = False,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Recorded:
    """Record the recipe's teacher on these epochs (by default the recipe's) into the folder `path`, or go on there.

    Raises:
        DeitkitError: the tape in `path` is another one, somebody records these epochs already, or the disk is full.
        Interrupted: SIGINT or SIGTERM; what was answered is saved.
    """
    began, path = time.perf_counter(), Path(path)
    epochs = epochs if epochs is not None else range(recipe.train.epochs)
    picked = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    with join_world(picked.type) as world:
        say = say if world.is_main else lambda text: None
        session = open_session(
            recipe, path, world, picked, epochs, labels=labels, top_k=top_k, workers=workers, strict=strict, say=say
        )
        gaps = world.gather(session.tape.gaps(epochs))[0]
        if world.is_main:
            refuse_too_little_room(session.tape, gaps)
        with recording(path, epochs) as sign, _stopping():
            _record_validation(session, say)
            views = _record_gaps(session, gaps, sign.give, progress, say)
        world.barrier()
    return Recorded(path, epochs, views, session.tape.layout.bytes_per_view, time.perf_counter() - began)


@torch.inference_mode()
def _record_gaps(
    session: Session, gaps: list[Gap], alive: Callable[[], None], progress: Progress, say: Callable[[str], None]
) -> int:
    """Answer every view of this rank's part of the gaps; how many there were."""
    recipe, teacher, layout, shape = session.recipe, session.teacher, session.tape.layout, session.shape

    def pieces() -> Iterator[Piece]:
        return cut_pieces(gaps, shape, chunk=teacher.chunk, world=session.world)

    loader = PieceLoader(session.train, recipe, shape, workers=session.workers, device=session.device)
    writer, done, replaced = PartWriter(session.tape, teacher), 0, set[str]()
    total = sum(len(piece.groups) for piece in pieces()) * shape.mix_group
    try:
        for piece, batch in loader.pieces(pieces):
            with autocast(recipe, session.device):
                logits = teacher(batch.images, group=batch.group)
            writer.add(piece, *encode(logits, layout, tau=session.tau))
            done += len(batch.labels)
            replaced.update(batch.replaced)
            alive()
            progress("views", done, total)
        writer.flush()
    except Signal:
        writer.flush()
        raise
    if replaced:
        say("others stand in for " + counted("unreadable images", sorted(replaced)))
    return done


def _record_validation(session: Session, say: Callable[[str], None]) -> None:
    """The teacher's decisions on the validation images, so that a run can be watched without it."""
    recipe, world, tape = session.recipe, session.world, session.tape
    key = validation_key(recipe, session.val)
    if world.gather(find_validation(tape.path, key))[0] is not None:
        return
    say(f"first the {len(session.val):,} validation images, so that runs can be watched")
    decisions = ask_teacher(
        session.teacher, session.val, recipe, mix_group=session.shape.mix_group, device=session.device, world=world,
        workers=session.workers,
    )  # fmt: skip
    if world.is_main:
        write_validation(tape.path, key, decisions)


class Stopped(Interrupted):
    """A signal arrived, and what was answered is saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal, 0)
        self.args = (f"interrupted by signal {signal}: what was answered is on the tape",)


class Signal(BaseException):
    """Raised by the signal itself: no `except Exception` on its way, as around a teacher's own code, may take it."""


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """The first SIGINT or SIGTERM ends whatever is being done; saving what was answered is short, and not disturbed."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise Signal(number)

    with heard_by(stop):
        try:
            yield
        except Signal as received:
            raise Stopped(received.args[0]) from None


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
