"""The optimal linear (Wiener) denoiser of a data set, and how far a network's denoiser is from it.

It is exact if the data are Gaussian. Fitted to training images it knows only their mean and covariance, so it cannot
store a single photo: what a network does beyond it is either structure of the population or memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, UInt8

from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process

# Eigenvalues below this share of the largest are rounding errors: their eigenvectors, from float64 Gram matrices, would
# be orthogonal only to about 1e-16 / 1e-10.
RANK_CUT = 1e-10
_BLOCK = 1 << 24  # numbers in a float64 block of centred pixels: 128 MiB


class Wiener(NamedTuple):
    """N(μ, Σ) with Σ = U diag(λ) Uᵀ: a pytree, so an argument of jitted functions.

    Attributes:
      mean: μ, float32 [H, W, C], of images in [−1, 1].
      basis: U, orthonormal columns, float32 [D, r] with D = H W C.
      variances: λ, float32 [r], largest first.
    """

    mean: Float[Array, "h w c"]
    basis: Float[Array, "d r"]
    variances: Float[Array, " r"]


def fit_wiener(images: UInt8[np.ndarray, "n h w c"]) -> Wiener:
    """The optimal linear denoiser of exactly these images: their mean, and their covariance with divisor n.

    Computed in float64 through the smaller of the n x n Gram and the D x D covariance matrix, over blocks of pixels.
    For n = 5,478 images of D = 49,152 pixels: 1.1 GB for the result (float32, n x D; twice while it is copied to
    the device), 0.3 GB of uint8 images, and about five n x n float64 matrices of 0.24 GB.

    The denoiser moves everything outside the span of the images to the mean.

    Args:
      images: uint8 [n, H, W, C], read as [−1, 1].

    Raises:
      ValueError: with fewer than 2 images, or images all the same.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2:
        raise ValueError(f"needs 2 images or more, uint8 [n, H, W, C]; got {images.dtype} {list(images.shape)}")
    if (images == images[0]).all():
        raise ValueError(f"the {len(images)} images are all the same: their covariance is 0; take different images")
    n, pixels = len(images), images.reshape(len(images), -1)
    variances, basis = _by_gram(pixels) if n <= pixels.shape[1] else _by_covariance(pixels)
    mean = _scaled(pixels.mean(0, dtype=np.float64)).reshape(images.shape[1:])
    return Wiener(*(jnp.asarray(part, jnp.float32) for part in (mean, basis, variances)))


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels / 127.5 - 1


def _by_gram(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ [r] and U [D, r] from X Xᵀ / n, X being the centred images: its eigenvectors W give U = Xᵀ W / √(n λ)."""
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
    """λ [r] and U [D, r] from the D x D covariance itself."""
    n, dimension = pixels.shape
    mean, covariance = _scaled(pixels.mean(0, dtype=np.float64)), np.zeros((dimension, dimension))
    for part in np.array_split(pixels, -(-pixels.size // _BLOCK)):
        block = _scaled(part.astype(np.float64)) - mean
        covariance += block.T @ block
    values, vectors = np.linalg.eigh(covariance / n)
    return _ranked(values, vectors, dimension)


def _ranked(values: np.ndarray, vectors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The `most` largest eigenvalues, descending and without rounding errors, and their eigenvectors."""
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    rank = int(np.count_nonzero(values > RANK_CUT * values[0]))
    return values[:rank], vectors[:, :rank]


def denoise(
    wiener: Wiener, x_t: Float[Array, "n h w c"], alpha_bar_t: Float[ArrayLike, " n"]
) -> Float[Array, "n h w c"]:
    """E[x₀ | x_t] = μ + Σ_i u_i √ᾱ λ_i / v_i u_iᵀ(x_t − √ᾱ μ), v_i = ᾱ λ_i + 1 − ᾱ. Pure, jittable.

    Args:
      wiener: the Gaussian.
      x_t: [N, H, W, C].
      alpha_bar_t: ᾱ of each image, [N], below 1.
    """
    a = jnp.asarray(alpha_bar_t)[:, None]
    mean = wiener.mean.reshape(1, -1)
    centred = x_t.reshape(len(x_t), -1) - jnp.sqrt(a) * mean
    gain = jnp.sqrt(a) * wiener.variances[None] / (a * wiener.variances[None] + 1 - a)
    modes = jnp.matmul(centred, wiener.basis, precision="highest") * gain
    x0 = mean + jnp.matmul(modes, wiener.basis.T, precision="highest")
    return x0.reshape(x_t.shape)


def wiener_distance(
    predict: Denoise, wiener: Wiener, x_t: Float[Array, "n h w c"], t: Int[Array, " n"], process: Process
) -> Float[Array, " n"]:
    """‖x̂₀_θ(x_t) − x̂₀_Wiener(x_t)‖, root mean square per pixel: how far from linear a denoiser is at each image.

    Pure, jittable. x̂₀ is not clipped.

    Args:
      predict: the target's denoiser.
      wiener: fitted to its training set.
      x_t: noisy images, [N, H, W, C].
      t: int [N].
      process: α and σ.

    Returns:
      [N]. Higher is further from linear.

    Raises:
      ValueError: if images have another shape than those of the fit.
    """
    if x_t.shape[1:] != wiener.mean.shape:
        raise ValueError(f"images of {list(x_t.shape[1:])}; the Wiener denoiser is of {list(wiener.mean.shape)}")
    difference = predict(x_t, t).x0 - denoise(wiener, x_t, jnp.asarray(process.alpha_bar)[t])
    return jnp.sqrt(jnp.square(difference).mean((1, 2, 3)))


def distance_measure(
    predict: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process, wiener: Wiener
) -> dict[str, jax.Array]:
    """{"distance": `wiener_distance`, [N]} of clean images with noise ε added: a `Measure` for `Probe`."""
    return {"distance": wiener_distance(predict, wiener, process.add_noise(x0, eps, t), t, process)}
