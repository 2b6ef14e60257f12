"""The optimal linear (Wiener) denoiser of a data set, and how far a network's denoiser is from it.

It is exact if the data are Gaussian. Fitted to training images it knows their mean and covariance and no more, so it
cannot hold a single photo: what a network does beyond it is either structure of the population or memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, UInt8

from side_jax.diffusion.prediction import Denoise, Prediction, from_x0
from side_jax.diffusion.process import Process

# Eigenvalues below this share of the largest are rounding: their eigenvectors, from float64 Gram matrices, would be
# orthogonal to about 1e-16 / 1e-10 only.
RANK_CUT = 1e-10
_BLOCK = 1 << 24  # numbers in a float64 block of centred pixels: 128 MiB


class Wiener(NamedTuple):
    """N(μ, Σ) with Σ = U diag(λ) Uᵀ + floor (I − U Uᵀ): a pytree, so an argument of jitted functions.

    Attributes:
      mean: μ, float32 [H, W, C], of images in [−1, 1].
      basis: U, orthonormal columns, float32 [D, r] with D = H W C.
      variances: λ, float32 [r], largest first.
      floor: the variance of every direction outside the span of U, scalar.
    """

    mean: Float[Array, "h w c"]
    basis: Float[Array, "d r"]
    variances: Float[Array, " r"]
    floor: Float[Array, ""]


def gaussian(
    mean: Float[np.ndarray, "h w c"],
    basis: Float[np.ndarray, "d k"],
    variances: Float[np.ndarray, " r"],
    floor: float = 0.0,
) -> Wiener:
    """The denoiser of a known N(μ, Σ); of a spiked model with floor = noise and variances = spike + noise.

    Args:
      mean: μ, [H, W, C].
      basis: orthonormal columns, [D, r].
      variances: along them, [r].
      floor: in every other direction.

    Raises:
      ValueError: if shapes disagree, r is 0 or above D, columns are not orthonormal, or a variance is negative.
    """
    dimension, rank = mean.size, len(variances)
    if basis.shape != (dimension, rank) or not 1 <= rank <= dimension:
        raise ValueError(
            f"basis has shape {basis.shape}; images of {dimension} pixels and {rank} variances need"
            f" ({dimension}, {rank}), with 1 to {dimension} variances"
        )
    if not (np.isfinite(variances).all() and variances.min() >= 0 and floor >= 0):
        raise ValueError(f"variances must be 0 or more, got {variances.min()} and floor {floor}")
    if np.abs(basis.T @ basis - np.eye(rank)).max() > 1e-4:
        raise ValueError("basis must have orthonormal columns; take numpy.linalg.qr of it")
    order = np.argsort(-variances, kind="stable")
    parts = (mean, basis[:, order], variances[order], np.asarray(floor))
    return Wiener(*(jnp.asarray(part, jnp.float32) for part in parts))


def fit_wiener(images: UInt8[np.ndarray, "n h w c"], floor: float = 0.0) -> Wiener:
    """The optimal linear denoiser of exactly these images: their mean, and their covariance with divisor n.

    Computed in float64 through the smaller of the n x n Gram and the D x D covariance matrix, over blocks of pixels.
    For n = 5,478 images of D = 49,152 pixels: 1.1 GB for the result (float32, n x D; twice while it is handed to
    the device), 0.3 GB of uint8 images, and some five n x n float64 matrices of 0.24 GB.

    Args:
      images: uint8 [n, H, W, C], read as [−1, 1].
      floor: a variance that no direction goes below, in or out of the span of the images. With 0 the denoiser moves
        everything outside the span, which no image has, to the mean.

    Raises:
      ValueError: with fewer than 2 images, a negative floor, or images all the same.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2:
        raise ValueError(f"needs 2 images or more, uint8 [n, H, W, C]; got {images.dtype} {list(images.shape)}")
    if not floor >= 0:
        raise ValueError(f"floor must be 0 or more, got {floor}")
    if (images == images[0]).all():
        raise ValueError(f"the {len(images)} images are all the same: their covariance is 0; take different images")
    n, pixels = len(images), images.reshape(len(images), -1)
    variances, basis = _by_gram(pixels) if n <= pixels.shape[1] else _by_covariance(pixels)
    mean = _scaled(pixels.mean(0, dtype=np.float64)).reshape(images.shape[1:])
    parts = (mean, basis, np.maximum(variances, floor), np.asarray(floor))
    return Wiener(*(jnp.asarray(part, jnp.float32) for part in parts))


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels / 127.5 - 1


