import numpy as np
import pytest

from side_jax.evidence.recipes import OWN, advice, compare_recipes, wiener_loss

LOSS = np.random.default_rng(0).uniform(0.1, 0.5, 40)  # photos differ more from each other than recipes do


def compared(**changes):
    noise = np.random.default_rng(1).normal(size=(len(changes), 40))
    other = {name: LOSS + change + 0.01 * row for (name, change), row in zip(changes.items(), noise, strict=True)}
    return compare_recipes({OWN: LOSS, **other}, {OWN: 0, **dict.fromkeys(other, 40)})


def test_recipe_of_lower_loss_is_recommended_though_photos_differ_more_than_recipes():
    found = compared(first=-0.02, second=-0.04, third=0.1)
    assert [row["recipe"] for row in found["recipes"]] == ["second", "first", OWN, "third"]
    assert found["lowest"] == "second"
    assert "better with second: its loss is 0.2" in advice(found)


def test_nothing_is_recommended_where_the_own_recipe_has_the_lowest_loss():
    found = compared(first=0.02, second=0.04)
    assert found["recipes"][0]["recipe"] == OWN
    assert found["lowest"] is advice(found) is None


def test_nothing_is_recommended_within_the_interval():
    found = compared(first=-1e-4)
    assert found["recipes"][0]["recipe"] == "first"
    assert found["lowest"] is None


@pytest.mark.parametrize(("others", "photos"), [(1, 16), (7, 16), (7, 64)])
def test_recipes_that_change_nothing_are_seldom_recommended_however_many(others, photos):
    """The lowest of seven, each judged at 95 % as if it were alone, is lower by chance in one audit of six."""
    rng, runs = np.random.default_rng(0), 300
    names = [f"recipe {i}" for i in range(others)]
    count = 0
    for _ in range(runs):
        own = rng.uniform(0.1, 0.5, photos)
        losses = {OWN: own, **{name: own + 0.01 * rng.normal(size=photos) for name in names}}
        count += compare_recipes(losses, dict.fromkeys(losses, photos))["lowest"] is not None
    assert count / runs <= 0.05  # 2.5 % are expected


def test_interval_of_one_recipe_is_students_and_of_several_wider():
    noise = np.random.default_rng(0).normal(size=16)
    losses = {OWN: np.full(16, 0.5), "first": 0.5 + 0.01 * noise}
    error = 0.01 * noise.std(ddof=1) / 4
    for count, quantile in ((1, 2.131), (2, 2.490), (7, 3.112)):  # of Student's t, 15 degrees: 1 − .025 / count
        more = {f"more {i}": losses["first"] + 1 for i in range(count - 1)}
        rows = compare_recipes(losses | more, dict.fromkeys(losses | more, 16))["recipes"]
        (row,) = (row for row in rows if row["recipe"] == "first")
        difference = row["difference"]
        assert difference["high"] - difference["value"] == pytest.approx(quantile * error, rel=2e-3)


def test_network_that_denoises_worse_than_a_wiener_filter_recommends_nothing():
    losses = {OWN: 3 + LOSS, "other": 2 + LOSS}
    assert compare_recipes(losses, {OWN: 0, "other": 40})["lowest"] is None


def test_wiener_filter_leaves_of_white_images_what_each_pixel_alone_leaves():
    """Pixels of variance 4 without a neighbour that tells of them: α²·4 / (α²·4 + σ²) = 1 / (1 + .64)."""
    white = 2 * np.random.default_rng(0).normal(size=(4000, 6, 6, 1))
    assert wiener_loss(white, 0.5, 0.8) == pytest.approx(1 / 1.64, rel=0.01)


def test_wiener_filter_leaves_less_of_smoother_images():
    rough = np.random.default_rng(0).normal(size=(50, 8, 8, 3))
    smooth = (rough + np.roll(rough, 1, 1)) / 2
    assert wiener_loss(smooth, 0.9, 0.4) < wiener_loss(rough, 0.9, 0.4)
    assert wiener_loss(np.ones((3, 8, 8, 1)), 0.9, 0.4) == 0  # all alike
