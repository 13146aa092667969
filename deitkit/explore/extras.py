"""What a dataset has on request: maps of the images, scores and attention. They need the model, or fiftyone's brain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deitkit.data.views.augment import Reading
from deitkit.errors import DeitkitError
from deitkit.explore.appearance import additions_arranged
from deitkit.explore.brain import add_embeddings, add_scores
from deitkit.explore.heatmaps import add_heatmaps
from deitkit.explore.record import KEY, Record
from deitkit.explore.views import most_disputed
from deitkit.predictions.embeddings import Embeddings, token_embeddings
from deitkit.recipe.schema import Data

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wish:
    """What is asked for; attention of so many images, of a saved view or else of the most disputed."""

    embeddings: bool = False
    scores: bool = False
    heatmaps: int = 0
    view: str = ""

    @property
    def needs_model(self) -> bool:
        """Whether the model itself is looked into."""
        return self.embeddings or self.heatmaps > 0


@dataclass(frozen=True)
class ModelExtras:
    """The model whose answers are looked at: what loads it, its own folder, and the images that it answered."""

    reference: str
    folder: Path
    settings: Data
    split: str
    data: str = ""
    device: str = "auto"


def add_extras(dataset: Any, wish: Wish, model: ModelExtras | None, *, say: Say, progress: Progress) -> None:
    """Make what is asked for, and give it its place in the App.

    Raises:
        DeitkitError: there are answers alone where a model is needed.
    """
    if wish.needs_model and model is None:
        raise DeitkitError(
            "there are answers and no model to look into",
            remedy="name the run itself, or leave --embeddings and --heatmaps out",
        )
    with additions_arranged(dataset) as record:
        tokens = None
        if wish.embeddings and model is not None:
            tokens = _embeddings(dataset, record, model, progress)
            say(f"for the Embeddings panel: {', '.join(add_embeddings(dataset, tokens))}")
        if wish.scores:
            say(f"scores: {', '.join(add_scores(dataset, tokens, field=record.first.decisive, say=say))}")
        if wish.heatmaps and model is not None:
            say(_attention(dataset, record, model, wish))


def _embeddings(dataset: Any, record: Record, model: ModelExtras, progress: Progress) -> Embeddings:
    tokens = token_embeddings(
        model.reference, model.settings, model.split, data=model.data, device=model.device,
        progress=lambda done, total: progress("embedding the images", done, total),
    )  # fmt: skip
    return replace(tokens, classifier=record.subject)


def _attention(dataset: Any, record: Record, model: ModelExtras, wish: Wish) -> str:
    """Draw it; on how many images, and in which fields."""
    chosen = dataset.load_saved_view(wish.view) if wish.view else most_disputed(dataset, record, count=wish.heatmaps)
    file_of = dict(zip(*chosen.limit(wish.heatmaps).values([KEY, "filepath"]), strict=True))
    fields = add_heatmaps(
        dataset, model.reference, image_ids=list(file_of), folder=model.folder / "predictions" / "attention",
        read=lambda image_id: Path(file_of[image_id]).read_bytes(), device=model.device, name=record.subject,
        reading=Reading.of(model.settings),
    )  # fmt: skip
    return f"attention on {len(file_of):,} images: {', '.join(fields)}"
