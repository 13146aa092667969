"""What is there to choose from: folders of images near by, data sets, runs, GPUs. Decodes no image, opens no model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.catalog import DATASETS
from deitkit.cli.data.shared import data_of
from deitkit.cli.guided.asker import Row
from deitkit.errors import DeitkitError
from deitkit.models.forms import decisive_head
from deitkit.recipe.pick import trainable_datasets

if TYPE_CHECKING:
    from deitkit.runs.folder import Run

MOST_FOLDERS = 300  # that are looked into: a home folder holds thousands
MOST_RUNS = 20
NOT_IMAGES = frozenset({"runs", "node_modules", "site-packages"})
PUBLISHED = {
    "timm:deit_tiny_patch16_224": "published, 5.7 million parameters",
    "timm:deit_tiny_distilled_patch16_224": "published, with a distillation token",
    "timm:deit_small_patch16_224": "published, 22 million parameters",
    "timm:deit_base_patch16_224": "published, 87 million parameters",
}


def folders_with_images() -> list[Row]:
    """This folder and those below it, two deep, that hold class folders of images."""
    return [Row(str(folder), words) for folder, words in _image_folders(Path(), depth=2, left=[MOST_FOLDERS])]


def _image_folders(folder: Path, *, depth: int, left: list[int]) -> Iterator[tuple[Path, str]]:
    from deitkit.data.formats.folder import split_folders
    from deitkit.data.formats.listing import folders_in, loose_images

    left[0] -= 1
    try:
        names = sorted(folders_in(folder))
        splits = split_folders(folder)
        root = folder / splits["train"][0] if "train" in splits else folder
        classes = [name for name in folders_in(root)[:MOST_FOLDERS] if loose_images(root / name)]
    except (DeitkitError, OSError):  # who may not look there does not choose it
        return
    if len(classes) > 1:
        yield folder, f"{len(classes):,} classes" + (f", {' and '.join(splits)}" if splits else "")
        return
    for name in names if depth else ():
        if left[0] > 0 and name not in NOT_IMAGES:
            yield from _image_folders(folder / name, depth=depth - 1, left=left)


def told_of_images(name: str) -> str:
    """How many training images and classes they are.

    Raises:
        DeitkitError: they cannot be opened.
    """
    from deitkit.data.open import open_source

    source = open_source(data_of(name), "train")
    return f"{len(source):,} training images of {len(source.class_names):,} classes"


def paths(incomplete: str) -> Iterator[tuple[str, str]]:
    """Folders and tables that begin so."""
    from deitkit.data.formats.listing import TABLES, entries_of, is_folder

    place = incomplete.rpartition("/")[0] + ("/" if "/" in incomplete else "")
    with contextlib.suppress(DeitkitError):  # a folder that is not there offers nothing
        for entry in sorted(entries_of(Path(place or ".").expanduser()), key=lambda entry: entry.name):
            if is_folder(entry):
                yield f"{place}{entry.name}/", ""
            elif entry.name.lower().endswith(TABLES):
                yield f"{place}{entry.name}", "a table"


def datasets_here() -> list[Row]:
    """The data sets of the catalog whose images are at hand; the bundled ones last."""
    from deitkit.data.open import is_available
    from deitkit.recipe.schema import Data

    here = [name for name in trainable_datasets() if is_available(Data(dataset=name))]
    here.sort(key=lambda name: DATASETS[name].bundled)
    return [Row(name, f"{DATASETS[name].title}, {DATASETS[name].train_size:,} images") for name in here]


def finished_runs() -> list[Row]:
    """Runs below ./runs that hold a model, the newest first."""
    return [Row(str(run.path), words) for run, words in _runs("finished")]


def interrupted_runs() -> list[Row]:
    """Runs below ./runs that can go on, the newest first."""
    return [Row(str(run.path), words) for run, words in _runs("interrupted")]


def _runs(status: str) -> list[tuple[Run, str]]:
    from deitkit.runs.folder import find_runs

    found = []
    for run in reversed(find_runs()):
        try:
            if run.status() == status:
                found.append((run, _told(run)))
        except DeitkitError:  # a damaged run is no choice; `runs list` says what is wrong with it
            continue
    return found[:MOST_RUNS]


def _told(run: Run) -> str:
    """A run in a few words: model, data, how far or how good."""
    recipe, result = run.recipe(), run.result()
    what = f"{recipe.model.name} on {recipe.data.path or recipe.data.dataset}"
    if result is not None:
        return f"{what}, {result['top1'][decisive_head(result['top1'])]:.1%}"
    epoch = max((line["epoch"] for line in run.logged(spaced=0).lines), default=0.0)
    return f"{what}, epoch {epoch:g} of {recipe.train.epochs}"


@cache
def devices() -> tuple[Row, ...]:
    """What can train here. Imports torch."""
    import torch

    rows = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        rows.append(Row(f"cuda:{index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB"))
    if torch.backends.mps.is_available():
        rows.append(Row("mps", "this Mac's GPU"))
    return (*rows, Row("cpu", f"{torch.get_num_threads()} threads"))
