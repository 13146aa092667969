"""`deitkit data pack`: a data set as tar shards with an index. Its work is deitkit/data/pack/pack.py's."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.catalog import DATASETS
from deitkit.cli import render
from deitkit.cli.data.shared import data_of
from deitkit.cli.options import AsJson, DataPath, NameOrPath, Overwrite, ValFraction, output_option
from deitkit.cli.progress import Progress
from deitkit.errors import DeitkitError, one_of

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.data.pack.pack import PackResult
    from deitkit.recipe.schema import Data

MEGABYTE = 10**6
SPLITS = ("train", "val", "both")


def pack(
    source: NameOrPath,
    output: Annotated[str, output_option("The folder of the shards [default: packed/NAME].")] = "",
    data: DataPath = "",
    split: Annotated[str, typer.Option("--split", help="train, val or both [default: both].")] = "",
    val_fraction: ValFraction = None,
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="Megabytes of a shard.")] = 256,
    overwrite: Overwrite = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every image back and compare it.")] = False,
    reindex: Annotated[
        bool, typer.Option("--reindex", help="SOURCE is a pack: compare its shards' bytes and renew its index.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pack a data set into tar shards that are faster to read.

    The images' bytes are kept as they are, with an index that reaches each one; WebDataset reads the shards, too.
    Repeating the command goes on where it was interrupted. Training from the shards equals training from the images.

    Example: deitkit data pack digits -o packed/digits
    Example: deitkit data pack photos -o packed/photos --verify
    Example: deitkit data pack cars --data /data/cars --split train --shard-mb 100
    """
    began = time.perf_counter()
    if reindex:
        from deitkit.data.pack.pack import reindex as renew_index

        with Progress() as progress:
            result = renew_index(Path(source), progress=progress)
    else:
        settings = data_of(source, data=data, val_fraction=val_fraction)
        folder = Path(output or f"packed/{Path(source).resolve().name if settings.path else source}")
        how = {"shard_bytes": shard_mb * MEGABYTE, "overwrite": overwrite, "verify": verify}
        result = packed(open_splits(settings, split), folder, settings, **how)
    show(result, seconds=time.perf_counter() - began, as_json=as_json)


def packed(sources: list[Source], folder: Path, settings: Data, **how: Any) -> PackResult:
    """The images packed, with what is to be known of them."""
    from deitkit.data.pack.pack import pack as pack_sources

    with Progress() as progress:
        result = pack_sources(sources, folder, data=settings, progress=progress, **how)
    for note in dict.fromkeys(note for each in sources for note in each.notes):
        render.say(f"note: {note}")
    return result


def open_splits(settings: Data, split: str) -> list[Source]:
    """The splits asked for; without a wish both, or the only one that the data set has."""
    from deitkit.data.open import NoValidation, open_source

    known = DATASETS.get(settings.dataset)
    default = "val" if known and not known.train_size else "both"
    wanted = one_of(split or default, SPLITS, what="split")
    sources = [] if wanted == "val" else [open_source(settings, "train")]
    if wanted == "train":
        return sources
    try:
        return [*sources, open_source(settings, "val")]
    except NoValidation:
        if split:
            raise
        return sources  # training holds a part of the packed images out, as it would of the folder
    except DeitkitError as error:
        if split:
            raise
        remedy = f"{error.remedy}; `--split train` packs the training images alone"
        raise DeitkitError(error.what, value=error.value, remedy=remedy, problems=error.problems) from error


def show(result: PackResult, *, seconds: float, as_json: bool) -> None:
    known = result.dataset in DATASETS and not DATASETS[result.dataset].bundled
    following = (
        f"deitkit finetune --dataset {result.dataset if known else 'folder'} --data {shlex.quote(str(result.root))}"
    )
    if as_json:
        render.print_json({**render.plain(result), "seconds": round(seconds, 3), "next": following})
        return
    rows = [[part.split, part.images, part.shards, part.bytes] for part in result.splits]
    kept = f", {result.kept} shards were there" if result.kept else ""
    render.print_table(
        f"Packed in {result.root}",
        ["split", "images", "shards", "bytes"],
        rows,
        footer=f"{seconds:.1f} s{kept}; {'every byte' if result.verified else 'every size'} checked",
    )
    render.say(f"next: {following}")
