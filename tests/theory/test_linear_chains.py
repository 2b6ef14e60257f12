import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.theory import linear_chains as chains

SPECTRUM = np.array([4, 2, 1, 0.5])


def linspace_path(num_steps):
    """ᾱ at linspace(999, 0, S).round(), then 1."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    return np.append(alpha_bar[np.linspace(999, 0, num_steps).round().astype(int)], 1.0)


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [(50, (0.6110, 0.8440, 0.9281, 0.9412)), (1000, (0.9666, 0.9908, 0.9963, 0.9970))],
)
def test_ddim_variance_over_its_limit_is_the_table_of_numbers_4(num_steps, expected):
    ratio = chains.ddim_variance_ratio(np.array([0.01, 0.1, 1, 10]), linspace_path(num_steps))
    np.testing.assert_allclose(ratio, expected, atol=5.1e-5)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, (0.44274, 0.30746, 0.17294, 0.07686)), (5, (0.85415, 0.13795, 0.00777, 0.00013)), (20, (0.99932,))],
)
def test_denoise_only_energy_shares_are_the_table_of_numbers_4(steps, expected):
    energy = chains.energies(chains.denoise_only(SPECTRUM, np.ones(steps)), np.ones(4))
    np.testing.assert_allclose(chains.shares(energy)[-1][: len(expected)], expected, atol=5.1e-6)


def test_denoise_only_is_power_iteration_also_with_its_norm_kept_at_one():
    """The shares of the chain are those of x ← Ax / ‖Ax‖ with A = Σ(Σ + σ²I)⁻¹ in any basis."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    sigma_matrix = rotation @ np.diag(SPECTRUM) @ rotation.T
    a = sigma_matrix @ np.linalg.inv(sigma_matrix + np.eye(4))
    x = y = rng.standard_normal(4)
    for _ in range(20):
        y = a @ y
        y /= np.linalg.norm(y)
    energy = chains.energies(chains.denoise_only(SPECTRUM, np.ones(20)), (rotation.T @ x) ** 2)
    np.testing.assert_allclose((rotation.T @ y) ** 2, chains.shares(energy)[-1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_rescaled_and_posterior_noise_give_the_covariance_in_any_number_of_steps(steps):
    sigma = np.geomspace(50, 0.1, steps) if steps > 1 else np.array([50.0])
    start = SPECTRUM + sigma[0] ** 2
    for chain in (chains.rescaled(SPECTRUM, sigma), chains.noise_injected(SPECTRUM, sigma)):
        energy = chains.energies(chain, start)
        np.testing.assert_allclose(energy[-1], SPECTRUM, rtol=1e-9)
        np.testing.assert_allclose(energy[:-1], SPECTRUM + sigma[:, None] ** 2, rtol=1e-9)


def test_white_noise_injected_ends_at_neither_the_covariance_nor_the_first_eigenvector():
    """At one σ the variance of x̂₀ settles at λ²/(2λ + σ²)."""
    chain = chains.noise_injected(SPECTRUM, np.full(300, 0.7), posterior=False)
    energy = chains.energies(chain, SPECTRUM)[-1]
    np.testing.assert_allclose(energy, SPECTRUM**2 / (2 * SPECTRUM + 0.49), rtol=1e-9)
    assert chains.shares(energy)[0] < 0.7
    assert (energy < SPECTRUM).all()


@pytest.mark.parametrize(
    "chain",
    [
        chains.denoise_only(SPECTRUM, np.array([2.0, 1, 0.5])),
        chains.rescaled(SPECTRUM, np.array([2.0, 1, 0.5])),
        chains.noise_injected(SPECTRUM, np.array([2.0, 1, 0.5])),
        chains.noise_injected(SPECTRUM, np.array([2.0, 1, 0.5]), posterior=False),
        chains.ddim(SPECTRUM, np.array([0.1, 0.4, 0.9, 1.0])),
    ],
    ids=["denoise_only", "rescaled", "posterior", "white", "ddim"],
)
def test_energies_are_those_of_the_chain_as_it_runs(chain):
    start = np.array([3.0, 1, 2, 0.5])
    y = np.random.default_rng(1).standard_normal((40_000, 4)) * np.sqrt(start)
    expected = chains.energies(chain, start)[-1]
    rng = np.random.default_rng(2)
    for gain, noise in zip(*chain, strict=True):
        y = gain * y + np.sqrt(noise) * rng.standard_normal(y.shape)
    found = np.square(y).mean(0)
    # The mean of 40,000 squares of normal draws: standard error √(2/40,000) = 0.7 %.
    np.testing.assert_allclose(found, expected, rtol=5 * np.sqrt(2 / 40_000))


def test_ddim_approaches_the_covariance_with_more_steps():
    lam = np.array([0.01, 0.1, 1, 10])
    gap = [np.abs(1 - chains.ddim_variance_ratio(lam, linspace_path(s))).max() for s in (10, 50, 250, 1000)]
    assert gap == sorted(gap, reverse=True)
    fine = np.concatenate([np.geomspace(4e-5, 0.5, 20_000), 1 - np.geomspace(0.499, 1e-9, 20_000), [1.0]])
    np.testing.assert_allclose(chains.ddim_variance_ratio(lam, fine), 1, atol=2e-3)


def test_ddim_gain_is_that_of_the_samplers_step():
    from side_jax.diffusion.prediction import from_eps
    from side_jax.diffusion.process import Level
    from side_jax.diffusion.solvers.ddim import DDIM

    lam, a_t, a_s = 0.7, 0.3, 0.6
    gain = chains.ddim(np.array([lam]), np.array([a_t, a_s])).gains[0, 0]
    y = 1.7
    eps_hat = (1 - a_t * lam / (a_t * lam + 1 - a_t)) * y / np.sqrt(1 - a_t)  # of the Wiener denoiser, one mode
    t, s = (Level(np.int32(0), np.float32(a)) for a in (a_t, a_s))
    x_t, eps = (jnp.full((1, 1, 1, 1), value) for value in (y, eps_hat))
    x_s, _ = DDIM().step(None, x_t, from_eps(eps, x_t, t.alpha, t.sigma), t, s, None)
    np.testing.assert_allclose(x_s.item(), gain * y, rtol=1e-5)


def test_bad_input_is_refused():
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"sigma must be a list of numbers above 0, got \[0.0\]"):
        chains.denoise_only(one, np.zeros(1))
    with pytest.raises(ValueError, match=r"variances must be .* 0 or more, got \[-1.0\]"):
        chains.denoise_only(-one, one)
    with pytest.raises(ValueError, match="sigma must not rise"):
        chains.rescaled(one, np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"alpha_bar must rise within \(0, 1\]"):
        chains.ddim(one, np.array([0.5, 0.2]))
    with pytest.raises(ValueError, match="covariance is singular"):
        chains.ddim_variance_ratio(np.array([1.0, 0.0]), linspace_path(10))
