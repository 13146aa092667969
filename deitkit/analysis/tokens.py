"""How alike the class and the distillation token are, by depth (paper Sec. 4). Runs no network.

The paper says 0.06 before the first layer and 0.93 after the last, and leaves open whether position embeddings and the
final norm are counted. Both are measured each way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cosine_similarity

from deitkit.analysis.report import Curves, Reference, Report, Series, Table
from deitkit.catalog import TOKENS_COSINE_AFTER, TOKENS_COSINE_BEFORE
from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.model import Tokens


@dataclass(frozen=True, eq=False)
class TokenCosines:
    """Cosine of the two tokens: `embedding`, `input` are one number each; layers [L, B]; normed [B]."""

    embedding: float
    input: float
    layers: torch.Tensor
    normed: torch.Tensor


def token_cosines(tokens: Tokens) -> TokenCosines:
    """Cosines of the first two tokens in float64."""
    if len(tokens.names) < 2:
        raise DeitkitError(
            f"the model has only the token {', '.join(tokens.names)}; the cosine is of two",
            value=tokens.names,
            remedy="take a model with a distillation token: `deitkit distill` trains one",
        )
    embedding, input_, layers, normed = (
        part.double() for part in (tokens.embedding, tokens.input, tokens.layers, tokens.normed)
    )
    return TokenCosines(
        embedding=cosine_similarity(embedding[0], embedding[1], dim=-1).item(),
        input=cosine_similarity(input_[0], input_[1], dim=-1).item(),
        layers=cosine_similarity(layers[:, 0], layers[:, 1], dim=-1),
        normed=cosine_similarity(normed[0], normed[1], dim=-1),
    )


def tokens_report(batches: Iterable[Tokens], *, classifier: str, images: str = "images") -> Report:
    """Batches of one model's tokens -> their cosine by depth: mean and standard deviation over the images."""
    cosines = [token_cosines(tokens) for tokens in batches]
    if not cosines:
        raise DeitkitError(f"there are no images of {images}, so the tokens of {classifier} have no cosine")
    by_depth = torch.cat([torch.cat((each.layers, each.normed[None])) for each in cosines], dim=1)  # [L + 1, N]
    layers, count = by_depth.shape[0] - 1, by_depth.shape[1]
    places = ("embedding", "input", *(f"block {layer}" for layer in range(1, layers + 1)), "final norm")
    means = (cosines[0].embedding, cosines[0].input, *by_depth.mean(dim=1).tolist())
    spreads = (None, None, *by_depth.std(dim=1, correction=0).tolist())
    before, after = TOKENS_COSINE_BEFORE, TOKENS_COSINE_AFTER
    published = (before, before, *(None for _ in range(layers - 1)), after, after)
    return Report(
        name="tokens",
        title=f"Cosine of the class and the distillation token of {classifier}, {count:,} images of {images}",
        definitions={
            "embedding": "the two tokens' parameters alone",
            "input": "the same with their position embeddings: what the first block reads",
            "block": "the two tokens after that block, of the same image",
            "final norm": "after the norm that follows the last block: what the heads read",
            "std": "standard deviation over the images; embedding and input are the same for all",
            "paper": "Sec. 4, DeiT on ImageNet: 0.06 before the first layer, 0.93 after the last",
        },
        sources=("Touvron et al., Training data-efficient image transformers, 2020, Sec. 4",),
        numbers={"images": count, "layers": layers, "cosine": dict(zip(places, means, strict=True))},
        tables=(
            Table(
                name="cosine",
                title="Cosine similarity by depth",
                columns=("depth", "mean", "std", "paper"),
                rows=tuple(zip(places, means, spreads, published, strict=True)),
                formats={"mean": ".3f", "std": ".3f", "paper": ".2f"},
            ),
        ),
        figures=(
            Curves(
                name="cosine",
                title=f"Class and distillation token, {classifier}",
                x_label="depth",
                y_label="cosine similarity",
                bounds=(-1.0, 1.0),
                ticks=places,
                series=(Series(f"mean and standard deviation over {count:,} images", means, spreads),),
                references=(
                    Reference(f"paper, before the first layer: {before}", before, 0, 1),
                    Reference(f"paper, after the last layer: {after}", after, layers + 1, layers + 2),
                ),
            ),
        ),
    )
