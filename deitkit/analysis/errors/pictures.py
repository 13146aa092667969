"""Images behind predictions as small pictures for a sheet. Images that have moved are noted, not an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL.Image import Image

from deitkit.data.open import Source, open_source
from deitkit.data.views.augment import Pixels, Reading, decode
from deitkit.errors import DeitkitError
from deitkit.files import read_regular
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Data

MOST_READ = 1 << 30  # bytes of an image file that predictions name
SIDE = 80  # pixels of the longer side: a sheet of 24 photographs stays small enough to be part of an HTML page


@dataclass(eq=False)
class PictureReader:
    """Row of predictions -> pixels [H, W, 3], by the file that the predictions noted, or by id in the data.

    `data` is where they are and how they are read; `lost` collects what is not there any more.
    """

    predictions: Predictions
    data: Data | None = None
    lost: list[str] = field(default_factory=list)

    def image(self, row: int) -> Image:
        """The image behind a row, whole.

        Raises:
            DeitkitError, OSError: it is gone or cannot be read.
        """
        return decode(self._read(row), self.predictions.ids[row], self._reading)

    def __call__(self, row: int) -> Pixels | None:
        """The picture, or None where the image is gone or cannot be read."""
        try:
            image = self.image(row)
        except (DeitkitError, OSError) as error:
            reason = error.what if isinstance(error, DeitkitError) else str(error)
            self.lost.append(reason)
            return None
        image.thumbnail((SIDE, SIDE))
        return np.asarray(image)

    def _read(self, row: int) -> bytes:
        if self.predictions.paths is not None:
            return read_regular(Path(self.predictions.paths[row]), limit=MOST_READ)
        if isinstance(self._source, DeitkitError):
            raise self._source
        return self._source.read(self._index[self.predictions.ids[row]])

    @property
    def _reading(self) -> Reading:
        return Reading() if self.data is None else Reading.of(self.data)

    @cached_property
    def _source(self) -> Source | DeitkitError:
        """The split of the predictions, or why it is not there: looked for once, not for every image."""
        if self.data is None:
            return DeitkitError("the predictions name no files, and no run says where the images are")
        try:
            source = open_source(self.data, self.predictions.split)
        except DeitkitError as error:
            return error
        if source.fingerprint != self.predictions.fingerprint:
            return DeitkitError("the images that are there are others than those of the predictions")
        return source

    @cached_property
    def _index(self) -> dict[str, int]:
        ids = () if isinstance(self._source, DeitkitError) else self._source.ids
        return {image_id: index for index, image_id in enumerate(ids)}
