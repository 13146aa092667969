"""The stream's views by pieces: runs of mix groups that are made and answered at once. Asks no teacher.

A piece's views are the very ones that training sees, whatever its batch size, ranks and accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deitkit.data.views.loader import Batch, TrainLoader
from deitkit.data.views.stream import StreamShape, Unit
from deitkit.distributed import World
from deitkit.tape import Gap

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
