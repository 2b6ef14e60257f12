import numpy as np

from docs.theory import steering
from side_jax.targets.steering import Steering


def test_random_direction_is_one_direction_as_long_as_the_vectors_of_every_step():
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    vectors[:2] = 0
    made = steering.random_direction(Steering({"up_blocks.0": vectors}, np.arange(5)[::-1])).vectors["up_blocks.0"]
    lengths = np.linalg.norm(made, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(vectors, axis=1), rtol=1e-5)
    units = made[2:] / lengths[2:, None]
    np.testing.assert_allclose(units, np.broadcast_to(units[0], units.shape), atol=1e-5)


def test_verdicts_follow_the_significant_changes():
    def row(weight, value, p):
        return {"weight": weight, "memorized": {"change": {"difference": {"value": value}, "p": p}}}

    rows = [row(-2.0, -0.1, 0.2), row(-1.0, -0.3, 0.01), row(1.0, 0.2, 0.02)]
    assert steering._changed(rows, "memorized") == ([-1.0], [1.0])
    assert steering._verdict([-1.0], [], rows) == "supported in part"
    assert steering._verdict([-2.0, -1.0, 1.0], [], rows) == "supported"
    assert steering._verdict([], [1.0], rows) == "contradicted"
    assert steering._verdict([], [], rows) == "not significant"
