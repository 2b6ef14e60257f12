"""A small sweep, for tests in this process and in others: python -m tests.matching.sweep_case FOLDER DEVICES …"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.diffusion.schedule import Schedule
from side_jax.matching.descriptors import load_descriptor
from side_jax.matching.parts import covered, scale_folder
from side_jax.matching.pool import Pool
from side_jax.matching.references import Photos, place_references
from side_jax.matching.sweep import Sweep
from side_jax.runtime.arrays import ImageStore
from side_jax.runtime.progress import Progress
from side_jax.runtime.sharding import data_mesh, local_mesh, stage_key
from side_jax.surrogate.classifier import Classifier
from side_jax.targets.conv import Conv
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.target import Network, Target

SCALES = (0.0, 3.0)
COUNT = 24


class TinyNetwork(Network):
    """Two convolutions: what a sampler needs of a network, compiled in a second."""

    @property
    def image_shape(self):
        return (16, 16, 1)

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
    params = TinyNetwork().lazy_init(jax.random.key(1), *shapes)["params"]
    guide = Classifier(TinyGuide(), TinyGuide().lazy_init(jax.random.key(2), *shapes))
    target = Target(TinyNetwork(), params, Schedule())
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(3, batch_size=batch_size), guide, mesh=mesh)
    images, embed = real_images(), load_descriptor("pixel")
    vectors, pixels = embed(images), images.reshape(len(images), -1)
    photos = Photos(vectors.__getitem__, pixels.__getitem__)
    pool = Pool(tuple(f"{i:03d}" for i in range(len(images))), 90, np.arange(0, 90, 3))
    placed = {prefix: place_references(photos, members, mesh, sharded) for prefix, members in pool.groups().items()}
    root = epath.Path(folder)

    def store(scale):
        return ImageStore(scale_folder(root, scale) / "images.zarr", COUNT, (16, 16, 1), sampler.batch_size)

    return Sweep(
        lambda scale: scale_folder(root, scale),
        sampler,
        embed,
        placed,
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
