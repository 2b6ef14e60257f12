import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.theory import relu_dae
from side_jax.theory.relu_dae import DAE, denoise, hidden_codes, monte_carlo_loss, train
from side_jax.theory.relu_dae_solutions import blocks, generalizing, memorizing, separability, separated_loss, strengths

SIGMA, LAM, EACH = 0.5, 0.1, np.arange(4)


@pytest.fixture
def simplex():
    """n = 4 vectors of D = 16 with ‖x‖² = 16 and cosine −1/3 to one another."""
    corners = np.eye(4) - 0.25
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    return 4 * (corners / np.linalg.norm(corners, axis=1, keepdims=True)) @ turn[:4]


@pytest.fixture
def cones():
    """Two narrow, opposite cones of 12 and 20 vectors in D = 6, and their labels."""
    rng = np.random.default_rng(1)
    around = rng.normal(size=(32, 6)) * np.array([0.3, 1.0, 0.8, 0.5, 0.3, 0.2])
    labels = np.repeat([0, 1], [12, 20])
    around[:, 0] += np.where(labels == 0, 9, -7)
    return around, labels


def test_memorizing_solution_of_the_simplex_by_known_values(simplex):
    """NUMBERS §3: m = .9600, loss 1.0240 where no wrong neuron fires, leak .00383; by simulation 1.0242.

    That simulation was short: what wrong neurons add is .0013, so 1.0253, .0011 above it.
    """
    solution = blocks(simplex, EACH, SIGMA, LAM)
    np.testing.assert_allclose([block.strengths for block in solution], 0.96, atol=1e-12)
    assert separated_loss(solution, SIGMA, LAM) == pytest.approx(1.0240, abs=1e-12)
    dae = memorizing(simplex, SIGMA, LAM, 8)
    value, error = monte_carlo_loss(dae, simplex, SIGMA, LAM, draws=50_000)
    assert abs(value - 1.0242) < 3 * error < 0.003
    # What wrong neurons add, on the same noise, is known more exactly.
    noisy = np.random.default_rng(0).normal(simplex[:, None], SIGMA, (4, 100_000, 16))
    own = 0.96 / 16 * np.einsum("nkd,nd->nk", noisy, simplex)[..., None] * simplex[:, None]
    both = np.asarray(denoise(dae, jnp.asarray(noisy.reshape(-1, 16), jnp.float32))).reshape(noisy.shape)
    added = (np.square(both - simplex[:, None]) - np.square(own - simplex[:, None])).sum(-1)
    assert added.std() / 400_000**0.5 < 5e-5
    assert 1.0240 + added.mean() == pytest.approx(1.0253, abs=1.5e-4)
    apart = separability(simplex, EACH, SIGMA)
    assert apart.separable
    assert apart.worst_leak[2] == pytest.approx(0.00383, abs=5e-6)


def test_memorizing_columns_are_the_photos(simplex):
    """r_i² = (‖x_i‖² − nλ) / (‖x_i‖⁴ + σ²‖x_i‖²), and one photo's energies sum to m_i (Eq. of NUMBERS §3)."""
    x = simplex * np.array([1, 1.5, 2, 0.5])[:, None]
    s = np.square(x).sum(1)
    w = np.asarray(memorizing(x, SIGMA, LAM, 4).w1)
    np.testing.assert_allclose(w, (x * np.sqrt((s - 4 * LAM) / (s**2 + SIGMA**2 * s))[:, None]).T, rtol=1e-5)
    split = np.asarray(memorizing(x, SIGMA, LAM, 9).w1)
    energies = np.bincount(np.arange(9) % 4, np.square(split).sum(0))
    np.testing.assert_allclose(energies, (s - 4 * LAM) / (s + SIGMA**2), rtol=1e-5)


def test_how_an_aligned_energy_is_split_does_not_matter(simplex):
    """Equally over two neurons each, or .9 to .1 between them, or one alone: the same function and norms."""
    one, two = memorizing(simplex, SIGMA, LAM, 4), memorizing(simplex, SIGMA, LAM, 8)
    uneven = DAE(*(w * jnp.sqrt(jnp.repeat(jnp.array([1.8, 0.2]), 4))[None] for w in two))
    noisy = jnp.asarray(np.random.default_rng(2).normal(simplex[:, None], 1.0, (4, 50, 16)), jnp.float32).reshape(
        -1, 16
    )
    for other in (two, uneven):
        np.testing.assert_allclose(denoise(other, noisy), denoise(one, noisy), atol=1e-5)
        assert float(jnp.square(other.w1).sum()) == pytest.approx(4 * 0.96, rel=1e-5)


