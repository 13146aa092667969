"""Kinds of disagreement, which images show them best, and these as small pictures. Images that have moved are counted,
not an error.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deitkit.analysis.errors.pictures import PictureReader
from deitkit.errors import DeitkitError
from deitkit.measures.agreement import PairKind, pair_kinds
from deitkit.predictions.table import Predictions, decisive
from deitkit.recipe.schema import Recipe

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExampleKind:
    """Images [n] of one kind as rows of the predictions, those of the greatest confidence first."""

    key: str
    title: str
    definition: str
    rows: Rows


def find_kinds(student: Predictions, teacher: Predictions | None) -> list[ExampleKind]:
    """Every kind that these predictions, which are aligned, can show; a single head alone has only its mistakes."""
    head, labels = decisive(student), student.labels
    own, sure = student.top1(head), student.head(head).confidence[:, 0]
    name = "the student" if teacher is not None or "distillation" in student.heads else "the model"
    everyone = [(student.top1(each), student.head(each).confidence[:, 0]) for each in student.heads]
    found = []
    if teacher is not None:
        said = teacher.top1(decisive(teacher))
        teacher_sure = teacher.head(decisive(teacher)).confidence[:, 0]
        everyone.append((said, teacher_sure))
        pairs = pair_kinds(own, said, labels)
        found = [
            _kind("teacher-right", "Teacher right, student wrong", f"the {head} decision is wrong, the teacher's right",
                  pairs == PairKind.ONLY_B, sure, "the student's confidence"),
            _kind("student-right", "Student fixes teacher", f"the {head} decision is right, the teacher's wrong",
                  pairs == PairKind.ONLY_A, sure, "the student's confidence"),
        ]  # fmt: skip
    if "distillation" in student.heads:
        both = [student.head(each) for each in ("class", "distillation")]
        found.append(
            _kind("heads", "Heads disagree", "the class head and the distillation head decide differently",
                  both[0].top[:, 0] != both[1].top[:, 0], both[0].confidence[:, 0] + both[1].confidence[:, 0],
                  "the sum of both confidences")
        )  # fmt: skip
    if len(everyone) > 1:
        alike = np.logical_and.reduce([said == everyone[0][0] for said, _ in everyone[1:]])
        least = np.minimum.reduce([confidence for _, confidence in everyone])
        who = "every head and the teacher say" if teacher is not None else "every head says"
        found.append(
            _kind("label", "All agree, label differs", f"{who} the same class, the label another",
                  alike & (everyone[0][0] != labels), least, "the least confidence of all")
        )  # fmt: skip
    else:
        found.append(
            _kind("wrong", "Most confident mistakes", f"{name} is wrong", own != labels, sure, "confidence")
        )  # fmt: skip
    return found


def _kind(
    key: str, title: str, definition: str, chosen: NDArray[np.bool_], by: NDArray[np.float32], order: str
) -> ExampleKind:
    rows = np.flatnonzero(chosen)
    return ExampleKind(key, title, f"{definition}; shown by {order}", rows[np.argsort(-by[rows], kind="stable")])


SIDE = 112  # pixels of the longer side
SMALL = 56  # pixels up to which an image is shown enlarged with sharp edges
MOST_READ = 1 << 30  # bytes of an image file that predictions name
MOST_BYTES = 8_000  # of one picture
QUALITIES = (92, 85, 75, 60, 45, 30)


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, and its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def is_small(self) -> bool:
        return max(self.width, self.height) <= SMALL


@dataclass(eq=False)
class Album:
    """The images behind predictions, found by the path that the predictions noted, or by id in the recipe's data."""

    table: Predictions
    recipe: Recipe | None
    lost: dict[str, str] = field(default_factory=dict)  # image id -> its file, where that is known
    seen: dict[int, Thumbnail | None] = field(default_factory=dict)

    def thumbnail(self, row: int) -> Thumbnail | None:
        """The picture of an image, read once, or None, noted in `lost`, where it is not there or cannot be read."""
        if row not in self.seen:
            self.seen[row] = self._thumbnail(row)
        return self.seen[row]

    def _thumbnail(self, row: int) -> Thumbnail | None:
        try:
            return shrink(self._pictures.image(row))
        except (DeitkitError, OSError):
            image_id = self.table.ids[row]
            self.lost[image_id] = str(Path(self.table.paths[row])) if self.table.paths else image_id
            return None

    @cached_property
    def _pictures(self) -> PictureReader:
        return PictureReader(self.table, self.recipe.data if self.recipe else None)


def shrink(image: Image.Image) -> Thumbnail:
    """A JPEG of at most 8,000 bytes and 112 pixels; smaller images keep their pixels."""
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True, subsampling=0 if quality > 80 else 2)
        if file.tell() <= MOST_BYTES:
            break
    uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Thumbnail(uri, image.width, image.height)
