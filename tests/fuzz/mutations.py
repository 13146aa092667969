"""Files changed at random, from a seed: single bytes, cuts, and what JSON says. Every mutation can be made again."""

from __future__ import annotations

import copy
import json
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from deitkit.errors import DeitkitError

DEEP = 5_000  # nested lists: more than Python's and pydantic's readers go into
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.5, 1e308, 5e-324, float("nan"), float("inf"),
    -float("inf"), "", "x", "1", "é", "\ud800", "caf\udce9", "\x00", "../../x", "/dev/zero", "a" * 10_000, [], {}, [[]],
    [1], ["x"], [None], {"a": 1}, {"": []}, [1] * 1000,
)  # fmt: skip


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, filled or emptied bytes."""
    if not content:
        return rng.randbytes(3)
    start = rng.randrange(len(content))
    stop = min(len(content), start + rng.choice((1, 2, 4, 16, 256)))
    kind = rng.randrange(9)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[stop:]
    if kind == 2:
        return content[:stop] + content[start:]
    if kind == 3:
        return content[:start] + rng.randbytes(stop - start) + content[stop:]
    if kind == 4:
        return content[:start] + rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * (stop - start) + content[stop:]
    if kind == 5:
        return rng.choice((b"", b"\x00", b"\xff\xfe", b"{}", b"[]", b"null", content + content, content[::-1]))
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """Other types, numbers and texts; missing, doubled and renamed fields; deep nests; or changed bytes."""
    if rng.random() < 0.25:
        return changed_bytes(content, rng)
    values = copy.deepcopy(json.loads(content))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(values))
        if places:
            _change(*rng.choice(places), rng)
    text = json.dumps(values)
    if rng.random() < 0.05:
        nest = rng.choice(("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "9" * 5000, "1e999", "-1e999"))
        text = text.replace(rng.choice(("1", "true", "null", '""', "[", "0")), nest, 1)
    return text.encode()


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list with a key or index in it, at every depth."""
    keys: Any = values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in list(keys):
        yield values, key
        yield from _places(values[key])


def _change(table: Any, key: Any, rng: random.Random) -> None:
    if (isinstance(table, dict) and key not in table) or (isinstance(table, list) and key >= len(table)):
        return  # an earlier change took it away
    kind = rng.randrange(8)
    if kind == 0:
        del table[key]
    elif kind == 1 and isinstance(table, dict):
        table[rng.choice(("x", "", "é", f"{key}{key}", str(key).upper()))] = table.pop(key)
    elif kind == 1:
        table.insert(key, copy.deepcopy(table[key]))
    elif kind == 2 and isinstance(table[key], (int, float)):
        table[key] = rng.choice((-table[key], table[key] * 1000, table[key] + 0.5, str(table[key]), [table[key]]))
    else:
        table[key] = copy.deepcopy(rng.choice(STRANGE))


@dataclass
class Tally:
    """What came of the mutations of a kind of file."""

    kind: str
    mutations: int = 0
    refused: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}: {self.mutations} mutations, {self.refused} refused, {self.crashes.total()} crashes"


def fuzz(
    kind: str, content: bytes, change: Callable[[bytes, random.Random], bytes], read: Callable[[bytes], object],
    *, count: int, seed: int = 0,
) -> Tally:  # fmt: skip
    """Read so many changed contents; whatever is raised but a DeitkitError is a crash."""
    tally = Tally(kind)
    for number in range(count):
        changed = change(content, random.Random(f"{kind} {seed} {number}"))
        tally.mutations += 1
        try:
            read(changed)
        except DeitkitError:
            tally.refused += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            inside = [frame for frame in where if "/deitkit/" in frame.filename and "/tests/" not in frame.filename]
            place = inside[-1] if inside else where[-1]
            name = f"{type(error).__name__} in {place.filename.rpartition('/')[2]}:{place.lineno}"
            tally.crashes[name] += 1
            tally.first.setdefault(name, f"mutation {number}: {str(error)[:200]}")
    return tally


def refuse_crashes(tally: Tally) -> None:
    """Fail with each kind of crash, and the number of a mutation that shows it."""
    print(tally)  # noqa: T201 -- `pytest -rP` shows the counts
    listed = [f"{count} x {name}: {tally.first[name]}" for name, count in tally.crashes.most_common(20)]
    assert not listed, "\n".join([str(tally), *listed])
    assert tally.refused > tally.mutations // 20, f"{tally}: the mutations change too little"
