"""The class and the distillation token of one model, summed batch after batch: cosines, norms, CKA (paper Sec. 4).

Only `measure_tokens` runs a network. Legend: B batch, T tokens, L layers, K classes, D width, P places: every block and
the final norm, L + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from deitkit.data.open import Source
from deitkit.errors import DeitkitError
from deitkit.measures.similarity import LinearCKA, Moments, as_double

if TYPE_CHECKING:
    from deitkit.data.views.augment import Reading
    from deitkit.models.load import LoadedModel
    from deitkit.models.student import Tokens

FIXED = 2  # places before the first block, equal for all images: the embedding alone and the input


@dataclass(frozen=True, eq=False)
class TokenCosines:
    """Cosine of the two tokens: `embedding`, `input` are one number each; layers [L, B]; normed [B]."""

    embedding: float
    input: float
    layers: Tensor
    normed: Tensor


@dataclass(frozen=True)
class Place:
    """Both tokens at one depth: their cosine, the CKA of their spaces, and their mean norms."""

    name: str
    cosine: float
    cosine_std: float | None
    cka: float | None
    cka_debiased: float | None
    norms: tuple[float, float]
    norms_std: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True, eq=False)
class TokenMeasures:
    """One model's two tokens over its images, and the cosine of each class's images after the final norm.

    class_counts [K], class_means [K], class_stds [K]; K is 0 where no labels are known.
    """

    classifier: str
    images: int
    places: tuple[Place, ...]
    control: bool = False
    class_names: tuple[str, ...] = ()
    class_counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    class_means: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    class_stds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def layers(self) -> int:
        return len(self.places) - FIXED - 1

    @property
    def label(self) -> str:
        return f"{self.classifier} (control)" if self.control else self.classifier


def token_cosines(tokens: Tokens, *, classifier: str = "the model") -> TokenCosines:
    """Cosines of the first two tokens in float64."""
    if len(tokens.names) < 2:
        raise DeitkitError(
            f"{classifier} has only the token {', '.join(tokens.names)}; the cosine is of two",
            value=tokens.names,
            remedy="take a model with a distillation token: `deitkit distill` trains one",
        )
    embedding, input_, layers, normed = (
        as_double(part) for part in (tokens.embedding, tokens.input, tokens.layers, tokens.normed)
    )
    return TokenCosines(
        embedding=cosine_similarity(embedding[0], embedding[1], dim=-1).item(),
        input=cosine_similarity(input_[0], input_[1], dim=-1).item(),
        layers=cosine_similarity(layers[:, 0], layers[:, 1], dim=-1),
        normed=cosine_similarity(normed[0], normed[1], dim=-1),
    )


class TokenSums:
    """One model's tokens, batch after batch; memory grows with L D^2 and L K, not with the images."""

    def __init__(self, classifier: str, *, class_names: tuple[str, ...] = (), control: bool = False) -> None:
        self.classifier, self.class_names, self.control = classifier, class_names, control
        self._cosines, self._norms = Moments(len(class_names) or 1), Moments()
        self._spaces: list[LinearCKA] = []
        self._fixed: tuple[Place, ...] = ()

    def add(self, tokens: Tokens, labels: Tensor | None = None) -> None:
        """A batch of the same model's tokens, and its images' labels [B] where class names are known."""
        cosines = token_cosines(tokens, classifier=self.classifier)
        states = torch.cat([tokens.layers[:, :2], tokens.normed[None, :2]])  # [P, 2, B, D]
        self._cosines.add(torch.cat([cosines.layers, cosines.normed[None]]), labels if self.class_names else None)
        self._norms.add(as_double(states).norm(dim=-1).flatten(0, 1))
        self._spaces = self._spaces or [LinearCKA() for _ in states]
        for space, (classes, distillation) in zip(self._spaces, states, strict=True):
            space.add(classes, distillation)
        self._fixed = tuple(
            Place(name, cosine, None, None, None, (vectors[0].norm().item(), vectors[1].norm().item()))
            for name, cosine, vectors in (
                ("embedding", cosines.embedding, tokens.embedding), ("input", cosines.input, tokens.input)
            )
        )  # fmt: skip

    def measures(self) -> TokenMeasures:
        """What was seen so far."""
        images = int(self._cosines.counts.sum())
        if not images:
            raise DeitkitError(f"there are no images, so the tokens of {self.classifier} have no cosine")
        cosines, stds = (part.tolist() for part in self._cosines.overall())
        norms, norm_stds = (part.view(-1, 2).tolist() for part in self._norms.overall())
        names = (*(f"block {layer}" for layer in range(1, len(cosines))), "final norm")
        varying = tuple(
            Place(name, cosine, std, space.biased(), space.debiased(), (norm[0], norm[1]), (norm_std[0], norm_std[1]))
            for name, cosine, std, space, norm, norm_std in zip(
                names, cosines, stds, self._spaces, norms, norm_stds, strict=True
            )
        )
        places = (*self._fixed, *varying)
        if not self.class_names:
            return TokenMeasures(self.classifier, images, places, self.control)
        means, spreads = (part[-1].numpy() for part in self._cosines.by_group())
        counts = self._cosines.counts.numpy().astype(np.int64)
        return TokenMeasures(self.classifier, images, places, self.control, self.class_names, counts, means, spreads)


@torch.inference_mode()
def measure_tokens(
    model: LoadedModel,
    source: Source,
    *,
    device: torch.device,
    reading: Reading | None = None,
    name: str = "",
    control: bool = False,
    batch_size: int = 64,
) -> TokenMeasures:
    """Every image of the source through the model; `name` is how the report calls it."""
    from deitkit.data.views.augment import AS_IT_LIES
    from deitkit.predictions.predict import evaluation_loader

    sums = TokenSums(name or model.origin, class_names=source.class_names, control=control)
    student = model.student.eval().to(device)
    loader = evaluation_loader(
        source, model.info, device=device, batch_size=batch_size, reading=reading or AS_IT_LIES
    )  # fmt: skip
    for _, images, labels in loader:
        if len(images):
            sums.add(student.tokens(images), labels)
    return sums.measures()
