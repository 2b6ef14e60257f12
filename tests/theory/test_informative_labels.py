import numpy as np
import pytest

from side_jax.theory.informative_labels import FAILS, HOLDS, OPEN, proposition_1
from side_jax.theory.memorization import Gaussian, fit_gaussian, limit_ratio


def draw(rng, centres, scales, each):
    """Features in d = 8 and labels: label k is N(centre e_k, scale² I)."""
    labels = np.repeat(np.arange(len(centres)), each)
    offsets = np.eye(8)[: len(centres)] * np.asarray(centres)[:, None]
    return offsets[labels] + rng.normal(size=(len(labels), 8)) * np.asarray(scales)[labels, None], labels


def test_ratios_are_the_definitions():
    """Against covariances, singular values and sums written out, at labels of unequal size."""
    rng = np.random.default_rng(0)
    z, _ = draw(rng, (3, 3, 3), (1, 2, 0.5), 10)
    labels = np.repeat([2, 5, 9], [7, 8, 15])
    measured = proposition_1(z, labels, bootstraps=10)
    whole = fit_gaussian(z)
    nuclear_norm = np.linalg.svd(whole.cov, compute_uv=False).sum()
    for name, label in zip([2, 5, 9], measured.labels, strict=True):
        own = z[labels == name]
        cov = np.cov(own, rowvar=False)
        scatter = np.square(own - own.mean(0)).sum()
        assert label.eq4.value == pytest.approx(np.linalg.svd(cov, compute_uv=False).sum() / nuclear_norm)
        assert label.eq5.value == pytest.approx(scatter / np.square(z - z.mean(0)).sum())
        assert label.eq31.value == pytest.approx(scatter / np.square(own - z.mean(0)).sum())
        assert label.limit_ratio == pytest.approx(limit_ratio(Gaussian(own.mean(0), cov), whole, own))
    assert measured.eq4.value == pytest.approx(np.mean([label.eq4.value for label in measured.labels]))


def test_it_holds_for_labels_that_lie_apart():
    measured = proposition_1(*draw(np.random.default_rng(1), (6, 6, 6, 6), (1, 1, 1, 1), 20))
    assert measured.verdict == HOLDS
    assert {label.verdict for label in measured.labels} == {HOLDS}
    assert all(label.limit_ratio < 1 for label in measured.labels)


def test_it_fails_for_a_label_broader_than_the_rest():
    """Proposition 1 is an assumption: of four labels with one centre it fails the broad one, and so does Theorem 1."""
    measured = proposition_1(*draw(np.random.default_rng(2), (0, 0, 0, 0), (1, 1, 1, 4), 30))
    assert [label.verdict for label in measured.labels] == [HOLDS, HOLDS, HOLDS, FAILS]
    assert measured.labels[3].eq4.low > 1.5
    assert measured.labels[3].limit_ratio > 1.5
    # Its mean stands in the way of neither Eq. (5) nor Eq. (31), as nothing can.
    assert measured.labels[3].eq5.value < 1 and measured.labels[3].eq31.value < 1


def test_random_labels_decide_nothing():
    """Neither the mean over labels nor, but for chance, a label; Eqs. (5) and (31) 'hold' all the same."""
    verdicts, means = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z, _ = draw(rng, (6, 6, 6, 6), (1, 2, 1, 1), 25)
        measured = proposition_1(z, rng.permutation(np.repeat(np.arange(20), 5)), bootstraps=200)
        verdicts += [label.verdict for label in measured.labels]
        means.append(measured.verdict)
        assert max(label.eq5.value for label in measured.labels) < 1
        assert max(label.eq31.value for label in measured.labels) < 1
    assert means.count(OPEN) >= 18
    assert verdicts.count(OPEN) >= 0.9 * len(verdicts)


def test_interval_of_a_label_covers_even_for_five_images():
    """Eq. (4) of a label with 5 images: at least 92 % of the 95 % intervals hold the ratio of the distributions."""
    covered = []
    spread = np.arange(1, 9) ** -0.5
    for seed in range(25):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(40, 8))
        labels = np.repeat(np.arange(40), 5)
        measured = proposition_1(centres[labels] + rng.normal(size=(200, 8)) * spread, labels, bootstraps=200)
        within, between = np.square(spread).sum(), 5 * np.square(centres - centres.mean(0)).sum() / 199
        truth = within / (within + between)
        covered += [label.eq4.low <= truth <= label.eq4.high for label in measured.labels]
    assert np.mean(covered) >= 0.92


def test_bad_labels_are_refused():
    z = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(ValueError, match="labels hold one class only"):
        proposition_1(z, np.zeros(6, int))
    with pytest.raises(ValueError, match="label 4 has one image, a covariance needs 2 or more; leave it out"):
        proposition_1(z, np.array([0, 0, 0, 0, 0, 4]))
    with pytest.raises(ValueError, match="one for each of the 6 rows"):
        proposition_1(z, np.zeros(5, int))
    with pytest.raises(ValueError, match="all features are equal"):
        proposition_1(np.ones((4, 3)), np.array([0, 0, 1, 1]))
