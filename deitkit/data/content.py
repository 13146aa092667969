"""What images are, not only what they are called: a cheap fingerprint of their bytes, and where two differ.

A data set's own fingerprint is over ids, labels and classes. This one is over a sample of the files, spread evenly, and
over all of them where somebody asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from deitkit.data.source import Source, counted
from deitkit.errors import DeitkitError

SAMPLED = 64  # images of a split
DIGITS = 8  # hex digits kept of each one's hash


def content_of(source: Source, *, whole: bool = False) -> dict[str, Any]:
    """Number of images, hashes of a sample, in order, and with `whole` one sha256 over all of them."""
    content: dict[str, Any] = {
        "images": len(source),
        "sample": "".join(_hash(source, i)[:DIGITS] for i in _sample(source)),
    }
    if whole:
        digest = hashlib.sha256()
        for index in range(len(source)):
            digest.update(_hash(source, index).encode())
        content["all"] = digest.hexdigest()
    return content


def _sample(source: Source) -> list[int]:
    return sorted({*np.linspace(0, len(source) - 1, SAMPLED).astype(int).tolist()})


def _hash(source: Source, index: int) -> str:
    """sha256 of an image's file; one that cannot be read is the loader's to name."""
    try:
        content = source.read(index)
    except DeitkitError:
        content = b""
    return hashlib.sha256(content).hexdigest()


def content_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], source: Source, *, damaged: Collection[str] = ()
) -> list[str]:
    """What has other bytes, a line each; only what both know is compared, and nothing of the ids `damaged`."""
    if before.get("images") != now["images"]:
        return [f"{source.split}: {before.get('images')} images before, {now['images']} now"]
    old, new = str(before.get("sample", "")), str(now["sample"])
    names = [
        source.ids[index]
        for place, index in enumerate(_sample(source))
        if old[place * DIGITS : (place + 1) * DIGITS] != new[place * DIGITS : (place + 1) * DIGITS]
        and source.ids[index] not in damaged
    ]
    if names:
        return [f"{source.split}: {counted('images have other bytes', names)} (of {len(new) // DIGITS} compared)"]
    if before.get("all") is not None and "all" in now and before["all"] != now["all"] and not damaged:
        return [f"{source.split}: some images have other bytes (of all {now['images']:,} compared)"]
    return []
