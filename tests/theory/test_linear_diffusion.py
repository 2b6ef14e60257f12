import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.prediction import from_x0
from side_jax.diffusion.process import Level, Steps
from side_jax.diffusion.sample import initial_noise, sample, to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.theory import linear_chains
from side_jax.theory import linear_diffusion as linear

ALPHA_BAR, PROCESS = Schedule().alpha_bar(), Schedule().process()


def random_images(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 1), np.uint8)


def prediction(wiener):
    """The Wiener denoiser as the sampler takes it."""
    return lambda x_t, t: from_x0(linear.denoise(wiener, x_t, jnp.asarray(ALPHA_BAR)[t]), x_t, *PROCESS.at(t))


def dense(wiener):
    """μ and Σ, as matrices."""
    basis = np.asarray(wiener.basis, np.float64)
    covariance = basis @ np.diag(np.asarray(wiener.variances, np.float64)) @ basis.T
    return np.asarray(wiener.mean, np.float64).ravel(), covariance


@pytest.mark.parametrize("n", [6, 40], ids=["gram", "covariance"])
def test_fit_has_the_mean_and_covariance_of_the_images(n):
    images = random_images(n, 4)
    wiener = linear.fit_wiener(images)
    x = np.asarray(to_float(jnp.asarray(images)), np.float64).reshape(n, -1)
    mean, covariance = dense(wiener)
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(x.T, bias=True), atol=1e-5)
    assert wiener.basis.shape == (16, min(n - 1, 16))
    np.testing.assert_allclose(wiener.basis.T @ wiener.basis, np.eye(min(n - 1, 16)), atol=1e-6)


def test_fit_over_several_blocks_of_pixels_is_the_same(monkeypatch):
    for n in (6, 40):
        whole = linear.fit_wiener(random_images(n, 4))
        monkeypatch.setattr(linear, "_BLOCK", 30)
        np.testing.assert_allclose(dense(linear.fit_wiener(random_images(n, 4)))[1], dense(whole)[1], atol=1e-6)
        monkeypatch.undo()


def test_fit_of_few_large_images_makes_no_matrix_of_pixels_by_pixels():
    """196,608 pixels squared would be 309 GB."""
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    assert linear.fit_wiener(images).basis.shape == (196_608, 2)


def test_repeated_images_leave_no_rounding_in_the_span():
    images = random_images(3, 8)
    assert linear.fit_wiener(np.concatenate([images] * 5)).variances.shape == (2,)


@pytest.mark.parametrize("n", [7, 40], ids=["singular", "full rank"])
def test_denoise_is_the_conditional_mean_of_the_gaussian(n):
    """E[x₀ | x_t] = μ + √ᾱ Σ (ᾱ Σ + (1−ᾱ) I)⁻¹ (x_t − √ᾱ μ), solved as a dense system."""
    wiener = linear.fit_wiener(random_images(n, 4))
    mean, covariance = dense(wiener)
    x_t = np.random.default_rng(1).standard_normal((3, 4, 4, 1)).astype(np.float32)
    a = ALPHA_BAR[[10, 300, 900]]
    found = np.asarray(jax.jit(linear.denoise)(wiener, x_t, a)).reshape(3, -1)
    for i in range(3):
        v = a[i] * covariance + (1 - a[i]) * np.eye(16)
        expected = mean + np.sqrt(a[i]) * covariance @ np.linalg.solve(v, x_t[i].ravel() - np.sqrt(a[i]) * mean)
        np.testing.assert_allclose(found[i], expected, atol=2e-5)


def test_no_linear_denoiser_has_less_error_on_its_training_images():
    """Least squares on very many noisy copies finds the same matrix."""
    images, t = random_images(5, 2), 300
    wiener = linear.fit_wiener(images)
    rng = np.random.default_rng(0)
    x0 = np.asarray(to_float(jnp.asarray(images)), np.float64).reshape(5, 4)[rng.integers(0, 5, 200_000)]
    a = float(ALPHA_BAR[t])
    x_t = np.sqrt(a) * x0 + np.sqrt(1 - a) * rng.standard_normal(x0.shape)
    affine = np.linalg.lstsq(np.c_[x_t, np.ones(len(x_t))], x0, rcond=None)[0]
    probe = np.r_[np.eye(4), np.zeros((1, 4))].astype(np.float32)
    found = linear.denoise(wiener, jnp.asarray(probe).reshape(5, 2, 2, 1), jnp.full(5, a, jnp.float32))
    np.testing.assert_allclose(np.asarray(found).reshape(5, 4), np.c_[probe, np.ones(5)] @ affine, atol=0.02)


