"""What becomes of images that a look before training found to be unreadable: left out, or a reason to stop.

A run keeps what it does without and does without it again when it is resumed: another set of training images would be
another stream. Published data are not looked at: their images are known, and there may be a million of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from deitkit.data.check.scan import BadImage, Scan, scan
from deitkit.data.check.verify import Copy, Progress
from deitkit.data.open import open_source
from deitkit.data.source import Source, counted, shown, subset
from deitkit.data.views.augment import Reading
from deitkit.distributed import World
from deitkit.errors import DeitkitError, quoted
from deitkit.files import write_atomic
from deitkit.recipe.schema import Data
from deitkit.records import read_json
from deitkit.runs.contents import LeftOutImages

LEFT_OUT = "left_out.json"
NAMED = 10  # images of each kind in a message


@dataclass(frozen=True)
class LeftOut:
    """What a run does without, what became unreadable since it began, and what a person should know of its images."""

    images: tuple[BadImage, ...] = ()
    is_whole: bool = True
    messages: tuple[str, ...] = ()
    later: tuple[BadImage, ...] = ()

    def without(self, source: Source) -> Source:
        """The source's other images."""
        gone = {image.id for image in self.images if image.split == source.split}
        if not gone:
            return source
        return subset(source, np.array([row for row, name in enumerate(source.ids) if name not in gone]), source.split)


def is_scanned(data: Data) -> bool:
    """Whether images are looked at before training: one's own, and others where unreadable ones are to be left out."""
    return data.is_own or data.bad_images == "leave_out"


def scan_data(
    data: Data, *, workers: int = 0, world: World | None = None, begin: Callable[[str, int], None] | None = None,
    progress: Progress | None = None,
) -> Scan | None:  # fmt: skip
    """Look at the images that training and its evaluations will see; None where they are not looked at.

    Raises:
        DeitkitError: they cannot be opened, or a file has gone.
    """
    if not is_scanned(data):
        return None
    wanted = dict.fromkeys(("train", str(data.validate_on)))
    splits = {split: open_source(data, split) for split in wanted}
    return scan(splits, Reading.of(data), workers=workers, world=world, begin=begin, progress=progress)


def settle(data: Data, found: Scan | None, before: LeftOut | None = None) -> LeftOut:
    """What is left out of the images that were looked at; `before` is what a resumed run does without.

    Raises:
        DeitkitError: unreadable images are an error, or they are too many, or all of a class.
    """
    if found is None:
        return before or LeftOut()
    if before is not None:
        return _resumed(data, found, before)
    refuse(data, found)
    said = tuple(notes_of(found))
    if not found.bad:
        return LeftOut(is_whole=found.is_whole, messages=said)
    what = counted_bad(found.bad)
    if data.bad_images == "replace":
        said = (f"training shows others instead of {what}; evaluations do without", *said)
        return LeftOut(is_whole=found.is_whole, messages=said)
    lost = [f"no image of class {shown(name)} in {split} can be read" for split, name in found.lost_classes]
    return LeftOut(found.bad, found.is_whole, (f"left out: {what}", *lost, *said))


def _resumed(data: Data, found: Scan, before: LeftOut) -> LeftOut:
    """The run goes on without what it began without; what is otherwise now is said."""
    known, now = {image[:2] for image in before.images}, {image[:2] for image in found.bad}
    later = tuple(image for image in found.bad if image[:2] not in known)
    mended = [image.id for image in before.images if image[:2] not in now]
    said = [f"left out as before: {counted_bad(before.images)}"] if before.images else []
    if mended:
        said.append(counted("images can be read now that the run began without: it goes on without them", mended))
    if later and data.bad_images == "error":
        raise DeitkitError(
            f"{len(later):,} of the images cannot be read that could when the run began",
            value=later[0].id,
            problems=_listed(later),
            remedy="restore them; or let others stand in for them: --resume --set data.on_bad_image=replace",
        )
    if later:
        said.append(f"others stand in for images that could be read when the run began: {counted_bad(later)}")
    return LeftOut(before.images, before.is_whole, tuple(said), later)


