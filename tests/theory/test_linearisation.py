import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from configs import orl
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.prediction import from_x0
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.theory import linear_diffusion as linear
from side_jax.theory.linearisation import Linearisation, real_span, subspace_angles

ALPHA_BAR, PROCESS = Schedule().alpha_bar(), Schedule().process()
T, STEPS = 300, 1000


def linear_denoiser(matrix):
    """x̂₀ = M x_t on 4x4 images, plus a part whose Jacobian at x_t = 0 is 0."""

    def denoise(x, t):
        x0 = jnp.matmul(x.reshape(len(x), -1), jnp.asarray(matrix.T, jnp.float32)).reshape(x.shape) + x**3
        return from_x0(x0, x, *PROCESS.at(t))

    return denoise


def matrix_with_a_complex_pair():
    """Eigenvalues 2, 1 ± 0.8i (|λ| = 1.28), 1.1, 0.9 and below; not symmetric, not normal."""
    rng = np.random.default_rng(0)
    small = np.diag(np.r_[2, 1, 1, 1.1, 0.9, np.linspace(0.4, 0, 11)])
    small[1, 2], small[2, 1] = 0.8, -0.8
    mix = np.eye(16) + 0.1 * rng.standard_normal((16, 16))
    return mix @ small @ np.linalg.inv(mix)


@pytest.fixture(scope="module")
def orl_case():
    """The demo's target, and noisy training photos: (target, (count, t) -> x_t)."""
    target = side_jax.load_target("assets/orl_target")
    photos = load_split(AuditOptions.from_config(orl.get_config()).dataset).train.images

    def noisy(count, t):
        x0 = to_float(jnp.asarray(photos[:count]))
        noise = jax.random.normal(jax.random.key(0), x0.shape)
        return target.schedule.process().add_noise(x0, noise, jnp.full(count, t))

    return target, noisy


def test_eigenpairs_are_those_of_a_known_matrix_complex_pairs_included():
    matrix = matrix_with_a_complex_pair()
    found = Linearisation(linear_denoiser(matrix), STEPS).eigenpairs(np.zeros((2, 4, 4, 1), np.float32), T, 4, 4, 1e-5)
    expected = np.linalg.eigvals(matrix)
    expected = expected[np.argsort(-np.abs(expected))][:4]
    np.testing.assert_allclose(np.abs(found.values), np.broadcast_to(np.abs(expected), (2, 4)), rtol=1e-4)
    np.testing.assert_allclose(np.sort(found.values[0].imag), np.sort(expected.imag), atol=1e-3)
    assert found.residuals.max() <= 1e-5
    for values, vectors, residuals in zip(*found[:3], strict=True):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, rtol=1e-5)
        direct = np.linalg.norm(matrix @ vectors - vectors * values, axis=0) / np.abs(values)
        np.testing.assert_allclose(direct, residuals, atol=5e-6)


def test_covariance_follows_from_the_jacobian_as_tweedie_says():
    """Of a Gaussian: ((1−ᾱ)/√ᾱ) λ(J) are the eigenvalues λ_i (1−ᾱ)/v_i of Cov(x₀ | x_t)."""
    variances, a = np.array([4.0, 2, 1]), ALPHA_BAR[T]
    parts = np.zeros((4, 4, 1)), np.eye(16)[:, :3], variances
    wiener = linear.Wiener(*(jnp.asarray(part, jnp.float32) for part in parts))

    def denoise(x, t):
        return from_x0(linear.denoise(wiener, x, jnp.asarray(ALPHA_BAR)[t]), x, *PROCESS.at(t))

    found = Linearisation(denoise, STEPS).eigenpairs(np.ones((1, 4, 4, 1), "f"), T, 3, 3)
    covariance = (1 - a) / np.sqrt(a) * found.values[0].real
    np.testing.assert_allclose(covariance, variances * (1 - a) / (a * variances + 1 - a), rtol=1e-4)


def test_covariance_follows_from_the_jacobian_also_where_the_posterior_is_no_gaussian():
    """x₀ = ±1 in one pixel: E[x₀ | x_t] = tanh(√ᾱ x_t / (1−ᾱ)), whose posterior variance is 1 − tanh²."""
    a = float(ALPHA_BAR[T])

    def denoise(x, t):
        return from_x0(jnp.tanh(np.float32(np.sqrt(a) / (1 - a)) * x), x, *PROCESS.at(t))

    x_t = np.array([0.3, -0.8], np.float32).reshape(2, 1, 1, 1)
    found = Linearisation(denoise, STEPS).eigenpairs(x_t, T, 1, 0)
    variance = 1 - np.tanh(np.sqrt(a) / (1 - a) * x_t.ravel()) ** 2
    np.testing.assert_allclose((1 - a) / np.sqrt(a) * found.values[:, 0].real, variance, rtol=1e-4)


