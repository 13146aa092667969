"""What ImageNet's images are called: wnids, the ground truth of a flat val folder, and ReaL's label sets.

A class index is a place among the thousand sorted wnids; the devkit has an order of its own. Opens no image.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from deitkit.data.source import Files, LabelSets, counted
from deitkit.errors import DeitkitError

VAL_SIZE = 50_000
CLASSES = 1000
# Some mirrors append the class: ILSVRC2012_val_00000293_n01440764.JPEG.
VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.\w+", re.ASCII | re.IGNORECASE)
REAL_PLACES = ("real.json", "reassessed-imagenet/real.json", "reassessed-imagenet-master/real.json")
TRUTH_PLACES = ("", "ILSVRC2012_devkit_t12/data", "devkit/data", "data", "annotations", "labels", "val")
# Files of ground truth for a flat val, and what a line of each is.
DEVKIT, INDICES = "ILSVRC2012_validation_ground_truth.txt", "ilsvrc2012_val_labels.txt"
TRUTHS = {
    DEVKIT: r"(?P<label>[1-9]\d{0,2}|1000)",
    "imagenet_2012_validation_synset_labels.txt": r"(?P<label>n\d{8})",
    "LOC_val_solution.csv": r"ILSVRC2012_val_(?P<image>\d{8}),(?P<label>n\d{8})\b.*",
    INDICES: r"(?P<label>0|[1-9]\d{0,2})",
}
ANEW = "fetch it anew"


@cache
def wnids() -> tuple[str, ...]:
    """The thousand wnids in the order of their class indices, which is the sorted one."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())  # type: ignore[no-untyped-call]


def with_real(images: Files, file: Path) -> Files:
    """The images with every label of real.json, found by the number in their names; classes they lack are left out.

    Raises:
        DeitkitError: real.json is not 50,000 lists of class indices, or an image's number is beyond it.
    """
    sets = _read_real(file)
    found = [VAL_IMAGE.fullmatch(name.rpartition("/")[2]) for name in images.ids]
    if beyond := [name[0] for name in found if name and not 1 <= int(name[1]) <= VAL_SIZE]:
        raise refusal(file, "images are beyond the 50,000 that it labels", beyond, remedy="take them out")
    unnumbered = [name for name, match in zip(images.ids, found, strict=True) if match is None]
    note = counted("images have no ReaL labels: their names tell no number", unnumbered)
    notes = (*images.notes, note) if unnumbered else images.notes
    if len(unnumbered) == len(images):
        return replace(images, notes=notes)
    place = {name: label for label, name in enumerate(images.class_names)}
    classes = [place.get(name, -1) for name in wnids()]
    rows = (sets[int(name[1]) - 1] if name else [] for name in found)
    accepted = LabelSets([classes[label] for label in row if classes[label] >= 0] for row in rows)
    return replace(images, accepted=accepted, notes=notes)


def _read_real(file: Path) -> list[list[int]]:
    remedy = "`deitkit data download imagenet_real` fetches it anew"
    try:
        sets = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DeitkitError(f"{file} is no readable JSON: {error}", value=file, remedy=remedy) from error
    if not isinstance(sets, list) or len(sets) != VAL_SIZE:
        raise DeitkitError(f"{file} is no list of 50,000 lists, one for each image", value=file, remedy=remedy)
    indices = range(CLASSES)
    bad = [
        f"image {number}: {row}"
        for number, row in enumerate(sets, 1)
        if not isinstance(row, list) or any(type(label) is not int or label not in indices for label in row)
    ]
    if bad:
        raise refusal(file, "entries are no lists of class indices 0 to 999", bad, remedy=remedy)
    return sets


def truth_of(root: Path, val: Path, names: Mapping[int, str]) -> tuple[Path, dict[int, str]]:
    """Where the wnids of flat val images stand, and each by its image's number."""
    for folder in dict.fromkeys(base / place for base in (root, val.parent) for place in TRUTH_PLACES):
        if file := first_of(folder, TRUTHS):
            return file, _read_truth(file)
    named = {number: found[2] for number, name in names.items() if (found := VAL_IMAGE.fullmatch(name)) and found[2]}
    if len(named) == len(names):
        return val, named
    raise DeitkitError(
        f"the validation images in {val} have no ground truth",
        value=root,
        problems=[f"looked for {' or '.join(TRUTHS)}", f"in ROOT, {', '.join(filter(None, TRUTH_PLACES))}"],
        remedy=f"unpack ILSVRC2012_devkit_t12.tar.gz in {root}; `deitkit data download imagenet` says where it is",
    )


def _read_truth(file: Path) -> dict[int, str]:
    """The wnid of each image by its number; lines go by number unless they name their image."""
    pattern = re.compile(TRUTHS[file.name], re.ASCII)
    header = int(file.suffix == ".csv")
    try:
        lines = file.read_text().strip().splitlines()[header:]
    except (OSError, UnicodeDecodeError) as error:
        raise DeitkitError(f"{file} cannot be read: {error}", value=file, remedy=ANEW) from error
    rows = [match for line in lines if (match := pattern.fullmatch(line.strip()))]
    if len(rows) != len(lines):
        numbered = enumerate(lines, 1 + header)
        bad = [f"line {number}: {line}" for number, line in numbered if not pattern.fullmatch(line.strip())]
        raise refusal(file, "lines hold no class where one should be", bad, remedy=ANEW)
    numbers = [int(row["image"]) for row in rows] if "image" in pattern.groupindex else range(1, len(rows) + 1)
    if twice := [str(number) for number, count in Counter(numbers).items() if count > 1]:
        raise refusal(file, "images stand in it more than once", twice, remedy=ANEW)
    if len(rows) != VAL_SIZE:
        raise DeitkitError(f"{file} labels {len(rows):,} images, not 50,000", value=file, remedy=ANEW)
    labels = [row["label"] for row in rows]
    if file.name == DEVKIT:
        names = _devkit_wnids(file.with_name("meta.mat"))
        labels = [names[int(label)] for label in labels]
    elif file.name == INDICES:
        labels = [wnids()[int(label)] for label in labels]
    return dict(zip(numbers, labels, strict=True))


def _devkit_wnids(meta: Path) -> dict[int, str]:
    """The wnid of each ILSVRC id: the devkit has an order of its own, and inner nodes beyond its 1,000 classes."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    remedy = "unpack ILSVRC2012_devkit_t12.tar.gz again"
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        names = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    except (OSError, KeyError, IndexError, ValueError, NotImplementedError, MatReadError) as error:
        what = f"{meta}, which names the devkit's classes, cannot be read: {error}"
        raise DeitkitError(what, value=meta, remedy=remedy) from error
    if absent := [str(number) for number in range(1, CLASSES + 1) if number not in names]:
        raise refusal(meta, "of the classes 1 to 1000 are not in it", absent, remedy=remedy)
    return names


def first_of(root: Path, places: Iterable[str]) -> Path | None:
    return next((root / place for place in places if (root / place).is_file()), None)


def refusal(where: Path, what: str, names: Sequence[str], *, remedy: str) -> DeitkitError:
    return DeitkitError(f"{where}: {counted(what, names)}", value=names[0], remedy=remedy)
