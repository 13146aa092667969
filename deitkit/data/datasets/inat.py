"""iNaturalist 2018, 2019 and 2021: the competitions' JSON files or plain lists, and images in the archive's folders;
2021's folders alone, which say the categories.

Classes are matched by category id, never by place in a list; `data.category` coarsens them to a taxonomic level. Images
are sorted by their path in the archive. Unpacks nothing, and reads no test images: they have no labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deitkit.data.formats.json_tables import read_tables
from deitkit.data.formats.listing import loose_images
from deitkit.data.formats.split import hold_out, refuse_fraction
from deitkit.data.source import Files, Form, PackedNames, Source, counted, leads_out
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

YEARS = {"inat18": "2018", "inat19": "2019", "inat21": "", "inat21_mini": ""}  # as they stand in files' names
TRAIN = {"inat21_mini": "train_mini"}  # what the training images are called, where not "train"
PLACES = ("", "annotations")
LEVELS = ("kingdom", "phylum", "class", "order", "family", "genus", "supercategory")
# Which of an image's folders (archive, super-category, category) are there, as people unpack them.
LAYOUTS = {
    "as in the archive": (0, 1, 2),
    "without the archive's folder": (1, 2),
    "without the super-category's folder": (0, 2),
    "without the archive's and the super-category's folder": (2,),
}
COLUMNS = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id")}  # of the large tables
Levels = Mapping[int, Mapping[str, str]]  # of each category id, the names of its levels


@dataclass(frozen=True)
class InatAnnotations:
    """One annotation file: each image's path in the archive, sorted, and its category id; and all categories."""

    file: Path
    names: PackedNames
    categories: npt.NDArray[np.int64]
    levels: Levels
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, file: Path, pairs: Sequence[tuple[str, int]], levels: Levels, notes: tuple[str, ...] = ()
    ) -> InatAnnotations:  # fmt: skip
        """From sorted pairs."""
        categories = np.fromiter((number for _, number in pairs), dtype=np.int64, count=len(pairs))
        return cls(file, PackedNames([name for name, _ in pairs]), categories, levels, notes)


@dataclass(frozen=True)
class InatKind:
    """One way to write annotations down: the file's name, of {year}, {yy} and {split}, and its reader."""

    file_name: str
    read: Callable[[Path], InatAnnotations]

    def name(self, dataset: str, split: str) -> str:
        year = YEARS[dataset]
        word = TRAIN.get(dataset, split) if split == "train" else split
        return self.file_name.format(year=year, yy=year[2:], split=word)

    def find(self, root: Path, dataset: str, split: str) -> Path | None:
        return _find(root, self.name(dataset, split))


def _open(kind: InatKind, root: Path, data: schema.Data, split: str) -> Source:
    found = {part: file for part in ("train", "val") if (file := kind.find(root, data.dataset, part))}
    if "val" in found:
        refuse_fraction(data, root, found["val"].name)
    holds_out = "val" not in found and data.val_fraction is not None
    wanted = "train" if holds_out else split
    if wanted not in found:
        raise _no_annotations(kind, root, data.dataset, wanted)
    images = _images(root, data, {part: kind.read(file) for part, file in found.items()}, wanted)
    return hold_out(images, data, split, root=root) if holds_out else images


def _images(root: Path, data: schema.Data, known: Mapping[str, InatAnnotations], split: str) -> Files:
    """The images of one split that are there. Splits share folders: only both annotations tell what is of neither."""
    wanted = known[split]
    trained = known.get("train", wanted)
    if foreign := [str(number) for number in sorted(wanted.levels.keys() - trained.levels.keys())]:
        what = f"categories are not among those of {trained.file.name}"
        raise _bad(wanted.file, [counted(what, foreign)], remedy="are both files of one competition?")
    class_names, label_of = _classes(root, data.category, trained)
    layout = _layout(root, wanted)
    names = [_place(name, layout) for name in wanted.names]
    on_disk = _on_disk(root, names)
    rows = [row for row, name in enumerate(names) if name in on_disk]
    if not rows:
        raise _no_images(root, wanted, data.dataset)
    notes = [] if layout == next(iter(LAYOUTS)) else [f"images lie {layout}, as {names[rows[0]]}"]
    if absent := [name for name in names if name not in on_disk]:
        notes.append(counted("annotated images are not there", absent))
    for part in known.values():
        on_disk.difference_update(_place(name, layout) for name in part.names)
    if len(known) > 1 and on_disk:
        notes.append(counted("images have no annotation and are ignored", sorted(on_disk)))
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=class_names,
        labels=np.array([label_of[number] for number in wanted.categories[rows].tolist()], dtype=np.int64),
        ids=PackedNames([names[row] for row in rows]),
        notes=(*wanted.notes, *notes),
    )


