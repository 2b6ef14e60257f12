"""Images from noise: one `lax.scan` over the steps of a solver (DESIGN §3)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, UInt8

from side_jax.diffusion.prediction import Denoise, Prediction
from side_jax.diffusion.process import Steps
from side_jax.diffusion.solvers import Solver


def initial_noise(keys: jax.Array, image_shape: tuple[int, int, int]) -> Float[Array, "n h w c"]:
    """x_T of each image from its own key: standard normal [N, H, W, C]."""
    return _noise(keys, jnp.zeros((), jnp.int32), image_shape)


def _noise(keys: jax.Array, step: jax.Array, image_shape: tuple[int, ...]) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), image_shape))(keys)


def sample(
    denoise: Denoise, solver: Solver, keys: jax.Array, image_shape: tuple[int, int, int], steps: Steps
) -> Float[Array, "n h w c"]:
    """Images from noise.

    Args:
      denoise: the target, with all transforms folded into it.
      solver: how a step is taken.
      keys: [N], one per image. Image n depends on keys[n] alone.
      image_shape: (H, W, C).
      steps: from `Schedule.steps`. Traced: one compilation serves every schedule of as many steps.

    Returns:
      float32 [N, H, W, C], about [−1, 1].
    """
    x_t = initial_noise(keys, image_shape)
    return _scan(denoise, solver, x_t, steps, keys)[0]


def trajectory(denoise: Denoise, solver: Solver, x_t: Float[Array, "n h w c"], steps: Steps) -> Float[Array, "..."]:
    """What each step of a deterministic solver starts from, and the result: [S + 1, N, H, W, C].

    Raises:
      ValueError: if the solver draws noise, which a trajectory from given noise has no keys for.
    """
    if solver.draws_noise:
        raise ValueError(f"trajectory needs a deterministic solver, got {solver}")
    x_0, path = _scan(denoise, solver, jnp.asarray(x_t), steps, None)
    return jnp.concatenate([path, x_0[None]])


def sample_with_path(
    denoise: Denoise, solver: Solver, keys: jax.Array, image_shape: tuple[int, int, int], steps: Steps
) -> tuple[Float[Array, "n h w c"], Float[Array, "s n h w c"], Float[Array, "s n h w c"]]:
    """`sample`, and what each of its S steps starts from: (images, x_t, the prediction's x̂₀)."""
    x_t = initial_noise(keys, image_shape)
    x_0, (path, predicted) = _scan(denoise, solver, x_t, steps, keys, lambda x_t, prediction: (x_t, prediction.x0))
    return x_0, path, predicted


def _x_t(x_t: jax.Array, prediction: Prediction) -> jax.Array:
    return x_t


def _scan(
    denoise: Denoise,
    solver: Solver,
    x_t: jax.Array,
    steps: Steps,
    keys: jax.Array | None,
    kept: Callable[[jax.Array, Prediction], PyTree] = _x_t,
) -> tuple[jax.Array, PyTree]:
    """The result, and what is kept of each step, such as its x_t: it costs nothing where it is not used."""

    def body(carry: tuple[jax.Array, PyTree], step: tuple[jax.Array, Steps]) -> tuple[tuple[jax.Array, PyTree], PyTree]:
        (x_t, state), (i, (t, s)) = carry, step
        prediction = denoise(x_t, jnp.full(x_t.shape[:1], t.t))
        z = _noise(keys, i + 1, x_t.shape[1:]) if solver.draws_noise and keys is not None else None
        x_s, state = solver.step(state, x_t, prediction, t, s, z)
        return (x_s, state), kept(x_t, prediction)

    count = jnp.arange(len(steps.t.t))
    (x_0, _), path = jax.lax.scan(body, (x_t, solver.init(x_t)), (count, steps))
    return x_0, path


def to_uint8(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """[−1, 1] -> 0 … 255, rounded to the nearest level."""
    return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def to_float(images: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """uint8 0 … 255 -> float32 [−1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1
