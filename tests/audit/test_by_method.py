import dataclasses
import json

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit
from configs import smoke
from side_jax.audit.by_method import against_random, beside_controls, saw_training_photos
from side_jax.audit.options import METHODS, AuditOptions
from side_jax.audit.stage import Audit
from side_jax.evidence.against_random import compare_with_random
from side_jax.evidence.scores import Nearest
from side_jax.runtime.files import write_json

N = 40
COST = {"num_images": N, "random_images": 60, "surrogate_flops": 1.0, "guided_flops_per_image": 1.0}


@pytest.fixture
def audit(tmp_path):
    """λ = 0, 1, 2 and 40 images each, to be compared at equal compute."""
    made = synthetic_audit(epath.Path(tmp_path), 3, N, 30).main()
    extract = dataclasses.replace(made.options.extract, equal_compute=True)
    return dataclasses.replace(made, options=dataclasses.replace(made.options, extract=extract))


def sweep(count, seed=0):
    rng = np.random.default_rng(seed)
    return Nearest(rng.uniform(0.3, 1, count).astype(np.float32), rng.integers(0, 30, count, np.int32))


GUIDED = {1.0: sweep(N, 1), 2.0: sweep(N, 2)}


def test_as_many_random_images_give_no_comparison_at_equal_compute(audit):
    found = against_random(audit, GUIDED, sweep(N))
    assert list(found) == ["low", "mid", "high"]
    for band in audit.options.extract.bands:
        assert found[band[0]] == compare_with_random(GUIDED, sweep(N), band) | {"equal_compute": None}


def write_count(audit, **facts):
    """What the extract stage counted of this audit's method."""
    options = audit.options
    name = {"source": options.labels.source, "guide": options.classifier.guide}
    write_json(audit.workdir / "extract" / "equal_compute.json", [name | COST | facts])


def test_random_images_beyond_equal_compute_change_nothing(audit):
    write_count(audit)
    exact, more = (against_random(audit, GUIDED, sweep(count)) for count in (60, 100))
    less = against_random(audit, GUIDED, sweep(59))
    random = sweep(100)
    first = Nearest(random.best[:60], random.winner[:60])
    assert more == against_random(audit, GUIDED, first)
    assert all(found["equal_compute"]["random_images"] == 30 for found in exact.values())
    assert all(COST.items() <= found["equal_compute"]["cost"].items() for found in exact.values())
    assert all(found["equal_compute"] is None for found in less.values())


def test_what_was_counted_of_another_method_is_not_taken(audit):
    write_count(audit, guide="time_independent")
    assert against_random(audit, GUIDED, sweep(100))["high"]["equal_compute"] is None


def test_nothing_is_compared_without_guidance_or_without_random(audit):
    assert against_random(audit, {}, sweep(N)) is None
    assert against_random(audit, GUIDED, None) is None


def test_metrics_are_json_where_random_has_nothing(audit):
    nothing = Nearest(np.zeros(N, np.float32), np.zeros(N, np.int32))
    found = against_random(audit, GUIDED, nothing)
    assert json.loads(json.dumps(found, allow_nan=False))["high"]["ams"]["ratio"]["value"] is None


def compared(*methods, **changes):
    """The audit of every method."""
    config = smoke.get_config()
    config.methods = methods
    config.labels.update({"num_clusters": 4} | changes)
    return Audit(AuditOptions.from_config(config), epath.Path("unused"), None).methods()


def test_guides_that_have_seen_training_photos_are_told_apart():
    saw = {name: saw_training_photos(method.options) for name, method in compared(*METHODS).items()}
    assert {name for name, seen in saw.items() if seen} == {"ol_ti", "side", "side_exact", "exact_train"}
    by_teacher = compared("side_clusters", descriptor="teacher")["side_clusters"]
    assert saw_training_photos(by_teacher.options)  # clusters by features of a classifier of the training photos
    assert not saw_training_photos(compared("random")["random"].options)


@pytest.mark.parametrize(
    ("asked_for", "ordered"),
    [
        ("exact_heldout exact_train side", "exact_train exact_heldout side"),
        ("exact_heldout side_clusters side ol_ti", "side_clusters side ol_ti exact_heldout"),
        ("side exact_train side_clusters exact_heldout", "side exact_train exact_heldout side_clusters"),
        ("exact_heldout side_exact random_labels", "side_exact exact_heldout random_labels"),
        ("exact_heldout side_clusters", "exact_heldout side_clusters"),
    ],
)
def test_a_control_stands_right_after_what_it_controls(asked_for, ordered):
    names = asked_for.split()
    assert beside_controls(names, compared(*names)) == ordered.split()