def test_moments_are_those_of_a_known_matrix():
    matrix = matrix_with_a_complex_pair()
    found = Linearisation(linear_denoiser(matrix), STEPS).moments(np.zeros((2, 4, 4, 1), np.float32), T, probes=1500)
    half = (matrix + matrix.T) / 2
    np.testing.assert_allclose(found.symmetric_participation, np.trace(half) ** 2 / (half**2).sum(), rtol=0.06)
    asymmetry = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    np.testing.assert_allclose(found.asymmetry, asymmetry, rtol=0.06)


def test_moments_of_a_projection_are_exact_in_every_probe():
    """J = I on 4 of 16 pixels: z·Jz = 4 whatever the signs."""
    projection = linear_denoiser(np.diag([1.0] * 4 + [0] * 12))
    found = Linearisation(projection, STEPS).moments(np.zeros((1, 4, 4, 1), "f"), T, 2)
    np.testing.assert_allclose(found.symmetric_participation, 4, rtol=1e-5)
    np.testing.assert_allclose(found.asymmetry, 0, atol=1e-3)


def test_angles_between_spans_of_complex_pairs_are_those_of_the_real_spans():
    e = np.eye(4)
    pair = np.stack([e[0] + 1j * e[1], e[0] - 1j * e[1]], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(np.abs(real_span(pair)[2:]), 0, atol=1e-12)
    turned = np.stack([e[0], np.cos(0.3) * e[1] + np.sin(0.3) * e[2]], axis=1).astype(complex)
    np.testing.assert_allclose(subspace_angles(pair, turned), [0.3, 0], atol=1e-7)


@pytest.mark.slow
def test_top_8_eigenpairs_of_the_orl_target_have_residuals_of_a_thousandth(orl_case):
    target, noisy = orl_case
    found = Linearisation(target.denoise, STEPS).eigenpairs(noisy(1, 400), 400, k=8)
    assert found.residuals.shape == (1, 8)
    assert found.residuals.max() <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("t", [10, 50, 100, 200, 600, 800, 950])
def test_top_8_eigenpairs_measured_afresh_have_residuals_of_a_thousandth_at_every_noise_level(orl_case, t):
    """J v of the real and the imaginary part of every v, by jvp of the denoiser itself."""
    count, (target, noisy) = 2, orl_case
    x_t = noisy(count, t)
    found = Linearisation(target.denoise, STEPS).eigenpairs(x_t, t, k=8)

    def x0_hat(x):
        return target.denoise(x, jnp.full(x.shape[:1], t, jnp.int32)).x0

    product = jax.jit(lambda x, v: jax.jvp(x0_hat, (x,), (v,))[1])
    for i in range(count):
        v = found.vectors[i].T.astype(np.complex64)
        parts = np.concatenate([v.real, v.imag]).reshape(16, *target.image_shape)
        image = np.asarray(product(jnp.repeat(x_t[i : i + 1], 16, axis=0), jnp.asarray(parts))).reshape(16, -1)
        values = found.values[i]
        residuals = np.linalg.norm(image[:8] + 1j * image[8:] - values[:, None] * v, axis=1) / np.abs(values)
        assert residuals.max() <= 1.01e-3


def test_bad_input_is_refused():
    linearisation, x = Linearisation(linear_denoiser(np.eye(16)), STEPS), np.zeros((1, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="k 10 and oversampling 7 do not fit: images have 16 dimensions"):
        linearisation.eigenpairs(x, T, 10, 7)
    with pytest.raises(ValueError, match="t must be 0 to 999, got -1"):
        linearisation.eigenpairs(x, -1, 1, 0)
    with pytest.raises(ValueError, match="tolerance must be above 0, got 0.0"):
        linearisation.eigenpairs(x, T, 1, 0, tolerance=0.0)
    with pytest.raises(ValueError, match=r"start has shape \(1, 16, 2\), needs \(1, 16, 3\)"):
        linearisation.eigenpairs(x, T, 2, 1, start=np.zeros((1, 16, 2), np.float32))
    with pytest.raises(ValueError, match="probes must be 2 or more, got 1"):
        linearisation.moments(x, T, probes=1)
