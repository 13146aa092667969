"""A model written for where others use it, and checked there: `deitkit export`, and `deitkit.export` in Python.

Nothing is kept that does not answer as the model does: the new file or folder is written beside its place, opened by
the library that it is for, compared on real images, and only then put there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deitkit.data.open import Source, spread_over
from deitkit.data.views.augment import Reading, decode
from deitkit.errors import DeitkitError
from deitkit.files import staged
from deitkit.models.export.check import CHECKED, Checked, Samples, check
from deitkit.models.export.formats import FORMATS
from deitkit.models.export.heads import with_head
from deitkit.models.export.place import place_of
from deitkit.models.export.wanted import OLDEST_OPSET, FormatName, PrecisionName, Wanted
from deitkit.models.load import LoadedModel, load_model, refuse_headless
from deitkit.models.reference import Reference
from deitkit.predictions.find import data_of, open_for
from deitkit.predictions.predict import evaluation_loader
from deitkit.recipe.schema import Data

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenModel:
    """What was written to `path`, of so many `bytes`: which `heads` it answers with, how it was `checked`, and what its
    user should know (`notes`)."""

    path: Path
    format: FormatName
    precision: PrecisionName
    bytes: int
    heads: tuple[str, ...]
    checked: Checked
    notes: tuple[str, ...]


def export(
    model: str | Path, to: str = "onnx", *, output: str | Path = "", precision: str = "fp32",
    opset: int = OLDEST_OPSET, preprocess: bool = False, licence: str = "", dataset: str = "", data: str | Path = "",
    overwrite: bool = False,
) -> WrittenModel:  # fmt: skip
    """Write a model as an ONNX file (`to="onnx"`), and check it on 32 images.

        deitkit.export("runs/mine", "onnx", output="mine.onnx", precision="fp16")

    `model` is what has weights: a run, RUN@best, RUN:class (that head alone), a model folder, timm:NAME or a file.
    Images for the check are the run's own, or those of `dataset` and `data`.

    Raises:
        DeitkitError: what is asked for does not fit the model or the format, a package is missing, the place is taken
            or cannot be written, or what was written answers otherwise than the model.
    """
    wanted = Wanted.of(to, precision=precision, opset=opset, preprocess=preprocess, licence=licence)
    reference = Reference.find(str(model))
    reference.need_weights(whole=False)
    place = place_of(reference, wanted, output=output, overwrite=overwrite)
    whole = load_model(replace(reference, head=""))
    refuse_headless(whole)
    loaded, form = with_head(whole, reference.head), FORMATS[wanted.format]
    samples = samples_for(loaded, images_of(reference, whole, dataset=dataset, data=str(data)))
    with staged(place) as temporary:
        form.write(loaded, temporary, wanted)
        allowed = form.allowed if wanted.precision == "fp32" else None
        checked = check(loaded, partial(form.answer, temporary), samples, allowed=allowed)
    heads = ("class", "distillation", "fused") if loaded.student.distilled else ("class",)
    return WrittenModel(place, wanted.format, wanted.precision, _size(place), heads, checked, form.notes(loaded))


def _size(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]
    return sum(path.stat().st_size for path in files)


# Which images


@dataclass(frozen=True)
class EvaluationImages:
    """The images that a model is evaluated on, and how they are read."""

    source: Source
    settings: Data

    @property
    def what(self) -> str:
        return f"{self.source.dataset}/{self.source.split}"


def images_of(
    reference: Reference, model: LoadedModel, *, dataset: str, data: str, split: str = "val"
) -> EvaluationImages | None:
    """The model's own images, or those that are named; None where none are named and its own are not here.

    Raises:
        DeitkitError: those that are named are not there, or the model does not know their classes.
    """
    try:
        settings = data_of([replace(reference, head="")], dataset=dataset, data=data)
        source, _ = open_for(model, settings, split)
    except DeitkitError as error:
        if dataset or data:
            raise
        logger.info(f"no images of its own are at hand ({error.what}): --data FOLDER names some")
        return None
    return EvaluationImages(source, settings)


def samples_for(model: LoadedModel, images: EvaluationImages | None) -> Samples:
    """32 images, evenly from the whole split, or noise where there are none."""
    size = model.info.size
    if images is None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(CHECKED, 3, *size, generator=generator)
        return Samples(noise, (), f"{CHECKED} images of noise", is_noise=True)
    source, reading = spread_over(images.source, CHECKED), Reading.of(images.settings)
    loader = evaluation_loader(source, model.info, device=torch.device("cpu"), reading=reading)
    found = [(batch.indices, batch.images) for batch in loader]
    rows = torch.cat([rows for rows, _ in found]).tolist()
    reading = replace(reading, exif_orientation=model.info.exif_orientation)
    decoded = [np.asarray(decode(source.read(row), source.ids[row], reading)) for row in rows]
    return Samples(torch.cat([pixels for _, pixels in found]), decoded, f"{len(rows)} images of {images.what}")
