"""Packed shards: tar files of images and an index of where each lies. Ours, or a WebDataset made by others.

Ours (`deitkit data pack`) keep the ids, labels and order of what was packed, and so its fingerprint. Others' are
indexed on first use, from their headers: members whose names agree up to the first dot are one sample, its label is in
`.cls` or `.json`, its split in the shard's name or folder. Writes no shard (that is deitkit/data/pack.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deitkit import schema
from deitkit.data.sources.base import SUFFIXES, Form, Indices, LabelSets, PackedNames, Source, counted, fingerprint
from deitkit.data.sources.folder import VAL_NAMES
from deitkit.data.sources.split import hold_out
from deitkit.errors import DeitkitError
from deitkit.run import write_atomic

if TYPE_CHECKING:
    import pyarrow as pa

PACK = "deitkit-shards.json"  # our own pack; written last
UNFINISHED = ".deitkit-pack"  # what an interrupted pack knows
INDEX = "deitkit-index.parquet"  # of a WebDataset of others
FORMAT = 1
OPEN_FILES = 16  # of a process, whatever it reads
TREE = "ROOT/deitkit-shards.json with ROOT/{train,val}-NNNNNN.tar, or a WebDataset: ROOT/[train/]NAME-NNNN.tar"


@dataclass(frozen=True)
class Shard:
    """A tar file as it was when it was looked at."""

    name: str  # relative to the root
    size: int  # bytes
    changed_ns: int


@dataclass(frozen=True)
class Shards:
    """Images inside tar files below `root`; places [N, 3] are shard, offset and size in bytes."""

    dataset: str
    split: str
    root: Path
    class_names: tuple[str, ...]
    labels: Indices
    ids: Sequence[str]
    shards: tuple[Shard, ...]
    places: Indices
    accepted: LabelSets | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.ids, self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.places)

    def path(self, index: int) -> Path | None:
        return None

    def read(self, index: int) -> bytes:
        """One pread, which moves no file position: threads and forked workers may share a file."""
        number, offset, size = self.places[index].tolist()
        shard = self.shards[number]
        path = f"{self.root}/{shard.name}"
        try:
            data = os.pread(_opened(path, shard, os.getpid()).descriptor, size, offset)
        except OSError as error:
            raise DeitkitError(
                f"cannot read image {self.ids[index]} in {path}: {error.strerror or error}",
                value=path,
                remedy="restore the shard and start anew",
            ) from error
        if len(data) != size:
            raise _changed(path)
        return data


class _OpenFile:
    """A descriptor that is closed when nobody reads from it any more, so that no reader loses it to another."""

    _close = staticmethod(os.close)  # `os` may be gone when the interpreter ends

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            self._close(self.descriptor)


@lru_cache(OPEN_FILES)
def _opened(path: str, shard: Shard, pid: int) -> _OpenFile:
    """A shard's open file in this process; `pid` keeps a forked one from using its parent's."""
    file = _OpenFile(path)
    found = os.fstat(file.descriptor)
    if (found.st_size, found.st_mtime_ns) != (shard.size, shard.changed_ns):
        raise _changed(path)
    return file


def _changed(path: str) -> DeitkitError:
    return DeitkitError(f"the shard {path} was changed while it was in use", value=path, remedy="start anew")


def stat_shard(root: Path, name: str) -> Shard:
    found = (root / name).stat()
    return Shard(name, found.st_size, found.st_mtime_ns)


def matches(root: Path) -> bool:
    """Whether `root` has a pack of ours, finished or not, or archives with names of shards."""
    ours = (root / PACK).is_file() or (root / UNFINISHED).is_dir()
    return ours or (root.is_dir() and bool(_archives(root)))


def open_shards(root: Path, data: schema.Data, split: str) -> Source:
    """One split of our own pack, or of a WebDataset of others.

    Raises:
        DeitkitError: a pack that is unfinished, damaged or older than its shards; shards that cannot be indexed.
    """
    if (root / PACK).is_file():
        pack = read_pack(root)
        refuse_changed_settings(root, pack, data)
        return _of_splits(
            list(pack["splits"]),
            lambda name: open_packed(root, pack, name, wanted=data.dataset),
            data,
            split,
            root=root,
        )
    if (root / UNFINISHED).is_dir():
        raise DeitkitError(
            f"{root} is an unfinished pack", value=root, remedy="repeat `deitkit data pack`: it goes on where it ended"
        )
    if any(root.glob("*.index.parquet")):
        raise DeitkitError(
            f"{root} has lost its {PACK}",
            value=root,
            remedy="restore it, or remove the folder and repeat `deitkit data pack`",
        )
    return open_webdataset(root, data, split)


def _of_splits(names: list[str], part: Callable[[str], Source], data: schema.Data, split: str, *, root: Path) -> Source:
    """A split that is there, or one held out from the training images."""
    if split in names and ("val" in names or data.val_fraction is None):
        return part(split)
    if "train" in names and "val" not in names:
        return hold_out(part("train"), data, split, root=root)
    raise DeitkitError(f"{root} has no {split} images, only: {', '.join(names)}", value=split, choices=names)


# Our own pack


def read_pack(root: Path) -> dict[str, Any]:
    """What deitkit-shards.json says.

    Raises:
        DeitkitError: it cannot be read, or is of another version.
    """
    path = root / PACK
    try:
        pack: dict[str, Any] = json.loads(path.read_text())
        if pack["format"] == FORMAT:
            return pack
        problem = f"its format is {pack['format']}, and this version of deitkit reads {FORMAT}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise DeitkitError(f"{path} cannot be read", value=path, problems=[problem], remedy="repeat `deitkit data pack`")


def refuse_changed_settings(root: Path, pack: dict[str, Any], data: schema.Data) -> None:
    """Raise where the recipe wants other classes, or other held-out images, than were packed."""
    problems = []
    if data.category != pack["category"]:
        problems.append(f"data.category: packed {pack['category']}, wanted {data.category}")
    held = (data.val_fraction, data.split_seed)
    if data.val_fraction is not None and "val" in pack["splits"] and held != (pack["val_fraction"], pack["split_seed"]):
        packed = "its own" if pack["val_fraction"] is None else f"{pack['val_fraction']:g} (seed {pack['split_seed']})"
        problems.append(f"data.val_fraction: packed {packed}, wanted {held[0]:g} (seed {held[1]})")
    if problems:
        raise DeitkitError(
            f"{root} was packed with other settings", value=root, problems=problems,
            remedy="--set data.val_fraction=false takes the packed split; for another, `deitkit data pack` anew",
        )  # fmt: skip


def open_packed(root: Path, pack: dict[str, Any], split: str, *, wanted: str = "folder") -> Shards:
    """A split as it was packed; it is said where the data set `wanted` is another than that.

    Raises:
        DeitkitError: shards or index are missing, cut short, or the index is older than a shard.
    """
    described = pack["splits"][split]
    shards = _checked_shards(root, described)
    table = _packed_index(root, described)
    ids = [os.fsdecode(name) for name in table["id"].to_pylist()]
    other = [f"{root} holds {pack['dataset']}, not {wanted}"] if wanted not in ("folder", pack["dataset"]) else []
    return Shards(
        dataset=pack["dataset"],
        split=split,
        root=root,
        class_names=tuple(pack["class_names"]),
        labels=table["label"].to_numpy().astype(np.int64),
        ids=PackedNames(ids),
        shards=shards,
        places=_columns(table),
        accepted=LabelSets(table["accepted"].to_pylist()) if "accepted" in table.column_names else None,
        notes=(*described["notes"], *other),
    )


def _checked_shards(root: Path, described: dict[str, Any]) -> tuple[Shard, ...]:
    """The shards as they lie there, if they are those that were packed."""
    index = root / described["index"]["name"]
    shards, problems = [], []
    written_ns = index.stat().st_mtime_ns if index.is_file() else None
    if written_ns is None:
        problems.append(f"{index.name}: the index is missing")
    for entry in described["shards"]:
        try:
            shards.append(stat_shard(root, entry["name"]))
        except OSError as error:
            problems.append(f"{entry['name']}: {error.strerror}")
            continue
        if shards[-1].size != entry["bytes"]:
            problems.append(f"{entry['name']}: {shards[-1].size:,} bytes, packed were {entry['bytes']:,}")
        elif written_ns is not None and shards[-1].changed_ns > written_ns:
            problems.append(f"{entry['name']}: newer than its index {index.name}")
    if not problems:
        return tuple(shards)
    more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
    raise DeitkitError(
        f"the shards in {root} are not those that were packed", value=root, problems=[*problems[:10], *more],
        remedy=f"repeat `deitkit data pack`; if only dates differ (a copy), `deitkit data pack {root} --reindex`"
        " compares the bytes and renews the index",
    )  # fmt: skip


def _packed_index(root: Path, described: dict[str, Any]) -> pa.Table:
    import pyarrow.parquet as pq

    path = root / described["index"]["name"]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != described["index"]["sha256"]:
        raise DeitkitError(f"{path} is not the index that was packed", value=path, remedy="repeat `deitkit data pack`")
    return pq.read_table(io.BytesIO(content))


def _columns(table: pa.Table) -> Indices:
    """places [N, 3]."""
    return np.stack([table[name].to_numpy().astype(np.int64) for name in ("shard", "offset", "size")], axis=1)


# A WebDataset of others

SPLIT_WORDS = {"train": "train", "training": "train"} | {name: name for name in VAL_NAMES}
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
MAGIC = {b"\x1f\x8b": "gzip", b"(\xb5/\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # the first dot of the last part ends it
BLOCK = 512


def open_webdataset(root: Path, data: schema.Data, split: str) -> Source:
    """One split of tars that others made; shards by name with numbers as numbers, samples as in the tars."""
    groups: dict[str, list[str]] = {}
    for name in _plain_tars(root):
        groups.setdefault(split_of(name), []).append(name)
    val = next((groups[name] for name in VAL_NAMES if name in groups), None)
    train = groups.get("train") or groups.get("")
    used = {name: tars for name, tars in (("train", train), ("val", val)) if tars}
    if val and data.val_fraction is not None:
        raise DeitkitError(
            f"data.val_fraction is {data.val_fraction:g}, but {root} has a split of its own: {val[0]}",
            value=data.val_fraction,
            remedy="--set data.val_fraction=false uses it",
        )
    shards, table = webdataset_index(root, [name for tars in used.values() for name in tars])
    spare = sorted({name for tars in groups.values() for name in tars} - {shard.name for shard in shards})
    notes = [counted("shards of other splits were left out", spare)] if spare else []
    of_split = {name: _rows(table, shards, tars) for name, tars in used.items()}
    classes = classes_of(root, of_split["train" if train else "val"]["label"].to_pylist())

    def part(name: str) -> Source:
        return _labelled(of_split[name], classes, shards, root=root, dataset=data.dataset, split=name, notes=notes)

    return _of_splits(list(used), part, data, split, root=root)


def split_of(name: str) -> str:
    """The split that a shard's folder or name says, or an empty string."""
    words = re.findall("[a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def _archives(root: Path) -> list[str]:
    """Archives named like shards, in `root` and its folders of splits, in their order.

    Where there are as many other folders, archives are what is left of unpacking: ImageNet's train/n01440764.tar.
    """
    found = []
    splits = [entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name.lower() in SPLIT_WORDS]
    for folder in ("", *splits):
        entries = [entry for entry in os.scandir(root / folder) if not entry.name.startswith(".")]
        names = [entry.name for entry in entries if _is_shard_name(entry.name) and entry.is_file()]
        others = sum(entry.is_dir() and entry.name.lower() not in SPLIT_WORDS for entry in entries)
        found += [f"{folder}/{name}".lstrip("/") for name in names] if len(names) > others else []
    return sorted(found, key=_by_number)


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """Sorts 9.tar before 10.tar."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _is_shard_name(name: str) -> bool:
    """A number at the end or a split as the whole name; data sets come as other archives, too."""
    stem = _stem(name)
    suffix = name.lower().removeprefix(stem)
    if suffix == ".tar":
        return bool(re.search(r"\d$", stem)) or stem in SPLIT_WORDS
    return suffix in COMPRESSED and bool(re.search(r"(^|[-_.])\d{2,}$", stem))


def _stem(name: str) -> str:
    return re.sub(r"\.(tar(\.[a-z0-9]+)?|tgz)$", "", name.lower())


def _plain_tars(root: Path) -> list[str]:
    names = _archives(root)
    plain = [name for name in names if name.lower().endswith(".tar")]
    unpacked = {_stem(name) for name in plain}
    compressed = [name for name in names if _stem(name) not in unpacked]
    if compressed:
        raise DeitkitError(
            counted(f"shards in {root} are compressed, and an image inside cannot be reached", compressed),
            value=root,
            remedy=f"random access needs plain tars: gunzip {root / compressed[0]}, and so for each",
        )
    return plain


def webdataset_index(root: Path, names: Sequence[str]) -> tuple[tuple[Shard, ...], pa.Table]:
    """The tars as they are now and a row a sample: key, shard, offset, size (-1: no image), label (or null).

    Read from the index that an earlier call wrote beside the tars, or in the user's cache where it may not write
    there, unless a tar has another size or time by now.
    """
    import pyarrow as pa

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


def _stored_index(path: Path, stamp: str) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path).metadata or {}
        return pq.read_table(path) if found.get(b"tars") == stamp.encode() else None
    except (OSError, pa.ArrowException):
        return None


def _store_index(table: pa.Table, places: Iterable[Path]) -> None:
    """In the first place that can be written; nowhere is no error: it is made again next time."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    for path in places:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, buffer.getvalue())
            return
        except OSError:
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


def _rows(table: pa.Table, shards: Sequence[Shard], names: Sequence[str]) -> pa.Table:
    """The samples of these tars."""
    wanted = np.isin([shard.name for shard in shards], names)
    return table.filter(wanted[table["shard"].to_numpy()])


@dataclass(frozen=True)
class Classes:
    """Class names, and the class that each text of a label means."""

    names: tuple[str, ...]
    numbers: dict[str, int]


def classes_of(root: Path, labels: Iterable[str | None]) -> Classes:
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


def _classes(names: Sequence[str], *, listed: bool) -> Classes:
    """Of a list a label may also be the place in it."""
    places = {str(number): number for number in range(len(names))} if listed else {}
    return Classes(tuple(names), places | {name: number for number, name in enumerate(names)})


def _listed_classes(found: Any, name: str) -> list[Any] | None:
    """The names of a JSON in their order: a list, name -> number, or number -> name."""
    if name == "_info.json":
        found = next((found[key] for key in ("class_names", "classnames", "classes") if key in found), None)
    if not isinstance(found, dict):
        return list(found) if found else None
    numbered = found if all(str(key).isdecimal() for key in found) else {number: key for key, number in found.items()}
    return [numbered[number] for number in sorted(numbered, key=int)]


def _labelled(
    table: pa.Table, classes: Classes, shards: tuple[Shard, ...], *, root: Path, dataset: str, split: str,
    notes: Sequence[str],
) -> Shards:  # fmt: skip
    """The samples that have an image and a label; others are left out and counted."""
    ids = [os.fsdecode(key) for key in table["key"].to_pylist()]
    texts, places = table["label"].to_pylist(), _columns(table)
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


def _numbers(texts: Sequence[str], classes: Classes, ids: Sequence[str], *, what: str) -> Indices:
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


SHARDS = Form("packed shards", TREE, matches, open_shards)