def _classes(root: Path, category: str, annotations: InatAnnotations) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, and the label of each category id: the categories themselves, or one level's names, sorted."""
    ids = sorted(annotations.levels)
    if category == "name":
        return tuple(map(str, ids)), {number: label for label, number in enumerate(ids)}
    levels = {number: dict(annotations.levels[number]) for number in ids}
    if file := _find(root, "categories.json"):
        for number, row in _published_levels(file, ids).items():
            levels[number] |= row
    there = [level for level in LEVELS if all(level in row for row in levels.values())]
    if category not in there:
        raise DeitkitError(
            f"the categories of {annotations.file} have no level {category!r}",
            value=category,
            choices=("name", *there),
            remedy=f"--set data.category=name, or unpack the competition's categories.json in {root}",
        )
    names = sorted({row[category] for row in levels.values()})
    place = {name: label for label, name in enumerate(names)}
    return tuple(names), {number: place[row[category]] for number, row in levels.items()}


def _published_levels(file: Path, ids: Sequence[int]) -> Levels:
    """The competition's categories.json: it replaces obfuscated names and has levels that 2018's files lack."""
    content = _load(file, {})
    levels = _levels(file, content if isinstance(content, dict) else {"categories": content})
    if absent := [str(number) for number in ids if number not in levels]:
        raise _bad(file, [counted("categories are not in it", absent)], remedy="is it of the same competition?")
    return {number: levels[number] for number in ids}


def _layout(root: Path, annotations: InatAnnotations) -> str:
    """The first layout that any of the images' folders has."""
    samples = {name.rpartition("/")[0]: name for name in annotations.names}
    for layout in LAYOUTS:
        if any((root / _place(name, layout)).parent.is_dir() for name in samples.values()):
            return layout
    return next(iter(LAYOUTS))


def _place(name: str, layout: str) -> str:
    """Where an image of that path in the archive lies; paths of another depth stay as they are."""
    parts = name.split("/")
    return "/".join(parts[place] for place in (*LAYOUTS[layout], 3)) if len(parts) == 4 else name


def _on_disk(root: Path, names: Iterable[str]) -> set[str]:
    """All image files in the folders of these, by one look at each folder."""
    found = set()
    for folder in {name.rpartition("/")[0] for name in names}:
        if (root / folder).is_dir():
            prefix = f"{folder}/" if folder else ""
            found |= {prefix + name for name in loose_images(root / folder)}
    return found


def _read_json(file: Path) -> InatAnnotations:
    """A competition's JSON; only what is needed of it is kept."""
    content = _load(file, COLUMNS)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, dict) or not any(annotations.values()):
        what = "no annotations: test images have no labels" if isinstance(content, dict) else "no tables"
        raise DeitkitError(f"{file} has {what}", value=file, remedy="use the competition's train and val files")
    image_ids = _column(file, content, "images", key="id", kind=int)
    names = _column(file, content, "images", key="file_name", kind=str)
    annotated = _column(file, content, "annotations", key="image_id", kind=int)
    categories = _column(file, content, "annotations", key="category_id", kind=int)
    levels, name_of, labelled = _levels(file, content), dict(zip(image_ids, names, strict=True)), set(annotated)
    _refuse(
        file,
        {
            "image ids stand in it more than once": _twice(image_ids),
            "file names stand in it more than once": _twice(names),
            "images are annotated more than once": _twice(annotated),
            "annotated images are not among its images": sorted(labelled - name_of.keys()),
            "annotated categories are not among its categories": sorted(set(categories) - levels.keys()),
            "file names lead out of the folder": [name for name in names if leads_out(name)],
        },
    )
    pairs = sorted((name_of[image], number) for image, number in zip(annotated, categories, strict=True))
    unlabelled = sorted(name for image, name in name_of.items() if image not in labelled)
    del content, annotations, image_ids, names, annotated, categories, name_of, labelled  # before the names are packed
    note = counted(f"images of {file.name} have no annotation and are left out", unlabelled)
    return InatAnnotations.of(file, pairs, levels, (note,) if unlabelled else ())


