"""ImageNet-V2, matched-frequency (Recht et al. 2019): folders of class indices, sorted as numbers. Evaluation only."""

from __future__ import annotations

import itertools
from pathlib import Path

from deitkit.data.datasets.imagenet import WNID, by_folder, entries, evaluation_only
from deitkit.data.datasets.imagenet_labels import CLASSES, refusal, wnids
from deitkit.data.source import Form, Source
from deitkit.recipe import schema

V2_PLACES = ("", "imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency")


def open_v2(root: Path, data: schema.Data, split: str) -> Source:
    """ImageNet-V2: folders of class indices 0..999, sorted as numbers, or folders of wnids.

    Raises:
        DeitkitError: a folder that is neither, is out of range, doubles a class or holds no image.
    """
    evaluation_only(data, split)
    folder = _v2_folder(root) or root
    names = sorted(entries(folder, folders=True))
    place = {name: label for label, name in enumerate(wnids())}
    if not all(WNID.fullmatch(name) for name in names):
        if strange := [name for name in names if not (name.isascii() and name.isdecimal())]:
            raise refusal(folder, "folders are no class indices", strange, remedy="ImageNet-V2's are called 0 to 999")
        place = {name: int(name) for name in names if int(name) < CLASSES}
    if foreign := [name for name in names if name not in place]:
        raise refusal(folder, "folders are none of the 1,000 classes", foreign, remedy="take them out")
    order = sorted(names, key=lambda name: place[name])
    if twice := [name for before, name in itertools.pairwise(order) if place[before] == place[name]]:
        raise refusal(folder, "folders double a class", twice, remedy="merge each with the other of its number")
    labels = {name: place[name] for name in order}
    return by_folder(root, folder, data, split="val", classes=wnids(), labels=labels)


def _v2_folder(root: Path) -> Path | None:
    for folder in (root / place for place in V2_PLACES):
        if any(WNID.fullmatch(name) or name.isdecimal() for name in entries(folder, folders=True)):
            return folder
    return None


def _has_v2_folders(root: Path) -> bool:
    return _v2_folder(root) is not None


IMAGENET_V2_FORMS = (
    Form("folders by class index", "ROOT/0/*.jpeg to ROOT/999/*.jpeg, or wnids for numbers", _has_v2_folders, open_v2),
)
