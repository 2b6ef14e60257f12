import re

import numpy as np
import pytest

from side_jax.evidence import null
from side_jax.evidence.bitsets import unpack
from side_jax.evidence.scores import InBand


def singles(size, seed, permutations=null.PERMUTATIONS):
    """Relabellings of 2·size photos of one class without near-duplicates, the first half training."""
    pool = np.arange(2 * size)
    return null.relabellings(pool < size, np.zeros_like(pool), seed, permutations)


def as_bool(labels):
    """bool [P, R]."""
    return unpack(labels.bits, labels.count)


def in_band(scores, low, rng):
    """What a table of scores [N, M] has at or above `low`, each image's in random order."""
    found = [rng.permutation(np.flatnonzero(row >= np.float32(low))) for row in scores]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in found])])
    kept = [scores[i, row] for i, row in enumerate(found)]
    return InBand(offsets, np.concatenate(found).astype(np.int32), np.concatenate(kept).astype(np.float32))


def excess_of(scores, size, low, labels, high=1.0):
    halves = [in_band(half, 0.1, np.random.default_rng(0)) for half in (scores[:, :size], scores[:, size:])]
    return null.share_excess(*halves, labels, [("band", low, high)])[0]


def test_first_relabelling_is_the_actual_one():
    labels = singles(5, 0)
    np.testing.assert_array_equal(as_bool(labels)[:, 0], np.arange(10) < 5)
    assert as_bool(labels).shape == (10, 1 + null.PERMUTATIONS)
    assert (as_bool(labels).sum(0) == 5).all()


def test_relabellings_are_those_of_one_generator_class_by_class():
    """In whatever blocks they are drawn: published p values depend on them."""
    train, classes = np.arange(40) % 3 == 0, np.arange(40) % 2
    rng, expected = np.random.default_rng((5, 2)), np.empty((1000, 40), bool)
    for label in (0, 1):
        expected[:, classes == label] = rng.permuted(np.tile(train[classes == label], (1000, 1)), axis=1)
    labels = as_bool(null.relabellings(train, classes, 5, 1000))
    np.testing.assert_array_equal(labels, np.concatenate([train[None], expected]).T)


@pytest.mark.parametrize("num_images", [1, 60, 1500])
def test_excess_and_its_null_are_those_of_plain_counting(num_images):
    """Ties with the limits, empty rows, hubs, two bands that touch and one that does not; more images than a block."""
    rng, size = np.random.default_rng(num_images), 50
    scores = np.round(rng.beta(1.5, 4, (num_images, 2 * size)), 1).astype(np.float32)
    scores[:, 3] = 0.9  # a hub
    scores[::4] = 0
    labels = singles(size, 0, 300)
    table = as_bool(labels)
    bands = [("low", 0.4, 0.5), ("mid", 0.5, 0.6), ("top", 0.8, 1.0)]
    halves = in_band(scores[:, :size], 0.3, rng), in_band(scores[:, size:], 0.3, rng)
    for found, (_, low, high) in zip(null.share_excess(*halves, labels, bands), bands, strict=True):

        def share(side, low=low, high=high):
            best = np.where(side, scores[:, :, None], -1).max(1)
            return ((best >= np.float32(low)) & ((best < np.float32(high)) | (high >= 1))).mean(0)

        differences = np.round(share(table) - share(~table), 9)
        low_end, high_end = np.quantile(differences[1:], [0.025, 0.975])
        assert found[:4] == (differences[0], low_end, high_end, (differences >= differences[0]).mean())
        assert found.null_sd == pytest.approx(differences[1:].std())


def test_values_by_hand():
    """Three images; training images 0, 1, held-out 2, 3. Two hit a training image, one a held-out one."""
    scores = np.array([[0.9, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 0.9]])
    labels = singles(2, 0)
    assert excess_of(scores, 2, 0.5, labels).value == pytest.approx(1 / 3)
    assert null.nearest_excess(scores.argmax(1), labels).value == pytest.approx(2 / 3 - 0.5)


def test_band_with_an_upper_limit_excludes_better_matches():
    scores = np.array([[0.9, 0.55, 0, 0], [0.55, 0, 0, 0]])
    assert excess_of(scores, 2, 0.5, singles(2, 0), 0.6).value == pytest.approx(0.5)


def test_copying_is_found():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 0.5, (100, 60))
    scores[np.arange(100), rng.integers(0, 30, 100)] = 0.95
    labels = singles(30, 0)
    assert excess_of(scores, 30, 0.9, labels).p <= 0.001
    assert null.nearest_excess(scores.argmax(1), labels).p <= 0.001


def test_one_hub_is_no_proof():
    """All 500 images resemble one photo. A binomial test over images would call that certain copying."""
    labels = singles(30, 0)
    result = null.nearest_excess(np.zeros(500, int), labels)
    assert result.value == 0.5
    assert result.p > 0.4


def test_p_is_uniform_when_nothing_is_copied():
    """Photos with unequal pull, split at random: p ≤ .05 in about 5 % of splits, for shares and for nearest."""
    rng = np.random.default_rng(3)
    pull = rng.gamma(0.5, size=40)
    shares, nearest = [], []
    for seed in range(200):
        order = rng.permutation(40)
        chosen = rng.choice(40, 120, p=pull[order] / pull.sum())
        labels = singles(20, seed, 399)
        shares.append(excess_of(np.eye(40, dtype=np.float32)[chosen], 20, 0.5, labels).p)
        nearest.append(null.nearest_excess(chosen, labels).p)
    for p in (np.array(shares), np.array(nearest)):
        assert 0.01 <= (p <= 0.05).mean() <= 0.1
        assert 0.4 <= (p <= 0.5).mean() <= 0.6


