"""What the exact guide costs beside an unguided step: measured on the demo's size, counted for the paper's.

python -m benchmarks.exact_guide
"""

import argparse
import time

import numpy as np

import side_jax
from side_jax.audit.cost import programs
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.target import abstract_target
from side_jax.targets.unet import UNet

PAPER = UNet(
    sample_size=128,
    block_out_channels=(128, 128, 256, 256, 512, 512),
    down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
)
_CLASSES = 40


def measured(set_images: int, num_images: int, num_steps: int, rounds: int) -> list[float]:
    """Time of guided over unguided sampling, in turns."""
    target = side_jax.load_target("assets/orl_target")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (set_images, *target.image_shape), np.uint8)
    guide = side_jax.exact_guide(target, images, rng.dirichlet(np.ones(_CLASSES), set_images).astype(np.float32))
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(num_steps, batch_size=num_images), guide)
    indices = np.arange(num_images)

    def seconds(scale: float) -> float:
        started = time.perf_counter()
        for _ in sampler(indices, scale):
            pass
        return time.perf_counter() - started

    seconds(0.0), seconds(4.0)  # compile
    return [seconds(4.0) / seconds(0.0) for _ in range(rounds)]


def counted(set_images: int, batch: int = 64) -> tuple[float, float]:
    """FLOPs per image and step of the paper's UNet, without and with the exact guide."""
    guide = programs.exact_guide(set_images, 300, True, set_images, PAPER.image_shape)
    target = abstract_target(PAPER, Schedule())
    plain, guided = (programs.sampling_step(target, batch, one).flops() for one in (None, guide))
    return plain, guided


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--set_images", type=int, default=1_024)
    parser.add_argument("--num_images", type=int, default=64)
    parser.add_argument("--num_steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ratios = measured(arguments.set_images, arguments.num_images, arguments.num_steps, arguments.rounds)
    print(
        f"exact guide over {arguments.set_images:,} images of 32x32, the demo's UNet, {arguments.num_images} images:"
        f" guided over unguided {np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds)"
    )
    plain, guided = counted(50_000)
    print(
        f"exact guide over 50,000 images of 128x128x3, the paper's UNet, counted: {guided / 1e9:.0f} over"
        f" {plain / 1e9:.0f} GFLOP a step and image: {guided / plain:.3f}"
    )


if __name__ == "__main__":
    main()
