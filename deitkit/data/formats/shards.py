"""Packed shards: our own (`deitkit data pack`), or a WebDataset made by others. Writes none.

Ours keep the ids, labels and order of what was packed, and so its fingerprint; deitkit/data/pack/pack.py writes them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from deitkit.data.formats.split import open_split
from deitkit.data.formats.tars import Shard, Shards, archives, places_of, stat_shard
from deitkit.data.formats.webdataset import open_webdataset
from deitkit.data.late import pa, pq
from deitkit.data.source import Form, Indices, LabelSets, PackedNames, Source, refuse_outside
from deitkit.errors import DeitkitError, quoted
from deitkit.recipe import schema
from deitkit.records import read_json
from deitkit.runs.contents import Count

PACK = "deitkit-shards.json"  # written last
UNFINISHED = ".deitkit-pack"  # what an interrupted pack knows
FORMAT = 1
TREE = "ROOT/deitkit-shards.json with ROOT/{train,val}-NNNNNN.tar, or a WebDataset: ROOT/[train/]NAME-NNNN.tar"

ANEW = "repeat `deitkit data pack`"
MORE = ConfigDict(extra="allow")
Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]  # of a file in the pack's own folder


@with_config(MORE)
class IndexEntry(TypedDict):
    """The index of a split."""

    name: Name
    sha256: str


@with_config(MORE)
class ShardEntry(TypedDict):
    """A shard of a pack."""

    name: Name
    bytes: Count
    sha256: str


@with_config(MORE)
class SplitPlan(TypedDict):
    """What is to be in a split."""

    images: Count
    fingerprint: str


@with_config(MORE)
class SplitEntry(SplitPlan):
    """What is in a split."""

    notes: list[str]
    index: IndexEntry
    shards: list[ShardEntry]


@with_config(MORE)
class PackPlan(TypedDict):
    """What fixes every byte of a pack but the images' own."""

    format: int
    dataset: str
    category: str | None
    val_fraction: float | None
    split_seed: int
    splits: dict[str, SplitPlan]


@with_config(MORE)
class Pack(TypedDict):
    """deitkit-shards.json."""

    format: int
    dataset: str
    category: str | None
    val_fraction: float | None
    split_seed: int
    class_names: Annotated[list[str], Field(min_length=1)]
    splits: Annotated[dict[str, SplitEntry], Field(min_length=1)]


def is_pack(root: Path) -> bool:
    """Whether `root` has a pack of ours, finished or not."""
    return (root / PACK).is_file() or (root / UNFINISHED).is_dir()


def matches(root: Path) -> bool:
    """Whether `root` has a pack of ours, finished or not, or archives with names of shards."""
    return is_pack(root) or (root.is_dir() and bool(archives(root)))


def open_shards(root: Path, data: schema.Data, split: str) -> Source:
    """One split of our own pack, or of a WebDataset of others.

    Raises:
        DeitkitError: a pack that is unfinished, damaged or older than its shards; shards that cannot be indexed.
    """
    if (root / PACK).is_file():
        pack = read_pack(root)
        refuse_changed_settings(root, pack, data)
        return _of_pack(root, pack, data, split)
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


def _of_pack(root: Path, pack: dict[str, Any], data: schema.Data, split: str) -> Source:
    """A split as it was packed, whatever the rule; where there is but one, parts of it as of any images."""
    if split in pack["splits"] and ("val" in pack["splits"] or split == "val"):
        return open_packed(root, pack, split, wanted=data.dataset)
    settings = data.model_copy(update={"dataset": pack["dataset"]})  # what is published keeps its splits
    there = tuple(pack["splits"])
    return open_split(
        there, lambda name: open_packed(root, pack, name, wanted=data.dataset), settings, split, root=root
    )


def read_pack(root: Path) -> dict[str, Any]:
    """What deitkit-shards.json says.

    Raises:
        DeitkitError: it cannot be read, or is of another version.
    """
    path = root / PACK
    pack = read_json(path, Pack, remedy=ANEW)
    if pack["format"] != FORMAT:
        problem = f"its format is {pack['format']}, and this version of deitkit reads {FORMAT}"
        raise DeitkitError(f"{path} cannot be read", value=path, problems=[problem], remedy=ANEW)
    return dict(pack)


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
    refuse_outside([described["index"]["name"], *(shard["name"] for shard in described["shards"])], root / PACK)
    shards = _checked_shards(root, described)
    table = _packed_index(root, described)
    labels = table["label"].to_numpy().astype(np.int64)
    places = places_of(table)
    fits = all(0 <= end < len(pack["class_names"]) for end in _ends(labels))
    if len(labels) != described["images"] or not fits or not all(0 <= end < len(shards) for end in _ends(places[:, 0])):
        what = f"{root / PACK} is damaged: its index is of other images, classes or shards"
        raise DeitkitError(what, value=root, remedy=ANEW)
    ids = [os.fsdecode(name) for name in table["id"].to_pylist()]
    if pack["dataset"] != "folder":
        refuse_outside(ids, root)
    other = [f"{root} holds {pack['dataset']}, not {wanted}"] if wanted not in ("folder", pack["dataset"]) else []
    return Shards(
        dataset=pack["dataset"],
        split=split,
        root=root,
        class_names=tuple(pack["class_names"]),
        labels=labels,
        ids=PackedNames(ids),
        shards=shards,
        places=places,
        accepted=LabelSets(table["accepted"].to_pylist()) if "accepted" in table.column_names else None,
        notes=(*described["notes"], *other),
    )


def _ends(numbers: Indices) -> list[int]:
    """The least and the largest; nothing of no images."""
    return [int(numbers.min()), int(numbers.max())] if len(numbers) else []


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
        remedy="repeat `deitkit data pack`; if only dates differ (a copy), "
        f"`deitkit data pack {quoted(root)} --reindex` compares the bytes and renews the index",
    )  # fmt: skip


def _packed_index(root: Path, described: dict[str, Any]) -> Any:
    path = root / described["index"]["name"]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != described["index"]["sha256"]:
        raise DeitkitError(f"{path} is not the index that was packed", value=path, remedy="repeat `deitkit data pack`")
    # Not from a file of Python's: Arrow's threads may let go of it after Python has ended, and abort.
    return pq.read_table(pa.BufferReader(content))


PACKED = Form("packed shards", "ROOT/deitkit-shards.json", is_pack, open_shards)
SHARDS = Form("packed shards", TREE, matches, open_shards)
