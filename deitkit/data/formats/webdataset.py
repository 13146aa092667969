"""A WebDataset made by others: tars without an index, which is made on first use from their headers.

Members whose names agree up to the first dot are one sample; its label is in `.cls` or `.json`, its split in the
shard's name or folder. Decodes and writes no image.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deitkit.data.formats.split import open_split
from deitkit.data.formats.split_names import split_in
from deitkit.data.formats.tars import Shard, Shards, places_of, plain_tars, stat_shard
from deitkit.data.late import pa, pq
from deitkit.data.source import SUFFIXES, Indices, PackedNames, Source, counted, refuse_outside
from deitkit.errors import DeitkitError
from deitkit.files import write_atomic
from deitkit.recipe import schema

INDEX = "deitkit-index.parquet"
FORMAT = 1
MAGIC = {b"\x1f\x8b": "gzip", b"(\xb5/\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # the first dot of the last part ends it
BLOCK = 512


def open_webdataset(root: Path, data: schema.Data, split: str) -> Source:
    """One split of tars that others made; shards by name with numbers as numbers, samples as in the tars."""
    used: dict[str, list[str]] = {}
    for name in plain_tars(root):
        used.setdefault(split_in(name), []).append(name)
    unnamed = used.pop("", [])
    spare = unnamed if "train" in used else []
    if unnamed and not spare:
        used = {"train": unnamed, **used}
    shards, table = webdataset_index(root, [name for tars in used.values() for name in tars])
    notes = [counted("shards of other splits were left out", sorted(spare))] if spare else []
    of_split = {name: _rows(table, shards, tars) for name, tars in used.items()}
    classes = classes_of(root, of_split["train" if "train" in used else next(iter(used))]["label"].to_pylist())

    def part(name: str) -> Source:
        return _labelled(of_split[name], classes, shards, root=root, dataset=data.dataset, split=name, notes=notes)

    return open_split(tuple(used), part, data, split, root=root)


def webdataset_index(root: Path, names: Sequence[str]) -> tuple[tuple[Shard, ...], Any]:
    """The tars as they are now and a row a sample: key, shard, offset, size (-1: no image), label (or null).

    Read from the index that an earlier call wrote beside the tars, or in the user's cache where it may not write
    there, unless a tar has another size or time by now.
    """
    shards = tuple(stat_shard(root, name) for name in names)
    stamp = json.dumps([FORMAT, *((shard.name, shard.size, shard.changed_ns) for shard in shards)])
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deitkit" / f"{key}.parquet"
    for path in (root / INDEX, cache):
        table = _stored_index(path, stamp)
        if table is not None:
            return shards, table
    rows = [row for number, shard in enumerate(shards) for row in _samples(root / shard.name, shard.name, number)]
    columns = zip(*rows, strict=True) if rows else ([],) * 5
    types = (pa.binary(), pa.int32(), pa.int64(), pa.int64(), pa.string())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    table = pa.table(arrays, names=["key", "shard", "offset", "size", "label"]).replace_schema_metadata({"tars": stamp})
    _store_index(table, (root / INDEX, cache))
    return shards, table


def _stored_index(path: Path, stamp: str) -> Any | None:
    try:
        found = pq.read_schema(path).metadata or {}
        return pq.read_table(path) if found.get(b"tars") == stamp.encode() else None
    except (OSError, pa.ArrowException):
        return None


def _store_index(table: Any, places: Iterable[Path]) -> None:
    """In the first place that can be written; nowhere is no error: it is made again next time."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    for path in places:
        try:
            write_atomic(path, buffer.getvalue())
            return
        except (OSError, DeitkitError):
            continue


def _samples(path: Path, name: str, number: int) -> Iterator[tuple[bytes, int, int, int, str | None]]:
    """A row a sample of one tar."""
    with open(path, "rb") as file:
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        for member in _members(file, path):
            parts = KEY.fullmatch(member.name)
            if parts is None:
                continue
            key, suffix = parts[1].removeprefix("./"), parts[2].lower()
            sample = samples.setdefault(key, {})
            if suffix in sample:
                raise DeitkitError(f"{path} holds {member.name} twice", value=member.name, remedy="pack it anew")
            sample[suffix] = (member.offset_data, member.size)
        for key, sample in samples.items():
            images = [suffix for suffix in sample if f".{suffix.rpartition('.')[2]}" in SUFFIXES]
            suffix = min(images, key=lambda suffix: suffix.count("."), default="")  # jpg before mask.png
            offset, size = sample.get(suffix, (0, -1))
            image = f"{name.removesuffix('.tar')}/{key}.{suffix}"
            yield os.fsencode(image), number, offset, size, _label(file.fileno(), sample, f"{path}: {key}")


