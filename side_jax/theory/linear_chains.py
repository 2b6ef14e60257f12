"""Repeated linear denoising of noise, mode by mode, in closed form (arXiv 2410.14730, and its reviewers).

The denoiser has the eigenvectors of the covariance Σ = Σ_i λ_i u_i u_iᵀ, so every chain is, per mode i,
y ← g_i y + √q_i z, and the energies E y² follow in closed form. The chains differ:

  * `denoise_only`: x ← Σ(Σ + σ²I)⁻¹ x and nothing else. This is power iteration: all energy goes to the first
    eigenvector. The paper's theorem holds here only. One common factor per step, such as power iteration's
    norm of 1, changes no share of the energy.
  * `rescaled`: each denoised mode gets the variance that the next noise level has. Gives N(μ, Σ).
  * `noise_injected`: noise is added after denoising. With the posterior's covariance this gives N(μ, Σ); with white
    noise of the next level it gives neither N(μ, Σ) nor the first eigenvector.
  * `ddim`: the standard deterministic sampler, VP. Gives N(μ, Σ) as the number of steps grows.

So a linear diffusion model with the standard sampler does not collapse: the reviewers are right.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Chain(NamedTuple):
    """T linear steps on m modes: y ← gains y + √noise z, z standard normal. Both float64 [T, m]."""

    gains: Float[np.ndarray, "T m"]
    noise: Float[np.ndarray, "T m"]


def denoise_only(variances: Float[np.ndarray, " m"], sigma: Float[np.ndarray, " T"]) -> Chain:
    """Repeats x ← E[x₀ | x₀ + σ z = x] = Σ(Σ + σ²I)⁻¹ x: power iteration, whose direction collapses.

    T steps of one σ multiply the energy of mode i by (λ_i / (λ_i + σ²))^2T.

    Args:
      variances: λ, [m].
      sigma: the noise level that each step assumes, [T].

    Raises:
      ValueError: if a variance is negative, or a σ is not above 0.
    """
    lam, squared = _checked(variances, sigma)
    gains = lam / (lam + squared)
    return Chain(gains, np.zeros_like(gains))


def rescaled(variances: Float[np.ndarray, " m"], sigma: Float[np.ndarray, " T"]) -> Chain:
    """From level σ_t to the next, σ_s (0 after the last): E[x_s | x_t], rescaled to the variance λ + σ_s² of its level.

    The product of all steps is √(λ / (λ + σ_T²)) for any number of steps: N(μ, Σ) from N(μ, Σ + σ_T² I). It is the
    exact solution of the probability flow, which DDIM approaches.

    Args:
      variances: λ, [m].
      sigma: noise levels, falling, [T].

    Raises:
      ValueError: as `denoise_only`, or if σ rises.
    """
    lam, now, then = _levels(variances, sigma)
    gains = np.sqrt((lam + then) / (lam + now))
    return Chain(gains, np.zeros_like(gains))


def noise_injected(variances: Float[np.ndarray, " m"], sigma: Float[np.ndarray, " T"], posterior: bool = True) -> Chain:
    """Each step denoises and then adds noise.

    Args:
      variances: λ, [m].
      sigma: noise levels, falling, [T]; 0 after the last.
      posterior: x_s is drawn from p(x_s | x_t), which gives N(μ, Σ) exactly. Otherwise x_s = E[x₀ | x_t] + σ_s z: the
        posterior's covariance is missing, and the variance ends below λ: for one repeated σ at λ²/(2λ + σ²).

    Raises:
      ValueError: as `rescaled`.
    """
    lam, now, then = _levels(variances, sigma)
    if posterior:
        return Chain((lam + then) / (lam + now), (lam + then) * (now - then) / (lam + now))
    gains = lam / (lam + now)
    return Chain(gains, np.broadcast_to(then, gains.shape).copy())


def ddim(variances: Float[np.ndarray, " m"], alpha_bar: Float[np.ndarray, " S1"]) -> Chain:
    """Deterministic DDIM with the Wiener denoiser (`linear_diffusion.denoise`), on x_t − √ᾱ_t μ.

    Args:
      variances: λ, [m].
      alpha_bar: ᾱ at the start and after each step, rising, [S + 1].

    Raises:
      ValueError: if a variance is negative, or ᾱ is not rising within (0, 1], or starts at 1.
    """
    lam, a = _nonnegative(variances), np.asarray(alpha_bar, np.float64)
    if len(a) < 2 or not (a[0] > 0 and a[-1] <= 1 and (np.diff(a) > 0).all()):
        raise ValueError(f"alpha_bar must rise within (0, 1], two values or more, got {a.tolist()[:4]}")
    a_t, a_s = a[:-1, None], a[1:, None]
    v_t = a_t * lam + 1 - a_t
    gains = (np.sqrt(a_s * a_t) * lam + np.sqrt((1 - a_s) * (1 - a_t))) / v_t  # NUMBERS §4; DDIM, Eq. 12 per mode
    return Chain(gains, np.zeros_like(gains))


def ddim_variance_ratio(variances: Float[np.ndarray, " m"], alpha_bar: Float[np.ndarray, " S1"]) -> np.ndarray:
    """Output variance of S DDIM steps over that of infinitely many between the same ᾱ: [m].

    Infinitely many steps follow the probability flow, which takes variance v_T to v_S (v = ᾱλ + 1 − ᾱ) and so
    multiplies any start by v_S / v_T. For white noise and a final ᾱ of 1 the limit variance is λ / v_T, and not λ.

    Raises:
      ValueError: as `ddim`, or if a variance is 0 and the final ᾱ is 1: the limit variance is then 0.
    """
    lam, a = _nonnegative(variances), np.asarray(alpha_bar, np.float64)
    gain = ddim(lam, a).gains.prod(0)
    if lam.min() == 0 and a[-1] == 1:
        raise ValueError("the covariance is singular (a variance is 0): its limit is 0; leave those modes out")
    return gain**2 * (a[0] * lam + 1 - a[0]) / (a[-1] * lam + 1 - a[-1])


def energies(chain: Chain, start: Float[np.ndarray, " m"]) -> Float[np.ndarray, "T1 m"]:
    """E y² of each mode before the first and after each step, from `start`: e ← g² e + q. float64 [T + 1, m]."""
    path = [np.asarray(start, np.float64)]
    for gain, noise in zip(*chain, strict=True):
        path.append(gain**2 * path[-1] + noise)
    return np.stack(path)


def shares(energy: Float[np.ndarray, "*t m"]) -> Float[np.ndarray, "*t m"]:
    """Energies over their sum: those of power iteration, whose vectors have norm 1."""
    return energy / energy.sum(-1, keepdims=True)


def _nonnegative(variances: np.ndarray) -> np.ndarray:
    lam = np.asarray(variances, np.float64)
    if lam.ndim != 1 or len(lam) == 0 or not (np.isfinite(lam).all() and lam.min() >= 0):
        raise ValueError(f"variances must be a list of numbers, 0 or more, got {np.ravel(lam).tolist()[:4]}")
    return lam


def _checked(variances: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ [m] and σ² [T, 1]."""
    levels = np.asarray(sigma, np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (np.isfinite(levels).all() and levels.min() > 0):
        raise ValueError(f"sigma must be a list of numbers above 0, got {np.ravel(levels).tolist()[:4]}")
    return _nonnegative(variances), np.square(levels)[:, None]


def _levels(variances: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """λ [m], σ_t² [T, 1] and σ_s² [T, 1], the next level."""
    lam, now = _checked(variances, sigma)
    then = np.append(now[1:], [[0.0]], axis=0)
    if (then > now).any():
        raise ValueError(f"sigma must not rise, got {np.ravel(sigma).tolist()[:4]} …; order it from noisy to clean")
    return lam, now, then
