"""A classifier's answers for a source: student x images -> Predictions. Trains nothing and compares nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deitkit.data.open import Source, subset
from deitkit.data.views.augment import AS_IT_LIES, Pixels, Reading
from deitkit.data.views.backends import shown_for_evaluation
from deitkit.data.views.loader import EvalLoader
from deitkit.distributed import World
from deitkit.errors import DeitkitError, quoted
from deitkit.models.folder import fusion_as_json
from deitkit.models.load import ModelInfo
from deitkit.models.student import Heads, Student
from deitkit.predictions.rows import Rows, empty_rows
from deitkit.predictions.stored import HeadPredictions
from deitkit.predictions.table import Predictions, concatenate, head_predictions


def protocol_of(info: ModelInfo, reading: Reading = AS_IT_LIES) -> Reading:
    """How images are read for a model: as its own protocol turns them, and by its backend."""
    return replace(reading, exif_orientation=info.exif_orientation, backend=info.backend)


def view_of(info: ModelInfo, content: bytes, name: str, reading: Reading = AS_IT_LIES) -> Pixels:
    """An image file as the model's own protocol turns and cuts it: [3, H, W].

    Raises:
        UnreadableImage: it is broken.
    """
    return shown_for_evaluation(
        content, name, protocol_of(info, reading), size=info.size, crop_ratio=info.crop_ratio,
        interpolation=info.interpolation,
    )  # fmt: skip


def evaluation_loader(
    source: Source,
    info: ModelInfo,
    *,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    indices: Sequence[int] | None = None,
    reading: Reading = AS_IT_LIES,
) -> EvalLoader:
    """The source's images as the model's own protocol orients, crops and normalises them."""
    return EvalLoader(
        source,
        size=info.size,
        mean=info.mean,
        std=info.std,
        crop_ratio=info.crop_ratio,
        interpolation=info.interpolation,
        batch_size=batch_size,
        reading=protocol_of(info, reading),
        workers=workers,
        device=device,
        indices=indices,
    )


@dataclass(frozen=True)
class ClassMap:
    """A model's classes as the data numbers them: the data's own first, then those that only the model has.

    `columns` [K of the model]: where each class of the result stands in the model's logits.
    """

    class_names: tuple[str, ...]
    columns: tuple[int, ...]


def map_classes(model: tuple[str, ...], data: tuple[str, ...], *, origin: str) -> ClassMap | None:
    """How the model's classes are matched to the data's by name; None where they are the same in the same order.

    Raises:
        DeitkitError: the data has classes that the model does not know.
    """
    if model == data:
        return None
    unknown = [name for name in data if name not in set(model)]
    if unknown:
        raise DeitkitError(
            f"{origin} does not know {len(unknown):,} of the data's {len(data):,} classes",
            value=origin,
            problems=[f"model: {', '.join(model[:6])}", f"data only: {', '.join(unknown[:10])}"],
            remedy=f"deitkit finetune --from {quoted(origin)} --data FOLDER gives it this data's classes",
        )
    known = set(data)
    names = (*data, *(name for name in model if name not in known))
    number = {name: index for index, name in enumerate(model)}
    return ClassMap(names, tuple(number[name] for name in names))


@torch.inference_mode()
def predict(
    student: Student, info: ModelInfo, source: Source, *, name: str, device: torch.device, world: World | None = None,
    batch_size: int = 64, workers: int = 0, keep_logits: bool = False, reading: Reading = AS_IT_LIES,
    classes: ClassMap | None = None,
) -> Predictions:  # fmt: skip
    """Every image of the source through every head; each rank takes its own contiguous part, none counts twice.

    The student's training mode is restored at the end. Unreadable images are an error, or left out and counted.
    """
    world = world or World()
    bounds = np.linspace(0, len(source), world.ranks + 1).astype(int)
    indices = range(bounds[world.rank], bounds[world.rank + 1])
    loader = evaluation_loader(
        source, info, device=device, batch_size=batch_size, workers=workers, indices=indices, reading=reading
    )
    was_training = student.training
    student.eval()
    parts: dict[str, list[HeadPredictions]] = {}
    logits: dict[str, Rows] = {}
    seen: list[int] = []
    for chosen, images, _ in loader:
        if not len(images):
            continue
        for part in _answers(adjusted(student(images), info), info, keep_logits=keep_logits, classes=classes):
            parts.setdefault(part.name, []).append(replace(part, logits=None))
            _keep_logits(part, logits, start=len(seen), rows=len(indices))
        seen += chosen.tolist()
    student.train(was_training)
    mine = {head: concatenate(own) for head, own in parts.items()}
    mine |= {head: replace(mine[head], logits=rows[: len(seen)]) for head, rows in logits.items()}
    gathered = [own for own in world.gather((seen, mine)) if own[1]]
    if not gathered:
        raise DeitkitError(
            f"no image of {source.dataset}/{source.split} can be read", remedy="deitkit data verify says why"
        )
    whole = {head: concatenate([own[head] for _, own in gathered]) for head in gathered[0][1]}
    rows = [row for own, _ in gathered for row in own]
    family = "deit" if _is_deit(student) else "convnet"
    return _table(whole, rows, info, source, name=name, family=family, classes=classes)


def _keep_logits(part: HeadPredictions, kept: dict[str, Rows], *, start: int, rows: int) -> None:
    """Put a batch's logits into its head's, which have so many rows at the most."""
    if part.logits is not None:
        whole = kept.setdefault(part.name, empty_rows(rows if part.name not in kept else 0, part.logits.shape[1]))
        whole[start : start + len(part.logits)] = part.logits


def adjusted(heads: Heads, info: ModelInfo) -> Heads:
    """The heads as the model's `logit_adjustment` has them: f - tau log pi (Menon et al. 2020, eq. 9)."""
    if not info.logit_adjustment:
        return heads
    counts = torch.tensor(info.class_counts, dtype=torch.float64)
    shift = -info.logit_adjustment * (counts / counts.sum()).log()
    return heads.shifted(shift.to(heads.classes.device, torch.float32))


