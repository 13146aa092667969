"""Answers to files: gathered until they are many or some time has passed, then written as one whole part."""

from __future__ import annotations

import time

import numpy as np

from deitkit.tape import Tape
from deitkit.tape.layout import Columns, Errors
from deitkit.tape.parts import write_part
from deitkit.tape.pieces import Piece
from deitkit.teachers import Teacher

PART_VIEWS = 2**16
PART_BYTES = 2**26
PART_S = 60.0  # a kill loses this much work at most


class PartWriter:
    """Gathers answers, and writes them as whole parts: when there are many, or for some time, or a gap comes."""

    def __init__(self, tape: Tape, teacher: Teacher) -> None:
        self.tape, self.teacher = tape, teacher
        self.kept: list[tuple[Piece, Columns, Errors]] = []
        self.began = time.monotonic()

    def add(self, piece: Piece, columns: Columns, errors: Errors) -> None:
        if self.kept and (self.kept[-1][0].epoch, self.kept[-1][0].groups.stop) != (piece.epoch, piece.groups.start):
            self.flush()
        self.kept.append((piece, columns, errors))
        views = (piece.groups.stop - self.kept[0][0].groups.start) * self.tape.layout.mix_group
        full = views >= PART_VIEWS or views * self.tape.layout.bytes_per_view >= PART_BYTES
        if full or time.monotonic() - self.began > PART_S:
            self.flush()

    def flush(self) -> None:
        """Write what is there. An interruption in between loses nothing: the same part is written again.

        Raises:
            DeitkitError: the teacher answered what is not finite.
        """
        if not self.kept:
            return
        self.teacher.check_finite()
        pieces, columns, errors = zip(*self.kept, strict=True)
        layout = self.tape.layout
        content = layout.pack(
            {name: np.concatenate([part[name] for part in columns]) for name in layout.columns}, np.sum(errors, axis=0)
        )
        groups = range(pieces[0].groups.start, pieces[-1].groups.stop)
        write_part(self.tape.path, pieces[0].epoch, groups, content)
        self.kept, self.began = [], time.monotonic()