def _by_gram(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ [r] and U [D, r] from X Xᵀ / n, X the centred images: the eigenvectors W of it give U = Xᵀ W / √(n λ)."""
    n, dimension = pixels.shape
    width = max(1, _BLOCK // n)
    columns = [slice(begin, begin + width) for begin in range(0, dimension, width)]

    def centred(part: slice) -> np.ndarray:
        block = _scaled(pixels[:, part].astype(np.float64))
        return block - block.mean(0)

    gram = np.zeros((n, n))
    for part in columns:
        block = centred(part)
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram / n)
    values, vectors = _ranked(values, vectors, n - 1)
    basis = np.empty((dimension, len(values)), np.float32)
    for part in columns:
        basis[part] = centred(part).T @ vectors / np.sqrt(n * values)
    return values, basis


def _by_covariance(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, dimension = pixels.shape
    mean, covariance = _scaled(pixels.mean(0, dtype=np.float64)), np.zeros((dimension, dimension))
    for part in np.array_split(pixels, -(-pixels.size // _BLOCK)):
        block = _scaled(part.astype(np.float64)) - mean
        covariance += block.T @ block
    values, vectors = np.linalg.eigh(covariance / n)
    return _ranked(values, vectors, dimension)


def _ranked(values: np.ndarray, vectors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest first, without those that are rounding."""
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    rank = int(np.count_nonzero(values > RANK_CUT * values[0]))
    return values[:rank], vectors[:, :rank]


def denoise(
    wiener: Wiener, x_t: Float[Array, "n h w c"], alpha_bar_t: Float[ArrayLike, " n"]
) -> Float[Array, "n h w c"]:
    """E[x₀ | x_t] = μ + Σ_i u_i √ᾱ λ_i / v_i u_iᵀ(x_t − √ᾱ μ), v_i = ᾱ λ_i + 1 − ᾱ. Pure, jittable.

    Args:
      wiener: fitted, or of a known Gaussian.
      x_t: [N, H, W, C].
      alpha_bar_t: ᾱ of each image, [N], below 1.
    """
    a = jnp.asarray(alpha_bar_t)[:, None]
    mean = wiener.mean.reshape(1, -1)
    centred = x_t.reshape(len(x_t), -1) - jnp.sqrt(a) * mean
    gain = jnp.sqrt(a) * wiener.variances[None] / (a * wiener.variances[None] + 1 - a)
    outside = jnp.sqrt(a) * wiener.floor / (a * wiener.floor + 1 - a)
    modes = jnp.matmul(centred, wiener.basis, precision="highest") * (gain - outside)
    x0 = mean + outside * centred + jnp.matmul(modes, wiener.basis.T, precision="highest")
    return x0.reshape(x_t.shape)


def wiener_prediction(wiener: Wiener, process: Process) -> Denoise:
    """The same denoiser as the sampler wants it: (x_t, t) -> x̂₀ = E[x₀ | x_t], and its ε̂."""

    def predict(x_t: jax.Array, t: jax.Array) -> Prediction:
        alpha, sigma = process.at(t)
        return from_x0(denoise(wiener, x_t, jnp.asarray(process.alpha_bar)[t]), x_t, alpha, sigma)

    return predict


def wiener_error(wiener: Wiener, alpha_bar_t: Float[ArrayLike, " n"]) -> Float[Array, " n"]:
    """What the Wiener denoiser is off by on its own Gaussian, root mean square per pixel: √(tr Cov(x₀ | x_t) / D), [N].

    Cov(x₀ | x_t) has eigenvalues λ_i (1−ᾱ) / v_i.
    """
    a = jnp.asarray(alpha_bar_t)[:, None]
    dimension, rank = wiener.basis.shape
    inside = (wiener.variances[None] * (1 - a) / (a * wiener.variances[None] + 1 - a)).sum(1)
    outside = (wiener.floor * (1 - a) / (a * wiener.floor + 1 - a))[:, 0]
    return jnp.sqrt((inside + (dimension - rank) * outside) / dimension)


def wiener_distance(
    predict: Denoise,
    wiener: Wiener,
    x_t: Float[Array, "n h w c"],
    t: Int[ArrayLike, " n"],
    process: Process,
    relative: bool = False,
) -> Float[Array, " n"]:
    """‖x̂₀_θ(x_t) − x̂₀_Wiener(x_t)‖, root mean square per pixel: how far from linear a denoiser is at each image.

    Pure, jittable (then t is not checked). x̂₀ is not clipped.

    Args:
      predict: the target.
      wiener: of its training set.
      x_t: noisy images, [N, H, W, C].
      t: int [N].
      process: α and σ.
      relative: divide by `wiener_error` at t.

    Returns:
      [N]. Higher is further from linear.

    Raises:
      ValueError: if a t is outside the schedule, or images have another shape than those of the fit.
    """
    t = jnp.asarray(t)
    if x_t.shape[1:] != wiener.mean.shape:
        raise ValueError(f"images of {list(x_t.shape[1:])}; the Wiener denoiser is of {list(wiener.mean.shape)}")
    check_timesteps(t, len(process.alpha_bar))
    alpha_bar_t = jnp.asarray(process.alpha_bar)[t]
    difference = predict(x_t, t).x0 - denoise(wiener, x_t, alpha_bar_t)
    distance = jnp.sqrt(jnp.square(difference).mean((1, 2, 3)))
    return distance / wiener_error(wiener, alpha_bar_t) if relative else distance


def distance_measure(
    predict: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process, wiener: Wiener
) -> dict[str, jax.Array]:
    """{"distance": `wiener_distance`, [N]} of clean images with noise ε: a `Measure` for `Probe`."""
    return {"distance": wiener_distance(predict, wiener, process.add_noise(x0, eps, t), t, process)}


def check_timesteps(t: Int[ArrayLike, "..."], num_train_timesteps: int) -> None:
    """Raises `ValueError` if a t is not 0 … T − 1; inside jit, where values are not known, it cannot."""
    if isinstance(t, jax.core.Tracer):
        return
    outside = [int(value) for value in np.ravel(np.asarray(t)) if not 0 <= value < num_train_timesteps]
    if outside:
        raise ValueError(f"t must be 0 to {num_train_timesteps - 1}, got {outside[0]}")
