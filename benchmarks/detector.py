"""Time per image of the representation detector, beside a plain forward pass and beside sampling the image.

    python -m benchmarks.detector

All three in one run, of the same images in the same batches, after compilation; the median of several rounds, taken in
turn.
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np

import side_jax
from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process
from side_jax.inside.probe import IndexedImages, Probe, generation_classes
from side_jax.inside.spikiness import Forward
from side_jax.runtime.sharding import stage_key
from side_jax.targets.activations import decoder_layers


def plain(denoise: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process) -> dict[str, jax.Array]:
    """A forward pass and nothing else."""
    return {"eps": denoise(x0, t).eps}


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--num_images", type=int, default=128)
    parser.add_argument("--num_steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", default="assets/orl_target")
    arguments = parser.parse_args()
    target, count, key = side_jax.load_target(arguments.target), arguments.num_images, stage_key(0, "detect")
    images, indices = np.zeros((count, *target.image_shape), np.uint8), np.arange(count)
    indexed = IndexedImages(images, indices, generation_classes(target, stage_key(0, "extract"), indices))
    layers = decoder_layers(target)
    forward, detector = Probe(target, plain, key), Probe(target, Forward(layers), key)
    runs: dict[str, Callable[[], object]] = {
        "plain forward pass": lambda: forward(indexed, 10),
        f"detector, {len(layers)} layers and the loss": lambda: detector(indexed, 10),
        f"sampling, {arguments.num_steps} steps": lambda: side_jax.sample(target, count, num_steps=arguments.num_steps),
    }
    for run in runs.values():
        run()  # compiles
    rounds = np.array([[seconds(run) for run in runs.values()] for _ in range(arguments.rounds)])
    each = dict(zip(runs, np.median(rounds, axis=0) / count, strict=True))
    base = each["plain forward pass"]
    print(f"{jax.devices()[0].device_kind}: {count} images of {target.image_shape}\n")
    print(f"{'':36}{'ms an image':>14}{'ratio':>10}")
    for name, value in each.items():
        print(f"{name:36}{1000 * value:>14.2f}{value / base:>10.2f}")


if __name__ == "__main__":
    main()
