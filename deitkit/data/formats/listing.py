"""What lies in a folder: images at any depth, links followed, litter passed by and counted. Decodes nothing.

A file costs no stat of its own unless it is a link, so a million are listed in seconds.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deitkit.data.source import SUFFIXES
from deitkit.errors import DeitkitError, quoted
from deitkit.files import expanded

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")
# What operating systems, file servers and tools leave behind, in lower case; hidden entries (.DS_Store, ._x, .git,
# .ipynb_checkpoints) are as little asked for.
LITTER = frozenset(
    {
        "__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found",
        "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    }
)  # fmt: skip

ENDINGS = tuple(SUFFIXES)
TABLES = (".csv", ".tsv", ".jsonl")
# Device and number of every folder on the way down: a link back to one of them would never end.
Places = frozenset[tuple[int, int]]


@dataclass
class SeenFiles:
    """What a walk passes by: links that lead nowhere, litter, and how many files of other endings."""

    dangling: list[str] = field(default_factory=list)
    litter: int = 0
    others: Counter[str] = field(default_factory=Counter)


def named_images(names: Iterable[str | Path]) -> list[Path]:
    """Files as given, every image below a folder, and what a pattern with * or ? matches, by name. Litter of systems
    and programs is passed by, as in training.

    Raises:
        DeitkitError: one does not exist, or a folder or pattern holds no images.
    """
    found: list[Path] = []
    for name in names:
        path = expanded(name)
        if path.is_dir():
            inside = [path / name for name in images_below(str(path), "", Places(), SeenFiles())]
            if not inside:
                raise DeitkitError(f"{path} holds no images", value=name, choices=sorted(SUFFIXES))
            found += inside
        elif path.exists():
            found.append(path)
        elif matched := sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207, a pattern may be absolute
            found += [Path(each) for each in matched if Path(each).suffix.lower() in SUFFIXES]
        else:
            raise DeitkitError(f"{path} does not exist", value=name, remedy="name an image file or a folder of them")
    return found


def tables_in(folders: Iterable[Path], seen: SeenFiles) -> list[str]:
    """The tables in these folders, whose litter is counted."""
    entries = [entry.name for folder in folders for entry in entries_of(folder, seen)]
    return sorted(name for name in entries if name.lower().endswith(TABLES))


def passed(seen: SeenFiles) -> Iterator[str]:
    """What lay among the images and is none: said by its number, since its names tell nothing."""
    if seen.litter:
        yield f"{seen.litter:,} hidden or system files and folders are skipped"
    if seen.others:
        kinds = ", ".join(f"{ending or 'no ending'} ({count:,})" for ending, count in seen.others.most_common(8))
        yield f"{seen.others.total():,} files are no image by their ending and are left out: {kinds}"


def unpacked_place(archive: Path) -> Path:
    """The folder of an archive's name."""
    ending = next(ending for ending in ARCHIVES if archive.name.lower().endswith(ending))
    return archive.with_name(archive.name[: -len(ending)])


def unpack_command(archive: Path) -> str:
    """The shell's words that unpack an archive into a folder of its name."""
    folder, file, ending = quoted(unpacked_place(archive)), quoted(archive), archive.suffix.lower()
    if ending == ".zip":
        return f"unzip {file} -d {folder}"
    if ending in (".7z", ".rar"):
        return f"7z x {file} -o{folder}"
    return f"mkdir -p {folder} && tar -xf {file} -C {folder}"


def images_below(folder: str, prefix: str, above: Places, seen: SeenFiles) -> list[str]:
    """Image files in the folder and its subfolders as ids, sorted by the parts of their paths."""
    found = list(_walk(folder, prefix, above, seen))
    found.sort(key=lambda image: image.replace("/", "\0"))
    return found


def _walk(folder: str, prefix: str, above: Places, seen: SeenFiles) -> Iterator[str]:
    here = place_of(folder)
    if here and here <= above and os.path.islink(folder):  # noqa: PTH114 - a link to a folder that holds it
        return
    below = []
    for entry in entries_of(folder, seen):
        name = entry.name
        if is_folder(entry):
            below.append(name)
        elif not name.lower().endswith(ENDINGS):
            seen.others[os.path.splitext(name)[1].lower()] += 1  # noqa: PTH122 - there may be a million
        elif entry.is_symlink() and not os.path.isfile(entry.path):  # noqa: PTH113 - a link that loops is no error
            seen.dangling.append(prefix + name)
        else:
            yield prefix + name
    for name in below:
        yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", above | here, seen)


def loose_images(folder: Path) -> list[str]:
    """Image files directly in the folder, sorted."""
    named = (entry for entry in entries_of(folder) if entry.name.lower().endswith(ENDINGS))
    return sorted(entry.name for entry in named if not is_folder(entry))


def folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in entries_of(folder) if is_folder(entry)]


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by an operating system or a tool."""
    return name.startswith(".") or name.lower() in LITTER


def entries_of(folder: Path | str, seen: SeenFiles | None = None) -> list[os.DirEntry[str]]:
    """What is in the folder, without litter, which is counted in `seen`."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise DeitkitError(
            f"cannot list folder {folder}: {error.strerror or error}",
            value=folder,
            remedy="make it readable (chmod -R u+rX FOLDER), or take it out",
        ) from error
    kept = [entry for entry in found if not is_litter(entry.name)]
    if seen is not None:
        seen.litter += len(found) - len(kept)
    return kept


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or where nobody may look
        return False


def place_of(folder: Path | str) -> Places:
    try:
        status = os.stat(folder)  # noqa: PTH116 - a million of them should cost no Path objects
    except OSError:  # listing it says why
        return frozenset()
    return frozenset({(status.st_dev, status.st_ino)})
