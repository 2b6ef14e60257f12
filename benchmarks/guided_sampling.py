"""Guided DDIM inside `lax.scan`: convolution derivatives in canonical form against XLA's stock ones, in one run.

    python -m benchmarks.guided_sampling

Prints seconds per image and the ratio. Also the same outside a loop, where the stock derivatives are fast: if the ratio
inside the loop falls towards that outside, XLA has been mended and `side_jax.targets.conv` can go.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from side_jax.diffusion.sample import sample as sample_from_noise
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import clip, guide
from side_jax.runtime.sharding import index_keys
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets import conv
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet

SIZE = 32


def stock(x: jax.Array, w: jax.Array, stride: int = 1, padding: int | conv.Padding = 0) -> jax.Array:
    """`conv.conv2d` with XLA's own derivatives."""
    pads = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    return jax.lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Time of the second call: the first compiles."""
    jax.block_until_ready(function(*arguments))
    started = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - started


def measure(num_images: int, num_steps: int, arch: str) -> tuple[float, float]:
    """Seconds of guided sampling, and of `num_steps` classifier gradients outside a loop."""
    unet = UNet(SIZE, 1, 1, **_UNET)
    net = ResNet(ARCHITECTURES[arch], 40, time_conditioned=True)
    x = jax.random.normal(jax.random.key(0), (num_images, SIZE, SIZE, 1))
    t = jnp.zeros((num_images,), jnp.int32)
    shapes = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(t.shape, t.dtype)
    target = Target(unet, unet.lazy_init(jax.random.key(1), *shapes)["params"], Schedule())
    classifier = Classifier(net, net.lazy_init(jax.random.key(2), *shapes))
    labels, process = jnp.zeros((num_images,), jnp.int32), target.schedule.process()

    @jax.jit
    def sample(keys: jax.Array, lam: jax.Array) -> jax.Array:
        denoise = guide(clip(target.denoise, 1.0), functools.partial(classifier.gradient, labels=labels), process, lam)
        return sample_from_noise(denoise, DDIM(), keys, (SIZE, SIZE, 1), target.schedule.steps(num_steps))

    gradient = jax.jit(lambda x: classifier.gradient(x, t, labels))
    keys = index_keys(jax.random.key(3), np.arange(num_images))
    return seconds(sample, keys, jnp.float32(4.0)), num_steps * seconds(gradient, x)


_UNET: dict[str, Any] = {
    "block_out_channels": (16, 32, 64, 64),
    "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def main() -> int:
    """0 if sampling with the larger guide is at least 10 times faster with canonical derivatives, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--num_images", type=int, default=16)
    parser.add_argument("--num_steps", type=int, default=5)
    arguments = parser.parse_args()
    size = arguments.num_images, arguments.num_steps
    print(f"{jax.devices()[0].device_kind}: {size[0]} images, {size[1]} steps")
    print(f"{'seconds':<58}{'stock':>8}{'canonical':>11}{'ratio':>7}")
    ratio = 0.0
    for arch in ("resnet10_small", "resnet18_small"):  # the demo's guide, and a larger one
        jax.clear_caches()
        canonical = measure(*size, arch)
        jax.clear_caches()
        with mock.patch.object(conv, "conv2d", stock):
            plain = measure(*size, arch)
        names = "guided DDIM in lax.scan", "the gradients alone, no loop"
        for name, slow, fast in zip(names, plain, canonical, strict=True):
            print(f"{arch + ': ' + name:<58}{slow:>8.2f}{fast:>11.2f}{slow / fast:>7.1f}", flush=True)
        ratio = plain[0] / canonical[0]
    return 0 if ratio >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
