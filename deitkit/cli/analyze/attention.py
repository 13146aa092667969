"""`deitkit analyze attention`: what the class and the distillation token read of some images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, ModelRef, ReportOptions
from deitkit.errors import DeitkitError
from deitkit.models.reference import Reference

if TYPE_CHECKING:
    from deitkit.analysis.attention.report import Grids
    from deitkit.analysis.report import Report
    from deitkit.data.views.augment import Pixels, Reading
    from deitkit.models.load import LoadedModel

LIMIT = 4  # images, because each has figures of its own


def attention(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGES...]", help="Image files, or folders of them [default: the run's own data]."),
    ] = None,
    model: ModelRef = "",
    layer: Annotated[
        str, typer.Option("--layer", help="Also each head of this layer: a number, or all for every head of every one.")
    ] = "",
    head: Annotated[str, typer.Option("--head", help="Also this head at each layer: a number, or all.")] = "",
    token: Annotated[str, typer.Option("--token", help="Of --layer all: class or distillation [default: both].")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many images [default: 4, or all files named].")
    ] = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """What the class and the distillation token read of images, side by side.

    attention: softmax of a token's query with every token's key, by layer and head. rollout: heads averaged, an
    identity of equal weight added for the residual path, and the layers multiplied: what reaches the token of each
    patch. difference: class minus distillation token. distance: pixels between patches, weighted by attention.

    Each image has a figure of its rollouts and one of its layers, named after it. Fused attention is off while this
    command looks. Attention shows what is mixed, not what decided. Sources: Abnar & Zuidema 2020 (rollout);
    Dosovitskiy et al. 2020, Fig. 7 (distance); Touvron et al. 2020, Sec. 4 (tokens).

    Example: deitkit analyze attention examples/digits --model runs/quickstart/student_32
    """
    folder = reports_folder(model, saved, name="attention") if model else Path()
    report = attention_of(
        model, images or [], layer=layer, head=head, token=token, limit=limit, **vars(where)
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json, without=("heads",))


def attention_of(
    reference: str, images: list[str], *, layer: str = "", head: str = "", token: str = "", limit: int | None = None,
    dataset: str = "", data: str = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """One model's attention on the files named, or on images from the whole of a split."""
    from deitkit.analysis.attention.measure import look_at
    from deitkit.analysis.attention.report import attention_report
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_reference

    if not reference:
        raise DeitkitError("no model is named", remedy="deitkit analyze attention IMAGE... --model RUN")
    if images and (dataset or data):
        raise DeitkitError(
            "both image files and a data set are named", value=images[0], remedy="leave out --dataset and --data"
        )
    loaded, picked = load_reference(reference), pick_device(device)
    views = (
        file_views(loaded, images, limit)
        if images
        else split_views(loaded, reference, limit, dataset=dataset, data=data, split=split)
    )
    looks = [look_at(loaded, view, device=picked, name=name, label=label) for name, label, view in views]
    name = Reference.parse(reference).short(1)
    return attention_report(looks, classifier=name, grids=grids_of(loaded, layer, head, token))


def grids_of(model: LoadedModel, layer: str, head: str, token: str) -> Grids:
    """What --layer, --head and --token ask for."""
    from deitkit.analysis.attention.report import Grids

    blocks = model.student.network.blocks
    everything = ("class", "distillation") if model.student.distilled else ("class",)
    return Grids(
        layers=() if layer in ("", "all") else (_number(layer, "--layer"),),
        heads=tuple(range(1, blocks[0].attn.num_heads + 1)) if head == "all"
        else (_number(head, "--head"),) if head else (),
        tokens=((token,) if token else everything) if layer == "all" else (),
    )  # fmt: skip


def _number(text: str, option: str) -> int:
    if not text.isdigit():
        raise DeitkitError(f"{option} {text!r}: expected a number from 1, or all", value=text)
    return int(text)


def file_views(model: LoadedModel, names: list[str], limit: int | None) -> Iterator[tuple[str, str, Pixels]]:
    """Name, no label, and the model's view of each file."""
    from deitkit.cli.predict import image_paths

    paths = image_paths(names)
    most = limit or max(LIMIT, len(names))
    if len(paths) > most:
        render.say(f"{most} of {len(paths):,} images; --limit takes more")
    for path in paths[:most]:
        yield path.name, "", _view(model, path.read_bytes(), str(path))


def split_views(
    model: LoadedModel, reference: str, limit: int | None, *, dataset: str, data: str, split: str
) -> Iterator[tuple[str, str, Pixels]]:
    """Id, class name and the model's view of images from the whole of a split."""
    from deitkit.data.open import open_source, spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.predictions.find import data_settings

    settings = data_settings(Reference.parse(reference).home, dataset=dataset, data=data)
    source = spread_over(open_source(settings, split), limit or LIMIT)
    for index, name in enumerate(source.ids):
        label = source.class_names[int(source.labels[index])]
        yield name, label, _view(model, source.read(index), name, Reading.of(settings))


def _view(model: LoadedModel, encoded: bytes, name: str, reading: Reading | None = None) -> Pixels:
    """As the model's own protocol cuts it."""
    from deitkit.data.views.augment import AS_IT_LIES, decode, evaluation_view

    info = model.info
    image = decode(encoded, name, reading or AS_IT_LIES)
    return evaluation_view(image, info.size, info.crop_ratio, info.interpolation)
