import json

import numpy as np
import pytest
from scipy import stats

from side_jax.evidence import forecast_model
from side_jax.evidence.forecast import extrapolated
from side_jax.evidence.forecast_model import GammaRates, first_images, fitted, forecast, modelled
from side_jax.evidence.intervals import Finds
from side_jax.runtime.files import plain

PHOTOS = 200


def sweep(rng, rates, num_images):
    """Finds of so many images; image i finds photo j with probability rates[j]."""
    photos = np.append(np.arange(len(rates)), -1)
    return Finds.of(rng.choice(photos, num_images, p=np.append(rates, 1 - rates.sum())))


def gamma_rates(rng, share, shape=0.5):
    return rng.gamma(shape, share / PHOTOS / shape, PHOTOS)


def test_fit_is_the_maximum_of_the_negative_binomial_likelihood():
    times = np.random.default_rng(0).negative_binomial(0.7, 0.4, 2_000)
    model = fitted(times)
    assert model.mean == pytest.approx(times.mean())

    def log_likelihood(shape, mean):
        return stats.nbinom.logpmf(times, shape, shape / (shape + mean)).sum()

    best = log_likelihood(*model)
    assert all(
        log_likelihood(model.shape * a, model.mean * b) < best for a, b in ((1.1, 1), (0.9, 1), (1, 1.1), (1, 0.9))
    )
    assert model.shape == pytest.approx(0.7, rel=0.2)


def test_equal_rates_are_the_limit_of_a_large_shape():
    model = fitted(np.random.default_rng(1).poisson(2.0, 5_000))
    assert model.shape > 50
    assert GammaRates(np.exp(8), 0.3).unmatched(2.0) == pytest.approx(np.exp(-0.6), rel=1e-3)


@pytest.mark.parametrize("share", [0.3, 0.02])
def test_forecast_of_ten_times_as_many_images_covers_if_rates_are_gamma(monkeypatch, share):
    monkeypatch.setattr(forecast_model, "_DRAWS", 100)
    rng, covered, errors = np.random.default_rng(2), 0, []
    for seed in range(60):
        rates = gamma_rates(rng, share)
        finds = sweep(rng, rates, 4_800)
        (estimate,) = modelled(first_images(finds, 480), PHOTOS, [4_800], seed)
        covered += estimate.low <= finds.distinct() <= estimate.high
        errors.append(estimate.value - finds.distinct())
    assert covered >= 53  # 57 expected, less 2.4 standard deviations
    assert abs(np.mean(errors)) < 8


def test_model_is_wrong_where_it_does_not_hold():
    """20 photos alike, 180 that are never found: the page says that intervals hold if the model does."""
    rng = np.random.default_rng(3)
    rates = np.where(np.arange(PHOTOS) < 20, 0.3 / 20, 0)
    (estimate,) = modelled(sweep(rng, rates, 480), PHOTOS, [4_800], 0)
    assert estimate.low > 20


def test_forecast_is_json_and_no_number_exceeds_the_photos():
    rng = np.random.default_rng(4)
    facts = forecast(sweep(rng, gamma_rates(rng, 0.9, 2.0), 480), PHOTOS, 0)
    json.dumps(plain(facts), allow_nan=False)
    ahead = [*facts["good_toulmin"], *facts["model"], facts["smoothed"], facts["chao1"]]
    assert max(one["high"] for one in ahead) <= PHOTOS
    assert all(one["low"] <= one["value"] <= one["high"] for one in ahead)
    assert facts["curve"][-1] == [480, pytest.approx(facts["seen"])]
    assert facts["good_toulmin"][0] == {"num_images": 480} | dict.fromkeys(("value", "low", "high"), facts["seen"])
    assert facts["good_toulmin"][-1]["num_images"] == 960


def test_check_forecasts_the_whole_from_its_beginning():
    rng = np.random.default_rng(5)
    finds = sweep(rng, gamma_rates(rng, 0.3), 480)
    check = forecast(finds, PHOTOS, 0)["check"]
    assert (check["half"], check["tenth"]) == (240, 48)
    assert check["from_half"] == extrapolated(first_images(finds, 240), 480)._asdict()
    (model,) = modelled(first_images(finds, 48), PHOTOS, [480], 0)
    assert check["from_tenth"] == model._asdict()


@pytest.mark.parametrize("num_images", [1, 7])
def test_without_a_match_there_is_no_model(num_images):
    facts = forecast(Finds.of(np.full(num_images, -1)), 10, 0)
    assert facts["model"] is None and facts["check"]["from_tenth"] is None
    assert facts["seen"] == 0 and facts["unseen_mass"]["high"] > 0
    json.dumps(plain(facts), allow_nan=False)
