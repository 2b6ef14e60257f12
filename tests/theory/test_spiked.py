import numpy as np
import pytest

from side_jax.theory import spiked

TABLE = [(0.5, 0.0, 0.022), (1.0, 0.3333, 0.317), (2.0, 0.7, 0.689), (5.0, 0.8909, 0.887), (20.0, 0.9744, 0.974)]


@pytest.mark.parametrize(("spike", "theory", "simulated"), TABLE)
def test_cosines_are_the_table_of_numbers_4_by_formula_and_by_simulation(spike, theory, simulated):
    assert spiked.cosine_squared(0.5, spike) == pytest.approx(theory, abs=5e-5)
    cos2 = spiked.simulate(p=400, n=800, spike=spike, repeats=12, seed=0)
    error = cos2.std(ddof=1) / np.sqrt(len(cos2))
    # Both simulations have an error; the table's own is not stated, so it is taken to be like ours.
    assert cos2.mean() == pytest.approx(simulated, abs=3 * np.sqrt(2) * error)


def test_the_transition_is_at_the_root_of_gamma():
    root = np.sqrt(0.5)
    assert spiked.cosine_squared(0.5, root * 0.999) == 0
    assert 0 < spiked.cosine_squared(0.5, root * 1.001) < 0.01


def angles(fresh_noise):
    """cos² with u [T], and cos² of neighbours [T − 1], averaged over sets."""
    sigmas = np.array([0.5, 0.7, 1.0])
    cos2, between = [], []
    for seed in range(6):
        found = spiked.estimated_directions(200, 400, 4.0, sigmas, fresh_noise, seed)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
        cos2.append(found[:, 0] ** 2)
        between.append(np.square((found[1:] * found[:-1]).sum(1)))
    return np.mean(cos2, axis=0), np.mean(between, axis=0)


def test_fresh_noise_turns_the_directions_of_two_levels_apart_and_one_draw_keeps_them_together():
    """With either, each level alone is the spiked model's. With fresh noise the parts outside u are independent, so
    that cos² between levels is the product of theirs with u.
    With one draw they have nearly one direction, and angles subtract.
    """
    theory = np.array([spiked.cosine_squared(0.5, 4 / sigma**2) for sigma in (0.5, 0.7, 1.0)])
    reused, between_reused = angles(fresh_noise=False)
    fresh, between_fresh = angles(fresh_noise=True)
    np.testing.assert_allclose(reused, theory, atol=0.02)
    np.testing.assert_allclose(fresh, theory, atol=0.02)
    np.testing.assert_allclose(between_fresh, theory[1:] * theory[:-1], atol=0.02)
    angle = np.arccos(np.sqrt(theory))
    np.testing.assert_allclose(between_reused, np.cos(angle[1:] - angle[:-1]) ** 2, atol=0.02)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="spike must be above 0, got 0"):
        spiked.cosine_squared(0.5, 0.0)
    with pytest.raises(ValueError, match="gamma must be above 0, got -1"):
        spiked.cosine_squared(-1.0, 2.0)
    with pytest.raises(ValueError, match="needs p and n of 2 or more and a repeat, got p=1"):
        spiked.simulate(1, 10, 1.0, 1, 0)
    with pytest.raises(ValueError, match=r"sigma must be above 0, got 0.0"):
        spiked.estimated_directions(4, 4, 1.0, np.array([1.0, 0.0]), True, 0)
