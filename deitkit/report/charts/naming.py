"""Where the names of points stand in a plot, so that they cover as little as possible. Draws nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from deitkit.report.charts.axes import LETTER, LONGEST, Frame, words

Box = tuple[float, float, float, float]  # left, top, right, bottom, in units
HEIGHT = 12.0
# To the right and down of the point, and which end of the name stands there.
BESIDE = ((7, 4, "start"), (-7, 4, "end"), (0, -7, "middle"), (0, 15, "middle"), (7, -7, "start"), (-7, -7, "end"),
          (7, 15, "start"), (-7, 15, "end"), (0, -19, "middle"), (0, 27, "middle"))  # fmt: skip


def place_names(points: Sequence[tuple[float, float, str]], frame: Frame) -> list[str]:
    """Each name at the place beside its point that covers least of the points and names before it, inside the frame."""
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in points]
    parts = []
    for x, y, name in points:
        text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        boxes = [_box(x + right, y + down, len(text) * LETTER, end) for right, down, end in BESIDE]
        costs = [sum(_shared(box, other) for other in taken) + 3 * _outside(box, frame) for box in boxes]
        best = costs.index(min(costs))
        right, down, end = BESIDE[best]
        taken.append(boxes[best])
        parts.append(words(x + right, y + down, text, anchor=end))
    return parts


def _box(x: float, y: float, width: float, end: str) -> Box:
    left = {"start": x, "middle": x - width / 2, "end": x - width}[end]
    return left, y - HEIGHT + 2, left + width, y + 2


def _shared(a: Box, b: Box) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return across * down if across > 0 and down > 0 else 0.0


def _outside(box: Box, frame: Frame) -> float:
    """What of the box is beyond the axes."""
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return whole - _shared(box, (frame.left, frame.top - 8, frame.width, frame.bottom))
