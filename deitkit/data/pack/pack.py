"""Packing a data set: its images, as they are, into tar shards that WebDataset reads, and an index to reach each one.

An interrupted pack goes on after its last whole shard; the indices and deitkit-shards.json come last. Decodes nothing,
and reads no pack but to check it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deitkit.catalog import DATASETS
from deitkit.data.formats.shards import FORMAT, PACK, UNFINISHED, PackPlan, open_packed, read_pack
from deitkit.data.open import find_data
from deitkit.data.pack.shard_writer import PackedShard, Progress, whole_shard, write_index, write_shard
from deitkit.data.source import Source, counted
from deitkit.errors import DeitkitError
from deitkit.files import recover_in, saving, write_atomic
from deitkit.recipe import schema
from deitkit.records import read_json
from deitkit.runs.folder import Run

SHARD_BYTES = 256 * 10**6
PLAN = "plan.json"


@dataclass(frozen=True)
class PackedSplit:
    """What one split has become."""

    split: str
    images: int
    shards: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True)
class PackResult:
    """A finished pack; `kept` shards were there already, from an earlier call."""

    root: Path
    dataset: str
    splits: tuple[PackedSplit, ...]
    kept: int
    verified: bool


def pack(
    sources: Sequence[Source],
    root: Path,
    *,
    data: schema.Data,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
) -> PackResult:
    """Write the splits of one data set, opened with the settings `data`, into the folder `root`.

    Repeating it goes on after the last whole shard. `verify` reads every image back and compares it with its source.

    Raises:
        DeitkitError: `root` holds something else, an image cannot be read, or the disk is full.
    """
    tell = progress or _silence
    plan = _plan(sources, data, shard_bytes=shard_bytes)
    _refuse_inside(root, data)
    kept = None if overwrite else _finished(root, plan)
    if kept is not None:
        shutil.rmtree(root / UNFINISHED, ignore_errors=True)  # a kill came between the last file and this
    if kept is None:
        with saving(root):
            root.mkdir(parents=True, exist_ok=True)
            _refuse_other(root, plan, overwrite=overwrite)
            kept = _write(sources, root, plan, tell, anew=overwrite)
    for source in sources if verify else ():
        _compare(source, root, tell)
    return _result(root, kept=kept, verified=verify)


def _silence(what: str, done: int, total: int) -> None:
    """Nobody looks."""


def reindex(root: Path, *, progress: Progress | None = None) -> PackResult:
    """Compare the bytes of every shard with what was packed and, if they are the same, renew the index's date.

    Raises:
        DeitkitError: a shard is missing or has other bytes.
    """
    tell = progress or _silence
    described = read_pack(root)
    problems = []
    for split, part in described["splits"].items():
        for number, shard in enumerate(part["shards"], start=1):
            path = root / shard["name"]
            if not path.is_file():
                problems.append(f"{shard['name']}: missing")
            elif _sha256(path) != shard["sha256"]:
                problems.append(f"{shard['name']}: other bytes")
            tell(f"{split} shards compared", number, len(part["shards"]))
    if problems:
        what = f"the shards in {root} are not those that were packed"
        raise DeitkitError(what, value=root, problems=problems, remedy="repeat `deitkit data pack`")
    with saving(root):
        for part in described["splits"].values():
            newest = max([time.time_ns(), *((root / shard["name"]).stat().st_mtime_ns for shard in part["shards"])])
            if (root / part["index"]["name"]).is_file():
                os.utime(root / part["index"]["name"], ns=(newest, newest))
    return _result(root, kept=sum(len(part["shards"]) for part in described["splits"].values()), verified=True)


def _plan(sources: Sequence[Source], data: schema.Data, *, shard_bytes: int) -> dict[str, Any]:
    """What fixes every byte of a pack but the images' own."""
    splits = {source.split: {"images": len(source), "fingerprint": source.fingerprint} for source in sources}
    if data.val_fraction is not None and len(splits) < 2:
        raise DeitkitError(
            f"data.val_fraction is {data.val_fraction:g}, but only {', '.join(splits)} is packed",
            value=data.val_fraction,
            remedy="pack both splits, or hold out later: leave --val-fraction away",
        )
    return {
        "format": FORMAT,
        "dataset": sources[0].dataset,
        "category": data.category,
        "val_fraction": data.val_fraction,
        "split_seed": data.split_seed,
        "shard_bytes": shard_bytes,
        "splits": splits,
    }


def _refuse_inside(root: Path, data: schema.Data) -> None:
    place = find_data(data) if data.path is not None or data.dataset in DATASETS else None
    if place is not None and root.resolve().is_relative_to(place.resolve()):
        raise DeitkitError(
            f"{root} lies inside the images themselves", value=root, remedy="--output FOLDER beside them"
        )


