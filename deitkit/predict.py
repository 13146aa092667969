"""A classifier's answers for a source: student x images -> Predictions. Trains nothing and compares nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deitkit.data.augment import decode, evaluation_view
from deitkit.data.loader import EvalLoader, normalised, per_channel
from deitkit.data.sources import Source
from deitkit.distributed import World
from deitkit.model import Student, Tokens
from deitkit.predictions import HeadPredictions, Predictions, concatenate, head_predictions
from deitkit.weights import LoadedModel, ModelInfo


def evaluation_loader(
    source: Source,
    info: ModelInfo,
    *,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    indices: Sequence[int] | None = None,
) -> EvalLoader:
    """The source's images as the model's own protocol crops and normalises them."""
    return EvalLoader(
        source,
        size=info.size,
        mean=info.mean,
        std=info.std,
        crop_ratio=info.crop_ratio,
        interpolation=info.interpolation,
        batch_size=batch_size,
        workers=workers,
        device=device,
        indices=indices,
    )


@torch.inference_mode()
def predict(
    student: Student,
    info: ModelInfo,
    source: Source,
    *,
    name: str,
    device: torch.device,
    world: World | None = None,
    batch_size: int = 64,
    workers: int = 0,
    keep_logits: bool = False,
) -> Predictions:
    """Every image of the source through every head; each rank takes its own contiguous part, none counts twice.

    The student's training mode is restored at the end.
    """
    world = world or World()
    bounds = np.linspace(0, len(source), world.ranks + 1).astype(int)
    indices = range(bounds[world.rank], bounds[world.rank + 1])
    loader = evaluation_loader(source, info, device=device, batch_size=batch_size, workers=workers, indices=indices)
    was_training = student.training
    student.eval()
    parts: dict[str, list[HeadPredictions]] = {}
    for _, images, _ in loader:
        heads = student(images)
        logits = {head: values.float().cpu().numpy() for head, values in heads.logits().items()} if keep_logits else {}
        for head, probabilities in heads.probabilities(info.fusion).items():
            part = head_predictions(head, probabilities.cpu().numpy(), logits.get(head))
            parts.setdefault(head, []).append(part)
    student.train(was_training)
    gathered = world.gather({head: concatenate(own) for head, own in parts.items()})
    whole = {head: concatenate([part[head] for part in gathered if part]) for head in gathered[0]}
    return _table(whole, info, source, name=name, family="deit" if _is_deit(student) else "convnet")


def _is_deit(student: Student) -> bool:
    return "deit" in student.architecture


def _table(
    heads: dict[str, HeadPredictions], info: ModelInfo, source: Source, *, name: str, family: str
) -> Predictions:
    paths = [source.path(index) for index in range(len(source))]
    return Predictions(
        dataset=source.dataset,
        split=source.split,
        fingerprint=source.fingerprint,
        classifier=name,
        class_names=source.class_names,
        ids=list(source.ids),
        labels=np.asarray(source.labels),
        heads=heads,
        paths=[str(Path(path).absolute()) for path in paths if path is not None] if all(paths) else None,
        settings={
            "image_size": list(info.size),
            "crop_ratio": info.crop_ratio,
            "fusion": info.fusion,
            "family": family,
        },
    )


@torch.inference_mode()
def token_batches(
    model: LoadedModel, source: Source, *, device: torch.device, limit: int | None = None, batch_size: int = 64
) -> list[Tokens]:
    """The tokens of the source's first `limit` images, a batch each, on the CPU."""
    count = len(source) if limit is None else min(limit, len(source))
    student = model.student.eval().to(device)
    loader = evaluation_loader(source, model.info, device=device, batch_size=batch_size, indices=range(count))
    batches = []
    for _, images, _ in loader:
        tokens = student.tokens(images)
        moved = {name: getattr(tokens, name).cpu() for name in ("embedding", "input", "layers", "normed")}
        batches.append(replace(tokens, **moved))
    return batches


@torch.inference_mode()
def classify(model: LoadedModel, paths: Sequence[Path], *, device: torch.device, top: int = 5) -> list[dict[str, Any]]:
    """Each image file through every head: `{"image", "heads": {head: [{"class", "confidence"}, ...]}}`."""
    info, student = model.info, model.student.eval().to(device)
    mean, std = per_channel(info.mean, device), per_channel(info.std, device)
    answers = []
    for path in paths:
        image = decode(path.read_bytes(), name=str(path))
        view = torch.from_numpy(evaluation_view(image, info.size, info.crop_ratio, info.interpolation))
        heads = student(normalised(view[None].to(device), mean, std))
        guesses = {}
        for head, probabilities in heads.probabilities(info.fusion).items():
            best = probabilities[0].topk(top)
            guesses[head] = [
                {"class": info.class_names[index], "confidence": confidence}
                for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        answers.append({"image": str(path), "heads": guesses})
    return answers
