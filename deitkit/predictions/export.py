"""A model written for where others use it, and checked there: `deitkit export`, and `deitkit.export` in Python.

Nothing is kept that does not answer as the model does: the new file or folder is written beside its place, opened by
the library that it is for, compared on real images, and only then put there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deitkit.data.formats.split import MissingSplit
from deitkit.data.open import Source
from deitkit.data.views.augment import Reading, decode
from deitkit.errors import DeitkitError
from deitkit.files import size_of, staged
from deitkit.models.export import onnx
from deitkit.models.export.card import HeadScore, ModelOrigins, model_card
from deitkit.models.export.check import CHECKED, Checked, CheckedPixels, Samples, check, check_pixels
from deitkit.models.export.formats import FORMATS
from deitkit.models.export.heads import with_head
from deitkit.models.export.place import place_of
from deitkit.models.export.quantise import CALIBRATED
from deitkit.models.export.wanted import OLDEST_OPSET, FormatName, PrecisionName, Wanted
from deitkit.models.load import LoadedModel, load_model, refuse_headless
from deitkit.models.reference import Reference
from deitkit.predictions.find import data_of, is_current, kept_files, open_for
from deitkit.predictions.precisions import MeasuredPrecision, measure_precisions
from deitkit.predictions.predict import ClassMap, evaluation_loader, protocol_of
from deitkit.predictions.table import Predictions
from deitkit.recipe.load import to_toml
from deitkit.recipe.schema import Data
from deitkit.runs.folder import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenModel:
    """What was written to `path`, of so many `bytes`: which `heads` it answers with, how it was `checked`, and what its
    user should know (`notes`). `pixels`: pre-processing in the graph; `measured`: int8 beside fp32."""

    path: Path
    format: FormatName
    precision: PrecisionName
    bytes: int
    heads: tuple[str, ...]
    checked: Checked
    notes: tuple[str, ...]
    pixels: CheckedPixels | None = None
    measured: tuple[MeasuredPrecision, ...] = ()


def export(
    model: str | Path, to: str = "onnx", *, output: str | Path = "", precision: str = "fp32",
    opset: int = OLDEST_OPSET, preprocess: bool = False, licence: str = "", repository: str = "", dataset: str = "",
    data: str | Path = "", overwrite: bool = False,
) -> WrittenModel:  # fmt: skip
    """Write a model as an ONNX file, a folder for timm or transformers (hf), a torch.export program (torch) or
    safetensors, and check it on 32 images.

        deitkit.export("runs/mine", "onnx", output="mine.onnx", precision="fp16")

    `model` is what has weights: a run, RUN@best, RUN:class (that head alone), a model folder, timm:NAME or a file.
    Images for the check are the run's own, or those of `dataset` and `data`. `precision`, `opset` and `preprocess` are
    ONNX's; `licence` and the `repository` that it is for stand on the card of a folder.

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
    loaded = with_head(whole, reference.head)
    images = partial(images_of, reference, whole, dataset=dataset, data=str(data))
    with staged(place) as temporary:
        done = _write(loaded, temporary, wanted, images)
        if wanted.is_folder:
            card = model_card(loaded, wanted, origins_of(reference), repository=repository)
            (temporary / "README.md").write_text(card, encoding="utf-8")
    return replace(done, path=place, bytes=size_of(place))


def _write(model: LoadedModel, path: Path, wanted: Wanted, images: Callable[..., SplitImages | None]) -> WrittenModel:
    """Write it, and compare it with the model."""
    form, evaluated = FORMATS[wanted.format], images()
    samples = samples_for(model, evaluated)
    if wanted.precision == "int8":
        onnx.write(model, path, wanted, calibration=_calibration(model, images, evaluated))
    else:
        form.write(model, path, wanted)
    allowed = form.allowed if wanted.precision == "fp32" else None
    checked = check(model, partial(form.answer, path), samples, allowed=allowed)
    heads = ("class", "distillation", "fused") if model.student.distilled else ("class",)
    done = WrittenModel(path, wanted.format, wanted.precision, 0, heads, checked, form.notes(model))
    if wanted.preprocess and not samples.is_noise:
        done = replace(done, pixels=check_pixels(model, path, samples))
    if wanted.precision == "int8" and evaluated is not None:
        plain = path.with_name(f"fp32{wanted.ending}")
        onnx.write(model, plain, replace(wanted, precision="fp32", preprocess=False))
        files, reading = {"fp32": plain, "int8": path}, Reading.of(evaluated.settings)
        measured = measure_precisions(model, files, evaluated.source, reading, evaluated.classes)
        done = replace(done, measured=measured)
    return done


