"""The two-layer ReLU denoising autoencoder of seed 003 (arXiv 2512.20963): network, loss, training.

f(x) = W₂[W₁ᵀx]₊ has no bias and one noise level σ, and is trained on
(1/n) Σ E‖f(x_i + σε) − x_i‖² + λ(‖W₁‖² + ‖W₂‖²). Its solutions in closed form are in `relu_dae_solutions`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

_BATCH_SIZE = 128  # vectors per update, drawn with replacement
_LEARNING_RATE = 2e-3  # of the first update; it decays to 0 by a cosine


class DAE(NamedTuple):
    """The weights. Column k of `w1` is the input weight of neuron k, column k of `w2` its output weight.

    Attributes:
      w1: W₁, float32 [D, p].
      w2: W₂, float32 [D, p].
    """

    w1: jax.Array
    w2: jax.Array


def hidden_codes(dae: DAE, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
    """[W₁ᵀx]₊: float32 [N, D] -> [N, p]."""
    return jax.nn.relu(x @ dae.w1)


def denoise(dae: DAE, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """f(x) = W₂[W₁ᵀx]₊: float32 [N, D] -> [N, D]."""
    return hidden_codes(dae, x) @ dae.w2.T


def check_problem(x: np.ndarray, sigma: float, lam: float) -> None:
    """Raises `ValueError` unless x is [n, D], finite and without a zero vector, σ > 0 and λ ≥ 0."""
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x must be finite vectors [n, D], n at least 1, got shape {x.shape}")
    zero = ~np.any(x, axis=1)
    if zero.any():
        raise ValueError(
            f"x[{int(zero.argmax())}] is the zero vector, which no neuron without bias can store; remove it"
        )
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    if not lam >= 0:
        raise ValueError(f"lam must be 0 or more, got {lam}")


def monte_carlo_loss(
    dae: DAE, x: Float[np.ndarray, "n d"], sigma: float, lam: float, draws: int = 1_000
) -> tuple[float, float]:
    """The training loss by simulation, and its standard error.

    Args:
      dae: the network.
      x: clean vectors, [n, D].
      sigma: σ.
      lam: λ.
      draws: of noise for each vector, at least 2.

    Raises:
      ValueError: for bad x, σ or λ (`check_problem`), or fewer than 2 draws.
    """
    check_problem(x, sigma, lam)
    if draws < 2:
        raise ValueError(f"draws must be at least 2, for a standard error, got {draws}")
    clean = jnp.asarray(x, jnp.float32)

    @jax.jit
    def losses(keys: jax.Array) -> jax.Array:
        return jax.lax.map(lambda key: _denoising_loss(dae, clean, key, sigma), keys, batch_size=256)

    values = np.asarray(losses(jax.random.split(jax.random.key(0), draws)), np.float64)
    value = float(values.mean()) + lam * float(_squared_norms(dae))
    return value, float(values.std(ddof=1)) / draws**0.5


def train(
    x: Float[np.ndarray, "n d"],
    num_hidden: int,
    sigma: float,
    lam: float,
    num_steps: int = 3_000,
    seed: int = 0,
) -> tuple[DAE, Float[np.ndarray, " steps"]]:
    """A network trained by Adam from normal weights of variance 1/D.

    Args:
      x: clean vectors, [n, D].
      num_hidden: p.
      sigma: σ.
      lam: λ.
      num_steps: number of updates.
      seed: of weights, batches and noise.

    Returns:
      The network, and the loss of each step's batch before the step, float32 [num_steps].

    Raises:
      ValueError: for bad x, σ or λ (`check_problem`), or a count below 1.
    """
    check_problem(x, sigma, lam)
    for name, value in (("num_hidden", num_hidden), ("num_steps", num_steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    clean, key = jnp.asarray(x, jnp.float32), jax.random.key(seed)
    dae, losses = _train(clean, key, jnp.float32(sigma), jnp.float32(lam), num_hidden, num_steps)
    return dae, np.asarray(losses)


@functools.partial(jax.jit, static_argnames=("num_hidden", "num_steps"))
def _train(
    x: jax.Array, key: jax.Array, sigma: jax.Array, lam: jax.Array, num_hidden: int, num_steps: int
) -> tuple[DAE, jax.Array]:
    """`train` as one program, so that σ and λ need no compilation of their own."""
    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, num_steps))
    key, init_key = jax.random.split(key)
    shape = (2, x.shape[1], num_hidden)
    dae = DAE(*(jax.random.normal(init_key, shape) / x.shape[1] ** 0.5))

    def loss(dae: DAE, step_key: jax.Array) -> jax.Array:
        index_key, noise_key = jax.random.split(step_key)
        batch = x[jax.random.randint(index_key, (_BATCH_SIZE,), 0, x.shape[0])]
        return _denoising_loss(dae, batch, noise_key, sigma) + lam * _squared_norms(dae)

    def step(state: tuple[DAE, optax.OptState], number: jax.Array) -> tuple[tuple[DAE, optax.OptState], jax.Array]:
        dae, moments = state
        value, gradient = jax.value_and_grad(loss)(dae, jax.random.fold_in(key, number))
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(dae, updates), moments), value

    (dae, _), losses = jax.lax.scan(step, (dae, optimizer.init(dae)), jnp.arange(num_steps))
    return dae, losses


def _denoising_loss(dae: DAE, x: jax.Array, key: jax.Array, sigma: float | jax.Array) -> jax.Array:
    """Mean over x [N, D] of ‖f(x + σε) − x‖², one ε for each: scalar."""
    noisy = x + sigma * jax.random.normal(key, x.shape)
    return jnp.square(denoise(dae, noisy) - x).sum(-1).mean()


def _squared_norms(dae: DAE) -> jax.Array:
    """‖W₁‖² + ‖W₂‖²."""
    return jnp.square(dae.w1).sum() + jnp.square(dae.w2).sum()
