"""What a sweep costs besides sampling: memory as N_G grows, and time for writing its match table.

    python -m benchmarks.sweep            # both
    python -m benchmarks.sweep --images 1000 50000

Memory: one process per N_G, of a UNet of 20,000 parameters and two DDIM steps; peak resident memory and its ratio.
Time: the demo's model, 10 DDIM steps; the same sweep with Parquet parts and without, in turns, medians. Linux only.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

import side_jax
from configs import smoke
from side_jax.audit.options import AuditOptions
from side_jax.matching.descriptors import load_descriptor
from side_jax.matching.pool import UNPAIRED
from side_jax.matching.references import Photos, place_references
from side_jax.matching.sweep import Sweep
from side_jax.runtime.arrays import ImageStore
from side_jax.runtime.progress import Progress
from side_jax.runtime.sharding import local_mesh, stage_key
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.target import Target

_BATCH = 100
_ROUNDS = 5
_TIMED_IMAGES = 500
_THRESHOLD = 0.9


class _Unwritten(Sweep):
    """A sweep whose rows go nowhere: the program runs, and what it found stays on the device."""

    def _write(self, batch: Any, *_: Any) -> None:
        jax.block_until_ready(batch.found)


def small_target() -> Target:
    """The smoke test's UNet with random weights."""
    options = AuditOptions.from_config(smoke.get_config())
    unet = options.target.make_net(16, 1)
    shapes = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    params = unet.lazy_init(jax.random.key(0), *shapes)["params"]
    return Target(unet, params, options.target.make_schedule())


def make_sweep(target: Target, num_steps: int, folder: epath.Path, kind: type[Sweep] = Sweep) -> Sweep:
    """Unguided images of the target against the 400 ORL photos, by pixels."""
    photos, embed, mesh = (
        side_jax.load_images("orl", "", target.image_shape[0], 1),
        load_descriptor("pixel"),
        local_mesh(),
    )
    vectors = embed(photos.images)
    pixels = photos.images.reshape(len(photos), -1)
    placed = place_references(Photos(vectors.__getitem__, pixels.__getitem__), np.arange(len(photos)), mesh, False)
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(num_steps, batch_size=_BATCH), mesh=mesh)

    def no_store(scale: float) -> ImageStore:
        raise AssertionError(f"no images are kept, of λ = {scale}")

    return kind(lambda _: folder, sampler, embed, {UNPAIRED: placed}, 10, _THRESHOLD, "none", no_store)


def sweep_seconds(sweep: Sweep, count: int) -> float:
    """Seconds for `count` images at λ = 0, all missing."""
    started = time.perf_counter()
    with Progress("sweep", count) as progress:
        sweep(0.0, np.ones(count, bool), progress)
    return time.perf_counter() - started


def peak_memory(count: int) -> int:
    """Peak resident bytes of a fresh process that sweeps over `count` images."""
    command = [sys.executable, "-m", "benchmarks.sweep", "--child", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def report_memory(counts: list[int]) -> None:
    """One line per N_G."""
    peaks = {count: peak_memory(count) for count in counts}
    for count, peak in peaks.items():
        print(f"peak memory, {count:>7,} images: {peak / 2**20:7.0f} MiB, ratio {peak / peaks[counts[0]]:.3f}")


def report_writing() -> None:
    """Medians of alternating rounds, and their ratio."""
    target = side_jax.load_target("assets/orl_target")
    seconds: dict[type[Sweep], list[float]] = {Sweep: [], _Unwritten: []}
    with tempfile.TemporaryDirectory() as folder:
        sweeps = {kind: make_sweep(target, 10, epath.Path(folder), kind) for kind in seconds}
        for sweep in sweeps.values():
            sweep_seconds(sweep, _BATCH)  # compiles
        for _ in range(_ROUNDS):
            for kind, sweep in sweeps.items():
                seconds[kind].append(sweep_seconds(sweep, _TIMED_IMAGES))
    written, unwritten = (statistics.median(times) for times in seconds.values())
    print(f"{_TIMED_IMAGES} images with Parquet parts {written:.2f} s, without {unwritten:.2f} s", end=", ")
    print(f"ratio {written / unwritten:.3f} (medians of {_ROUNDS} rounds in turns)")


def main() -> None:
    """Prints both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 50_000])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        with tempfile.TemporaryDirectory() as folder:
            sweep_seconds(make_sweep(small_target(), 2, epath.Path(folder)), arguments.child)
        # Not getrusage: its maximum is handed down from the process that started this one.
        status = Path("/proc/self/status").read_text().splitlines()
        print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
        return
    report_writing()
    report_memory(arguments.images)


if __name__ == "__main__":
    main()
