"""Where the images are that a table names: the folder, the ending, the machine it was written on. Decodes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from deitkit.data.formats.listing import folders_in, is_litter
from deitkit.data.source import SUFFIXES, counted
from deitkit.errors import DeitkitError

LOOKED_UP = 20  # rows that are tried on disk to find out what their paths are relative to
_LOOKED_INTO = 200  # folders beside the table in which they are looked for
_DRIVE = re.compile(r"[A-Za-z]:/|//")


@dataclass
class Located:
    """The folder that ids are relative to, split -> ids and whether each is there, and what was found out."""

    folder: Path
    ids: dict[str, list[str]] = field(default_factory=dict)
    there: dict[str, list[bool]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def located(folder: Path, paths: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> Located:
    """Ids of the images that the tables in `folder` name; `paths` and the tables' `names` by split.

    Raises:
        DeitkitError: relative paths lead out of the folder.
    """
    found, look = Located(folder), _Look(folder)
    for split, written in paths.items():
        plain = _at_home(folder, split, [_posix(path) for path in written], found.notes, names[split])
        base, ending = _completion(folder, split, _sample(plain))
        if base or ending:
            found.notes.append(f"paths of {names[split]} are completed to {folder / base}/PATH{ending}")
        whole = [path if path.startswith("/") else f"{base}{path}{ending}" for path in plain]
        ids = [str(PurePosixPath(path)) if "//" in path or "/./" in f"/{path}" else path for path in whole]
        _refuse_outside(ids, names[split])
        found.ids[split], found.there[split] = _spread(ids, look, found.notes, names[split])
    return _relative(found)


class _Look:
    """What is in a folder and below: one look into each, however many images and splits ask."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[str, set[str]] = {}

    def is_there(self, image: str) -> bool:
        parent, _, name = image.rpartition("/")
        return name in self._names(parent or ("/" if image.startswith("/") else ""))

    @cached_property
    def places(self) -> dict[str, list[str]]:
        """Name of an image, with and without its ending -> its paths below the root, two floors deep."""
        found: dict[str, list[str]] = {}
        first = _below(self.root)[:_LOOKED_INTO]
        second = [f"{place}/{inner}" for place in first for inner in _below(self.root / place)]
        for place in ["", *first, *second]:
            for name in self._names(place):
                stem, ending = os.path.splitext(name)  # noqa: PTH122 - there may be a million
                if ending.lower() in SUFFIXES and not is_litter(name):
                    for key in (name, stem):
                        found.setdefault(key, []).append(f"{place}/{name}".lstrip("/"))
        return found

    def _names(self, folder: str) -> set[str]:
        if folder not in self._listed:
            self._listed[folder] = _names_in(self.root / folder)
        return self._listed[folder]


