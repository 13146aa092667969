"""Fusions side by side: accuracy, likelihood and calibration, and whether a fitted one decides better or got lucky.

Fitted ones are cross-fitted: each image is judged by numbers that were fitted without it. Temperatures alone better NLL
and calibration; whether decisions are better is asked by an exact McNemar test and a paired interval (Bonett and
Price). Stores nothing.

Legend: N images, K classes; a, b [N, K] are the logits of the class and of the distillation head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from deitkit.data.draws import Domain, words
from deitkit.errors import DeitkitError
from deitkit.measures.agreement import count_pairs, exact_mcnemar, paired_interval
from deitkit.measures.arrays import Floats, Labels, Logits
from deitkit.measures.calibration import expected_calibration_error
from deitkit.models.folder import fusion_as_json
from deitkit.models.student import FUSIONS, FittedFusion, FittedKind, Fusion, Heads
from deitkit.predictions.fusion import (
    HOTTEST,
    KINDS,
    LEAST_SHARE,
    fit_fusion,
    fuse,
    of_labels,
)
from deitkit.predictions.table import Predictions, head_predictions

FOLDS = 5
LARGE = 20_000_000  # logits a head, from which two folds must do
FEW = 50  # images, below which three numbers are fitted to noise
FEWEST = 10
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Score:
    """One way to decide: top-1, right decisions, mean NLL in nats, expected calibration error."""

    name: str
    top1: float
    right: int
    nll: float
    ece: float


@dataclass(frozen=True)
class FusionComparison:
    """Another fusion against the paper's sum, on the same images; intervals hold 95 %.

    gained, lost: images that only the other, only the sum decides rightly; p_value: McNemar's, exact and two-sided.
    """

    name: str
    gained: int
    lost: int
    top1_gain: float
    top1_interval: tuple[float, float]
    p_value: float
    nll_gain: float
    nll_interval: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class FusionReport:
    """What fitting brought: all ways by cross-fitted scores, the fusions fitted to all images, and the one to take.

    `choice` has the lowest cross-fitted NLL of all that do not decide significantly worse than the paper's sum; so it
    may be a plain one.
    """

    images: int
    folds: int
    scores: tuple[Score, ...]
    comparisons: tuple[FusionComparison, ...]  # all but the paper's sum
    fitted: tuple[FittedFusion, ...]
    choice: Fusion
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """Each image's decision, its probability, and the label's negative log-probability: [N] each."""

    decisions: Labels
    confidence: Floats
    nll: Floats

    def score(self, name: str, labels: Labels) -> Score:
        hits = self.decisions == labels
        ece = expected_calibration_error(self.confidence, hits)
        return Score(name, float(hits.mean()), int(hits.sum()), float(self.nll.mean()), ece)


def compare_fusions(
    a: Logits, b: Logits, labels: Labels, *, fitted_on: str = "", fingerprint: str = ""
) -> FusionReport:
    """Fit both families and judge them beside each head, the paper's sum and the reference code's average.

    Raises:
        DeitkitError: too few images, or logits that are not finite.
    """
    _refuse_unfit(a, b, labels)
    folds = FOLDS if a.size < LARGE else 2
    judged = {"class": judge(a, a, labels, "softmax"), "distillation": judge(b, b, labels, "softmax")}
    judged |= {name: judge(a, b, labels, name) for name in FUSIONS}
    judged |= {kind: cross_fitted(a, b, labels, kind, folds=folds) for kind in KINDS}
    fitted = tuple(
        replace(fit_fusion(a, b, labels, kind), fitted_on=fitted_on, fingerprint=fingerprint) for kind in KINDS
    )
    options: tuple[Fusion, ...] = (*FUSIONS, *fitted)
    others = [name for name in map(name_of, options) if name != "softmax"]
    comparisons = tuple(compare(name, judged[name], judged["softmax"], labels) for name in others)
    worse = {each.name for each in comparisons if each.p_value < SIGNIFICANT and each.gained < each.lost}
    return FusionReport(
        images=len(labels),
        folds=folds,
        scores=tuple(each.score(name, labels) for name, each in judged.items()),
        comparisons=comparisons,
        fitted=fitted,
        choice=min(
            (fusion for fusion in options if name_of(fusion) not in worse),
            key=lambda fusion: float(judged[name_of(fusion)].nll.mean()),
        ),
        notes=tuple(_notes(len(labels), fitted, judged)),
    )


def name_of(fusion: Fusion) -> str:
    """What a report calls it."""
    return fusion.kind if isinstance(fusion, FittedFusion) else fusion


def _refuse_unfit(a: Logits, b: Logits, labels: Labels) -> None:
    if a.shape != b.shape or a.shape[:1] != labels.shape:
        raise ValueError(f"logits {a.shape} and {b.shape}, labels {labels.shape}: one row an image, one column a class")
    if len(labels) < FEWEST:
        raise DeitkitError(
            f"a fusion cannot be fitted to {len(labels)} images",
            value=len(labels),
            remedy=f"{FEWEST} are the least, a few hundred are sensible; more can be held out: --val-fraction 0.2",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DeitkitError(
            "there are logits that are not finite", remedy="the weights have diverged: take an earlier checkpoint"
        )


def _notes(images: int, fitted: tuple[FittedFusion, ...], judged: dict[str, Judged]) -> Iterator[str]:
    if images < FEW:
        yield f"{images} images are too few: the fit is not to be trusted"
    if np.array_equal(judged["class"].decisions, judged["distillation"].decisions):
        yield "both heads decide every image alike: no fusion can decide otherwise than they do, but for ties"
    for fusion in fitted:
        if min(fusion.weight, 1 - fusion.weight) <= 1.01 * LEAST_SHARE:
            yield f"{fusion.kind} all but ignores one head: the class head's share is {fusion.weight:.3f}"
        if min(fusion.temperatures) <= 1.001 / HOTTEST or max(fusion.temperatures) >= 0.999 * HOTTEST:
            yield f"{fusion.kind}: a temperature is extreme, up to {1 / HOTTEST:g} or from {HOTTEST:g}"


def judge(a: Logits, b: Logits, labels: Labels, fusion: Fusion) -> Judged:
    """One fusion on all images, in float64."""
    parts = []
    for block, logs in fuse(a, b, labels, fusion):
        best = logs.max(dim=1)
        parts.append((best.indices, best.values.exp(), -of_labels(logs, block)))
    decisions, confidence, nll = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Judged(decisions, confidence, nll)


def cross_fitted(a: Logits, b: Logits, labels: Labels, kind: FittedKind, *, folds: int = FOLDS) -> Judged:
    """Each image judged by a fusion that was fitted to the other folds: [N] each, in the images' order."""
    fold = fold_of(labels, folds=folds)
    decisions, confidence, nll = np.empty(len(labels), np.int64), np.empty(len(labels)), np.empty(len(labels))
    for number in range(folds):
        out = fold == number
        fusion = fit_fusion(a[~out], b[~out], labels[~out], kind)
        own = judge(a[out], b[out], labels[out], fusion)
        decisions[out], confidence[out], nll[out] = own.decisions, own.confidence, own.nll
    return Judged(decisions, confidence, nll)


