import numpy as np
import pytest

from side_jax.evidence.sanity import sanity

RNG = np.random.default_rng(0)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def faces(seed, count=24):
    """Descriptors around one direction."""
    rng = np.random.default_rng(seed)
    return unit(np.eye(1, 32) * 3 + rng.normal(size=(count, 32)) * 0.3)


NOISE = unit(RNG.normal(size=(24, 32)))
LOSSES = RNG.uniform(0.05, 0.3, (24, 4))


def failed(losses=LOSSES, variation=(40.0, 42.0), generated=None, shuffled=NOISE):
    return sanity(losses, variation, faces(1) if generated is None else generated, shuffled, faces(2))["failed"]


def test_target_that_makes_images_of_the_kind_of_its_photos_passes():
    assert failed() == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"losses": np.full((24, 4), np.nan)}, "is not finite"),
        ({"losses": LOSSES + 0.9}, "predicting no noise at all has 1"),
        pytest.param(
            {"variation": (0.5, 42.0)},
            "its images are all alike: they vary by 0.5 gray levels, photos by 42.0",
            marks=pytest.mark.given(
                kind=3,
                input="a target whose images are all alike",
                before='black or noise pictures, "no sign of copying"',
                now='the sanity check fails: "its images are all alike: they vary by 0.5 gray levels, photos by 42.0"',
            ),
        ),
        pytest.param(
            {"generated": unit(np.random.default_rng(3).normal(size=(24, 32)))},
            "not nearer to photos than",
            marks=pytest.mark.given(
                kind=3,
                input="a target that makes noise",
                before='black or noise pictures, "no sign of copying"',
                now='the sanity check fails: "… not nearer to photos than" the same pixels in a random order',
            ),
        ),
    ],
)
def test_each_fault_is_named(broken, reason):
    (sentence,) = failed(**broken)
    assert reason in sentence


def test_two_photos_are_too_few_for_a_distance():
    facts = sanity(LOSSES, (40.0, 42.0), faces(1), NOISE, faces(2)[:2])
    assert facts["kid_difference"] is None
    assert facts["failed"] == []
