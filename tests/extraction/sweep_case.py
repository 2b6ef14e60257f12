"""A small sweep, for tests in this process and in others: python -m tests.extraction.sweep_case FOLDER DEVICES …"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.arrays import ImageStore
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.extraction.descriptors import load_descriptor
from side_jax.extraction.parts import covered, scale_folder
from side_jax.extraction.references import place_references
from side_jax.extraction.sweep import Sweep
from side_jax.models.conv import Conv
from side_jax.progress import Progress
from side_jax.sampling import Sampler
from side_jax.sharding import data_mesh, local_mesh, stage_key
from side_jax.surrogate.classifier import Classifier
from side_jax.target import Target

SCALES = (0.0, 3.0)
COUNT = 24


class TinyUNet(nn.Module):
    """Two convolutions: what a sampler needs of a UNet, compiled in a second."""

    sample_size: int = 16
    in_channels: int = 1
    num_class_embeds: int | None = None

    @nn.compact
    def __call__(self, x_t, t, classes=None, dtype=jnp.float32):
        level = t.astype(jnp.float32).reshape(-1, 1, 1, 1) / 1000
        hidden = nn.silu(Conv(8, name="first")(x_t) + level)
        return x_t * level + Conv(1, name="second")(hidden)


class TinyGuide(nn.Module):
    """Logits from one convolution."""

    num_classes: int = 7

    @nn.compact
    def __call__(self, x_t, t):
        hidden = nn.silu(Conv(8, name="first")(x_t)).mean((1, 2))
        return 20 * nn.Dense(self.num_classes)(hidden)


def real_images() -> np.ndarray:
    """90 images; the last 30 are the first 30 again, so that every best match is a tie."""
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), np.uint8)
    return np.concatenate([images, images[:30]])


def make_sweep(folder, batch_size=8, sharded=False, save_images="none", threshold=0.05, top_k=5) -> Sweep:
    """Random networks, pixels, and `real_images`."""
    mesh = data_mesh() if sharded else local_mesh()
    shapes = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    params = TinyUNet().lazy_init(jax.random.key(1), *shapes)["params"]
    guide = Classifier(TinyGuide(), TinyGuide().lazy_init(jax.random.key(2), *shapes))
    target = Target(TinyUNet(), params, Schedule())
    sampler = Sampler(target, stage_key(0, "extract"), 3, DDIM(), batch_size, guide, mesh)
    images, embed = real_images(), load_descriptor("pixel")
    vectors, ids = embed(images), np.array([f"{i:03d}" for i in range(len(images))])
    sets = {"": np.arange(90), "paired_": np.arange(0, 90, 3)}
    placed = {
        prefix: place_references(ids, lambda rows: vectors[rows], images, chosen, mesh, sharded)
        for prefix, chosen in sets.items()
    }
    root = epath.Path(folder)

    def store(scale):
        return ImageStore(scale_folder(root, scale) / "images.zarr", COUNT, (16, 16, 1), sampler.batch_size)

    return Sweep(
        lambda scale: scale_folder(root, scale),
        sampler,
        embed,
        placed,
        sharded,
        top_k,
        threshold,
        save_images,
        store,
    )


def run_sweep(sweep: Sweep, count: int = COUNT, scales: tuple[float, ...] = SCALES) -> None:
    """Whatever is missing."""
    for scale in scales:
        with Progress("sweep", count) as progress:
            sweep(scale, ~covered(sweep.folder(scale), count), progress)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
    run_sweep(make_sweep(sys.argv[1], int(sys.argv[3]), sys.argv[4] == "sharded"))