@pytest.mark.parametrize(("neurons_each", "std", "l4_over_l2"), [(1, 0.09950, 1.0), (25, 0.08660, 0.4472)])
def test_spikiness_of_a_memorizing_code_by_known_values(simplex, neurons_each, std, l4_over_l2):
    """NUMBERS §3, p = 100 and unit energy: one-hot, and 25 equal entries."""
    dae = memorizing(simplex, SIGMA, LAM, 4 * neurons_each)
    full = np.zeros((4, 100))
    full[:, : 4 * neurons_each] = hidden_codes(dae, jnp.asarray(simplex, jnp.float32))
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    np.testing.assert_allclose(full.std(1), std, atol=5e-6)
    np.testing.assert_allclose((full**4).sum(1) ** 0.25, l4_over_l2 if neurons_each == 1 else 25**-0.25, atol=1e-5)
    np.testing.assert_allclose((full**4).sum(1) ** 0.25, l4_over_l2, atol=5e-5)


def test_a_memorized_photo_answers_above_a_threshold(simplex):
    """NUMBERS §3: on x_a + α x_b the neuron of b fires iff α > 1/3."""
    dae = memorizing(simplex, SIGMA, LAM, 4)
    for alpha, fires in ((0.0, False), (0.33, False), (0.34, True), (1.0, True)):
        code = hidden_codes(dae, jnp.asarray(simplex[:1] + alpha * simplex[1:2], jnp.float32))[0]
        assert bool(code[1] > 0) is fires


def test_a_generalizing_block_is_linear_in_what_is_added(cones):
    x, labels = cones
    dae = generalizing(x, labels, SIGMA, LAM, 16)
    a, b = jnp.asarray(x[:2], jnp.float32)
    for alpha in (0.1, 0.3, 0.5, 1.0, 3.0):
        mixed, alone, added = denoise(dae, jnp.stack([a + alpha * b, a, b]))
        np.testing.assert_allclose(mixed, alone + alpha * added, atol=2e-5)


def test_singular_values_of_a_generalizing_block_by_known_values():
    """NUMBERS §3 gives neither σ nor λ. The four values are √m_j, and s_j = (λ + m_j σ²) / (1 − m_j) of σ = .5,
    λ = .04 is (104.0, 4.15, 2.17, 1.004). With s exactly (100, 4.5, 2.2, 1.0) no (σ, λ) gives all four: the second
    comes out .0025 too high. That s_2 is nearer to 4.15 than to 4.5.
    """
    expected = np.array([0.9986, 0.9665, 0.9382, 0.8768])
    rounded = np.sqrt(strengths(np.array([100, 4.5, 2.2, 1.0]), 1.0, 0.5, 0.04))
    np.testing.assert_allclose(rounded[[0, 2, 3]], expected[[0, 2, 3]], atol=8e-4)
    np.testing.assert_allclose(rounded[1], expected[1], atol=3e-3)
    # The same from data: W of one block whose second moments are these.
    s = np.array([104.0, 4.15, 2.17, 1.004])
    signs = np.array([[1, a, b, a * b] for a in (1, -1) for b in (1, -1)])
    dae = generalizing(signs * np.sqrt(s), np.zeros(4, int), 0.5, 0.04, 12)
    np.testing.assert_allclose(np.linalg.svd(dae.w1, compute_uv=False), expected, atol=1e-4)


def test_generalizing_weights_have_the_clusters_moments(cones):
    """W Wᵀ = Σ m_j u_j u_jᵀ of S_k, and the simulated loss is the closed one."""
    x, labels = cones
    dae = generalizing(x, labels, SIGMA, LAM, 16)
    own = x[labels == 1]
    s, u = np.linalg.eigh(own.T @ own / 20)
    m = np.maximum(s - LAM * 32 / 20, 0) / (s + SIGMA**2)
    w = np.asarray(dae.w1)[:, 8:]
    np.testing.assert_allclose(w @ w.T, (u * m) @ u.T, atol=1e-5)
    value, error = monte_carlo_loss(dae, x, SIGMA, LAM, draws=20_000)
    closed = separated_loss(blocks(x, labels, SIGMA, LAM), SIGMA, LAM)
    assert abs(value - closed) < 4 * error < 0.01 * closed