def fold_of(labels: Labels, *, folds: int, seed: int = 0) -> Labels:
    """Each image's fold [N]: dealt out class by class in a keyed order, so that every fold has its share of each."""
    draws = words(seed, Domain.SPLIT, 0, [0], lanes=len(labels))[0]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.lexsort((draws, labels))] = np.arange(len(labels)) % folds
    return fold


def compare(name: str, other: Judged, plain: Judged, labels: Labels) -> FusionComparison:
    """Image by image, against the paper's sum. The fits are held fixed."""
    pairs, images = count_pairs(other.decisions, plain.decisions, labels), len(labels)
    gained, lost = pairs.only_a, pairs.only_b
    interval = paired_interval(gained, lost, images)
    nll_gain = plain.nll - other.nll
    p_value = exact_mcnemar(gained, lost)
    margin = 1.96 * float(nll_gain.std(ddof=1)) / images**0.5  # a mean of many: normal
    return FusionComparison(
        name=name,
        gained=gained,
        lost=lost,
        top1_gain=(gained - lost) / images,
        top1_interval=(interval.low, interval.high),
        p_value=p_value,
        nll_gain=float(nll_gain.mean()),
        nll_interval=(float(nll_gain.mean()) - margin, float(nll_gain.mean()) + margin),
        verdict=_verdict(gained, lost, p_value),
    )


def _verdict(gained: int, lost: int, p_value: float) -> str:
    """In words; chance is not taken for a difference."""
    if p_value >= SIGNIFICANT:
        return "decides alike but for chance"
    return "decides better" if gained > lost else "decides worse"


def fit_to(table: Predictions) -> FusionReport:
    """The same on a classifier's predictions, which hold their logits.

    Raises:
        DeitkitError: it has one head, or the logits were not kept.
    """
    if "distillation" not in table.heads:
        raise DeitkitError(
            f"{table.classifier} has one head: there is nothing to fuse",
            value=table.classifier,
            remedy="name a model with a distillation token: `deitkit distill` trains one",
        )
    a, b = table.head("class").logits, table.head("distillation").logits
    if a is None or b is None:
        raise DeitkitError(
            f"the predictions of {table.classifier} hold no logits", remedy="deitkit evaluate RUN --logits keeps them"
        )
    fitted_on = f"{table.dataset}/{table.split}, {len(table.labels):,} images"
    return compare_fusions(a, b, table.labels, fitted_on=fitted_on, fingerprint=table.fingerprint)


def fused_by(table: Predictions, fusion: Fusion) -> Predictions:
    """The same predictions with the heads fused otherwise; they hold their logits."""
    a, b = (torch.from_numpy(table.head(name).logits) for name in ("class", "distillation"))
    fused = head_predictions("fused", Heads(a, b).fused(fusion).numpy())
    return replace(
        table, heads={**table.heads, "fused": fused}, settings={**table.settings, "fusion": fusion_as_json(fusion)}
    )
