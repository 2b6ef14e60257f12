"""The start of an audit of many photos: seconds and peak memory without a cache, at the first start and at the second.

    python -m benchmarks.start_up --photos=25000

Makes JPEG photos, then prepares an audit of them as `side_jax.run` does (photos, split, near-duplicates, hashes, checks)
in a process of its own for every row. "as before" is the start without this cache, in memory and in one thread, from a
checkout of another version of side_jax, if `--before` names one.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

_SIDE = 128
_KINDS = ("without a workdir", "first start", "second start")
_EVERY_SECONDS = 0.01  # between two looks at the memory


def make_photos(folder: Path, count: int) -> None:
    """JPEG photos of soft random shapes at 128×128 pixels, in 100 folders."""
    for i in range(count):
        path = folder / f"{i % 100:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


class Memory:
    """Peak of the memory that no file backs, MiB, looked at all the time: pages of files can be had again."""

    def __init__(self) -> None:
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
            self.peak = max(self.peak, int(kib) / 1024)
            time.sleep(_EVERY_SECONDS)


def start(photos: str, workdir: str) -> None:
    """One start, and a line of what it took."""
    from configs import smoke
    from side_jax.audit import dataset, pipeline

    config = smoke.get_config()
    config.dataset.update({"name": "image_folder", "path": photos, "image_size": _SIDE, "channels": 3})
    memory, before, started = Memory(), _peak(), time.perf_counter()
    audit = pipeline.prepare(config, workdir)
    hashes = len({*audit.split.train.hashes, *audit.split.heldout.hashes})
    prepared = time.perf_counter() - started
    if hasattr(dataset, "keep"):
        dataset.keep(audit.split, audit.workdir)
    kept = time.perf_counter() - started - prepared
    print(
        f"{prepared:7.1f} s + {kept:5.1f} s to keep   peak {_peak():6.0f} MiB ({before:.0f} before), {memory.peak:.0f}"
        f" of them no file's   {len(audit.split.train)} + {len(audit.split.heldout)} photos, {hashes} hashes"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """0, or what a failed process exits with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photos", type=int, default=25_000)
    parser.add_argument("--before", help="a checkout of another version, to be started too")
    parser.add_argument("--start", nargs=2, metavar=("PHOTOS", "WORKDIR"), help="one start only")
    arguments = parser.parse_args()
    if arguments.start:
        start(*arguments.start)
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
