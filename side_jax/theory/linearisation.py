"""A denoiser as a linear map around one image: the Jacobian of x̂₀(x_t), its leading eigenpairs, and its effective rank.

By Tweedie's second-order formula the exact denoiser has J = ∂E[x₀ | x_t]/∂x_t = √ᾱ/(1−ᾱ) Cov(x₀ | x_t), symmetric and
without negative eigenvalues: from E[x₀ | x_t] = (x_t + (1−ᾱ) ∇log p)/√ᾱ and
∇² log p = (ᾱ Cov(x₀ | x_t)/(1−ᾱ) − I)/(1−ᾱ). Hence NUMBERS §4: Cov(x₀ | x_t) = ((1−ᾱ)/√ᾱ) J. A trained network is not
exact: its J is not symmetric. Eigenpairs here are those of J itself, some of them complex pairs, and `moments`
measures how far J is from symmetric.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import ArrayLike, Complex, Float

from side_jax.diffusion.prediction import Denoise

_ROUND = 4  # iterations between two checks of the residuals
_MAX_ITERATIONS = 100


class Eigenpairs(NamedTuple):
    """The leading eigenpairs of J at N images, largest |λ| first.

    Attributes:
      values: λ, complex128 [N, k]; times (1−ᾱ)/√ᾱ they are variances of x₀ given x_t.
      vectors: v of norm 1, complex128 [N, D, k].
      residuals: ‖J v − λ v‖ / |λ|, [N, k]; J is applied to the real and the imaginary part of v.
      block: orthonormal columns, float32 [N, D, p]: a start for another noise level.
      iterations: number of orthogonal iterations.
    """

    values: Complex[np.ndarray, "n k"]
    vectors: Complex[np.ndarray, "n d k"]
    residuals: Float[np.ndarray, "n k"]
    block: Float[np.ndarray, "n d p"]
    iterations: int


class Moments(NamedTuple):
    """Estimates by random probes, one for each image: float [N].

    Attributes:
      symmetric_participation: (tr S)² / tr S² of S = (J + Jᵀ)/2, between 1 and D for a covariance: how many eigenvalues
        count. tr J² itself may be near 0 or negative if J is not symmetric.
      asymmetry: ‖J − Jᵀ‖ / ‖J‖, Frobenius: 0 if symmetric, √2 if J and Jᵀ are orthogonal, 2 if J = −Jᵀ.
    """

    symmetric_participation: np.ndarray
    asymmetry: np.ndarray


class Linearisation:
    """The Jacobian J of a denoiser x̂₀(x_t) at given images and one t. Compiled once for all t.

    Products with J use forward mode (jvp), those with Jᵀ reverse mode (vjp). For a block of p directions the network
    sees p copies of each image, N p in all.
    """

    def __init__(self, denoise: Denoise, num_timesteps: int):
        self._denoise, self._num_timesteps = denoise, num_timesteps
        self._iterate = jax.jit(self._orthogonal_iteration, static_argnames="count")
        self._products = jax.jit(self._probe)

    def eigenpairs(
        self,
        x_t: Float[ArrayLike, "n h w c"],
        t: int,
        k: int = 8,
        oversampling: int = 24,
        tolerance: float = 1e-3,
        start: Float[np.ndarray, "n d p"] | None = None,
    ) -> Eigenpairs:
        """The k leading eigenpairs of J, by orthogonal iteration and a Rayleigh–Ritz step on the block.

        The error falls by about |λ_{p+1} / λ_k| per iteration, p = k + oversampling. The iteration stops as soon as all
        residuals are at most `tolerance`, or after 100 iterations: check the residuals.

        Args:
          x_t: noisy images, [N, H, W, C].
          t: noise level, 0 … T − 1.
          k: number of eigenpairs.
          oversampling: further directions in the block.
          tolerance: of ‖J v − λ v‖ / |λ|.
          start: `block` of another call; None for random directions.

        Raises:
          ValueError: if k or the block does not fit the dimension, t is outside the schedule, or the tolerance is 0.
        """
        x_t = jnp.asarray(x_t)
        n, dimension = len(x_t), x_t[0].size
        self._check_timestep(t)
        if not (k >= 1 and oversampling >= 0 and k + oversampling <= dimension):
            raise ValueError(f"k {k} and oversampling {oversampling} do not fit: images have {dimension} dimensions")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be above 0, got {tolerance}")
        shape = (n, dimension, k + oversampling)
        if start is not None and start.shape != shape:
            raise ValueError(f"start has shape {start.shape}, needs {shape}")
        block = jax.random.normal(jax.random.key(0), shape) if start is None else jnp.asarray(start)
        iterations = 0
        while True:
            iterations += _ROUND
            block, image = self._iterate(x_t, jnp.int32(t), block, count=_ROUND)
            values, vectors, residuals = _ritz(np.asarray(block, np.float64), np.asarray(image, np.float64), k)
            if residuals.max() <= tolerance or iterations >= _MAX_ITERATIONS:
                return Eigenpairs(values, vectors, residuals, np.asarray(block), iterations)

    def moments(self, x_t: Float[ArrayLike, "n h w c"], t: int, probes: int = 32) -> Moments:
        """Traces by Hutchinson's estimator, with random signs z: E zᵀJz = tr J, E (Jᵀz)·(Jz) = tr J², E‖Jz‖² = ‖J‖².

        Args:
          x_t: noisy images, [N, H, W, C].
          t: noise level, 0 … T − 1.
          probes: number of random z, 2 or more.

        Raises:
          ValueError: if t is outside the schedule, or there are fewer than 2 probes.
        """
        self._check_timestep(t)
        if probes < 2:
            raise ValueError(f"probes must be 2 or more, got {probes}")
        x_t = jnp.asarray(x_t)
        draws = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (probes, *x_t.shape))
        rows = [self._products(x_t, jnp.int32(t), jnp.asarray(z)) for z in draws]
        trace, squared, norm, transposed = np.array(rows, np.float64).transpose(1, 0, 2)  # each [probes, N]
        # (tr J)² from pairs of different probes: squares of one probe would add the estimator's variance.
        trace_squared = (trace.sum(0) ** 2 - (trace**2).sum(0)) / (probes * (probes - 1))
        frobenius, square = (norm + transposed).mean(0) / 2, squared.mean(0)
        asymmetry = np.sqrt(np.maximum(2 * (frobenius - square), 0) / frobenius)  # ‖J − Jᵀ‖² = 2‖J‖² − 2 tr J²
        symmetric = (frobenius + square) / 2  # ‖(J + Jᵀ)/2‖²
        return Moments(trace_squared / symmetric, asymmetry)

    def _check_timestep(self, t: int) -> None:
        if not 0 <= t < self._num_timesteps:
            raise ValueError(f"t must be 0 to {self._num_timesteps - 1}, got {t}")

    def _denoiser(self, t: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """x_t -> x̂₀, both [N, H, W, C], at one t."""
        return lambda x: self._denoise(x, jnp.full(x.shape[:1], t)).x0

    def _orthogonal_iteration(
        self, x_t: jax.Array, t: jax.Array, block: jax.Array, count: int
    ) -> tuple[jax.Array, jax.Array]:
        """(Q, J Q) after `count` times Q ← qr(J Q), both [N, D, p]."""
        n, dimension, p = block.shape
        _, jvp = jax.linearize(self._denoiser(t), jnp.repeat(x_t, p, axis=0))

        def apply(q: jax.Array) -> jax.Array:
            tangents = q.swapaxes(1, 2).reshape(n * p, *x_t.shape[1:])
            return jvp(tangents).reshape(n, p, dimension).swapaxes(1, 2)

        def step(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            q = jnp.linalg.qr(state[1])[0]
            return q, apply(q)

        return jax.lax.fori_loop(0, count, step, (block, block))

    def _probe(self, x_t: jax.Array, t: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
        """z·Jz, Jᵀz·Jz, ‖Jz‖² and ‖Jᵀz‖², each [N]."""
        x0_hat = self._denoiser(t)
        _, forward = jax.jvp(x0_hat, (x_t,), (z,))
        backward = jax.vjp(x0_hat, x_t)[1](z)[0]
        pairs = ((z, forward), (backward, forward), (forward, forward), (backward, backward))
        return tuple((u * v).sum((1, 2, 3)) for u, v in pairs)


def _ritz(block: np.ndarray, image: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rayleigh–Ritz: eigenvalues of Qᵀ J Q, the eigenvectors Q y of J, and their residuals."""
    values, small = np.linalg.eig(block.swapaxes(1, 2) @ image)  # not symmetric: some in complex pairs
    order = np.argsort(-np.abs(values), axis=-1, kind="stable")[:, :k]
    values = np.take_along_axis(values, order, -1).astype(np.complex128)
    small = np.take_along_axis(small, order[:, None, :], -1)
    vectors = block @ small  # of norm 1, since Q is orthonormal
    residuals = np.linalg.norm(image @ small - vectors * values[:, None, :], axis=1)
    return values, vectors.astype(np.complex128), residuals / np.abs(values)


def real_span(vectors: Complex[np.ndarray, "d k"]) -> Float[np.ndarray, "d k"]:
    """An orthonormal basis of the k real dimensions that k eigenvectors span, [D, k].

    A complex pair spans its real and imaginary part. If the k-th vector has its partner outside, the basis has the
    leading k of k + 1 directions.
    """
    both = np.concatenate([vectors.real, vectors.imag], axis=1)
    return np.linalg.svd(both, full_matrices=False)[0][:, : vectors.shape[1]]


def subspace_angles(
    vectors: Complex[np.ndarray, "d k"], reference: Complex[np.ndarray, "d k"]
) -> Float[np.ndarray, " k"]:
    """Principal angles between two spans of eigenvectors, in radians, largest first: [k].

    Where λ_k and λ_{k+1} are close the span itself is arbitrary, and the angles carry no information.
    """
    return scipy.linalg.subspace_angles(real_span(vectors), real_span(reference))