def test_every_class_keeps_its_count():
    train = np.array([1, 0, 1, 0, 1, 0], bool)
    classes = np.array([0, 0, 0, 0, 1, 1])
    labels = as_bool(null.relabellings(train, classes, 0))
    np.testing.assert_array_equal(labels[:, 0], train)
    assert (labels[classes == 0].sum(0) == 2).all() and (labels[classes == 1].sum(0) == 1).all()
    assert (labels.mean(1) > 0.45).all() and (labels.mean(1) < 0.55).all()  # each is "train" about half of the time


def repeated_pictures(seed, copies=0):
    """p of the nearest photo: 60 pictures, each with 1 to 6 photos in one of two folders, one photo stands for each.

    300 images: `copies` of them are near photos of training pictures that are there 4 times or more, the others near
    photos of any folder, the more of a picture the likelier. The scores of a picture's photos differ a little.
    """
    rng = np.random.default_rng(seed)
    photos, train = rng.integers(1, 7, 60), rng.permutation(60) < rng.integers(20, 41)
    size = min(train.sum(), (~train).sum())
    pool = np.concatenate([rng.permutation(np.flatnonzero(side))[:size] for side in (train, ~train)])
    likely = train & (photos >= 4)
    sources = np.concatenate(
        [rng.choice(60, 300 - copies, p=photos / photos.sum()), rng.choice(60, copies, p=likely / likely.sum())]
    )
    scores = rng.uniform(0, 0.5, (300, 60))
    scores[np.arange(300), sources] = 0.9 + rng.uniform(-0.05, 0.05, 300)  # with the photo that stands for the picture
    labels = null.relabellings(np.arange(2 * size) < size, np.zeros(2 * size, int), seed, 399)
    return null.nearest_excess(scores[:, pool].argmax(1), labels).p


@pytest.mark.given(
    kind=1,
    input="pictures with 1 to 6 photos each, and a target that copies nothing",
    before="",
    now="p ≤ .05 in 2 to 9 % of 300 simulated audits",
)
def test_p_is_uniform_with_pictures_of_mixed_numbers_of_photos():
    p = np.array([repeated_pictures(seed) for seed in range(300)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.09
    assert 0.42 <= (p <= 0.5).mean() <= 0.58


@pytest.mark.given(
    kind=1,
    input="repeated training pictures, and a target that copies those with 4 photos or more",
    before='"the excess has p = 1.000 … no sign of copying"',
    now="p ≤ .05 in more than 90 % of 40 simulated audits",
)
def test_copies_of_repeated_pictures_are_found():
    """What hid copying: pictures that are there many times on one side alone could not change places."""
    assert np.mean([repeated_pictures(seed, copies=120) <= 0.05 for seed in range(40)]) > 0.9


TRAIN = np.arange(40) < 20


@pytest.mark.parametrize(
    ("strata", "relabelled", "least_p", "reason"),
    [
        (np.zeros(40, int), 40, 1e-4, None),
        pytest.param(
            np.where(TRAIN, 0, -1),
            0,
            1.0,
            "no training photo can .* held-out one: they share no class",
            marks=pytest.mark.given(
                kind=1,
                input="20 training photos and 20 held-out ones that share no class",
                before="p = 1.000",
                now='no photo can change places: "they share no class"',
            ),
        ),
        # One training photo and two held-out ones of one class, the others of classes of their own.
        (
            np.where(np.isin(np.arange(40), [0, 20, 21]), 99, np.arange(40)),
            3,
            1 / 3,
            "only 3 of the 40 photos can change places, and the smallest p possible is 0.33",
        ),
    ],
)
def test_least_p_is_one_over_the_number_of_different_relabellings(strata, relabelled, least_p, reason):
    labels = null.relabellings(TRAIN, strata, seed=0)
    assert (labels.relabelled, labels.least_p) == (relabelled, pytest.approx(least_p))
    if reason is None:
        assert labels.reason is None
    else:
        assert re.fullmatch(reason, labels.reason)
    drawn = as_bool(labels)
    assert (drawn != drawn[:, :1]).any(1).sum() == relabelled
    if least_p > 1e-4:
        assert len(np.unique(drawn, axis=1).T) == round(1 / least_p)


def test_one_photo_of_each_kind_can_prove_nothing():
    labels = singles(1, 0)
    assert (labels.relabelled, labels.least_p) == (2, 0.5)
    assert labels.reason == "only 2 of the 2 photos can change places, and the smallest p possible is 0.50"


@pytest.mark.given(
    kind=1,
    input="photos with which p = .05 is the least possible",
    before="",
    now="copying cannot be tested; with one photo more it can",
)
@pytest.mark.parametrize(("others", "testable"), [(20, False), (21, True)])
def test_smallest_p_that_is_no_finding_is_the_level_itself(others, testable):
    """One training photo among 20 gives p = .05 at best, which is not below it."""
    pool = np.arange(others)
    labels = null.relabellings(pool == 0, np.zeros_like(pool), 0)
    assert (labels.reason is None) == testable
