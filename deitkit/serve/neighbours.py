"""The training images that are nearest to an image, by what the model's heads read of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.data.open import Source, open_source
from deitkit.data.views.augment import Reading, decode
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel
from deitkit.models.reference import Reference
from deitkit.predictions.embeddings import Embeddings, kept_embeddings, token_embeddings
from deitkit.predictions.find import data_settings
from deitkit.report.examples import shrink
from deitkit.runs.folder import Run

NEAREST = 6


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training images by their embeddings: `units` [N, D], each of length 1, all tokens side by side."""

    source: Source
    reading: Reading
    rows: list[int]
    units: NDArray[np.float32]
    tokens: tuple[str, ...]

    @classmethod
    def of(
        cls, reference: str, model: LoadedModel, *, make: bool, progress: Callable[[int, int], None]
    ) -> Neighbours | None:
        """Of the training images of the run that the model was read from; None where their embeddings are not kept and
        none are to be made.

        Raises:
            DeitkitError: they are to be made, and the model is of no run.
        """
        home = Reference.parse(reference).home
        if not Run.is_run(Path(home)):
            if make:
                what = f"{home} is no run, so its training images are not known"
                raise DeitkitError(what, value=home, remedy="leave --neighbours out, or serve a run")
            return None
        settings = data_settings(home, dataset="", data="")
        found = (
            token_embeddings(reference, settings, "train", progress=progress, model=model)
            if make
            else kept_embeddings(reference, settings, "train", model=model)
        )
        if found is None:
            return None
        source = open_source(settings, "train")
        places = {image_id: row for row, image_id in enumerate(source.ids)}
        rows = [places[image_id] for image_id in found.ids]
        return cls(source, Reading.of(settings), rows, _units(found), tuple(found.tokens))

    def nearest(self, vectors: Mapping[str, NDArray[np.float32]]) -> list[dict[str, Any]]:
        """vectors by token, each [D] -> the nearest first: class, cosine, image id, and a small picture where it can
        still be read."""
        unit = _unit(np.concatenate([_unit(vectors[token]) for token in self.tokens]))
        cosines = self.units @ unit
        best = np.argsort(-cosines, kind="stable")[:NEAREST]
        return [self._shown(self.rows[place], float(cosines[place])) for place in best]

    def _shown(self, row: int, cosine: float) -> dict[str, Any]:
        name = self.source.ids[row]
        shown = {"image": name, "class": self.source.class_names[int(self.source.labels[row])], "cosine": cosine}
        try:
            return {**shown, "uri": shrink(decode(self.source.read(row), name, self.reading)).uri}
        except (DeitkitError, OSError):  # moved or damaged since: its name and class are still true
            return shown


def _units(found: Embeddings) -> NDArray[np.float32]:
    return _unit(np.concatenate([_unit(np.asarray(array)) for array in found.tokens.values()], axis=1))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[..., D], each of length 1."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return units
