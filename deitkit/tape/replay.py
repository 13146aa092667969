"""Reading a tape: answers by epoch and group, and what is missing. Records nothing and knows no student."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deitkit.data.open import Source
from deitkit.data.views.stream import StreamShape
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Recipe
from deitkit.tape.header import TapeHeader, differences_here, header_of, refuse_other_teacher, refuse_other_views
from deitkit.tape.layout import ERRORS, Columns, decode
from deitkit.tape.parts import (
    Gap,
    Recorder,
    TapePart,
    describe_gaps,
    find_validation,
    gaps_between,
    list_parts,
    name_epochs,
    read_content,
    recorded_epochs,
    recorders,
)
from deitkit.teachers.output import TeacherOutput

__all__ = ["Gap", "Tape", "TapePart", "open_tape", "validation_key"]

POLL_S = 0.5
PARTS_OPEN = 2  # a step's answers lie in one part, or in two neighbours


class Tape:
    """A tape on disk. `validation_key` says which validation images a run has, `hard` that it wants labels alone."""

    def __init__(self, path: Path, header: TapeHeader, *, validation_key: str = "", hard: bool = False) -> None:
        self.path, self.header, self.validation_key = path, header, validation_key
        self.layout = header.layout
        self._names = ("labels",) if hard else tuple(self.layout.columns)
        self._epochs: dict[int, list[TapePart]] = {}
        self._open: OrderedDict[Path, Columns] = OrderedDict()

    @classmethod
    def open(cls, path: str | Path) -> Tape:
        """The tape in this folder.

        Raises:
            DeitkitError: there is none, or its header is damaged.
        """
        return cls(Path(path), TapeHeader.read(Path(path)))

    def answers(self, epoch: int, groups: range, device: torch.device) -> TeacherOutput:
        """The teacher's answers to these mix groups of the epoch, in their order: [len(groups) * G].

        Where they are being recorded now it waits for them.

        Raises:
            DeitkitError: they are not recorded, and nobody is recording them; or the file is damaged.
        """
        size, pieces = self.layout.mix_group, []
        for part, held in self._holding(epoch, groups):
            rows = slice((held.start - part.start) * size, (held.stop - part.start) * size)
            columns = self._columns(part)
            pieces.append([columns[name][rows] for name in self._names])
        joined = dict(zip(self._names, map(np.concatenate, zip(*pieces, strict=True)), strict=True))
        return decode(joined, self.layout, device)

    def validation(self) -> npt.NDArray[np.int64] | None:
        """The teacher's decisions on the validation images [N], -1 for unreadable ones; None if not recorded."""
        path = find_validation(self.path, self.validation_key)
        return None if path is None else read_content(path).view("<i4").astype(np.int64)

    def gaps(self, epochs: Iterable[int], groups: int | None = None) -> list[Gap]:
        """What is not there of the first `groups` groups of these epochs; of all by default."""
        wanted = range(groups or self.layout.groups)
        return [
            gap for epoch in epochs for gap in gaps_between(list_parts(self.path, epoch, self.layout)[0], epoch, wanted)
        ]

    def cut(self, epochs: Iterable[int]) -> list[Path]:
        """Files of these epochs that are shorter or longer than their names say."""
        return [path for epoch in epochs for path in list_parts(self.path, epoch, self.layout)[1]]

    def recorders(self) -> list[Recorder]:
        """Who is recording now."""
        return recorders(self.path)

    def epochs(self) -> list[int]:
        """Epochs of which something is there."""
        return recorded_epochs(self.path)

    def errors(self, *, verify: bool = False) -> dict[str, float]:
        """Means over all recorded views of what half precision and top-k lost; empty for hard labels. `verify` compares
        every file with its checksum."""
        sums, views = np.zeros(len(ERRORS)), 0
        for epoch in self.epochs():
            for part in list_parts(self.path, epoch, self.layout)[0]:
                content = read_content(part.path) if verify else np.memmap(part.path, dtype=np.uint8, mode="r")
                sums += self.layout.errors(content)
                views += (part.stop - part.start) * self.layout.mix_group
        if self.layout.labels == "hard" or not views:
            return {}
        return dict(zip(ERRORS, (sums / views).tolist(), strict=True))

    def refuse_gaps(self, epochs: range, groups: int) -> list[str]:
        """Raise, naming every range, if something is missing that nobody is recording; else what there is to say."""
        gaps, busy = self.gaps(epochs, groups), self.recorders()
        if gaps and all(any(gap.epoch in recorder.epochs for recorder in busy) for gap in gaps):
            return [f"tape {self.path} is still being recorded: this run waits where it catches up"]
        if gaps:
            raise self._missing(gaps, epochs, groups)
        return []

    def _holding(self, epoch: int, groups: range) -> list[tuple[TapePart, range]]:
        """Parts with the groups to take from each; waits while a recorder may still write them."""
        while gaps_between(self._epochs.get(epoch, []), epoch, groups):
            busy = any(epoch in recorder.epochs for recorder in self.recorders())  # before looking: it may just end
            self._epochs = {epoch: list_parts(self.path, epoch, self.layout)[0]}
            gaps = gaps_between(self._epochs[epoch], epoch, groups)
            if gaps and not busy:
                raise self._missing(gaps, range(epoch, epoch + 1), self.layout.groups)
            if gaps:
                time.sleep(POLL_S)
        reached, holding = groups.start, []
        for part in self._epochs[epoch]:
            if part.start < groups.stop and part.stop > reached:  # parts may overlap
                holding.append((part, range(reached, min(part.stop, groups.stop))))
                reached = part.stop
        return holding

    def _columns(self, part: TapePart) -> Columns:
        if part.path not in self._open:
            self._open[part.path] = self.layout.unpack(read_content(part.path), part.stop - part.start)
            while len(self._open) > PARTS_OPEN:
                self._open.popitem(last=False)
        return self._open[part.path]

    def _missing(self, gaps: list[Gap], epochs: range, groups: int) -> DeitkitError:
        first, last = min(gap.epoch for gap in gaps), max(gap.epoch for gap in gaps)
        cut = [f"cut short: {path}" for path in self.cut(sorted({gap.epoch for gap in gaps}))[:3]]
        fewer = f"; or train for less: --epochs {first}" if first else ""
        return DeitkitError(
            f"tape {self.path} is too short: this run needs {name_epochs(epochs)}, {groups} groups each, and lacks",
            value=str(self.path),
            problems=[*describe_gaps(gaps, groups), *cut],
            remedy=f"repeat the command that recorded it with --epochs {first}:{last + 1}: it goes on where it stopped"
            + fewer,
        )