def test_closed_solution_is_stationary(cones):
    """No small change of the weights lowers the loss to first order: the gradient is that of a minimum."""
    x, labels = cones
    dae = generalizing(x, labels, SIGMA, LAM, 16)
    clean = jnp.asarray(x, jnp.float32)

    def loss(dae):
        keys = jax.random.split(jax.random.key(0), 1_000)
        noisy = jax.vmap(lambda key: relu_dae._denoising_loss(dae, clean, key, SIGMA))(keys).mean()
        return noisy + LAM * relu_dae._squared_norms(dae)

    at, off = jax.grad(loss)(dae), jax.grad(loss)(DAE(1.1 * dae.w1, 1.1 * dae.w2))
    assert float(jnp.linalg.norm(at.w1)) < 0.05 * float(jnp.linalg.norm(off.w1))


def test_leaks_are_how_often_the_neuron_fires(simplex):
    x = simplex * np.array([1, 1.5, 0.3, 0.5])[:, None]
    expected = separability(x, EACH, 2.0).firing
    noisy = np.random.default_rng(3).normal(x[:, None], 2.0, (4, 100_000, 16))
    np.testing.assert_allclose((noisy @ x.T > 0).mean(1).T, expected, atol=0.006)


def test_separability_names_the_worst_pairs(simplex, cones):
    x, labels = cones
    assert separability(x, labels, SIGMA).separable
    moved = labels.copy()
    moved[3] = 1
    apart = separability(x, moved, SIGMA)
    assert not apart.separable
    assert 3 in apart.worst_inside[:2] and apart.worst_inside[2] < 0
    assert 3 in apart.worst_across[:2] and apart.worst_across[2] > 0.9
    assert apart.worst_leak[2] > 0.999


@pytest.mark.optax
def test_training_reaches_the_memorizing_solution(simplex):
    """The loss comes within 1 % of 1.0253, every live neuron is a photo, and photo i has m_i = .96 of energy."""
    dae, losses = train(simplex, 16, SIGMA, LAM, num_steps=6_000)
    value, error = monte_carlo_loss(dae, simplex, SIGMA, LAM, draws=20_000)
    assert error < 2e-3 and losses[:10].mean() > 5
    assert value == pytest.approx(1.0253, rel=0.01)
    w = np.asarray(dae.w1)
    energy = np.square(w).sum(0)
    cosines = (simplex / 4) @ w / np.sqrt(np.maximum(energy, 1e-12))
    assert cosines.max(0)[energy > 1e-2].min() > 0.99
    np.testing.assert_allclose(np.bincount(cosines.argmax(0), energy), 0.96, atol=0.02)


@pytest.mark.optax
def test_training_repeats_by_seed(simplex):
    one, again, other = (train(simplex, 8, SIGMA, LAM, num_steps=20, seed=seed)[0].w1 for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_bad_problems_are_refused(simplex):
    for sigma in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"sigma must be above 0, got {sigma}"):
            memorizing(simplex, sigma, LAM, 8)
    with pytest.raises(ValueError, match="lam must be 0 or more, got -0.1"):
        train(simplex, 8, SIGMA, -0.1)
    with pytest.raises(ValueError, match="at least the number of photos, 4, got 3"):
        memorizing(simplex, SIGMA, LAM, 3)
    with pytest.raises(ValueError, match=r"x\[2\] is too weak .* got 0.16 ≤ 0.4; lower lam"):
        memorizing(simplex * np.array([1, 1, 0.1, 1])[:, None], SIGMA, LAM, 8)
    with pytest.raises(ValueError, match=r"x\[1\] is the zero vector"):
        separability(simplex * np.array([1, 0, 1, 1])[:, None], EACH, SIGMA)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        train(simplex, 8, SIGMA, LAM, num_steps=0)
    with pytest.raises(ValueError, match="draws must be at least 2, for a standard error, got 1"):
        monte_carlo_loss(memorizing(simplex, SIGMA, LAM, 8), simplex, SIGMA, LAM, draws=1)


def test_bad_clusters_are_refused(simplex, cones):
    x, labels = cones
    with pytest.raises(ValueError, match="cluster 1 is empty"):
        blocks(x, 2 * labels, SIGMA, LAM)
    with pytest.raises(ValueError, match="labels hold one class only"):
        separability(x, 0 * labels, SIGMA)
    with pytest.raises(ValueError, match="labels must be 32 integers"):
        blocks(x, labels[1:], SIGMA, LAM)
    with pytest.raises(ValueError, match=r"not separable: lowest cosine inside is -0.333 .* across is -0.333"):
        generalizing(simplex, np.array([0, 0, 1, 1]), SIGMA, LAM, 8)
    with pytest.raises(ValueError, match="cluster 0 needs 6 neurons, .* got 5"):
        generalizing(x, labels, 0.01, 0.0, 10)
    with pytest.raises(ValueError, match="too wide for one linear block: neuron . of it does not fire on its photo"):
        generalizing(simplex, np.zeros(4, int), SIGMA, LAM, 8)
