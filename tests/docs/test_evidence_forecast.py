import json

import numpy as np

from docs.evidence import forecast
from side_jax.evidence.forecast import rarefied
from side_jax.evidence.intervals import Finds


def simulated(num_images=1_200, share=0.3, seed=0):
    """Rates of 200 photos drawn from a gamma distribution: what the model assumes."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, size=forecast.PHOTOS)
    rates *= share / rates.sum()
    return rng.choice(np.arange(-1, forecast.PHOTOS), num_images, p=np.append(1 - rates.sum(), rates))


def test_forecasts_of_a_tenth_stand_beside_what_came(tmp_path):
    found = simulated()
    numbers = forecast.measure(found)
    assert numbers["seen"] == len(np.unique(found[found >= 0])) == numbers["forecasts"][-1]["came"]
    assert numbers["forecasts"][0]["came"] == len(np.unique(found[:240][found[:240] >= 0]))
    assert numbers["forecasts"][0]["on_average"] == rarefied(Finds.of(found), 240)
    new = ~np.isin(found[120:], found[:120]) & (found[120:] >= 0)
    assert numbers["unseen_mass"]["came"] == new.mean()
    assert all(count >= 8 for count in numbers["tenths"]["hold"].values())
    forecast.draw(found, numbers, tmp_path)
    assert "what came" in (tmp_path / "evidence_forecast.svg").read_text()


def test_stored_numbers_are_of_the_run_that_the_script_makes():
    numbers = json.loads(forecast.NUMBERS.read_text())
    fixed = {"num_images": forecast.NUM_IMAGES, "num_steps": forecast.NUM_STEPS, "seed": forecast.SEED}
    assert fixed.items() <= numbers.items()
    assert (forecast.FIGURES / "evidence_forecast.svg").exists()