def open_tape(
    recipe: Recipe, train: Source, val: Source, shape: StreamShape, *, device: torch.device, strict: bool = False
) -> tuple[Tape, list[str]]:
    """The recipe's tape, held against everything that fixes this run's views and teacher; and what there is to say.

    Raises:
        DeitkitError: it is for other views, of another teacher or of hard labels only, or too short; named by key.
    """
    if recipe.teacher is None or recipe.teacher.tape is None:
        raise DeitkitError("the recipe has no teacher.tape", remedy="--tape DIR")
    path, hard = Path(recipe.teacher.tape), recipe.teacher.labels == "hard"
    tape = Tape(path, TapeHeader.read(path), validation_key=validation_key(recipe, val), hard=hard)
    now = header_of(recipe, train, shape, layout=tape.layout, device=device)
    refuse_other_teacher(tape.header, now, tape.path)
    refuse_other_views(tape.header, now, tape.path)
    if not hard and tape.layout.labels == "hard":
        raise DeitkitError(
            f"tape {tape.path} holds hard labels, and teacher.labels = soft",
            value=str(tape.path),
            remedy="--set teacher.labels=hard, or record one with --labels soft",
        )
    messages = [f"the teacher's answers come from tape {tape.path} ({tape.header.named}): it is not loaded"]
    messages += differences_here(tape.header, now, tape.path, strict=strict)
    needed = shape.steps_per_epoch * shape.groups_per_batch
    return tape, messages + tape.refuse_gaps(range(recipe.train.epochs), needed)


def validation_key(recipe: Recipe, val: Source) -> str:
    """Which validation images, and how an evaluation shows them to this tape's teacher."""
    shown = [val.fingerprint, recipe.data.crop_ratio, recipe.data.interpolation, list(recipe.model.size)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
