"""The detect stage on sweeps written by hand: labels and comparisons, without a network."""

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from configs import smoke
from side_jax import pipeline
from side_jax.cost.jobs import Setting, detect_jobs
from side_jax.options import AuditOptions
from side_jax.stages import detect
from side_jax.stages.detect import _compare_generated, _label, _Labels


def labels(positive, clear=None, scale=0.0):
    clear = {key: np.ones_like(value) for key, value in positive.items()} if clear is None else clear
    indices = {key: np.arange(len(value)) for key, value in positive.items()}
    return _Labels(indices, positive, clear, {"scale": scale, "threshold": 0.5, "calibrated": True})


def spiky(positive, strength, seed=0):
    """Scores of one measure, one layer, one t, and draws of the noise [N, L, T, D]."""
    scores = np.random.default_rng(seed).normal(size=len(positive)) + strength * positive
    return {"std": {"up, t = 10": scores}, "loss": {"t = 10": -scores}}, scores[:, None, None, None].astype(np.float32)


@pytest.fixture
def audit(tmp_path):
    made = synthetic_audit(epath.Path(tmp_path), 3, 40, 30)
    write_sweep(made, 4)
    return made


def test_threshold_of_every_scale_is_from_the_held_out_scores_of_the_smallest(audit, monkeypatch):
    scores = {
        0.0: {
            "": np.array([0.9, 0.8, 0.2]),
            "paired_": np.array([0.9, 0.2, 0.2]),
            "heldout_": np.array([0.5, 0.1, 0.3]),
        },
        1.0: {
            "": np.array([0.6, 0.4, 0.2]),
            "paired_": np.array([0.6, 0.4, 0.2]),
            "heldout_": np.array([0.9, 0.9, 0.9]),
        },
    }
    scores[2.0] = scores[1.0]
    monkeypatch.setattr(detect, "_best_scores", lambda audit, scale: scores[scale])
    found, best = _label(audit, 3)
    counts = {"images": 3, "memorized": 1, "ambiguous": 1}
    assert found.facts == {"threshold": 0.5, "calibrated": True, "scale": 0.0} | counts
    assert found.positive[0.0].tolist() == [True, False, False]
    assert found.positive[1.0].tolist() == [True, False, False]
    assert found.clear[0.0].tolist() == [True, False, True]  # the second copies a photo outside the pairs
    np.testing.assert_array_equal(best[0.0], scores[0.0][""])


def test_without_held_out_photos_the_highest_band_says_what_is_memorized(audit, monkeypatch):
    low = audit.options.extract.bands[-1][1]
    scores = {"": np.array([low, np.nextafter(low, 0), 0.1]), "paired_": None, "heldout_": None}
    monkeypatch.setattr(detect, "_best_scores", lambda audit, scale: scores)
    found, _ = _label(audit, 3)
    counts = {"images": 3, "memorized": 1, "ambiguous": 0}
    assert found.facts == {"threshold": low, "calibrated": False, "scale": 0.0} | counts
    assert found.positive[0.0].tolist() == [True, False, False]
    assert found.clear[0.0].all()


def test_of_a_large_sweep_rare_copies_are_all_taken_and_filled_up_with_others():
    positive = np.isin(np.arange(10_000), [5, 4_000, 9_999])
    clear = np.arange(10_000) != 0
    chosen = detect._choose(positive, clear, 10)
    assert chosen.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 4_000, 9_999]
    assert detect._choose(~positive, clear | ~positive, 6).tolist() == [0, 1, 2, 5, 4_000, 9_999]
    assert detect._choose(positive, clear, 10_000).tolist() == list(range(10_000))


def test_best_scores_are_those_of_the_sweep(audit):
    found = detect._best_scores(audit, 1.0)
    table = detect.read_scale(audit, 1.0)
    assert found["paired_"].tolist() == pytest.approx([row[0] for row in table["paired_scores"].to_pylist()])
    assert len(found[""]) == 40


def test_headline_is_of_the_smallest_scale_and_other_scales_keep_its_choice():
    positive = np.arange(200) % 4 < 2
    here, draws = spiky(positive, 3)
    guided, _ = spiky(positive, 0, seed=1)
    summary = _compare_generated({0.0: here, 5.0: guided}, labels({0.0: positive, 5.0: positive}), draws)
    assert summary["rows"][0]["chosen"] == "up, t = 10"
    assert summary["rows"][0]["auroc"]["low"] > 0.9
    assert summary["differences"][0]["name"] == "loss" and summary["differences"][0]["difference"]["low"] > 0.5
    assert summary["draws"] == [pytest.approx(summary["rows"][0]["auroc"]["value"])]
    first, second, together = summary["scales"]
    assert first["auroc"] == summary["rows"][0]["auroc"]
    assert second["auroc"]["low"] < 0.5 < second["auroc"]["high"]
    assert (together["scale"], together["positives"]) == (None, 100)


