"""What fewer bits cost and bring: an ONNX file's accuracy and speed beside those of the same model in fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from deitkit.data.open import Source, spread_over
from deitkit.data.views.augment import Reading
from deitkit.models.exported import ExportedStudent, read_exported
from deitkit.models.load import LoadedModel
from deitkit.models.throughput import Candidate, Protocol, measure_speed
from deitkit.predictions.predict import ClassMap, predict
from deitkit.predictions.table import decisive

MOST_IMAGES = 2_000  # that both are judged by
SECONDS = 2.0  # that each is timed for


@dataclass(frozen=True)
class MeasuredPrecision:
    """A precision's top-1 by the head that decides, of so many images, its images per second on this machine's CPU, and
    the size of its file."""

    precision: str
    head: str
    right: int
    images: int
    images_per_s: float
    bytes: int

    @property
    def top1(self) -> float:
        return self.right / self.images


def measure_precisions(
    model: LoadedModel, files: Mapping[str, Path], source: Source, reading: Reading, classes: ClassMap | None
) -> tuple[MeasuredPrecision, ...]:
    """Each precision's file on the same images, at most 2,000 of them, timed in turn."""
    chosen, cpu = spread_over(source, MOST_IMAGES), torch.device("cpu")
    opened = {name: ExportedStudent(read_exported(path)) for name, path in files.items()}
    tables = {
        name: predict(student, model.info, chosen, name=name, device=cpu, reading=reading, classes=classes)
        for name, student in opened.items()
    }
    candidates = [Candidate(name, student, model.info.size) for name, student in opened.items()]
    speeds = measure_speed(candidates, Protocol(cpu, seconds=SECONDS), say=lambda _: None)
    found = []
    for (name, table), speed in zip(tables.items(), speeds, strict=True):
        head = decisive(table)
        right = int(table.hits(head).sum())
        found.append(
            MeasuredPrecision(name, head, right, len(table.ids), speed.images_per_s, files[name].stat().st_size)
        )
    return tuple(found)
