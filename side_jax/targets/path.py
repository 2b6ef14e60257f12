"""The denoising path of one image: what each step of the sampler starts from, and what it predicts."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from side_jax.diffusion.sample import sample_with_path, to_uint8
from side_jax.runtime.batching import ROWS, WHOLE, over_devices
from side_jax.targets.sampling import Generator, Sampler


class Path(NamedTuple):
    """How one image came about, in S steps.

    Attributes:
      image: uint8 [H, W, C].
      label: the class that it was guided to; −1 for an unguided image.
      timesteps: t of each step, noisiest first, int32 [S].
      x_t: what each step starts from, as pixels, uint8 [S, H, W, C].
      x0: the x̂₀ that each step predicts, guided if the image is: uint8 [S, H, W, C].
    """

    image: np.ndarray
    label: int
    timesteps: np.ndarray
    x_t: np.ndarray
    x0: np.ndarray


def denoising_path(sampler: Sampler, index: int, scale: float) -> Path:
    """The path of image `index` at λ = `scale`, by a program of its own: that of the sweep stays as it is.

    So the image may differ from the sweep's by rounding.
    """
    generator = sampler.generator(scale)
    rows = np.full(sampler.batch_size, index, np.uint32)  # any size: an image depends on its own row alone
    labels = sampler.draw(rows, scale)
    made = _path_batch(generator, sampler.place(rows), sampler.place(labels), jnp.float32(scale), mesh=sampler.mesh)
    image, x_t, x0 = (np.asarray(part)[0] for part in made)
    return Path(image, int(labels[0]), np.asarray(generator.steps.t.t), x_t, x0)


@functools.partial(jax.jit, static_argnames=("mesh",))
def _path_batch(
    generator: Generator, indices: jax.Array, labels: jax.Array, lam: jax.Array, *, mesh: Mesh
) -> tuple[jax.Array, ...]:
    """Images, x_t and x̂₀ of a batch, each device its own rows: uint8 [N, …], [N, S, …] and [N, S, …]."""

    def shard(
        generator: Generator, indices: jax.Array, labels: jax.Array, lam: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        denoise, keys = generator.prepared(indices, labels, lam)
        shape, steps = generator.target.image_shape, generator.steps
        image, x_t, x0 = map(to_uint8, sample_with_path(denoise, generator.solver, keys, shape, steps))
        return image, jnp.moveaxis(x_t, 0, 1), jnp.moveaxis(x0, 0, 1)

    program = over_devices(shard, mesh, (generator.layout(), ROWS, ROWS, WHOLE))
    made: tuple[jax.Array, ...] = program(generator, indices, labels, lam)
    return made
