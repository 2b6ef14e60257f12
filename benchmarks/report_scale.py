"""The report stage at the paper's scale: seconds and peak memory from a synthetic sweep of any size.

    python -m benchmarks.report_scale --scales=5 --num_images=50000 --references=25000 --list_length=100

Writes the parts that such a sweep would have left, runs the stage on them in a process of its own, and prints what its
steps took. Run it with several sizes to read the growth.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from etils import epath

from configs import smoke
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Audit, photo_pool
from side_jax.audit.stages import report
from side_jax.data.images import ImageSet
from side_jax.data.splitting import Split
from side_jax.evidence import null, scores
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import scale_folder, write_part
from side_jax.matching.pool import REFERENCES
from side_jax.runtime.arrays import save_array
from side_jax.runtime.files import write_json

_PART = 1000  # rows
_SIDE = 8  # pixels


def image_set(count: int, name: str, seed: int) -> ImageSet:
    """Random images of 100 classes."""
    images = np.random.default_rng(seed).integers(0, 256, (count, _SIDE, _SIDE, 1), np.uint8)
    ids = tuple(f"{name}/identity_{i % 100:05d}/photo_{i:06d}.jpg" for i in range(count))
    return ImageSet(images, np.arange(count, dtype=np.int32) % 100, ids)


def synthetic_audit(workdir: epath.Path, num_scales: int, num_images: int, references: int) -> Audit:
    """An audit with as many held-out as training images."""
    config = smoke.get_config()
    config.extract.scales = tuple(float(scale) for scale in range(num_scales))
    config.extract.num_images = num_images
    config.extract.bands = (("low", 0.4, 0.5), ("mid", 0.5, 0.6), ("high", 0.6, 1.0))
    config.dataset.image_size = _SIDE
    options = AuditOptions.from_config(config)
    return Audit(options, workdir, Split(image_set(references, "train", 0), image_set(references, "heldout", 1)))


def lists(ids: pa.Array, num_images: int, mean_length: float, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of one reference set: skewed winners (hubs), list lengths as of a gamma distribution, best first."""
    size = len(ids)
    lengths = np.minimum(rng.poisson(rng.gamma(0.5, 2 * mean_length, num_images)), size)
    winner = (size * rng.random(num_images) ** 3).astype(np.int64)
    stride = 10 * rng.integers(0, size // 10, num_images) + 3
    best = np.where(lengths > 0, rng.uniform(0.4, 0.9, num_images), rng.uniform(0.1, 0.4, num_images))

    def column(lengths: np.ndarray, low: float) -> tuple[pa.Array, pa.Array]:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        row, rank = np.repeat(np.arange(num_images), lengths), np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        names = ids.take(pa.array((winner[row] + rank * stride[row]) % size))
        values = low + (best[row] - low) * (1 - rank / lengths[row])
        values = pa.array(values, pa.float32())
        return pa.ListArray.from_arrays(offsets, names), pa.ListArray.from_arrays(offsets, values)

    nearest, above = column(np.full(num_images, min(10, size)), 0.0), column(lengths, 0.4)
    ratios = {name: rng.uniform(0, 2, num_images) for name in ("carlini_ratio", "nearest_ratio")}
    named = dict(zip(("ids", "scores", "in_band", "in_band_scores"), (*nearest, *above), strict=True))
    return named | {"l2_id": ids.take(pa.array(winner))} | ratios


def write_sweep(audit: Audit, list_length: float) -> None:
    """What extract leaves behind."""
    split, rng = audit.split, np.random.default_rng(0)
    extract = audit.workdir / "extract"
    pool = photo_pool(audit)
    photos = {prefix: pa.array(pool.members(prefix)) for prefix in REFERENCES}
    for name, images in (("train", split.train), ("heldout", split.heldout)):
        descriptors = rng.normal(size=(len(images), 64)).astype(np.float32)
        save_array(extract / f"{name}_descriptors.zarr", descriptors / np.linalg.norm(descriptors, axis=1)[:, None])
    for scale in audit.options.extract.scales:
        for start in range(0, audit.options.extract.num_images, _PART):
            indices = np.arange(start, min(start + _PART, audit.options.extract.num_images))
            columns: dict[str, Any] = {"scale": np.full(len(indices), scale), "index": indices, "label": 0 * indices}
            for prefix, members in photos.items():
                made = lists(members, len(indices), list_length, rng)
                columns |= {prefix + name: column for name, column in made.items()}
            write_part(scale_folder(extract, scale), columns, DescriptorFacts("pixel"))
        generated = np.zeros((audit.options.extract.num_images, _SIDE, _SIDE, 1), np.uint8)
        save_array(scale_folder(extract, scale) / "images.zarr", generated)
    write_json(extract / "manifest.json", {"stage": "extract", "fingerprint": "", "facts": {"damaged_parts": 0}})
    write_json(
        audit.workdir / "config.json",
        {"versions": {"side_jax": ""}, "config_hash": "", "commit": None, "devices": [], "left_out": []},
    )


_STEPS: dict[str, tuple[Any, str]] = {
    "relabellings": (null, "relabellings"),
    "reading parts": (report, "read_scale"),
    "columns from the tables": (scores.Scores, "from_table"),
    "scores and intervals": (report, "summarize"),
    "excess and its null": (report, "calibrate"),
    "held-out photos": (report, "_heldout_photos"),
    "best λ against Random": (report, "against_random"),
    "Table 1": (report, "table1"),
    "page": (report, "render"),
}


def run_report(audit: Audit) -> None:
    """Runs the stage, and prints its steps."""
    spent = dict.fromkeys(_STEPS, 0.0)

    def timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            spent[step] += time.perf_counter() - started
            return result

        return call

    started, cpu, before = time.perf_counter(), time.process_time(), _peak()
    with contextlib.ExitStack() as stack:
        for step, (place, name) in _STEPS.items():
            stack.enter_context(mock.patch.object(place, name, timed(step, getattr(place, name))))
        report.ReportStage().run(audit)
    total = time.perf_counter() - started
    for step, seconds in [*spent.items(), ("matches.parquet and the rest", total - sum(spent.values()))]:
        print(f"{step:<32}{seconds:>9.1f} s")
    memory = f"peak memory {_peak():.2f} GB ({before:.2f} before it began)"
    print(f"{'all':<32}{total:>9.1f} s ({time.process_time() - cpu:.1f} s of CPU), {memory}")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """0, or what the stage's process exits with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scales", type=int, default=3)
    parser.add_argument("--num_images", type=int, default=5_000, help="per λ")
    parser.add_argument("--references", type=int, default=2_500, help="training images, and as many held out")
    parser.add_argument("--list_length", type=float, default=100, help="mean length of the in-band lists")
    parser.add_argument("--report", help="a folder with a sweep that this script has written; runs the stage only")
    arguments = parser.parse_args()
    sizes = arguments.scales, arguments.num_images, arguments.references
    if arguments.report:
        run_report(synthetic_audit(epath.Path(arguments.report), *sizes))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_sweep(synthetic_audit(epath.Path(folder), *sizes), arguments.list_length)
        print("{} λ x {} images, {} references".format(*sizes), f"lists of {arguments.list_length:g}", flush=True)
        command = [sys.executable, "-m", "benchmarks.report_scale", *sys.argv[1:], f"--report={folder}"]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
