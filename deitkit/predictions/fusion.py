"""The two families of fusions, and fitting one: sums of tempered softmaxes, and softmaxes of summed logits.

Both have the class head's share, and hold a plain fusion: share one half, temperatures 1. L-BFGS from there finds the
least negative log-likelihood (NLL) of the labels. Judges nothing.

Legend: N images, K classes; a, b [N, K] are the logits of the class and of the distillation head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from deitkit.measures.arrays import Floats, Labels, Logits
from deitkit.models.folder import read_fusion
from deitkit.models.student import FittedFusion, FittedKind, Fusion
from deitkit.predictions.rows import empty_rows
from deitkit.predictions.table import Predictions

ROWS = 4096  # at once in float64
HOTTEST = 20.0  # temperatures are from 1/20 to 20
LEAST_SHARE = 0.001
ODDS = log((1 - LEAST_SHARE) / LEAST_SHARE)

KINDS: tuple[FittedKind, ...] = get_args(FittedKind)
# What is minimised over (`_numbers`): from where, within what.
START = {"weighted_softmax": (0.0, 0.0, 0.0), "weighted_logits": (0.5, 0.5)}
BOUNDS = {
    "weighted_softmax": [(-ODDS, ODDS), (-log(HOTTEST), log(HOTTEST)), (-log(HOTTEST), log(HOTTEST))],
    "weighted_logits": [(LEAST_SHARE / HOTTEST, HOTTEST)] * 2,
}


def fit_fusion(a: Logits, b: Logits, labels: Labels, kind: FittedKind) -> FittedFusion:
    """The family's least mean NLL on these images; never above that of w = 1/2 and temperatures 1, its start."""
    from scipy.optimize import minimize  # takes a while to import: only where something is fitted

    def loss(x: Floats) -> tuple[float, Floats]:
        point, total = torch.tensor(x, dtype=torch.float64, requires_grad=True), 0.0
        gradient = torch.zeros_like(point)
        for block in blocks(a, b, labels):
            part = -log_probabilities(block, kind, _numbers(point, kind), labels_only=True).sum() / len(labels)
            gradient += torch.autograd.grad(part, point)[0]
            total += part.item()
        return total, gradient.numpy()

    found = minimize(loss, START[kind], jac=True, method="L-BFGS-B", bounds=BOUNDS[kind])
    shares, temperatures = _numbers(torch.tensor(found.x, dtype=torch.float64), kind)
    return FittedFusion(kind, shares[0].item(), (temperatures[0].item(), temperatures[1].item()))


class Numbers(NamedTuple):
    """What is fitted: the heads' shares [2], which sum to 1, and their temperatures [2]."""

    shares: Tensor
    temperatures: Tensor


class Block(NamedTuple):
    """Some rows in float64, so that a large table is never doubled in memory at once."""

    a: Tensor
    b: Tensor
    labels: Tensor


def _numbers(x: Tensor, kind: FittedKind) -> Numbers:
    """From what is minimised over: log-odds of the share and log-temperatures, or the logits' factors w / t and
    (1 - w) / t, in which the NLL is convex."""
    if kind == "weighted_softmax":
        return Numbers(torch.stack([x[0], -x[0]]).sigmoid(), x[1:].exp())
    return Numbers(x / x.sum(), (1 / x.sum()).expand(2))


def log_probabilities(block: Block, kind: FittedKind, numbers: Numbers, *, labels_only: bool = False) -> Tensor:
    """log p [rows, K], or the labels' own [rows]; `FittedFusion.fuse` gives the same p in float32."""

    def logs(logits: Tensor) -> Tensor:
        whole = logits.log_softmax(dim=1)
        return of_labels(whole, block) if labels_only else whole

    shares, temperatures = numbers
    a, b = block.a / temperatures[0], block.b / temperatures[1]
    if kind == "weighted_logits":
        return logs(shares[0] * a + shares[1] * b)
    return torch.logaddexp(logs(a) + shares[0].log(), logs(b) + shares[1].log())


def of_labels(logs: Tensor, block: Block) -> Tensor:
    """[rows, K] -> [rows]."""
    return logs.gather(1, block.labels[:, None])[:, 0]


def blocks(a: Logits, b: Logits, labels: Labels) -> Iterator[Block]:
    for start in range(0, len(labels), ROWS):
        first, second, own = (torch.from_numpy(np.array(part[start : start + ROWS])) for part in (a, b, labels))
        yield Block(first.double(), second.double(), own)


def fuse(a: Logits, b: Logits, labels: Labels, fusion: Fusion) -> Iterator[tuple[Block, Tensor]]:
    """Blocks of rows with their log p [rows, K] by any fusion, in float64."""
    if not isinstance(fusion, FittedFusion):  # the plain ones are fitted ones with shares of one half
        fusion = FittedFusion("weighted_softmax" if fusion == "softmax" else "weighted_logits", 0.5, (1.0, 1.0))
    numbers = Numbers(
        torch.tensor([fusion.weight, 1 - fusion.weight], dtype=torch.float64),
        torch.tensor(fusion.temperatures, dtype=torch.float64),
    )
    for block in blocks(a, b, labels):
        yield block, log_probabilities(block, fusion.kind, numbers)


def fused_logits(predictions: Predictions) -> Logits | None:
    """log p [N, K] of the fused head by the predictions' own fusion, in float32; None without both heads' logits."""
    heads = [predictions.heads.get(name) for name in ("class", "distillation")]
    a, b = (None if head is None else head.logits for head in heads)
    if a is None or b is None:
        return None
    fusion = read_fusion(predictions.settings.get("fusion", "softmax"))
    found, start = empty_rows(*a.shape), 0
    for block, logs in fuse(a, b, predictions.labels, fusion):
        found[start : start + len(block.a)] = logs
        start += len(block.a)
    return found


def with_fused_logits(predictions: Predictions) -> Predictions:
    """The same, with logits of the fused head where both others have some."""
    fused = predictions.heads.get("fused")
    if fused is None or fused.logits is not None or (logits := fused_logits(predictions)) is None:
        return predictions
    return replace(predictions, heads={**predictions.heads, "fused": replace(fused, logits=logits)})
