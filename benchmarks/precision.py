"""What bfloat16 changes in a result: the same images of the ORL model in float32 and in bfloat16, in one run.

    python -m benchmarks.precision

Image n starts at the same noise in both; the nearest training photo is found by the pixel descriptor, float32 in both.
Guided rows take a classifier of random weights: its gradients go through every layer, but mean nothing: only the
difference between the two precisions does. A CPU has no fast bfloat16: the seconds say nothing of a GPU.
"""

import argparse
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import side_jax
from configs import orl
from side_jax.evidence.intervals import Estimate, proportion, share_difference
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets.target import Target

_EDGE = orl.get_config().extract.bands[0][1]  # lowest score of the lowest band


class Run(NamedTuple):
    """One precision: pixels, and the nearest training photo of every image."""

    images: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    seconds: float


def training_photos(target: Target) -> np.ndarray:
    """The ORL photos that the target was trained on, uint8 [M, H, W, 1]."""
    height, _, channels = target.image_shape
    photos = side_jax.load_images("orl", None, height, channels)
    return photos.images[np.isin(photos.hashes, target.facts["training_hashes"])]


def random_guide(target: Target) -> Classifier:
    """A time-conditioned classifier of random weights."""
    net = ResNet(ARCHITECTURES["resnet10_small"], 40, time_conditioned=True)
    shapes = jax.ShapeDtypeStruct((1, *target.image_shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    return Classifier(net, net.lazy_init(jax.random.key(0), *shapes))


def run(target: Target, guide: Classifier, scale: float, precision: str, count: int, steps: int) -> Run:
    """Samples, describes and matches `count` images."""
    embed = side_jax.load_descriptor("pixel", precision=precision)
    started = time.perf_counter()
    images = side_jax.sample(target, count, num_steps=steps, guide=guide, scale=scale, precision=precision)
    seconds = time.perf_counter() - started
    found = side_jax.match(embed(images), embed(training_photos(target)), k=1)
    return Run(images, found.indices[:, 0], found.scores[:, 0], seconds)


def share(estimate: Estimate) -> str:
    """In percent, with its interval."""
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def compare(exact: Run, coarse: Run) -> dict[str, str]:
    """The rows of the table."""
    differs, above = exact.ids != coarse.ids, exact.scores >= _EDGE
    change = np.abs(exact.scores - coarse.scores)
    gray = np.abs(exact.images.astype(int) - coarse.images.astype(int))
    ams, p = share_difference(coarse.scores >= _EDGE, above)
    return {
        "best match is another photo": share(proportion(differs)),
        f"  of those scoring {_EDGE} or more": f"{int(differs[above].sum())} of {int(above.sum())}",
        "|score change|, mean and largest": f"{change.mean():.4f}, {change.max():.4f}",
        "|pixel change|, mean and largest, of 255": f"{gray.mean():.2f}, {gray.max()}",
        f"AMS at {_EDGE} or more, float32": share(proportion(above)),
        "AMS, bfloat16 minus float32": share(ams),
        "  McNemar's p": f"{p:.2g}",
        "seconds with compilation, float32": f"{exact.seconds:.0f}",
        "seconds with compilation, bfloat16": f"{coarse.seconds:.0f}",
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--num_images", type=int, default=64)
    parser.add_argument("--num_steps", type=int, default=25)
    parser.add_argument("--scales", type=float, nargs="+", default=(0.0, 5.0))
    parser.add_argument("--target", default="assets/orl_target")
    arguments = parser.parse_args()
    target = side_jax.load_target(arguments.target)
    guide, columns = random_guide(target), []
    for scale in arguments.scales:
        exact, coarse = (
            run(target, guide, scale, precision, arguments.num_images, arguments.num_steps)
            for precision in ("float32", "bfloat16")
        )
        columns.append(compare(exact, coarse))
    print(f"{jax.devices()[0].device_kind}: {arguments.num_images} images, {arguments.num_steps} steps\n")
    names = [f"λ = {scale:g}" + (", random guide" if scale else "") for scale in arguments.scales]
    print(f"{'':44}" + "".join(f"{name:>24}" for name in names))
    for row in columns[0]:
        print(f"{row:44}" + "".join(f"{column[row]:>24}" for column in columns))


if __name__ == "__main__":
    main()