def refuse(data: Data, found: Scan) -> None:
    """Raise unless training may begin with these images.

    Raises:
        DeitkitError: unreadable images are an error, or they are too many, or all of a class that is to be learned.
    """
    if not refused(data, found):
        return
    lost = _lost_to_training(found)
    problems = _listed(found.bad)
    if lost:
        problems.append(counted("classes have no readable image", lost))
    total = sum(found.images.values())
    share = f", {found.share:.1%}" + (f": more than {data.bad_share:.0%}" if found.share > data.bad_share > 0 else "")
    where = quoted(data.path or data.dataset)
    raise DeitkitError(
        f"{len(found.bad):,} of {total:,} images cannot be read{share}",
        value=found.bad[0].id,
        problems=problems,
        remedy=f"repair them or take them out (`deitkit data verify {where}` lists them all)"
        + ("" if _is_nothing_left(found) else "; or do without them: --set data.on_bad_image=leave_out"),
    )


def refused(data: Data, found: Scan) -> bool:
    """Whether training may not begin with these images."""
    is_class_lost = data.on_bad_image == "auto" and _lost_to_training(found)
    return bool(found.bad) and bool(found.share > data.bad_share or is_class_lost or _is_nothing_left(found))


def _lost_to_training(found: Scan) -> list[str]:
    return [shown(name) for split, name in found.lost_classes if split == "train"]


def _is_nothing_left(found: Scan) -> bool:
    return len(found.ids("train")) == found.images["train"]


def _listed(bad: Sequence[BadImage]) -> list[str]:
    more = [f"and {len(bad) - NAMED:,} more"] if len(bad) > NAMED else []
    return [*(f"{shown(image.id)}: {image.reason}" for image in bad[:NAMED]), *more]


def counted_bad(bad: Sequence[BadImage]) -> str:
    """`2 images cannot be read: a/1.jpg (the file is empty), b/2.jpg (...)`; the first are named."""
    more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    named = ", ".join(f"{shown(image.id)} ({image.reason})" for image in bad[:NAMED])
    return f"{len(bad):,} image{'s' * (len(bad) != 1)} that cannot be read: {named}{more}"


def notes_of(found: Scan) -> list[str]:
    """What else was seen: the same picture under two labels, or on both sides."""
    kinds = (
        (found.conflicts, "pictures have several labels: what is right cannot be learned from them"),
        (found.leaks, "training images are validation images, too (the same bytes): accuracy looks better than it is"),
    )
    return [_of_groups(groups, what) for groups, what in kinds if groups]


def _of_groups(groups: Sequence[tuple[Copy, ...]], what: str) -> str:
    named = "; ".join(" = ".join(f"{copy.id} ({copy.class_name})" for copy in group[:4]) for group in groups[:NAMED])
    more = f" and {len(groups) - NAMED:,} more" if len(groups) > NAMED else ""
    return f"{len(groups):,} {what}: {named}{more}; `deitkit data verify` lists all such"


# Kept with the run


def remember_left_out(left_out: LeftOut, folder: Path) -> None:
    """Keep what a run does without."""
    kept = {"is_whole": left_out.is_whole, "images": [image._asdict() for image in left_out.images]}
    write_atomic(folder / LEFT_OUT, json.dumps(kept, indent=2) + "\n")


@overload
def left_out_of(folder: Path) -> LeftOut: ...
@overload
def left_out_of(folder: Path, *, is_new: bool) -> LeftOut | None: ...
def left_out_of(folder: Path, *, is_new: bool = False) -> LeftOut | None:
    """What a run does without: nothing where it is older than this; None where a new one was killed before it was kept.

    Raises:
        DeitkitError: the file is not as deitkit writes it.
    """
    path = folder / LEFT_OUT
    if not path.is_file():
        return None if is_new else LeftOut()
    kept = read_json(path, LeftOutImages, remedy="restore the file from a copy of the run, or train anew")
    images = (BadImage(each["split"], each["id"], each["class_name"], each["reason"]) for each in kept["images"])
    return LeftOut(tuple(images), kept["is_whole"])
