import jinja2
import numpy as np
import pytest

from docs.theory import steering
from docs.theory.__main__ import HERE
from side_jax.representation.steering import Steering


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


@pytest.mark.slow
def test_chapter_is_made_and_rendered(tmp_path):
    made = steering.make(tmp_path, num_images=40, num_steps=10, weights=(-2.0, 2.0))
    assert [row["weight"] for row in made["rows"]] == [-2, 0, 2]
    assert made["rows"][1]["kid"]["change"]["p"] == 1
    for claim in made["claims"]:
        assert (tmp_path / claim["figure"]).exists()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("steering.md.j2").render(n=made)
    assert all(claim["why"] in text for claim in made["claims"])
