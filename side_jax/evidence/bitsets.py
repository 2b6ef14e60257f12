"""Sets of relabellings as bits: thousands of yes-or-no answers per row, 64 in a word."""

from collections.abc import Callable, Iterable

import numpy as np

_BLOCK = 512  # draws at once: [512, N] are held


def pack(draw: Callable[[int], np.ndarray], count: int, size: int) -> np.ndarray:
    """`count` draws of N answers, as bits: uint64 [N, W], W = ⌈count / 64⌉; the bits beyond `count` are 0.

    Args:
      draw: maps a number k to the next k draws, bool [k, N].
      count: total number of draws.
      size: N.
    """
    octets = np.zeros((size, -(-count // 64) * 8), np.uint8)
    for start in range(0, count, _BLOCK):
        packed = np.packbits(draw(min(_BLOCK, count - start)), axis=0)
        octets[:, start // 8 : start // 8 + len(packed)] = packed.T
    return octets.view(np.uint64)


def unpack(bits: np.ndarray, count: int) -> np.ndarray:
    """uint64 [N, W] -> bool [N, count]."""
    return np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), axis=1, count=count).astype(bool)


def column_sums(blocks: Iterable[np.ndarray], count: int) -> np.ndarray:
    """For each of `count` columns, the number of rows with its bit set: int64 [count].

    Counts are kept as planes of bits (plane p has weight 2^p). Full adders on whole words add pairs of rows.

    Args:
      blocks: uint64 [n, W], the rows in blocks of any size.
      count: number of columns.
    """
    total = np.zeros(count, np.int64)
    for block in blocks:
        planes = [block]
        while len(planes[0]) > 1:
            if len(planes[0]) % 2:
                planes = [np.concatenate([plane, np.zeros_like(plane[:1])]) for plane in planes]
            added, carry = [], np.zeros_like(planes[0][::2])
            for plane in planes:
                first, second = plane[::2], plane[1::2]
                either = first ^ second
                added.append(either ^ carry)
                carry = (first & second) | (carry & either)
            planes = [*added, carry]
        for weight, plane in enumerate(planes):
            total += unpack(plane, count).sum(0, dtype=np.int64) << weight
    return total


def union(bits: np.ndarray, members: np.ndarray, sets: np.ndarray, num_sets: int) -> np.ndarray:
    """The union of each set's members: uint64 [num_sets, W]; 0 for an empty set.

    Args:
      bits: uint64 [N, W].
      members: rows of `bits`, int [E].
      sets: the set of each member, int [E].
      num_sets: number of sets.
    """
    result = np.zeros((num_sets, bits.shape[1]), np.uint64)
    order = np.argsort(sets, kind="stable")
    present, starts = np.unique(sets[order], return_index=True)
    if len(present):
        result[present] = np.bitwise_or.reduceat(bits[members[order]], starts, axis=0)
    return result
