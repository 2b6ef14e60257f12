"""The detect stage on sweeps written by hand: labels and comparisons, without a network."""

import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.cost.count import audit_jobs
from side_jax.audit.cost.jobs import Setting
from side_jax.audit.options import AuditOptions
from side_jax.audit.stages import detect


@pytest.fixture
def audit(tmp_path):
    made = synthetic_audit(epath.Path(tmp_path), 3, 40, 30)
    write_sweep(made, 4)
    return made


def test_best_scores_are_those_of_the_sweep(audit):
    found = detect._best_scores(audit, 1.0)
    assert set(found) == {"", "paired_", "heldout_"}
    table = detect.read_scale(audit, 1.0)
    assert found["paired_"].tolist() == pytest.approx([row[0] for row in table["paired_scores"].to_pylist()])
    assert len(found[""]) == 40


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
    setting = Setting(options, options.target.make_net(16, 1), 1, 200)
    jobs = [(job.what, job.images, job.calls) for job in audit_jobs(setting) if job.stage == "detect"]
    assert jobs == [
        ("unguided, 3 steps", 12, 3),
        ("guided, 3 steps", 12, 3),
        ("generated images, 6 forward passes", 24, 6),
        ("photos, 50 forward passes", 400, 50),
    ]
