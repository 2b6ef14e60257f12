import json

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit
from side_jax.artifacts import write_json
from side_jax.evidence.scores import Nearest
from side_jax.evidence.summary import compare_with_random
from side_jax.stages import against_random as module
from side_jax.stages.against_random import against_random, count_random_images

N = 40
COST = {"num_images": N, "random_images": 60, "surrogate_flops": 1.0, "guided_flops_per_image": 1.0}


@pytest.fixture
def audit(tmp_path):
    """λ = 0, 1, 2 and 40 images each."""
    return synthetic_audit(epath.Path(tmp_path), 3, N, 30).main()


def sweep(count, seed=0):
    rng = np.random.default_rng(seed)
    return Nearest(rng.uniform(0.3, 1, count).astype(np.float32), rng.integers(0, 30, count, np.int32))


GUIDED = {1.0: sweep(N, 1), 2.0: sweep(N, 2)}


def test_as_many_random_images_give_no_comparison_at_equal_compute(audit):
    found = against_random(audit, GUIDED, sweep(N))
    assert list(found) == ["low", "mid", "high"]
    for band in audit.options.extract.bands:
        assert found[band[0]] == compare_with_random(GUIDED, sweep(N), band) | {"equal_compute": None}


def test_random_images_beyond_equal_compute_change_nothing(audit, monkeypatch):
    monkeypatch.setattr(module, "count_random_images", lambda method: (20, COST))
    exact, more = (against_random(audit, GUIDED, sweep(count)) for count in (60, 100))
    less = against_random(audit, GUIDED, sweep(59))
    random = sweep(100)
    first = Nearest(random.best[:60], random.winner[:60])
    assert more == against_random(audit, GUIDED, first)
    assert all(found["equal_compute"]["random_images"] == 30 for found in exact.values())
    assert all(found["equal_compute"]["cost"] == COST for found in exact.values())
    assert all(found["equal_compute"] is None for found in less.values())


def test_what_the_sweep_counted_is_taken_if_it_is_of_as_many_images(audit, monkeypatch):
    monkeypatch.setattr(module, "count_random_images", lambda method: (0, COST | {"random_images": 50}))
    for num_images, random_images in ((N, 60), (N + 1, 50)):
        facts = {"equal_compute": COST | {"num_images": num_images}}
        write_json(audit.folder("extract") / "manifest.json", {"facts": facts})
        found = against_random(audit, GUIDED, sweep(100))["high"]["equal_compute"]
        assert found["random_images"] == random_images // 2


def test_nothing_is_compared_without_guidance_or_without_random(audit):
    assert against_random(audit, {}, sweep(N)) is None
    assert against_random(audit, GUIDED, None) is None


@pytest.mark.optax
def test_images_are_counted_for_the_target_and_the_classes_of_the_workdir(audit, monkeypatch):
    """The UNet that the target stage left, 30 training images of 30 classes, one device."""
    settings = []

    def counted(setting, row, num_images):
        settings.append((setting, row, num_images))
        return 0, {}

    monkeypatch.setattr(module, "random_images_at_equal_compute", counted)
    unet = audit.options.target.make_unet(8, 1)
    monkeypatch.setattr(module, "read_architecture", {audit.workdir: unet}.get)
    count_random_images(audit)
    ((setting, row, num_images),) = settings
    assert (setting.unet, setting.devices, setting.num_train, setting.num_classes) == (unet, 1, 30, 30)
    assert (row, num_images) == (audit.options, N)


def test_metrics_are_json_where_random_has_nothing(audit):
    nothing = Nearest(np.zeros(N, np.float32), np.zeros(N, np.int32))
    found = against_random(audit, GUIDED, nothing)
    assert json.loads(json.dumps(found, allow_nan=False))["high"]["ams"]["ratio"]["value"] is None
