import numpy as np
import pytest
from scipy import linalg

from side_jax.evidence.quality import frechet_distance, kid, quality_by_scale, unit_scale


def test_frechet_distance_of_sets_with_exact_moments_is_the_formulas():
    """Rows ±√((n−1)/2)·a e_i have covariance diag(a²): means 3 apart in one axis, spreads 1, 2 against 2, 5."""

    def exact(spreads, mean):
        axes = np.diag(spreads)
        rows = np.concatenate([axes, -axes])
        return rows * np.sqrt((len(rows) - 1) / 2) + mean

    first, second = exact([1.0, 2.0], [0.0, 0.0]), exact([2.0, 5.0], [3.0, 0.0])
    assert frechet_distance(first, second) == pytest.approx(9 + (2 - 1) ** 2 + (5 - 2) ** 2)


def test_frechet_distance_is_that_of_the_matrix_root():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 6)), rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + 0.3
    covariances = np.cov(first.T), np.cov(second.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_frechet_distance_takes_fewer_images_than_dimensions():
    """Singular covariances: points on two lines at right angles have nothing in common but the mean."""
    first, second = np.zeros((3, 10)), np.zeros((3, 10))
    first[:, 0] = second[:, 1] = [-1, 0, 1]
    assert frechet_distance(first, second) == pytest.approx(1 + 1)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-12)


def test_kid_of_three_points_against_three_is_the_hand_computed_one():
    """d = 1, k(x, y) = (xy + 1)³. Within {0, 1, 2}: k = 1, 1, 27. Within {0, 0, 1}: 1, 1, 1.

    Across: 1, 1, 1; 1, 1, 8; 1, 1, 27.
    """
    first, second = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [0.0], [1.0]])
    found = kid(first, second)
    assert found.value == pytest.approx(29 / 3 + 1 - 2 * 42 / 9)
    assert found.without_first[2] == pytest.approx(1 + 1 - 2 * 13 / 6)
    assert found.without_second[2] == pytest.approx(29 / 3 + 1 - 2 * 6 / 6)
    # Paired: without the pairs k(0, 0) = 1, k(1, 0) = 1, k(2, 1) = 27.
    assert kid(first, second, paired=True).value == pytest.approx(29 / 3 + 1 - 2 * 13 / 6)


def test_what_is_left_out_is_what_the_estimate_would_be_without_it():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    found = kid(first, second)
    assert found.without_first[4] == pytest.approx(kid(np.delete(first, 4, 0), second).value)
    assert found.without_second[0] == pytest.approx(kid(first, second[1:]).value)
    found = kid(first[:5], second, paired=True)
    assert found.without_first[1] == pytest.approx(kid(np.delete(first[:5], 1, 0), np.delete(second, 1, 0), True).value)


def test_same_images_have_no_distance():
    images = np.random.default_rng(0).normal(size=(20, 4))
    assert kid(images, images.copy(), paired=True).estimate() == pytest.approx((0, 0, 0), abs=1e-9)
    assert kid(images, images, paired=True).minus(kid(images, images, paired=True))[1] == 1


def test_interval_of_one_distribution_holds_zero_and_of_two_does_not():
    """95 % asked for; of equal distributions the jackknife is wide."""
    rng = np.random.default_rng(0)
    same = [kid(rng.normal(size=(30, 5)), rng.normal(size=(40, 5))).estimate() for _ in range(200)]
    assert np.mean([one.low <= 0 <= one.high for one in same]) >= 0.93
    values = [one.value for one in same]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    apart = [kid(rng.normal(size=(30, 5)), 2 + rng.normal(size=(40, 5))).estimate() for _ in range(20)]
    assert all(one.low > 0 for one in apart)


def test_interval_covers_the_true_distance():
    """N(0, 1) against N(1, 1) in one dimension: E k = E (xy + 1)³ = 1 + 3 xy + 3 x²y² + x³y³ by its moments."""
    rng = np.random.default_rng(0)
    moments = np.array([1.0, 3.0, 3.0, 1.0])
    zero, one = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0, 4.0])
    true = float((moments * (zero - one) ** 2).sum())
    found = [kid(rng.normal(size=(80, 1)), 1 + rng.normal(size=(80, 1))).estimate() for _ in range(200)]
    assert np.mean([one.low <= true <= one.high for one in found]) > 0.85  # heavy tails: x³


def test_difference_of_paired_sets_is_tested_against_the_same_photos():
    rng = np.random.default_rng(0)
    photos, images = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    baseline = kid(images, photos)
    worse, p = kid(images + 1, photos).minus(baseline)
    assert worse.low > 0 and p < 0.01
    hardly, p = kid(images + rng.normal(size=images.shape) * 1e-3, photos).minus(baseline)
    assert hardly.low < 0 < hardly.high and p > 0.05


def test_p_values_of_equal_sets_are_not_too_small():
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(200):
        photos, images = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
        one, other = (kid(images + 0.3 * rng.normal(size=images.shape), photos) for _ in range(2))
        ps.append(one.minus(other)[1])
    assert np.mean(np.array(ps) < 0.05) <= 0.08


def test_unit_rows_become_features_whose_kernel_sees_the_cosine():
    rows = np.eye(4)[:2] * 1.0
    np.testing.assert_allclose(unit_scale(rows) @ unit_scale(rows).T / 4, np.eye(2))


def unit_rows(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_quality_by_scale_is_kid_and_its_change_from_unguided_images_of_the_same_noise():
    rng = np.random.default_rng(0)
    photos, real, noise = (rng.normal(size=(count, 8)) + 1 for count in (60, 40, 40))
    generated = {0.0: unit_rows(noise), 2.0: unit_rows(noise + 0.001), 8.0: unit_rows(noise - 2)}
    rows, yardstick = quality_by_scale(generated, unit_rows(photos), unit_rows(real))
    expected = kid(unit_scale(generated[8.0]), unit_scale(unit_rows(photos)))
    assert rows[8.0]["kid"] == expected.estimate()._asdict()
    assert rows[8.0]["frechet"] > rows[0.0]["frechet"] > 0
    assert rows[0.0]["change"] is None
    assert rows[8.0]["change"]["p"] < 0.001 and rows[8.0]["change"]["difference"]["low"] > 0
    hardly = rows[2.0]["change"]["difference"]
    assert hardly["high"] - hardly["low"] < 0.1 * (rows[2.0]["kid"]["high"] - rows[2.0]["kid"]["low"])  # paired
    assert yardstick["num_images"] == 40 and yardstick["kid"]["low"] < 0 < yardstick["kid"]["high"]
    alone, none = quality_by_scale({8.0: generated[8.0]}, unit_rows(photos), None)
    assert alone[8.0]["change"] is None and none is None


@pytest.mark.parametrize(
    ("first", "second", "paired", "message"),
    [
        (np.zeros((1, 2)), np.zeros((5, 2)), False, "at least 2 images in each set, got 1"),
        (np.zeros((5, 2)), np.zeros((5, 3)), False, r"of one D, got \(5, 2\) and \(5, 3\)"),
        (np.zeros((5, 2)), np.zeros((2, 2)), False, "at least 3 images in each set for its interval, got 5 and 2"),
        (np.zeros((5, 2)), np.zeros((4, 2)), True, "paired sets must be of one size, got 5 and 4"),
    ],
)
def test_bad_sets_are_named(first, second, paired, message):
    with pytest.raises(ValueError, match=message):
        kid(first, second, paired)


def test_frechet_distance_of_a_single_image_is_refused():
    with pytest.raises(ValueError, match="at least 2 images in each set, got 1"):
        frechet_distance(np.zeros((4, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"of one D"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))
