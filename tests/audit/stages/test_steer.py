import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import side_jax
from side_jax.audit import pipeline
from side_jax.runtime.files import MANIFEST
from tests.golden.smoke_run import INDICES, TRAINED, assert_as_recorded, steered_config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return steered_config(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A finished run. Read only."""
    return pipeline.run(config, tmp_path_factory.mktemp("runs") / "steered")


def facts(workdir):
    return json.loads((workdir / "steer" / MANIFEST).read_text())["facts"]


def test_direction_is_of_even_images_and_effect_of_odd_ones(finished, config):
    found = facts(finished)
    assert (found["num_positive"], found["num_negative"]) == (7, 7)
    assert found["pictured"] == [1, 5, 9, 13, 17]  # of the first 10 odd ones
    assert found["steps"] == [2, 2]
    assert [row["weight"] for row in found["rows"]] == [-20, 0, 20]
    assert all(row["num_images"] == 10 for row in found["rows"])
    unsteered = found["rows"][1]
    assert unsteered["memorized"]["value"] == 0.5
    assert unsteered["memorized"]["change"]["p"] == unsteered["kid"]["change"]["p"] == 1
    vectors = load_file(finished / "steer" / "vectors.safetensors")
    assert set(vectors) == {"up_blocks.0", "timesteps"}
    assert (vectors["up_blocks.0"][:2] == 0).all() and (vectors["up_blocks.0"][2] != 0).any()


def test_rows_are_what_the_public_functions_give(finished, config):
    """Images, vectors and matches made again by `steering_vectors`, `sample` and `match`."""
    target = side_jax.load_target(finished)
    images = side_jax.sample(target, len(INDICES), num_steps=3, batch_size=8)
    even = INDICES[::2]
    copied = np.isin(even, TRAINED)
    made = side_jax.steering_vectors(target, images[even[copied]], images[even[~copied]], num_steps=3)
    stored = load_file(finished / "steer" / "vectors.safetensors")["up_blocks.0"]
    np.testing.assert_allclose(made.vectors["up_blocks.0"], stored, atol=1e-5)
    moved = side_jax.sample(target, 20, num_steps=3, batch_size=8, steering=made, steering_weight=-20.0)[1::2]
    embed = side_jax.load_descriptor("pixel")
    best = side_jax.match(embed(moved), embed(images[TRAINED]), k=1)
    table = pq.read_table(finished / "steer" / "matches.parquet")
    assert table["index"].to_pylist() == [*range(1, 20, 2)] * 3
    rows = table.filter(np.array(table["weight"]) == -20)
    np.testing.assert_allclose(rows["train_score"], best.scores[:, 0], atol=2e-3)
    assert (moved != images[1:20:2]).any()


def test_report_shows_table_sentences_and_pictures(finished):
    page = (finished / "report.html").read_text()
    assert "Steer: away from the memorized representation" in page
    assert page.count("α = -20: ") == 1
    assert page.count('alt="image 5 at α = ') == 3
    assert "not Inception&#39;s" in page
    metrics = json.loads((finished / "metrics.json").read_text())
    for row in metrics["steer"]["rows"]:
        assert row.pop("bands").keys() == {"low", "mid", "high"}
    assert metrics["steer"] == facts(finished)


def test_other_bands_are_shown_without_steering_again(finished, config, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    table = pq.read_table(finished / "steer" / "matches.parquet")
    unsteered = np.array(table["train_score"])[np.array(table["weight"]) == 0]
    other = config.copy_and_resolve_references()
    other.extract.bands = (("top", 0.999, 1.0),)
    steps = pipeline.plan(pipeline.prepare(other, tmp_path / "copy"))
    assert [step.name for step in steps if not step.complete] == ["report"]
    pipeline.run(other, tmp_path / "copy")
    rows = json.loads((tmp_path / "copy" / "metrics.json").read_text())["steer"]["rows"]
    assert [row["bands"].keys() for row in rows] == [{"top"}] * 3
    assert rows[1]["bands"]["top"]["train"]["ams"]["value"] == (unsteered >= 0.999).mean() > 0


def test_interrupted_stage_gives_the_same_results_when_run_again(finished, config, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "steer")
    (tmp_path / "copy" / "steer").mkdir()
    shutil.copy(finished / "steer" / "spec.json", tmp_path / "copy" / "steer")
    pipeline.run(config, tmp_path / "copy")
    assert facts(tmp_path / "copy") == facts(finished)
    for name in ("matches.parquet", "vectors.safetensors"):
        assert (tmp_path / "copy" / "steer" / name).read_bytes() == (finished / "steer" / name).read_bytes()


def test_other_weights_are_measured_and_shown_without_a_new_sweep(finished, config, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    other = config.copy_and_resolve_references()
    with other.unlocked():
        other.steer.weights = (-1.0,)
    assert [
        step.stage.name for step in pipeline.plan(pipeline.prepare(other, tmp_path / "copy")) if not step.complete
    ] == [
        "steer",
        "report",
    ]
    pipeline.run(other, tmp_path / "copy")
    assert [row["weight"] for row in facts(tmp_path / "copy")["rows"]] == [-1, 0]
    assert "α = -1: " in (tmp_path / "copy" / "report.html").read_text()


def test_too_few_memorized_images_are_said_and_shown_in_words(finished, config, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    other = config.copy_and_resolve_references()
    other.steer.num_images = 4
    pipeline.run(other, tmp_path / "copy")
    assert facts(tmp_path / "copy").keys() == {"reason"}
    reason = "index 4 are memorized and 4 are not, and 4 with an odd index are left"
    assert reason in facts(tmp_path / "copy")["reason"]
    assert reason in (tmp_path / "copy" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steer.weights": (0.0,)}, r"steer.weights must be without 0"),
        ({"steer.layers": ("up_blocks.7",)}, "layer 'up_blocks.7' does not exist in this target; it has conv_in"),
        ({"steer.window": (0.1, 0.3)}, r"steer.window \(0.1, 0.3\) holds none of the 3 steps"),
        ({"extract.scales": (1.0,), "methods": ("side",)}, r"extract.scales \(1.0,\) lacks their λ, 0"),
    ],
)
def test_what_cannot_be_steered_is_refused_before_anything_is_written(config, tmp_path, changes, message):
    other = config.copy_and_resolve_references()
    with other.ignore_type():
        other.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        pipeline.run(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_of_this_version_are_as_recorded(finished):
    assert_as_recorded(finished, "steer")