def _names_in(folder: Path) -> set[str]:
    """The names of what is in a folder; none where there is no folder.

    Raises:
        DeitkitError: nobody may look.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name has a null character
        return set()
    except OSError as error:
        raise DeitkitError(f"cannot list folder {folder}: {error.strerror}", remedy="make it readable") from error


# Path's raise where a name is too long to be one.
def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_there(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def _posix(path: str) -> str:
    return path.replace("\\", "/") if "\\" in path and "/" not in path else path


def _sample(paths: Sequence[str]) -> list[str]:
    """A few from the whole table: the first ones may all lie in one of several folders."""
    step = max(1, len(paths) // LOOKED_UP)
    return list(islice(paths[::step], LOOKED_UP))


def _at_home(folder: Path, split: str, paths: list[str], notes: list[str], name: str) -> list[str]:
    """Absolute paths of another machine (C:/data/x.jpg, /home/other/x.jpg), without what is not here."""
    first = paths[0]
    if not (_DRIVE.match(first) or (first.startswith("/") and not _is_there(first))):
        return paths
    parts = first.split("/")
    for cut in range(1, len(parts)):
        base, ending = _completion(folder, split, ["/".join(parts[cut:])])
        if _is_file(folder / f"{base}{'/'.join(parts[cut:])}{ending}"):
            foreign = "/".join(parts[:cut]) + "/"
            notes.append(f"paths of {name} begin with {foreign}, which is not here: looked for in {folder}")
            return [path.removeprefix(foreign) for path in paths]
    return paths


def _completion(folder: Path, split: str, paths: Sequence[str]) -> tuple[str, str]:
    """What stands before and after the paths on disk; two empty strings where that cannot be found out.

    A folder beside the table that has no usual name counts where no other holds these images.
    """

    def fits(base: str) -> Iterator[tuple[str, str]]:
        for ending in _endings(paths):
            if any(_is_file(folder / f"{base}{path}{ending}") for path in paths):
                yield base, ending

    usual = next((fit for base in ("", "images/", f"{split}/", f"images/{split}/") for fit in fits(base)), None)
    if usual:
        return usual
    found = [fit for other in _below(folder)[:_LOOKED_INTO] for fit in fits(f"{other}/")]
    return found[0] if len(found) == 1 else ("", "")


def _endings(paths: Sequence[str]) -> tuple[str, ...]:
    """The endings that paths may lack; none but "" where they have one."""
    complete = any(path.lower().endswith(tuple(SUFFIXES)) for path in paths)
    return ("",) if complete else ("", *sorted(SUFFIXES), *sorted(ending.upper() for ending in SUFFIXES))


def _below(folder: Path) -> list[str]:
    return sorted(folders_in(folder))


def _spread(ids: list[str], look: _Look, notes: list[str], name: str) -> tuple[list[str], list[bool]]:
    """Images that are not where the others are, found by their name alone where only one folder has it."""
    is_there = [look.is_there(image) for image in ids]
    missing = [index for index, found in enumerate(is_there) if not found and not ids[index].startswith("/")]
    if not missing:
        return ids, is_there
    chosen: dict[int, str] = {}
    for index in missing:
        name_alone = ids[index].rpartition("/")[2]
        candidates = look.places.get(name_alone) or look.places.get(PurePosixPath(name_alone).stem, [])
        if len(candidates) == 1:
            chosen[index] = candidates[0]
    if chosen and len(set(chosen.values())) == len(chosen):
        folders = sorted({path.rpartition("/")[0] for path in chosen.values()})
        notes.append(f"{len(chosen):,} images of {name} were found by their names alone, in {_few(folders)}")
        ids = [chosen.get(index, image) for index, image in enumerate(ids)]
        is_there = [found or index in chosen for index, found in enumerate(is_there)]
    return ids, is_there


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more folders" if len(names) > 3 else "")


def _refuse_outside(ids: Sequence[str], name: str) -> None:
    """A relative path stays below the folder: a table that came with images reads no others of the machine."""
    outside = [image for image in ids if ".." in image and os.path.normpath(image).startswith("../")]
    if outside:
        raise DeitkitError(
            counted(f"images of {name} lie outside the data's folder", outside),
            value=outside[0],
            remedy="name a folder that holds both, or write absolute paths into a table of your own",
        )


def _relative(found: Located) -> Located:
    """Absolute ids made relative to the table's folder, or to the one that all of them share.

    So they are the same on another machine. Where absolute and relative ones are mixed, those outside stay as they are.
    """
    folder, ids, notes = found.folder, found.ids, found.notes
    absolute = [path for part in ids.values() for path in part if path.startswith("/")]
    if not absolute:
        return found
    tops = [f"{os.path.abspath(folder)}/", f"{os.path.realpath(folder)}/"]  # noqa: PTH100 - the text counts
    top = next((top for top in tops if absolute[0].startswith(top)), tops[0])
    if len(absolute) == sum(map(len, ids.values())) and not all(path.startswith(top) for path in absolute):
        folder = Path(os.path.commonpath([PurePosixPath(path).parent for path in (min(absolute), max(absolute))]))
        top = f"{folder}/".replace("//", "/")
        notes = [*notes, f"ids are relative to {top}, which all paths have in common"]
    shorter = {split: [path.removeprefix(top) for path in part] for split, part in ids.items()}
    return Located(folder, shorter, found.there, notes)
