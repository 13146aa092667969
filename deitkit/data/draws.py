"""Counter-based random numbers (Philox 4x32, Salmon et al. 2011): a draw depends on its counter, never on history."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_MASK32 = np.uint64(0xFFFFFFFF)


class Domain(IntEnum):
    """What a draw is for; two domains never share a counter."""

    ORDER = 0
    GROUP_ORDER = 1
    PLAN = 2
    MIX = 3
    SPLIT = 4
    BALANCE = 5
    CLASS_ORDER = 6


def philox4x32(counter: Sequence[npt.ArrayLike], key: tuple[int, int]) -> list[Words]:
    """Philox4x32-10 (Salmon et al. 2011): four counter words, broadcast together -> four words of 32 random bits."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & _MASK32
        c2, c3 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & _MASK32
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def words(
    seed: int, domain: Domain, epoch: int, index: npt.ArrayLike, *, lanes: int, repeat: npt.ArrayLike = 0
) -> Words:
    """64 random bits for each index [n] and lane: [n, lanes].

    `index` below 2**48, `repeat` below 2**16, `lanes` up to 2**25: within these no counter occurs twice.
    """
    blocks = np.arange((lanes + 1) // 2, dtype=np.uint64) | np.uint64(domain << 24)
    index = np.asarray(index, dtype=np.uint64).reshape(-1, 1)
    repeat = np.asarray(repeat, dtype=np.uint64).reshape(-1, 1)
    high = index >> np.uint64(32) | repeat << np.uint64(16)
    r0, r1, r2, r3 = philox4x32((blocks, index & _MASK32, high, epoch), (seed & 0xFFFFFFFF, seed >> 32))
    pairs = np.stack([r0 | r1 << np.uint64(32), r2 | r3 << np.uint64(32)], axis=-1)
    return pairs.reshape(len(index), -1)[:, :lanes]


def to_uniforms(bits: Words) -> npt.NDArray[np.float64]:
    """The upper 53 of 64 random bits as numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniforms(
    seed: int, domain: Domain, epoch: int, index: npt.ArrayLike, *, lanes: int, repeat: npt.ArrayLike = 0
) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) for each index [n] and lane: [n, lanes]."""
    return to_uniforms(words(seed, domain, epoch, index, lanes=lanes, repeat=repeat))