def _members(file: io.BufferedReader, path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, to its very end: tarfile takes a damaged header for the end."""
    start, problem = os.pread(file.fileno(), BLOCK, 0), ""
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
    if kind:
        raise DeitkitError(
            f"{path} is compressed ({kind}), and an image inside cannot be reached",
            value=path,
            remedy="random access needs plain tars: unpack the compression",
        )
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    yield member
            if os.pread(file.fileno(), BLOCK, tar.offset) != bytes(BLOCK):
                problem = f"no end of an archive at byte {tar.offset:,}"
    except tarfile.TarError as error:
        problem = str(error)
    if problem:
        raise DeitkitError(f"{path} is cut short or damaged: {problem}", value=path, remedy="fetch it again")


def _label(descriptor: int, sample: dict[str, tuple[int, int]], name: str) -> str | None:
    """The text of `.cls`, or "label" or "class" of `.json`."""
    if "cls" in sample:
        offset, size = sample["cls"]
        text = os.pread(descriptor, size, offset).decode(errors="replace").strip()
        return str(int(text)) if text.isdecimal() else text or None
    if "json" not in sample:
        return None
    offset, size = sample["json"]
    try:
        found = json.loads(os.pread(descriptor, size, offset))
    except ValueError as error:
        raise DeitkitError(f"{name}.json is no JSON: {error}", value=name, remedy="mend or remove it") from error
    value = next((found[key] for key in ("label", "class") if key in found), None) if isinstance(found, dict) else None
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _rows(table: Any, shards: Sequence[Shard], names: Sequence[str]) -> Any:
    """The samples of these tars."""
    wanted = np.isin([shard.name for shard in shards], names)
    return table.filter(wanted[table["shard"].to_numpy()])


@dataclass(frozen=True)
class ShardClasses:
    """Class names, and the class that each text of a label means."""

    names: tuple[str, ...]
    numbers: dict[str, int]


def classes_of(root: Path, labels: Iterable[str | None]) -> ShardClasses:
    """As listed in classes.json, classnames.txt or _info.json, else the labels themselves; numbers sorted as such."""
    for name in ("classes.json", "classnames.txt", "_info.json"):
        if not (root / name).is_file():
            continue
        text = (root / name).read_text()
        try:
            names = text.splitlines() if name.endswith(".txt") else _listed_classes(json.loads(text), name)
            if names:
                return _classes([str(each).strip() for each in names], listed=True)
        except (ValueError, TypeError) as error:
            what = f"{root / name} does not list classes: {error}"
            raise DeitkitError(what, value=root / name, remedy="mend or remove it") from error
    found = {label for label in labels if label is not None}
    return _classes(sorted(found, key=int if all(label.isdecimal() for label in found) else str), listed=False)


def _classes(names: Sequence[str], *, listed: bool) -> ShardClasses:
    """Of a list a label may also be the place in it."""
    places = {str(number): number for number in range(len(names))} if listed else {}
    return ShardClasses(tuple(names), places | {name: number for number, name in enumerate(names)})


def _listed_classes(found: Any, name: str) -> list[Any] | None:
    """The names of a JSON in their order: a list, name -> number, or number -> name."""
    if name == "_info.json":
        found = next((found[key] for key in ("class_names", "classnames", "classes") if key in found), None)
    if not isinstance(found, dict):
        return list(found) if found else None
    numbered = found if all(str(key).isdecimal() for key in found) else {number: key for key, number in found.items()}
    return [numbered[number] for number in sorted(numbered, key=int)]


def _labelled(
    table: Any, classes: ShardClasses, shards: tuple[Shard, ...], *, root: Path, dataset: str, split: str,
    notes: Sequence[str],
) -> Shards:  # fmt: skip
    """The samples that have an image and a label; others are left out and counted."""
    ids = [os.fsdecode(key) for key in table["key"].to_pylist()]
    texts, places = table["label"].to_pylist(), places_of(table)
    has_image = places[:, 2] >= 0
    has_label = np.array([text is not None for text in texts], dtype=bool)
    lost = {
        "samples without an image were left out": ~has_image,
        "images without a label (.cls or .json) were left out": has_image & ~has_label,
    }
    found = [counted(what, [ids[index] for index in np.flatnonzero(rows)]) for what, rows in lost.items() if rows.any()]
    kept = np.flatnonzero(has_image & has_label)
    if not len(kept):
        raise DeitkitError(
            f"no image with a label in the {split} shards of {root}",
            value=root,
            problems=found,
            remedy='a sample is KEY.jpg with KEY.cls (a number or a name), or with KEY.json ({"label": ...})',
        )
    kept_ids = [ids[index] for index in kept.tolist()]
    refuse_outside(kept_ids, root)
    return Shards(
        dataset=dataset,
        split=split,
        root=root,
        class_names=classes.names,
        labels=_numbers([texts[index] for index in kept.tolist()], classes, kept_ids, what=f"{split} images of {root}"),
        ids=PackedNames(kept_ids),
        shards=shards,
        places=places[kept],
        notes=(*notes, *found),
    )


def _numbers(texts: Sequence[str], classes: ShardClasses, ids: Sequence[str], *, what: str) -> Indices:
    """Labels [N] of the texts."""
    unknown = [f"{name} ({text})" for name, text in zip(ids, texts, strict=True) if text not in classes.numbers]
    if unknown:
        raise DeitkitError(
            counted(f"{what} have a label that is none of its {len(classes.names)} classes", unknown),
            value=unknown[0],
            choices=classes.names[:20],
            remedy="mend the labels, or the list of classes",
        )
    return np.array([classes.numbers[text] for text in texts], dtype=np.int64)
