"""One model that answers about image files in memory, for several threads at once. Knows nothing of HTTP."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deitkit.data.views.augment import Pixels, Reading
from deitkit.data.views.loader import normalised, per_channel
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel
from deitkit.predictions.classify import ClassifiedImage, guesses
from deitkit.predictions.predict import view_of
from deitkit.serve.neighbours import Neighbours

BATCH = 32  # images at once
PICTURE = 224  # pixels of a picture's shorter side, at least: small images are shown enlarged


@dataclass(eq=False)
class Answerer:
    """A loaded model, on its device. `neighbours` are the training images that it knows by their embeddings."""

    model: LoadedModel
    device: torch.device
    max_pixels: int
    neighbours: Neighbours | None = None
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.model.student.eval().to(self.device)

    def classify(self, files: Sequence[tuple[str, bytes]], *, top: int) -> list[ClassifiedImage]:
        """(name, content) of image files -> the `top` best classes of each head, in their order; one that cannot be
        read has a `problem`."""
        answers = []
        for start in range(0, len(files), BATCH):
            views = [self._view_or_problem(name, content) for name, content in files[start : start + BATCH]]
            found = iter(self._guesses([view for view in views if not isinstance(view, str)], top=top))
            for (name, _), view in zip(files[start : start + BATCH], views, strict=True):
                heads = {} if isinstance(view, str) else next(found)
                answers.append(ClassifiedImage(Path(name), heads, problem=view if isinstance(view, str) else ""))
        return answers

    def explain(self, name: str, content: bytes, *, top: int) -> dict[str, Any]:
        """The answer about one image with pictures as data URIs: the view that the model sees, the attention of its
        tokens where it has any, and the training images nearest to it.

        Raises:
            DeitkitError: the image cannot be read.
        """
        view = self._view(name, content)
        answer = ClassifiedImage(Path(name), self._guesses([view], top=top)[0])
        pictures = [("what the model sees", np.ascontiguousarray(view.transpose(1, 2, 0))), *self._attention(view)]
        return {
            **answer.as_dict(),
            "heads_disagree": answer.heads_disagree,
            "pictures": [{"title": title, "uri": _uri(pixels)} for title, pixels in pictures],
            "neighbours": [] if self.neighbours is None else self._nearest(view),
        }

    def _view(self, name: str, content: bytes) -> Pixels:
        """[3, H, W] as the model's own protocol orients and cuts it."""
        return view_of(self.model.info, content, name, Reading(max_pixels=self.max_pixels))

    def _view_or_problem(self, name: str, content: bytes) -> Pixels | str:
        try:
            return self._view(name, content)
        except DeitkitError as error:
            return error.what

    def _batch(self, views: Sequence[Pixels]) -> torch.Tensor:
        info, images = self.model.info, torch.from_numpy(np.stack(views)).to(self.device)
        return normalised(images, per_channel(info.mean, self.device), per_channel(info.std, self.device))

    def _guesses(self, views: Sequence[Pixels], *, top: int) -> list[dict[str, Any]]:
        if not views:
            return []
        with self._one_at_a_time:
            return guesses(self.model, self._batch(views), top=top)

    def _attention(self, view: Pixels) -> Iterator[tuple[str, Pixels]]:
        """What each token reads of the image, through all layers (rollout); nothing where there are no tokens."""
        from timm.models.vision_transformer import VisionTransformer

        from deitkit.analysis.attention.measure import look_at
        from deitkit.analysis.attention.report import overlay

        if not isinstance(self.model.student.network, VisionTransformer):
            return
        with self._one_at_a_time:
            look = look_at(self.model, view, device=self.device, name="")
        for token, weights in zip(look.names, look.rolled, strict=True):
            yield f"what the {token} token reads", overlay(look.picture, weights)

    def _nearest(self, view: Pixels) -> list[dict[str, Any]]:
        from deitkit.predictions.embeddings import embed

        with self._one_at_a_time, torch.inference_mode():
            found = embed(self.model.student, self._batch([view]))
        return (
            []
            if self.neighbours is None
            else self.neighbours.nearest({token: vectors[0].float().cpu().numpy() for token, vectors in found.items()})
        )


def _uri(pixels: Pixels) -> str:
    """pixels [H, W, 3] as a PNG in a data URI."""
    image = Image.fromarray(pixels)
    if (times := -(-PICTURE // min(image.size))) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
