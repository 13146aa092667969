"""An exported model against the one that it was made of, on the same images. Legend: B batch, K classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.export.preprocess import PIXELS
from deitkit.models.exported import IMAGES, OUTPUTS
from deitkit.models.load import LoadedModel
from deitkit.models.onnx_session import Sessions, require_onnx
from deitkit.models.student import Heads

CHECKED = 32  # images


@dataclass(frozen=True, eq=False)
class Samples:
    """Images to check with: `images` [B, 3, H, W] as the model takes them, and `decoded`, each [h, w, 3] uint8, as they
    were before resizing. `what` they are, in words; `is_noise` where no real ones were at hand."""

    images: Tensor
    decoded: Sequence[NDArray[np.uint8]]
    what: str
    is_noise: bool = False


@dataclass(frozen=True)
class Checked:
    """How the exported model answered `images` images: the largest `difference` of any logit, what is `allowed`, and
    how many of the `decisions` of the head that decides are others."""

    images: int
    what: str
    difference: float
    allowed: float | None
    other_decisions: int


@dataclass(frozen=True)
class CheckedPixels:
    """How pre-processing inside the graph agrees with deitkit's: the largest difference of a pixel, in steps of 255,
    the share of pixels that differ at all, and how many decisions about the same files are others."""

    largest: int
    share: float
    other_decisions: int


@torch.inference_mode()
def check(model: LoadedModel, answer: Callable[[Tensor], Heads], samples: Samples, *, allowed: float | None) -> Checked:
    """Compare every head's logits, and the decisions by the model's own fusion.

    Raises:
        DeitkitError: logits differ by more than is allowed, or are not finite.
    """
    theirs, ours = answer(samples.images), model.student(samples.images)
    pairs = [(ours.classes, theirs.classes)]
    if ours.distillation is not None and theirs.distillation is not None:
        pairs.append((ours.distillation, theirs.distillation))
    difference = max(float((a.float() - b.float()).abs().max()) for a, b in pairs)
    fusion = model.info.fusion
    other = int((ours.fused(fusion).argmax(1) != theirs.fused(fusion).argmax(1)).sum())
    if not np.isfinite(difference) or (allowed is not None and difference > allowed):
        raise DeitkitError(
            f"the exported model answers otherwise: logits differ by up to {difference:.3g}, more than "
            f"{allowed or np.inf:g}, on {samples.what}; it was not kept",
            value=difference,
            remedy="please report it, with the versions of torch and of the format's packages",
        )
    return Checked(len(samples.images), samples.what, difference, allowed, other)


@torch.inference_mode()
def check_pixels(model: LoadedModel, path: Path, samples: Samples) -> CheckedPixels:
    """Give the ONNX file each image as it was decoded, and compare what it makes of it.

    Raises:
        DeitkitError: pixels differ by more than a step on average: the graph resizes or crops otherwise.
    """
    onnx, _ = require_onnx(path)
    from onnx.utils import Extractor

    whole = Sessions(path).cpu
    views = Extractor(onnx.load(path)).extract_model([PIXELS], [IMAGES]).SerializeToString()
    session, std = Sessions(path, views).cpu, np.array(model.info.std, dtype=np.float32)[:, None, None]
    steps, other = [], 0
    decisions = model.student(samples.images).fused(model.info.fusion).argmax(1).tolist()
    for pixels, image, decision in zip(samples.decoded, samples.images.numpy(), decisions, strict=True):
        (view,) = session.run([IMAGES], {PIXELS: pixels[None]})
        steps.append(np.rint(np.abs(view[0] - image) * std * 255))
        (probabilities,) = whole.run([OUTPUTS["fused"]], {PIXELS: pixels[None]})
        other += int(probabilities.argmax() != decision)
    every = np.stack(steps)
    if every.mean() > 1:
        what = f"the graph's pixels are others than deitkit's: {every.mean():.3g} of 255 apart on average"
        raise DeitkitError(what, remedy="export without --preprocess, and report it with the version of onnxruntime")
    return CheckedPixels(int(every.max()), float((every > 0).mean()), other)
