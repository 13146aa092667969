"""The stream's views by pieces, runs of mix groups that are answered at once; and their answers to files.

A piece's views are the very ones that training sees, whatever its batch size, ranks and accumulation. Answers are
gathered until they are many or some time has passed, then written as one whole part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from deitkit.data.views.loader import Batch, TrainLoader
from deitkit.data.views.stream import StreamShape, Unit
from deitkit.distributed import World
from deitkit.tape import Gap, Tape
from deitkit.tape.layout import Columns, Errors
from deitkit.tape.parts import write_part
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


VIEWS_AT_ONCE = 256  # about; whole chunks and, where it can be, whole image sets


class Piece(NamedTuple):
    """Groups of one epoch that are made at once."""

    epoch: int
    groups: range


class PieceLoader(TrainLoader):
    """The stream's batches by pieces: the very views that training sees, whatever its batch size."""

    def pieces(self, pieces: Callable[[], Iterator[Piece]]) -> Iterator[tuple[Piece, Batch]]:
        """Each piece with its views, in order; `pieces` is called twice. Workers live until the last."""
        views = self._pool.map(unit for piece in pieces() for unit in units_of(self.shape, piece))
        try:
            for piece in pieces():
                yield piece, self._batch(units_of(self.shape, piece), views)
        finally:
            views.close()


def units_of(shape: StreamShape, piece: Piece) -> list[Unit]:
    """The piece's groups by the image set that they show."""
    sets: dict[int, list[int]] = {}
    for group in piece.groups:
        sets.setdefault(group // shape.repeats, []).append(group)
    return [Unit(piece.epoch, image_set, tuple(groups)) for image_set, groups in sets.items()]


def cut_pieces(gaps: list[Gap], shape: StreamShape, *, chunk: int, world: World) -> Iterator[Piece]:
    """This rank's part of what is missing: ranks share each epoch, so that its end comes early for a waiting student.

    Gaps begin and end at chunks; a piece is cut between image sets, too, so that an image is decoded once.
    """
    whole = math.lcm(chunk, shape.repeats)
    stride = whole * max(1, VIEWS_AT_ONCE // (whole * shape.mix_group))
    for gap in gaps:
        first, last = gap.start // stride, -(-gap.stop // stride)
        share = range(first, last)
        own = share[len(share) * world.rank // world.ranks : len(share) * (world.rank + 1) // world.ranks]
        for index in own:
            yield Piece(gap.epoch, range(max(gap.start, index * stride), min(gap.stop, (index + 1) * stride)))