def test_a_sign_is_never_flipped_after_seeing_the_data():
    positive = np.arange(200) % 4 < 2
    here, draws = spiky(positive, -3)
    summary = _compare_generated({0.0: here}, labels({0.0: positive}), draws)
    assert summary["rows"][0]["auroc"]["high"] < 0.1


def test_too_few_memorized_images_are_said_with_their_number():
    few = np.arange(200) < 6
    here, draws = spiky(few, 3)
    summary = _compare_generated({0.0: here}, labels({0.0: few}), draws)
    assert summary["rows"] == [] and summary["scales"] == []
    assert summary["too_few"].startswith(
        "of the even-numbered, 3 positives and 97 negatives, an interval needs at least 10"
    )


def test_a_scale_without_enough_copies_has_a_row_that_says_so():
    many, few = np.arange(200) % 4 < 2, np.arange(200) < 4
    here, draws = spiky(many, 3)
    summary = _compare_generated({0.0: here, 9.0: here}, labels({0.0: many, 9.0: few}), draws)
    assert "2 positives and 98 negatives" in summary["scales"][1]["too_few"]


def test_images_that_are_neither_are_left_out():
    positive = np.arange(200) % 4 < 2
    clear = np.arange(200) >= 20
    here, draws = spiky(positive, 3)
    summary = _compare_generated({0.0: here}, labels({0.0: positive}, {0.0: clear}), draws)
    assert summary["positives"] + summary["negatives"] == 90


def test_photos_have_their_labels_as_classes_only_if_the_target_knows_such():
    key, indices = detect.stage_key(0, "photos"), np.arange(3)

    class Target:
        class unet:  # noqa: N801
            num_class_embeds = 10

    classes, source = detect._photo_classes(Target, np.array([0, 9, 3]), key, indices)
    assert source == "labels" and classes.tolist() == [0, 9, 3]
    for outside in ([0, 10, 3], [0, -1, 3]):
        classes, source = detect._photo_classes(Target, np.array(outside), key, indices)
        assert source == "drawn" and all(0 <= value < 10 for value in classes)
    Target.unet.num_class_embeds = None
    assert detect._photo_classes(Target, np.array([0, 1, 2]), key, indices) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detect.layers": ("up_blocks.7",)}, "layer 'up_blocks.7' does not exist in this target; it has conv_in, "),
        ({"detect.timesteps": (10, 1000)}, "detect.timesteps must be in 0 … 999, got t = 1000"),
        (
            {"detect.attacks": ("loss", "secmi"), "detect.attack_timesteps": (995,)},
            "detect.attack_timesteps of secmi must be in 0 … 989, got t = 995",
        ),
    ],
)
def test_layers_and_timesteps_are_checked_before_any_compute_also_of_a_target_to_be_trained(tmp_path, changes, message):
    config = smoke.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        pipeline.prepare(config, tmp_path / "run")
    config.detect.num_images = 0
    audit = pipeline.prepare(config, tmp_path / "run")
    assert "detect" not in [step.stage.name for step in pipeline.plan(audit)]


def test_dry_run_counts_every_forward_pass_of_the_stage():
    """6 a generated image, 3 draws at 2 t; a photo 6 too, 6 of the loss, 10 + 2 and 20 + 2 of SecMI, 2 · 2 of PIA."""
    config = smoke.get_config()
    changes = {
        "timesteps": (10, 20),
        "num_noises": 3,
        "attacks": ("loss", "secmi", "pia"),
        "attack_timesteps": (100, 200),
    }
    with config.ignore_type():
        config.detect.update(changes)
        config.extract.save_images = "none"
    options = AuditOptions.from_config(config)
    setting = Setting(options, options.target.make_unet(16, 1), 1, 200)
    jobs = [(job.what, job.images, job.calls) for job in detect_jobs(setting)]
    assert jobs == [
        ("unguided, 3 steps", 12, 3),
        ("guided, 3 steps", 12, 3),
        ("generated images, 6 forward passes", 24, 6),
        ("photos, 50 forward passes", 400, 50),
    ]