def _answers(heads: Heads, info: ModelInfo, *, keep_logits: bool, classes: ClassMap | None) -> list[HeadPredictions]:
    """One batch's answers, a head each, with the classes as the data numbers them."""

    def numbered(values: Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = values.float().cpu().numpy()
        return array if classes is None else array[:, classes.columns]

    logits = {head: numbered(values) for head, values in heads.logits().items()} if keep_logits else {}
    return [
        head_predictions(head, numbered(probabilities), logits.get(head))
        for head, probabilities in heads.probabilities(info.fusion).items()
    ]


def _is_deit(student: Student) -> bool:
    return "deit" in student.architecture


def _table(
    heads: dict[str, HeadPredictions], rows: list[int], info: ModelInfo, source: Source, *, name: str, family: str,
    classes: ClassMap | None,
) -> Predictions:  # fmt: skip
    """The answers for the source's images `rows`; the fingerprint is that of the whole source."""
    seen = source if len(rows) == len(source) else subset(source, rows, source.split)
    paths = [seen.path(index) for index in range(len(seen))]
    settings: dict[str, Any] = {
        "image_size": list(info.size), "crop_ratio": info.crop_ratio, "fusion": fusion_as_json(info.fusion),
        "family": family,
    }  # fmt: skip
    settings |= {"logit_adjustment": info.logit_adjustment} if info.logit_adjustment else {}
    return Predictions(
        dataset=source.dataset,
        split=source.split,
        fingerprint=source.fingerprint,
        classifier=name,
        class_names=source.class_names if classes is None else classes.class_names,
        ids=list(seen.ids),
        labels=np.asarray(seen.labels),
        heads=heads,
        paths=[str(Path(path).absolute()) for path in paths if path is not None] if all(paths) else None,
        settings=settings | ({"left_out": len(source) - len(rows)} if len(rows) < len(source) else {}),
        accepted=seen.accepted,
    )
