import numpy as np
import pytest
from scipy import optimize, stats

from side_jax.evidence import null, power
from side_jax.evidence.scores import InBand


def test_without_false_hits_six_copies_of_six_photos_are_needed():
    """2^−5 > .025 ≥ 2^−6: the power is P(K ≥ 6)."""
    for share in (0.005, 0.01, 0.03):
        assert power.power(share, 480, 200, 0.0, 0.025) == pytest.approx(stats.binom.sf(5, 480, share), abs=1e-6)
    wanted = optimize.brentq(lambda share: stats.binom.sf(5, 480, share) - 0.9, 1e-4, 0.5)
    assert power.detectable_share(480, 200, 0.0, 0.025) == pytest.approx(wanted, rel=1e-3)


def test_twice_the_images_halve_the_share_where_nothing_is_hit_by_chance():
    spread = power.Spread.of(0.0, np.zeros(0, int), 480)
    assert power.images_to_halve(spread, 200, 0.025) == pytest.approx(960, rel=0.02)


def test_photos_that_many_images_resemble_cannot_be_evened_out_by_images():
    hubs = np.repeat(np.arange(20), 24)
    spread = power.Spread.of(np.sqrt(24.0**2 * 20) / 480, hubs, 480)
    assert spread.at(480) == pytest.approx(24**2 * 20)
    assert spread.at(4800) == pytest.approx(100 * spread.at(480), rel=0.1)  # nearly all of it grows as N²
    assert power.images_to_halve(spread, 200, 0.025) is None


def test_too_few_images_can_call_nothing():
    assert power.detectable_share(5, 200, 0.0, 0.025) is None


def relabelled_p(train_photos, heldout_photos, photos, count, labels):
    """The audit's own test of images that score with one photo each."""

    def in_band(found):
        offsets = np.concatenate([np.arange(len(found) + 1), np.full(count - len(found), len(found))])
        return InBand(offsets, found.astype(np.int32), np.full(len(found), 0.99, np.float32))

    empty = InBand(np.zeros(count + 1, int), np.zeros(0, np.int32), np.zeros(0, np.float32))
    paired, heldout = in_band(train_photos), in_band(heldout_photos) if len(heldout_photos) else empty
    return null.share_excess(paired, heldout, labels, [("high", 0.98, 1.0)])[0]


@pytest.mark.parametrize(("share", "false"), [(0.02, 0), (0.03, 6), (0.04, 20)])
def test_power_that_is_predicted_is_the_power_that_is_seen(share, false):
    """Of 300 images, `false` score with a photo of either kind by chance, and a share copies another training photo."""
    rng, photos, count = np.random.default_rng(0), 100, 300
    labels = null.relabellings(np.arange(2 * photos) < photos, np.zeros(2 * photos, int), 0, 1_999)
    called, variances = [], []
    for _ in range(120):
        chance = rng.integers(0, 2 * photos, false)
        copies = rng.integers(0, photos, rng.binomial(count, share))
        train = np.concatenate([chance[chance < photos], copies])
        held = chance[chance >= photos] - photos
        called.append(relabelled_p(train, held, photos, count, labels).p <= 0.025)
        variances.append((count * relabelled_p(chance[chance < photos], held, photos, count, labels).null_sd) ** 2)
    predicted = power.power(share, count, photos, float(np.mean(variances)), 0.025)
    low, high = stats.binomtest(sum(called), len(called)).proportion_ci(0.999)
    assert low <= predicted <= high