def _read_list(file: Path) -> InatAnnotations:
    """Lines such as `train_val2018/Plantae/7291/9f8e.jpg 7291`; the path tells the super-category."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DeitkitError(f"{file} cannot be read: {error}", value=file, remedy="fetch it anew") from error
    rows = [(number, *line.strip().rpartition(" ")[::2]) for number, line in enumerate(lines, 1) if line.strip()]
    strange = [number for number, name, label in rows if not (name and label.isascii() and label.isdecimal())]
    _refuse(file, {"lines are no path and category id; their numbers": strange})
    pairs = sorted((name.strip(), int(label)) for _, name, label in rows)
    supers = {(label, name.split("/")[1]) for name, label in pairs if name.count("/") == 3}
    _refuse(
        file,
        {
            "images stand in it more than once": _twice(name for name, _ in pairs),
            "categories are in two super-categories": _twice(label for label, _ in supers),
            "file names lead out of the folder": [name for name, _ in pairs if leads_out(name)],
            "it is empty": [] if pairs else [file.name],
        },
    )
    levels: dict[int, dict[str, str]] = {label: {} for _, label in pairs}
    for label, name in supers:
        levels[label]["supercategory"] = name
    return InatAnnotations.of(file, pairs, levels)


def _read_folders(split: Path) -> InatAnnotations:
    """2021's folders: `00000_Animalia_Annelida_..._terrestris` is category 0, and its levels in their order."""
    pairs, levels = [], {}
    for folder in _numbered(split):
        number, *names = folder.name.split("_")
        levels[int(number)] = dict(zip(LEVELS[:6], names, strict=False))
        pairs += [(f"{split.name}/{folder.name}/{name}", int(number)) for name in loose_images(folder)]
    _refuse(split, {"it has no images in numbered folders": [] if pairs else [split.name]})
    return InatAnnotations.of(split, sorted(pairs), levels)


def _once(read: Callable[[Path], InatAnnotations]) -> Callable[[Path], InatAnnotations]:
    """The reader of a file that training and validation images are both told from: read once, while it is the same."""
    kept = lru_cache(maxsize=2)(lambda file, *_: read(file))  # the annotations of both splits

    def read_once(file: Path) -> InatAnnotations:
        try:
            found = file.stat()
        except OSError:
            return read(file)
        return kept(file, found.st_mtime_ns, found.st_size, found.st_ino)

    return read_once


def _numbered(split: Path) -> Iterator[Path]:
    """The class folders of 2021, `12345_...`."""
    if split.is_dir():
        yield from (folder for folder in split.iterdir() if re.match(r"\d{5}_", folder.name) and folder.is_dir())


def _load(file: Path, columns: Mapping[str, Sequence[str]]) -> Any:
    try:
        return read_tables(file, columns)
    except (OSError, ValueError) as error:
        raise DeitkitError(f"{file} is no readable JSON: {error}", value=file, remedy="fetch it anew") from error


def _column(file: Path, content: Mapping[str, Any], table: str, *, key: str, kind: type) -> list[Any]:
    """One field of every row of a table, of its rows or of its columns."""
    rows = content.get(table)
    if isinstance(rows, list):
        rows = {key: [row.get(key) if isinstance(row, dict) else None for row in rows]}
    values = rows.get(key, []) if isinstance(rows, dict) and table in content else []
    strange = [f"{table}[{index}]" for index, value in enumerate(values) if type(value) is not kind]
    _refuse(file, {f"rows have no {key} ({kind.__name__})": strange, "list is not in it": [] if values else [table]})
    return values


