"""Exact nearest neighbours: `side_jax.match` against faiss-cpu's IndexFlatIP, in one run on the same threads.

    python -m benchmarks.match_faiss

The two take turns, a slice of the queries at a time, so that whatever else the machine does slows both.
Needs the `bench` extra (`pip install -e .[bench]`). Prints seconds, their ratio, and whether both find the same ids.
Each sums products in its own order, so that references whose scores differ by rounding alone may change places.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import faiss
import numpy as np

import side_jax

Search = Callable[[np.ndarray], np.ndarray]  # queries [N, D] -> ids [N, k]

_ROUNDING = 1e-6  # about 8 units in the last place of a score near 1


def unit_vectors(seed: int, count: int, dims: int) -> np.ndarray:
    """float32 [count, dims], rows of norm 1, uniform on the sphere."""
    rows = np.random.default_rng(seed).standard_normal((count, dims), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def in_turn(searches: Sequence[Search], queries: np.ndarray, slices: int) -> tuple[list[float], list[np.ndarray]]:
    """Seconds and ids [N, k] of every search. One slice before the first compiles and starts threads."""
    parts = np.array_split(queries, slices)
    for part in {len(part): part for part in parts}.values():
        for search in searches:
            search(part)
    seconds = [0.0] * len(searches)
    ids: list[list[np.ndarray]] = [[] for _ in searches]
    for part in parts:
        for i, search in enumerate(searches):
            started = time.perf_counter()
            ids[i].append(search(part))
            seconds[i] += time.perf_counter() - started
    return seconds, [np.concatenate(found) for found in ids]


def differing(ours: np.ndarray, theirs: np.ndarray, queries: np.ndarray, references: np.ndarray) -> tuple[int, float]:
    """(Entries of two id lists [N, k] that differ, the largest difference of their exact scores)."""
    rows, columns = np.nonzero(ours != theirs)
    gaps = [
        abs(float(queries[n].astype(np.float64) @ (references[a].astype(np.float64) - references[b])))
        for n, a, b in zip(rows, ours[rows, columns], theirs[rows, columns], strict=True)
    ]
    return len(gaps), max(gaps, default=0.0)


def main() -> int:
    """0 if ids are equal but for rounding, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--references", type=int, default=25_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--slices", type=int, default=10)
    arguments = parser.parse_args()
    queries = unit_vectors(0, arguments.queries, arguments.dims)
    references = unit_vectors(1, arguments.references, arguments.dims)
    index = faiss.IndexFlatIP(arguments.dims)
    index.add(references)

    searches: tuple[Search, Search] = (
        lambda part: index.search(part, arguments.k)[1],
        lambda part: side_jax.match(part, references, arguments.k).indices,
    )
    (theirs, ours), (their_ids, our_ids) = in_turn(searches, queries, arguments.slices)
    count, gap = differing(our_ids, their_ids, queries, references)

    sizes = f"{arguments.queries:,} x {arguments.references:,} x {arguments.dims}, k = {arguments.k}"
    print(f"{sizes}, {faiss.omp_get_max_threads()} threads\n")
    print(f"{'':24}{'seconds':>8}{'GFLOP/s':>9}")
    work = 2e-9 * arguments.queries * arguments.references * arguments.dims
    for name, seconds in (("faiss-cpu IndexFlatIP", theirs), ("side_jax.match", ours)):
        print(f"{name:24}{seconds:>8.2f}{work / seconds:>9.0f}")
    print(f"\nside_jax takes {ours / theirs:.2f} times as long as faiss")
    print(f"ids: {count} of {our_ids.size} differ; largest difference of their exact scores {gap:.1e}")
    return 0 if gap <= _ROUNDING else 1


if __name__ == "__main__":
    sys.exit(main())