def _calibration(
    model: LoadedModel, images: Callable[..., SplitImages | None], evaluated: SplitImages | None
) -> Tensor:
    """Training images, or those that the model is evaluated on where there are no others.

    Raises:
        DeitkitError: there are none.
    """
    found = images(split="train") or evaluated
    if found is None:
        raise DeitkitError(
            "int8 needs real images, by which the ranges of its numbers are chosen",
            value="int8",
            remedy="--data FOLDER (or --dataset NAME) names some that the model knows the classes of",
        )
    views = _views(model, found, CALIBRATED)[1]
    logger.info(f"calibrated on {len(views)} images of {found.what}")
    return views


def origins_of(reference: Reference) -> ModelOrigins:
    """A run's recipe, and what is kept of a model's answers: the scores of all of its heads, or of the one named."""
    run = Run(reference.folder)
    recipe = to_toml(run.recipe()) if Run.is_run(run.path) else ""
    scores = []
    for path in kept_files(reference):
        table = Predictions.load(path, logits=False)
        if not is_current(table, reference, Data()):
            continue
        heads = [reference.head] if reference.head in table.heads else list(table.heads)
        where = table.dataset, table.split
        scores += [HeadScore(*where, head, int(table.hits(head).sum()), len(table.ids)) for head in heads]
    return ModelOrigins(reference.short(1), recipe, tuple(scores))


# Which images


@dataclass(frozen=True)
class SplitImages:
    """Images of a split, how they are read, and how the model's classes are the data's."""

    source: Source
    settings: Data
    classes: ClassMap | None

    @property
    def what(self) -> str:
        return f"{self.source.dataset}/{self.source.split}"


def images_of(
    reference: Reference, model: LoadedModel, *, dataset: str, data: str, split: str = "val"
) -> SplitImages | None:
    """The model's own images, or those that are named; None where none are named and its own are not here.

    Raises:
        DeitkitError: those that are named are not there, or the model does not know their classes.
    """
    try:
        settings = data_of([replace(reference, head="")], dataset=dataset, data=data)
        source, classes = open_for(model, settings, split)
    except DeitkitError as error:
        if (dataset or data) and not isinstance(error, MissingSplit):
            raise
        if split == "val":
            logger.info(f"no images to check it on are at hand ({error.what}): --data FOLDER names some")
        return None
    return SplitImages(source, settings, classes)


def samples_for(model: LoadedModel, images: SplitImages | None) -> Samples:
    """32 images, evenly from the whole split, or noise where there are none."""
    size = model.info.size
    if images is None:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(CHECKED, 3, *size, generator=generator)
        return Samples(noise, (), f"{CHECKED} images of noise", is_noise=True)
    rows, views = _views(model, images, CHECKED)
    reading = protocol_of(model.info, Reading.of(images.settings))
    source = images.source
    decoded = [np.asarray(decode(source.read(row), source.ids[row], reading)) for row in rows]
    return Samples(views, decoded, f"{len(rows)} images of {images.what}")


def _views(model: LoadedModel, images: SplitImages, count: int) -> tuple[list[int], Tensor]:
    """At most so many readable images, evenly from the whole split: their rows, and [N, 3, H, W] as the model takes
    them."""
    chosen = np.linspace(0, len(images.source) - 1, min(count, len(images.source))).round().astype(int).tolist()
    reading = replace(Reading.of(images.settings), leave_out_unreadable=True)
    loader = evaluation_loader(
        images.source, model.info, device=torch.device("cpu"), reading=reading, indices=list(dict.fromkeys(chosen))
    )
    found = [(batch.indices, batch.images) for batch in loader]
    return torch.cat([rows for rows, _ in found]).tolist(), torch.cat([pixels for _, pixels in found])
