import csv
import json
import shutil

import numpy as np
import pytest
from etils import epath

from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.asked_photos import AskedPhotos
from side_jax.audit.options import AuditOptions
from side_jax.audit.stages.recall import RecallStage, read_recall
from side_jax.runtime.files import AuditError
from side_jax.surrogate.exact import exact_guide

PARTS = "recall/scale=02.00/part-*.parquet"


@pytest.fixture
def workdir(finished_smoke, tmp_path):
    shutil.copytree(finished_smoke, tmp_path / "smoke")
    return epath.Path(tmp_path / "smoke")


def test_every_photo_is_asked_for_by_an_exact_guide_that_does_not_know_which_is_which(finished_smoke):
    audit = pipeline.prepare(smoke.get_config(), finished_smoke)
    found = read_recall(audit)
    assert found.asked.scores[2.0].shape == (1, 48) and found.asked.member.sum() == 24
    assert set(found.asked.half) == {0, 1}
    photos, split, target = AskedPhotos.of(audit.split), audit.split, audit.target()
    assert len(photos.classes) == len(split.representatives()[0]) + len(split.representatives()[1])
    # By the public functions: the image of one photo, and its score with that photo.
    guide = exact_guide(target, photos.images(), photos.classes)
    i = 5
    place = int(photos.position(np.array([i]))[0])
    from side_jax.runtime.sharding import stage_key
    from side_jax.targets.sampling import Sampler, Sampling

    sampler = Sampler(target, stage_key(0, "recall"), Sampling(3, window=(0.0, 0.5), batch_size=8), guide)
    ((_, images),) = sampler(np.array([i]), 2.0, np.array([place], np.int32))
    embed = audit.descriptor()
    scores = embed(photos.images()) @ embed(images)[0]
    assert found.asked.scores[2.0][0, i] == pytest.approx(scores[place], abs=2e-3)
    assert abs(found.ranks[2.0][0, i] - (1 + (scores > scores[place]).sum())) <= 2


def test_a_part_that_is_missing_or_damaged_is_made_again_to_the_last_bit(workdir):
    config = smoke.get_config()
    before = read_recall(pipeline.prepare(config, workdir))
    first, second, *_ = sorted(workdir.glob(PARTS))
    first.unlink()
    second.write_bytes(b"\0" + second.read_bytes()[1:])
    with pytest.raises(AuditError, match="16 of the 48 rows of recall, λ = 2, are damaged or missing"):
        read_recall(pipeline.prepare(config, workdir))
    pipeline.run(config, workdir, stages=("recall",))
    after = read_recall(pipeline.prepare(config, workdir))
    assert (after.asked.scores[2.0] == before.asked.scores[2.0]).all()
    assert json.loads((workdir / "recall" / "manifest.json").read_text())["facts"]["damaged_parts"] == 1


def test_more_photos_and_images_extend_the_stage(workdir):
    config = smoke.get_config()
    before = read_recall(pipeline.prepare(config, workdir))
    old = {path.name for path in workdir.glob(PARTS)}
    config.recall.update({"num_photos": 26, "num_images": 2})
    pipeline.run(config, workdir, stages=("recall",))
    found = read_recall(pipeline.prepare(config, workdir))
    assert found.asked.scores[2.0].shape == (2, 52)
    assert (found.asked.scores[2.0][0, :48] == before.asked.scores[2.0][0]).all()
    assert old <= {path.name for path in workdir.glob(PARTS)}


def test_the_report_has_recall_its_verdicts_and_at_risk_csv(finished_smoke):
    metrics = json.loads((finished_smoke / "metrics.json").read_text())
    assert metrics["recall"]["measured"]["train"]["photos"] == 12
    assert set(metrics["verdicts"]) >= {"copies", "photos", "membership", "steering"}
    assert (finished_smoke / "at_risk.csv").read_text().startswith("id,sha256,class,false_discovery_rate,")
    rows = list(csv.DictReader((finished_smoke / "recall.csv").read_text().splitlines()))
    found = read_recall(pipeline.prepare(smoke.get_config(), finished_smoke))
    assert [row["trained_on"] for row in rows] == ["True", "False"] * 24
    assert float(rows[3]["best_score"]) == pytest.approx(found.asked.scores[2.0][0, 3], abs=1e-4)
    assert [int(row["rank"]) for row in rows] == found.ranks[2.0][0].tolist()
    assert "Recall: photos asked for one by one" in (finished_smoke / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_photos": -1}, "recall.num_photos must be 0"),
        ({"num_images": 0}, "recall.num_images must be at least 1"),
        ({"scales": ()}, "recall.scales must be at least one"),
        ({"scales": (0.0, 2.0)}, "recall.scales must be all above 0"),
        ({"window": (0.7, 0.2)}, "recall.window must be"),
    ],
)
def test_bad_options_are_refused_by_their_name(changes, message):
    config = smoke.get_config()
    config.recall.update(changes)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        AuditOptions.from_config(config)


def test_a_window_without_a_step_is_refused_before_any_compute(tmp_path):
    config = smoke.get_config()
    config.recall.window = (0.1, 0.2)
    with pytest.raises(ValueError, match="recall.window .* holds none of the 3 steps"):
        pipeline.prepare(config, tmp_path / "x")


def test_without_held_out_photos_or_photos_to_ask_for_there_is_no_stage():
    config = smoke.get_config()
    config.recall.num_photos = 0
    assert not RecallStage().needed(AuditOptions.from_config(config))
    config = smoke.get_config()
    config.dataset.heldout_fraction = 0.0
    assert not RecallStage().needed(AuditOptions.from_config(config))
