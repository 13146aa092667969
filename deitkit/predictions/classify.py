"""A model's classes for image files: `deitkit predict`, and `deitkit.predict` in Python. One batch at a time, so that
memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deitkit.data.formats.listing import named_images
from deitkit.data.source import Files
from deitkit.data.views.augment import Reading
from deitkit.distributed import pick_device
from deitkit.errors import DeitkitError
from deitkit.models.forms import decisive_head
from deitkit.models.load import LoadedModel, load_classifier
from deitkit.predictions.predict import evaluation_loader

BATCH = 64


@dataclass(frozen=True)
class Guess:
    """A class, and the probability from 0 to 1 that a head gives it."""

    name: str
    confidence: float


@dataclass(frozen=True)
class ClassifiedImage:
    """An image file, and each head's best guesses, the most probable first; none for one that cannot be read, whose
    `problem` says why."""

    path: Path
    heads: dict[str, tuple[Guess, ...]]
    problem: str = ""

    @property
    def decision(self) -> Guess | None:
        """The best guess of the head that decides: the fused one, or the only one."""
        return self.heads[decisive_head(self.heads)][0] if self.heads else None

    @property
    def heads_disagree(self) -> bool:
        """Whether class and distillation head decide differently."""
        return len({self.heads[head][0].name for head in ("class", "distillation") if head in self.heads}) > 1

    def as_dict(self) -> dict[str, Any]:
        """`{"image", "heads": {head: [{"class", "confidence"}, ...]}}`, or `{"image", "problem"}`: what JSON holds."""
        if self.problem:
            return {"image": str(self.path), "problem": self.problem}
        heads = {
            head: [{"class": guess.name, "confidence": guess.confidence} for guess in guesses]
            for head, guesses in self.heads.items()
        }
        return {"image": str(self.path), "heads": heads}


def classify(
    model: str | Path | LoadedModel,
    images: str | Path | Sequence[str | Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int = BATCH,
    workers: int = 0,
) -> list[ClassifiedImage]:
    """The `top` best classes of each head for every image file, and for all images in every folder, that is named.

        for image in deitkit.predict("runs/mine", ["cat.jpg", "photos"]):
            print(image.path, image.decision)

    Images are cropped and normalised as the model was evaluated (its folder says how). One that cannot be read has a
    `problem` instead of guesses. `classified` gives the same one by one.

    Raises:
        DeitkitError: there is no such model, or a file or folder that is named does not exist or holds no image.
    """
    paths = named_images([images] if isinstance(images, (str, Path)) else images)
    loaded = model if isinstance(model, LoadedModel) else load_classifier(str(model))
    return list(classified(loaded, paths, top=top, device=device, batch_size=batch_size, workers=workers))


def classified(
    model: LoadedModel,
    paths: Sequence[Path],
    *,
    top: int = 5,
    device: str = "auto",
    batch_size: int = BATCH,
    workers: int = 0,
) -> Iterator[ClassifiedImage]:
    """As `classify`, in the order of the paths, each as soon as its batch is done."""
    picked, info = pick_device(device), model.info
    model.student.eval().to(picked)
    source = _NamedFiles(
        dataset="", split="", class_names=(), labels=np.zeros(len(paths), dtype=np.int64), ids=list(map(str, paths)),
        root=Path(),
    )  # fmt: skip
    reading = Reading(leave_out_unreadable=True)
    loader = evaluation_loader(
        source, info, device=picked, batch_size=batch_size, workers=workers, indices=range(len(paths)), reading=reading
    )
    after = 0  # images before this batch: those that cannot be read are in none, but have their place in the order
    for chosen, images, _ in loader:
        until = min(after + batch_size, len(paths))
        answers = guesses(model, images, top=top) if len(images) else []
        found = dict(zip(chosen.tolist(), answers, strict=True))
        for index in range(after, until):
            yield ClassifiedImage(paths[index], found[index]) if index in found else _unread(source, index, reading)
        after = until


@torch.inference_mode()
def guesses(model: LoadedModel, images: torch.Tensor, *, top: int) -> list[dict[str, tuple[Guess, ...]]]:
    """images [B, 3, H, W], normalised, where the model lives -> for each image the best guesses of each head."""
    names = model.info.class_names
    rows: list[dict[str, tuple[Guess, ...]]] = [{} for _ in range(len(images))]
    for head, probabilities in model.student(images).probabilities(model.info.fusion).items():
        best = probabilities.topk(min(top, len(names)), dim=1)
        for row, values, indices in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
            row[head] = tuple(
                Guess(names[index], confidence) for confidence, index in zip(values, indices, strict=True)
            )
    return rows


class _NamedFiles(Files):
    """Files by their own paths, wherever they lie."""

    def path(self, index: int) -> Path:
        return Path(self.ids[index])


def _unread(source: _NamedFiles, index: int, reading: Reading) -> ClassifiedImage:
    """Why an image was left out: it is read once more, and this time the error is kept."""
    from deitkit.data.views.augment import decode

    path = source.path(index)
    try:
        decode(source.read(index), str(path), replace(reading, leave_out_unreadable=False))
    except DeitkitError as error:
        return ClassifiedImage(path, {}, problem=error.what)
    return ClassifiedImage(path, {}, problem=f"{path} could not be read a moment ago")
