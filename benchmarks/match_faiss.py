"""Exact nearest neighbours: `side_jax.match` against faiss-cpu's IndexFlatIP, in one run on the same threads.

    python -m benchmarks.match_faiss

Needs the `bench` extra (`pip install -e .[bench]`). Prints seconds, their ratio, and whether both find the same ids.
Each sums products in its own order, so that references whose scores differ by rounding alone may change places.
"""

import argparse
import sys
import time
from collections.abc import Callable

import faiss
import numpy as np

import side_jax

_ROUNDING = 1e-6  # about 8 units in the last place of a score near 1


def unit_vectors(seed: int, count: int, dims: int) -> np.ndarray:
    """float32 [count, dims], rows of norm 1, uniform on the sphere."""
    rows = np.random.default_rng(seed).standard_normal((count, dims), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fastest(search: Callable[[], tuple[np.ndarray, np.ndarray]], repeats: int) -> tuple[float, np.ndarray, np.ndarray]:
    """(Seconds of the fastest run, scores, indices). A run before them compiles and starts threads."""
    scores, indices = search()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        search()
        seconds.append(time.perf_counter() - started)
    return min(seconds), scores, indices


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
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    queries = unit_vectors(0, arguments.queries, arguments.dims)
    references = unit_vectors(1, arguments.references, arguments.dims)
    index = faiss.IndexFlatIP(arguments.dims)
    index.add(references)

    theirs, _, their_ids = fastest(lambda: index.search(queries, arguments.k), arguments.repeats)
    ours, _, our_ids = fastest(lambda: side_jax.match(queries, references, arguments.k), arguments.repeats)
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