@pytest.mark.parametrize("num_steps", [5, 50])
def test_ddim_with_the_wiener_denoiser_is_the_closed_form(num_steps):
    wiener = linear.fit_wiener(random_images(9, 4))
    timesteps = np.linspace(999, 0, num_steps).round().astype(np.int32)
    a = np.append(ALPHA_BAR[timesteps], np.float32(1))
    keys = jax.random.split(jax.random.key(0), 4)
    steps = Steps(Level(timesteps, a[:-1]), Level(np.append(timesteps[1:], -1).astype(np.int32), a[1:]))
    images = sample(prediction(wiener), DDIM(), keys, (4, 4, 1), steps)
    x_T = initial_noise(keys, (4, 4, 1))
    mean, covariance = dense(wiener)
    values, vectors = np.linalg.eigh(covariance)
    gain = linear_chains.ddim(np.maximum(values, 0), a.astype(np.float64)).gains.prod(0)
    y = (np.asarray(x_T, np.float64).reshape(4, -1) - np.sqrt(a[0]) * mean) @ vectors
    np.testing.assert_allclose(np.asarray(images).reshape(4, -1), mean + (y * gain) @ vectors.T, atol=2e-4)


def test_standard_sampling_of_a_spiked_model_gives_its_covariance_and_not_its_first_eigenvector():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    parts = np.full((4, 4, 1), 0.3), basis, np.array([3.0, 1.0] + [0.2] * 14)
    wiener = linear.Wiener(*(jnp.asarray(part, jnp.float32) for part in parts))
    keys = jax.random.split(jax.random.key(1), 4_000)
    steps = Schedule().steps(200)
    x = np.asarray(sample(prediction(wiener), DDIM(), keys, (4, 4, 1), steps))
    x = x.reshape(4_000, 16) - 0.3
    np.testing.assert_allclose(x.mean(0), 0, atol=0.12)
    np.testing.assert_allclose(np.square(x @ wiener.basis[:, :2]).mean(0), [3, 1], rtol=0.12)  # 5 standard errors: 11 %
    np.testing.assert_allclose(np.square(x).sum(1).mean(), 3 + 1 + 14 * 0.2, rtol=0.08)


def test_distance_is_zero_for_the_wiener_denoiser_itself_and_counts_pixels():
    wiener = linear.fit_wiener(random_images(9, 4))
    plain = prediction(wiener)
    x0 = to_float(jnp.asarray(random_images(3, 4, seed=1)))
    t = jnp.array([50, 400, 900], jnp.int32)
    x_t = PROCESS.add_noise(x0, jax.random.normal(jax.random.key(0), x0.shape), t)
    np.testing.assert_allclose(linear.wiener_distance(plain, wiener, x_t, t, PROCESS), 0, atol=1e-4)

    def shifted(x, t):  # x̂₀ 0.5 lower in every pixel
        return from_x0(plain(x, t).x0 - 0.5, x, *PROCESS.at(t))

    distance = jax.jit(lambda w, x, t: linear.wiener_distance(shifted, w, x, t, PROCESS))(wiener, x_t, t)
    np.testing.assert_allclose(distance, 0.5, rtol=1e-3)


def test_bad_input_is_refused():
    images = random_images(3, 4)
    with pytest.raises(ValueError, match=r"needs 2 images or more, uint8 .* got uint8 \[1, 4, 4, 1\]"):
        linear.fit_wiener(images[:1])
    with pytest.raises(ValueError, match="the 3 images are all the same: their covariance is 0"):
        linear.fit_wiener(images[[0, 0, 0]])
    wiener = linear.fit_wiener(images)
    with pytest.raises(ValueError, match=r"images of \[8, 8, 1\]; the Wiener denoiser is of \[4, 4, 1\]"):
        linear.wiener_distance(prediction(wiener), wiener, jnp.zeros((1, 8, 8, 1)), jnp.array([1]), PROCESS)
