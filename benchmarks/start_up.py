"""The start of an audit of many photos: seconds and peak memory without a cache, at the first start and at the second.

    python -m benchmarks.start_up --photos=25000

Makes JPEG photos at 128×128, and reads them as an audit does when it starts: pixels, split, near-duplicates, hashes
and their cache. Every line is a process of its own. Memory is the growth of its peak; the part that is no file's cannot
be had back by the system.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from etils import epath
from PIL import Image

from side_jax.audit.dataset import DatasetOptions, keep, load_split
from side_jax.data.images import ImageSet, decode
from side_jax.data.splitting import Split, split_images

_SIDE = 128
_EVERY_SECONDS = 0.01  # between two looks at the memory


def make_photos(folder: Path, count: int) -> None:
    """JPEG photos of soft random shapes at 128×128 pixels, in 100 folders."""
    for i in range(count):
        path = folder / f"{i % 100:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


class Memory:
    """Growth, in MiB, of the peak of this process's memory that no file backs. Linux only."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._before = self._now()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._now() - self._before)
            time.sleep(_EVERY_SECONDS)

    @staticmethod
    def _now() -> float:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024


def uncached(photos: epath.Path) -> Split:
    """One photo after the other, all in memory, and copied for the split: how every start was before the cache."""
    files = sorted(photos.glob("*/*.jpg"))
    images = np.stack([decode(file.read_bytes(), _SIDE, 3) for file in files])
    labels = np.array([int(file.parent.name) for file in files], np.int32)
    return split_images(ImageSet(images, labels, tuple(file.name for file in files)), 0.5, 0.98, 0)


def start(way: str, photos: epath.Path, workdir: epath.Path) -> None:
    """One start in this process, and a line of what it took."""
    dataset = DatasetOptions(path=str(photos), image_size=_SIDE)
    memory, before, started = Memory(), _peak(), time.perf_counter()
    split = uncached(photos) if way == "uncached" else keep(load_split(dataset, workdir), workdir)
    seconds, peak, count = time.perf_counter() - started, _peak() - before, len(split.train) + len(split.heldout)
    print(
        f"{way:<9}{count:>7,} photos {seconds:>7.1f} s   {peak:>5.0f} MiB, of which {memory.peak:>5.0f} are no file's"
    )
    print(f"SECONDS {seconds}")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """0, or what a failed process exits with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photos", type=int, default=25_000)
    parser.add_argument("--start", nargs=3, metavar=("WAY", "PHOTOS", "WORKDIR"), help="one start only")
    arguments = parser.parse_args()
    if arguments.start:
        way, *places = arguments.start
        start(way, *map(epath.Path, places))
        return 0
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        photos, workdir = Path(folder) / "photos", Path(folder) / "audit"
        make_photos(photos, arguments.photos)
        for way in ("uncached", "first", "second"):
            command = [sys.executable, "-m", "benchmarks.start_up", "--start", way, str(photos), str(workdir)]
            run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
            if run.returncode:
                return run.returncode
            line, _, last = run.stdout.strip().rpartition("\n")
            seconds[way] = float(last.split()[1])
            print(line, flush=True)
    print(
        f"the second start takes 1/{seconds['uncached'] / seconds['second']:.0f} of the uncached, "
        f"1/{seconds['first'] / seconds['second']:.0f} of the first"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
