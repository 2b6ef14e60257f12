"""The simulation's counting, a few of its cells anew, and what the stored numbers say."""

import numpy as np
import pytest
from etils import epath
from scipy import stats

from docs.evidence import distances, gains, rankings, relabelled, shares, verdicts
from docs.evidence.cells import Interval, Outcome, Scenario, measured
from docs.evidence.simulation import MODULES, NUMBERS, table_rows
from docs.evidence.winners import PROFILES, distinct_share, drawn, probabilities
from side_jax.evidence.intervals import Finds, share_of
from side_jax.runtime.files import read_json


def one(module, setting):
    (found,) = [scenario for scenario in module.scenarios() if scenario.setting == setting]
    return found


def test_intervals_that_are_too_narrow_and_p_that_is_too_small_are_seen():
    def draw(rng):
        error = rng.normal()
        return Outcome({"narrow": Interval(error - 1.4, error + 1.4, 0.0)}, {"halved": rng.random() / 2})

    rows = measured(Scenario("a fault", draw, 2_000))
    assert rows["intervals"][0]["coverage"] == pytest.approx(0.838, abs=0.03)
    assert verdicts.of_interval(rows["intervals"][0]).startswith("below")
    assert verdicts.of_test(rows["tests"][0]).startswith("too small")


def test_right_intervals_and_uniform_p_pass():
    def draw(rng):
        error = rng.normal()
        return Outcome({"right": Interval(error - 1.96, error + 1.96, 0.0)}, {"right": rng.random()})

    rows = measured(Scenario("no fault", draw, 2_000))
    assert (verdicts.of_interval(rows["intervals"][0]), verdicts.of_test(rows["tests"][0])) == ("93–97 %", "uniform")


def test_coverage_of_clopper_pearson_is_that_of_the_enumeration():
    share, size = 0.05, shares.SIZE
    counts = np.arange(120)
    covered = [low <= share <= high for _, low, high in (share_of(int(count), size) for count in counts)]
    exact = stats.binom.pmf(counts, size, share) @ covered
    (row,) = measured(one(shares, "5.0% of 480 images"))["intervals"]
    assert row["coverage"] == pytest.approx(exact, abs=0.016)


@pytest.mark.parametrize("profile", PROFILES)
def test_truth_of_ums_is_the_mean_of_draws(profile):
    p, rng = probabilities(profile, 0.05), np.random.default_rng(0)
    counts = [Finds.of(drawn(rng, p, 480)).distinct() for _ in range(400)]
    error = np.std(counts) / np.sqrt(400)
    assert np.mean(counts) == pytest.approx(480 * distinct_share(p, 480), abs=4 * error)


def test_truth_of_kid_is_the_mean_of_estimates():
    rng, world = np.random.default_rng(0), distances.world()
    values = []
    for _ in range(200):
        rows, others = rng.integers(0, len(world.photos), (2, 50))
        values.append(distances.kid(world.images[rows], world.photos[others]).value)
    error = np.std(values) / np.sqrt(200)
    assert np.mean(values) == pytest.approx(distances.true_kid("images", "photos"), abs=4 * error)


@pytest.mark.parametrize(
    ("module", "setting"),
    [
        (shares, "5.0% of 480 images, hubs"),
        (gains, "0.5% against 0.5% of 240 images, 5 λ, hubs, 50% alike"),
        (gains, "1 × 5.0% of 240 images, hubs, ratio"),
        (rankings, "AUROC 0.9, 100 + 100 images"),
        (distances, "16 images of another distribution, 64 photos"),
        (relabelled, "240 images, 150 + 150 photos of 1 classes, hubs"),
    ],
)
def test_some_cells_anew(module, setting):
    """With 80 samples 95 % are 76, and less than 70 is rarer than 1 in 100."""
    rows = measured(one(module, setting), 80)
    assert all(row["coverage"] >= 70 / 80 for row in rows["intervals"])
    assert all(min(row["valid"], row["at_05"]["chance"]) > 1e-3 for row in rows["tests"])


def test_stored_numbers_are_of_every_scenario_and_have_a_verdict():
    numbers = read_json(epath.Path(NUMBERS))
    for name, scenarios in MODULES.items():
        settings = {row["setting"] for kind in ("intervals", "tests") for row in numbers[name][kind]}
        assert settings == {scenario.setting for scenario in scenarios()}
    rows = table_rows(numbers)
    assert not [row for kind in rows.values() for row in kind if verdicts.UNKNOWN in row["verdict"]]
    assert not [row for row in rows["tests"] if row["verdict"].startswith("too small")]
