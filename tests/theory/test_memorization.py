import numpy as np
import pytest
from scipy import stats

from side_jax.theory.memorization import (
    Gaussian,
    fit_gaussian,
    kl,
    limit_ratio,
    memorization,
    memorization_ratio,
    principal_components,
)


def memorization_by_sampling(latent, z, eps, seed=0, draws=200_000):
    """Eq. (1) from samples of p_θ, which all z_i share: the value and its standard error."""
    d = len(latent.mean)
    samples = np.random.default_rng(seed).multivariate_normal(latent.mean, latent.cov, draws, method="cholesky")
    log_p = stats.multivariate_normal(latent.mean, latent.cov).logpdf(samples)
    values = np.zeros(draws)
    for centre in z:
        values += log_p + 0.5 * (np.square(samples - centre).sum(1) / eps + d * np.log(2 * np.pi * eps))  # Eq. (2)
    return values.mean(), values.std(ddof=1) / draws**0.5


@pytest.fixture
def plane():
    """In d = 2: p(z), p(z | y = c) and five latents with the label."""
    unconditional = Gaussian(np.array([0.5, -0.2]), np.array([[2.0, 0.6], [0.6, 1.0]]))
    conditional = Gaussian(np.array([1.5, 0.3]), np.array([[0.4, -0.1], [-0.1, 0.3]]))
    z = np.random.default_rng(0).multivariate_normal(conditional.mean, conditional.cov, 5)
    return unconditional, conditional, z


def test_kl_by_hand():
    """N(0, I) to N(z, εI) in d = 3: ½[(‖z‖² + 3)/ε + 3 log ε − 3]; to itself, 0."""
    normal = Gaussian(np.zeros(3), np.eye(3))
    z = np.array([[0.0, 0, 0], [1, 2, 2]])
    expected = 0.5 * (np.array([3, 12]) / 0.1 + 3 * np.log(0.1) - 3)
    np.testing.assert_allclose(kl(normal, z, 0.1), expected, rtol=1e-12)
    np.testing.assert_allclose(kl(normal, z[:1], 1.0), 0, atol=1e-12)


@pytest.mark.parametrize("eps", [1.0, 0.1, 1e-2, 1e-4])
def test_memorization_is_what_sampling_gives(plane, eps):
    """Eq. (1) by 200,000 draws in d = 2, within 4 standard errors, which are below 1 %."""
    for latent in plane[:2]:
        value, error = memorization_by_sampling(latent, plane[2], eps)
        exact = memorization(latent, plane[2], eps)
        assert abs(value - exact) < 4 * error < 0.04 * abs(exact)


def test_memorization_adds_over_images(plane):
    _, latent, z = plane
    assert memorization(latent, z, 0.1) == pytest.approx(sum(memorization(latent, z[i : i + 1], 0.1) for i in range(5)))


def test_more_memorization_is_less_m():
    """A model that samples nearer to the photo has the smaller M, Eq. (1)."""
    photo = np.array([[1.0, 1.0]])
    far, near = (Gaussian(np.full(2, at), 0.1 * np.eye(2)) for at in (0.0, 0.9))
    assert memorization(near, photo, 0.1) < memorization(far, photo, 0.1)


def test_ratio_tends_to_its_limit(plane):
    """NUMBERS §2: direct evaluation at ε = 1e-2 … 1e-6 comes as near as ε log(1/ε) to Σ(‖z − μ_c‖² + Tr Σ_c) / Σ(…)."""
    unconditional, conditional, z = plane
    limit = limit_ratio(conditional, unconditional, z)
    by_hand = [np.square(z - p.mean).sum() + 5 * np.trace(p.cov) for p in (conditional, unconditional)]
    assert limit == pytest.approx(by_hand[0] / by_hand[1], rel=1e-12)
    gaps = []
    for eps in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        gaps.append(abs(memorization_ratio(conditional, unconditional, z, eps) - limit))
        assert gaps[-1] < 2 * eps * np.log(1 / eps)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-5
    assert gaps[0] > 1e-3


def test_ratio_is_what_sampling_gives(plane):
    """NUMBERS §2: Monte Carlo in d = 2, at ε = 1e-6 the limit."""
    unconditional, conditional, z = plane
    for eps in (1e-2, 1e-6):
        above, above_error = memorization_by_sampling(conditional, z, eps, seed=1)
        below, below_error = memorization_by_sampling(unconditional, z, eps, seed=2)
        error = above / below * np.hypot(above_error / above, below_error / below)
        assert abs(above / below - memorization_ratio(conditional, unconditional, z, eps)) < 4 * error < 0.01
    assert abs(above / below - limit_ratio(conditional, unconditional, z)) < 4 * error


def test_ratio_exceeds_one_for_a_label_broader_than_all():
    """Theorem 1 needs Proposition 1."""
    narrow, broad = Gaussian(np.zeros(2), np.eye(2)), Gaussian(np.zeros(2), 4 * np.eye(2))
    z = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert limit_ratio(broad, narrow, z) == pytest.approx((2 + 2 * 8) / (2 + 2 * 2))
    assert memorization_ratio(broad, narrow, z, 1e-6) > 1


def test_fitted_gaussian_is_unbiased():
    rng = np.random.default_rng(1)
    fits = [fit_gaussian(rng.normal([1, 2], [1, 2], (4, 2))) for _ in range(2_000)]
    np.testing.assert_allclose(np.mean([fit.cov for fit in fits], 0), np.diag([1, 4]), atol=0.3)
    np.testing.assert_allclose(np.mean([fit.mean for fit in fits], 0), [1, 2], atol=0.1)


def test_singular_covariance_is_refused_with_the_remedy():
    few = np.random.default_rng(2).normal(size=(4, 6))
    message = r"of label 3 is singular: rank 3 of 4 images in 6 dimensions; reduce .* at most 3 .*principal_components"
    with pytest.raises(ValueError, match=message):
        fit_gaussian(few, name="label 3")


def test_principal_components_keep_distances_and_cure_singularity():
    few = np.random.default_rng(3).normal(size=(4, 6))
    reduced = principal_components(few, 3)
    gaps = [np.linalg.norm(z[:, None] - z[None], axis=-1) for z in (few, reduced)]
    np.testing.assert_allclose(gaps[1], gaps[0], atol=1e-12)
    variances = reduced.var(0)
    assert list(variances) == sorted(variances, reverse=True)
    assert np.isfinite(memorization(fit_gaussian(reduced), reduced, 0.01))
    with pytest.raises(ValueError, match="dimensions must be between 1 and 3, the rank of the features, got 4"):
        principal_components(few, 4)


def test_bad_input_is_refused(plane):
    latent, _, z = plane
    for eps in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"eps must be above 0, got {eps}"):
            memorization(latent, z, eps)
    with pytest.raises(ValueError, match="the covariance is singular, 2 dimensions"):
        kl(Gaussian(np.zeros(2), np.diag([1.0, 0])), z, 0.1)
    with pytest.raises(ValueError, match="label 7: a covariance needs 2 images or more, got 1"):
        fit_gaussian(z[:1], name="label 7")