def _differences(old: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """What two plans disagree in, a line each."""
    flat = [
        {key: value for key, value in each.items() if key in plan and key != "splits"}
        | {f"{split} {key}": part[key] for split, part in each["splits"].items() for key in ("images", "fingerprint")}
        for each in (old, plan)
    ]
    keys = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    return [f"{key}: there {flat[0].get(key)}, wanted {flat[1].get(key)}" for key in keys]


def _finished(root: Path, plan: dict[str, Any]) -> int | None:
    """The shards of a pack that is just what is wanted; None where something is still to be done, or done again."""
    try:
        described = read_pack(root)
        if _differences(described, plan):
            return None
        return sum(len(open_packed(root, described, split).shards) for split in described["splits"])
    except DeitkitError:
        return None


def _refuse_other(root: Path, plan: dict[str, Any], *, overwrite: bool) -> None:
    """Raise unless `root` is empty or holds a pack of the same images; `overwrite` permits another pack."""
    there = next((path for path in (root / PACK, root / UNFINISHED / PLAN) if path.is_file()), None)
    if there is None:
        if any(entry.name != UNFINISHED for entry in root.iterdir()):
            raise DeitkitError(
                f"{root} holds files that deitkit did not pack",
                value=root,
                remedy="choose another --output; foreign folders are never overwritten",
            )
    elif not overwrite:
        try:
            problems = _differences(dict(read_json(there, PackPlan, remedy="--overwrite replaces it")), plan)
        except DeitkitError:
            problems = [f"{there.name} cannot be read"]
        if problems:
            raise DeitkitError(
                f"{root} holds another pack",
                value=root,
                problems=problems,
                remedy="--output OTHER keeps both, --overwrite replaces it",
            )


def _forget_shards(root: Path) -> None:
    """What says that shards are whole: those that lie there are not this pack's."""
    for pattern in ("*-[0-9]*.tar.json", "*.tar"):
        for path in (root / UNFINISHED).glob(pattern):
            path.unlink()


def _remove(root: Path) -> None:
    """The files of another pack, and nothing else."""
    for pattern in ("{}.index.parquet", "{}-[0-9]*.tar"):
        for split in ("train", "val"):
            for path in root.glob(pattern.format(split)):
                path.unlink()


def _write(sources: Sequence[Source], root: Path, plan: dict[str, Any], tell: Progress, *, anew: bool) -> int:
    """Every shard that is not there yet, the indices, and what makes them a pack. Returns how many were there."""
    work = root / UNFINISHED
    with Run(work).lock():
        recover_in(root, (PACK, *(f"{split}.index.parquet" for split in plan["splits"])))
        recover_in(work)
        if anew:
            _forget_shards(root)
        write_atomic(work / PLAN, json.dumps(plan))  # from now on whatever lies there is this pack, unfinished
        (root / PACK).unlink(missing_ok=True)
        if anew:
            _remove(root)
        splits, kept = {}, 0
        for source in sources:
            shards, there = _write_split(source, root, limit=plan["shard_bytes"], tell=tell)
            kept += there
            splits[source.split] = {
                **plan["splits"][source.split],
                "notes": list(source.notes),
                "index": write_index(source, shards, root / f"{source.split}.index.parquet"),
                "shards": [{"name": shard.name, "bytes": shard.bytes, "sha256": shard.sha256} for shard in shards],
            }
        described = {**plan, "class_names": list(sources[0].class_names), "splits": splits}
        write_atomic(root / PACK, json.dumps(described, indent=1) + "\n")
        shutil.rmtree(work)
    return kept


def _write_split(source: Source, root: Path, *, limit: int, tell: Progress) -> tuple[list[PackedShard], int]:
    """All shards of a split, and how many of them were there."""
    shards: list[PackedShard] = []
    done = kept = 0
    while done < len(source):
        name = f"{source.split}-{len(shards):06d}.tar"
        there = whole_shard(root, name)
        kept += there is not None
        shards.append(there or write_shard(source, done, root / name, limit=limit, tell=tell))
        done += len(shards[-1].sizes)
        tell(f"{source.split} packed", done, len(source))
    return shards, kept


def _result(root: Path, *, kept: int, verified: bool) -> PackResult:
    """Opens each split, which checks that every shard has its size."""
    described = read_pack(root)
    splits = []
    for split, part in described["splits"].items():
        images = open_packed(root, described, split)
        size = sum(shard.size for shard in images.shards)
        splits.append(PackedSplit(split, len(images), len(images.shards), size, part["fingerprint"]))
    return PackResult(root, described["dataset"], tuple(splits), kept, verified)


def _compare(source: Source, root: Path, tell: Progress) -> None:
    """Read every image back, from the disk and not from memory, and compare its bytes with the source's."""
    packed = open_packed(root, read_pack(root), source.split)
    for shard in packed.shards:
        forget(root / shard.name)
    wrong = []
    for index in range(len(source)):
        if packed.read(index) != source.read(index):
            wrong.append(source.ids[index])
        tell(f"{source.split} compared", index + 1, len(source))
    if wrong:
        raise DeitkitError(
            counted(f"{source.split} images in {root} differ from their source", wrong),
            value=root,
            remedy="--overwrite packs them anew",
        )


def forget(path: Path) -> None:
    """Ask the system to drop its copy of a file, so that the next read comes from the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
