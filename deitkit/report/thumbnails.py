"""Images of predictions as small pictures inside a page. Images that have moved are counted, not an error."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.analysis.errors.pictures import PictureReader
from deitkit.errors import DeitkitError
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Recipe

if TYPE_CHECKING:
    from PIL import Image

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
