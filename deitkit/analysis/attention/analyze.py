"""A run or model and some images -> what its tokens read of them: what `deitkit analyze attention` shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deitkit.errors import DeitkitError
from deitkit.models.reference import Reference
from deitkit.predictions.find import data_settings

if TYPE_CHECKING:
    from deitkit.analysis.attention.report import Grids
    from deitkit.analysis.report import Report
    from deitkit.data.views.augment import Pixels
    from deitkit.models.load import LoadedModel

LIMIT = 4  # images, because each has figures of its own
logger = logging.getLogger(__name__)


def analyze(
    model: str | Path, images: Sequence[str | Path] = (), *, layer: int | Literal["all"] | None = None,
    head: int | Literal["all"] | None = None, token: str = "", limit: int | None = None, dataset: str = "",
    data: str | Path = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """One model's attention on the image files (or folders of them) named, or on images from the whole of a split.

    Pictures of every head of one `layer`, and of one `head` at every layer, counted from 1; layer "all" gives each
    head of every layer of the `token` ("class" or "distillation", both where it is ""). At most `limit` images: 4, or
    all files named. Definitions and sources stand in the report.

        deitkit.analyze_attention("runs/mine", ["cat.jpg"], layer=3)

    Raises:
        DeitkitError: no model is named, it is no vision transformer, or it has no such layer, head or token; files
            and a data set are both named.
    """
    from deitkit.analysis.attention.measure import look_at
    from deitkit.analysis.attention.report import attention_report
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_model

    if not model:
        raise DeitkitError("no model is named", remedy="deitkit analyze attention IMAGE... --model RUN")
    if images and (dataset or data):
        raise DeitkitError(
            "both image files and a data set are named", value=images[0], remedy="leave out --dataset and --data"
        )
    loaded, picked = load_model(str(model)), pick_device(device)
    views = (
        file_views(loaded, images, limit)
        if images
        else split_views(loaded, str(model), limit, dataset=dataset, data=str(data), split=split)
    )
    looks = [look_at(loaded, view, device=picked, name=name, label=label) for name, label, view in views]
    return attention_report(
        looks, classifier=Reference.parse(str(model)).short(1), grids=grids_of(loaded, layer, head, token)
    )


def grids_of(
    model: LoadedModel, layer: int | Literal["all"] | None, head: int | Literal["all"] | None, token: str
) -> Grids:
    """Which pictures are asked for, of the layers, heads and tokens that the model has."""
    from deitkit.analysis.attention.report import Grids

    every_head = tuple(range(1, model.student.network.blocks[0].attn.num_heads + 1))
    every_token = ("class", "distillation") if model.student.distilled else ("class",)
    return Grids(
        layers=(layer,) if isinstance(layer, int) else (),
        heads=(head,) if isinstance(head, int) else every_head if head else (),
        tokens=() if layer != "all" else (token,) if token else every_token,
    )


def file_views(
    model: LoadedModel, names: Sequence[str | Path], limit: int | None
) -> Iterator[tuple[str, str, Pixels]]:  # fmt: skip
    """Name, no label, and the model's view of each file."""
    from deitkit.data.formats.listing import named_images
    from deitkit.predictions.predict import view_of

    paths = named_images(names)
    most = limit or max(LIMIT, len(names))
    if len(paths) > most:
        logger.info(f"{most} of {len(paths):,} images; --limit takes more")
    for path in paths[:most]:
        yield path.name, "", view_of(model.info, path.read_bytes(), str(path))


def split_views(
    model: LoadedModel, reference: str, limit: int | None, *, dataset: str, data: str, split: str
) -> Iterator[tuple[str, str, Pixels]]:
    """Id, class name and the model's view of images from the whole of a split."""
    from deitkit.data.open import open_source, spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.predictions.predict import view_of

    settings = data_settings(Reference.parse(reference).home, dataset=dataset, data=data)
    source = spread_over(open_source(settings, split), limit or LIMIT)
    for index, name in enumerate(source.ids):
        label = source.class_names[int(source.labels[index])]
        yield name, label, view_of(model.info, source.read(index), name, Reading.of(settings))