def _levels(file: Path, content: Mapping[str, Any]) -> Levels:
    ids = _column(file, content, "categories", key="id", kind=int)
    _refuse(file, {"category ids stand in it more than once": _twice(ids)})
    rows = content["categories"]
    return {
        number: {level: row[level] for level in LEVELS if isinstance(row.get(level), str) and row[level]}
        for number, row in zip(ids, rows, strict=True)
    }


def _twice(values: Iterable[Hashable]) -> list[Hashable]:
    listed = list(values)
    if len(set(listed)) == len(listed):  # half of what counting takes
        return []
    return [value for value, count in Counter(listed).items() if count > 1]


def _find(root: Path, name: str) -> Path | None:
    return next((root / place / name for place in PLACES if (root / place / name).exists()), None)


def _refuse(file: Path, offenders: Mapping[str, Sequence[object]]) -> None:
    if problems := [counted(what, [str(value) for value in found]) for what, found in offenders.items() if found]:
        raise _bad(file, problems, remedy="mend the file, or fetch it anew")


def _bad(file: Path, problems: Sequence[str], *, remedy: str) -> DeitkitError:
    return DeitkitError(f"the annotations in {file} are wrong", value=file, problems=problems, remedy=remedy)


def _no_annotations(kind: InatKind, root: Path, dataset: str, split: str) -> DeitkitError:
    name = kind.name(dataset, split)
    problems = [f"looked for {root / place / name}" for place in PLACES]
    if test := kind.find(root, dataset, "test"):
        problems.append(f"{test} does not help: test images have no labels")
    problems += [
        f"{file} is there: is it data.dataset={other}?"
        for other in YEARS
        if kind.name(other, split) != name and (file := kind.find(root, other, split))
    ]
    remedy = f"`deitkit data download {dataset}` fetches the annotations"
    if split == "val":
        remedy += ", or hold a part of the training images out: --val-fraction 0.1"
    return DeitkitError(f"{root} has no annotations of {dataset} {split}", value=root, problems=problems, remedy=remedy)


def _no_images(root: Path, annotations: InatAnnotations, dataset: str) -> DeitkitError:
    first = annotations.names[0]
    archive = f"train_val{YEARS[dataset]}" if YEARS[dataset] else first.partition("/")[0]
    return DeitkitError(
        f"none of the {len(annotations.names):,} images of {annotations.file} is there",
        value=root,
        problems=[f"looked for {root / place}" for place in dict.fromkeys(_place(first, layout) for layout in LAYOUTS)],
        remedy=f"unpack {archive}.tar.gz in {root}; `deitkit data download {dataset}` fetches it",
    )


def _matches(kind: InatKind, datasets: Sequence[str], root: Path) -> bool:
    found = [file for name in datasets for split in ("train", "val", "test") if (file := kind.find(root, name, split))]
    return any(file.is_file() or next(_numbered(file), None) for file in found)


JSON = InatKind("{split}{year}.json", _once(_read_json))
FOLDERS = InatKind("{split}", _read_folders)
LIST = InatKind("iNaturalist{yy}_{split}.txt", _once(_read_list))
ANNOTATIONS = {
    "competition JSON": (JSON, "ROOT/train2018.json and ROOT/val2018.json"),
    "lists of images": (LIST, "ROOT/iNaturalist18_train.txt and ROOT/iNaturalist18_val.txt"),
}
INAT_FORMS = tuple(
    Form(
        name,
        f"{files} (or in ROOT/annotations) and ROOT/train_val2018/SUPER/ID/*.jpg; 2019 likewise",
        partial(_matches, kind, ("inat18", "inat19")),
        partial(_open, kind),
    )
    for name, (kind, files) in ANNOTATIONS.items()
)
IN_2021 = {
    "competition JSON": (JSON, "ROOT/train.json (or train_mini.json) and ROOT/val.json (or in ROOT/annotations) and "),
    "numbered class folders": (FOLDERS, ""),
}
INAT21_FORMS = tuple(
    Form(
        name,
        f"{files}ROOT/train/00000_KINGDOM_..._SPECIES/*.jpg (or train_mini) and ROOT/val/...",
        partial(_matches, kind, ("inat21", "inat21_mini")),
        partial(_open, kind),
    )
    for name, (kind, files) in IN_2021.items()
)
