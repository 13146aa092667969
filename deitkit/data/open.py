"""Sources: one split of one data set, in whichever form it lies on disk. A new one is one file and one row here.

One's own images have up to three splits; where there are no validation images, a part of the training images is held
out. Published data have two: what their papers evaluate on is val, and test as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from deitkit.catalog import DATASETS
from deitkit.data.datasets.cars import CARS_FORMS
from deitkit.data.datasets.cifar import CIFAR10_FORMS, CIFAR100_FORMS
from deitkit.data.datasets.digits import open_digits
from deitkit.data.datasets.flowers import FLOWERS_FORMS
from deitkit.data.datasets.imagenet import IMAGENET_FORMS, IMAGENET_REAL_FORMS
from deitkit.data.datasets.imagenet_v2 import IMAGENET_V2_FORMS
from deitkit.data.datasets.inat import INAT21_FORMS, INAT_FORMS
from deitkit.data.formats.folder import FOLDER, wrapped
from deitkit.data.formats.hugging_face import PREFIX, SAVED, open_hub
from deitkit.data.formats.image_parquet import IMAGE_PARQUET
from deitkit.data.formats.listing import ARCHIVES, unpack_command, unpacked_place
from deitkit.data.formats.named import NAMED
from deitkit.data.formats.shards import PACKED, SHARDS
from deitkit.data.formats.split import MissingSplit, NoValidation, noted, renamed_split, stratified_split
from deitkit.data.formats.split_names import SPLITS
from deitkit.data.formats.table import TABLE
from deitkit.data.source import (
    Files,
    Form,
    LabelSets,
    Source,
    Subset,
    counted,
    fingerprint,
    image_name,
    spread_over,
    subset,
)
from deitkit.errors import DeitkitError, quoted
from deitkit.files import expanded
from deitkit.recipe import schema

__all__ = [
    "FORMS", "GENERIC", "SPLITS", "Files", "Form", "LabelSets", "MissingSplit", "NoValidation",
    "Source", "Subset", "counted",
    "find_data", "fingerprint", "image_name", "is_available", "open_source", "size_notes", "spread_over",
    "stratified_split", "subset",
]  # fmt: skip

# The forms in which a data set is found, in the order in which they are tried; the generic ones come last.
FORMS: dict[str, tuple[Form, ...]] = {
    "imagenet": IMAGENET_FORMS,
    "imagenet_v2": IMAGENET_V2_FORMS,
    "imagenet_real": IMAGENET_REAL_FORMS,
    "inat18": INAT_FORMS,
    "inat19": INAT_FORMS,
    "inat21": INAT21_FORMS,
    "inat21_mini": INAT21_FORMS,
    "flowers102": FLOWERS_FORMS,
    "cars": CARS_FORMS,
    "cifar10": CIFAR10_FORMS,
    "cifar100": CIFAR100_FORMS,
}
WRAPPINGS = 2  # folders around the images, as archives unpack: car_data/car_data/train
GENERIC: tuple[Form, ...] = (SHARDS, SAVED, IMAGE_PARQUET, TABLE, FOLDER)


def places(data: schema.Data) -> list[Path]:
    """Where the images are looked for: data.path alone, or $DEITKIT_DATA/<dataset> and ./data/<dataset>."""
    if data.path is not None:
        return [expanded(data.path)]
    if data.dataset not in DATASETS:
        raise DeitkitError(
            f"data.dataset is {data.dataset!r}, but data.path is not set: which folder?",
            value=data.dataset,
            remedy="--data FOLDER names the folder of images",
        )
    shelves = [expanded(shelf) for shelf in (os.environ.get("DEITKIT_DATA"), "data") if shelf]
    return [shelf / DATASETS[data.dataset].folder_name(data.dataset) for shelf in shelves]


def find_data(data: schema.Data) -> Path | None:
    """The first of `places` that is there, or the first; None where the images are bundled or on a hub."""
    if _is_bundled(data) or _is_hub(data):
        return None
    found = places(data)
    return next((place for place in found if place.exists()), found[0])


def is_available(data: schema.Data) -> bool:
    """Whether the images are at hand."""
    if data.path is None and data.dataset not in DATASETS and not _is_hub(data):
        return False
    root = find_data(data)
    return root is None or root.exists()


def open_source(data: schema.Data, split: str) -> Source:
    """One split ("train", "val" or "test") of the recipe's data, in whichever form it is found.

    Raises:
        MissingSplit: the data have no such split.
        DeitkitError: no images, or images laid out in no known way: what was looked for is listed.
    """
    if split not in SPLITS:
        raise DeitkitError(f"unknown split {split!r}", value=split, choices=SPLITS)
    if split == "test" and data.dataset in DATASETS:
        return renamed_split(open_source(data, "val"), "test")
    if _is_hub(data):
        return open_hub(data, split)
    root = find_data(data)
    if root is None:
        return open_digits(data, split)
    form, place = (NAMED, root) if data.label_from is not None and root.is_dir() else form_of(data, root)
    source = form.open(place, data, split)
    return source if place == root else noted(source, f"the images lie deeper than named: in {place}")


def form_of(data: schema.Data, root: Path) -> tuple[Form, Path]:
    """The first form that `root` has, or the folder in it that holds everything; and that place.

    Raises:
        DeitkitError: it is missing, or has none of them; each is shown. Or it is an archive.
    """
    forms = (*FORMS.get(data.dataset, ()), *GENERIC)
    place = root
    for _ in range(1 + WRAPPINGS):
        form = next((form for form in (PACKED, *forms) if place.exists() and form.matches(place)), None)
        inner = wrapped(place) if form in (FOLDER, None) and place.is_dir() else None
        if inner is None:
            break
        place = inner
    if form is not None:
        return form, place
    _refuse_archive(root)
    known = data.dataset in DATASETS
    remedy = f"`deitkit data download {data.dataset}` fetches it or says where it is" if known else "mend the path"
    raise DeitkitError(
        f"no images in {root}: it holds none of the forms below" if root.exists() else f"{root} does not exist",
        value=root,
        problems=[f"{form.name}: {form.tree}" for form in forms],
        remedy=f"--data PATH names them; {remedy}",
    )


def _refuse_archive(root: Path) -> None:
    if root.is_file() and root.name.lower().endswith(ARCHIVES):
        raise DeitkitError(
            f"{root} is an archive: images are read from folders, tables or shards",
            value=root,
            remedy=f"unpack it and name the folder: {unpack_command(root)}; then --data {quoted(unpacked_place(root))}",
        )


def size_notes(data: schema.Data, source: Source) -> list[str]:
    """Where a split's images or classes are not as many as were published (Table 6): said, not fatal."""
    known = DATASETS.get(data.dataset)
    if known is None or _is_bundled(data):
        return []
    published = known.train_size if source.split == "train" else known.test_size
    pairs = [("images", len(source), published), ("classes", len(source.class_names), known.classes)]
    return [
        f"{data.dataset} {source.split} has {found:,} {what}; {known.source} has {expected:,}"
        for what, found, expected in pairs
        if found != expected
    ]


def _is_hub(data: schema.Data) -> bool:
    return data.dataset.startswith(PREFIX) and data.path is None


def _is_bundled(data: schema.Data) -> bool:
    return data.dataset in DATASETS and DATASETS[data.dataset].bundled
