import dataclasses
import json

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from side_jax.audit.quality import measure_quality
from side_jax.audit.stages.report import ReportStage
from side_jax.audit.sweep import descriptor_path
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import read_parts, scale_folder, write_part
from side_jax.runtime.arrays import load_array


@pytest.fixture
def audit(tmp_path):
    """A synthetic sweep of 2 λ x 40 images against 30 training and 30 held-out photos."""
    made = synthetic_audit(epath.Path(tmp_path), 2, 40, 30)
    write_sweep(made, 4)
    return made


def keep(audit, scale, descriptors):
    """As the sweep would have: its parts again, with these descriptors."""
    folder = scale_folder(audit.workdir / "extract", scale)
    table = read_parts(folder)
    for path in folder.glob("part-*"):
        path.unlink()
    columns = {name: table[name] for name in table.column_names} | {"descriptor": list(descriptors)}
    write_part(folder, columns, DescriptorFacts("pixel"))


def random_rows(seed, count=40):
    rows = np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_images_of_every_scale_are_measured_against_held_out_photos(audit):
    keep(audit, 0.0, random_rows(0))
    keep(audit, 1.0, load_array(descriptor_path(audit, "heldout"))[np.arange(40) % 3])  # copies of three photos
    rows, measured = measure_quality(audit)
    assert measured["against"] == "heldout" and measured["photos"] == 30 and measured["num_images"] == 40
    assert measured["yardstick"]["num_images"] == 30
    assert rows[1.0]["change"]["difference"]["value"] > 0  # all alike is far from photos
    ReportStage().run(audit)
    metrics = json.loads((audit.workdir / "metrics.json").read_text())
    assert [row["quality"] for row in metrics["scales"]] == [rows[0.0], json.loads(json.dumps(rows[1.0]))]
    assert "Quality: how far images are from photos" in (audit.workdir / "report.html").read_text()


def test_without_kept_descriptors_there_is_no_quality(audit):
    assert measure_quality(audit) == ({}, None)
    ReportStage().run(audit)
    assert json.loads((audit.workdir / "metrics.json").read_text())["quality"] is None


def test_fewer_than_three_held_out_photos_are_replaced_by_training_photos(audit):
    few = dataclasses.replace(audit.split, heldout=audit.split.heldout[np.arange(2)])
    few = dataclasses.replace(audit, split=few)
    keep(audit, 0.0, random_rows(0))
    rows, measured = measure_quality(few)
    assert measured == {"against": "train", "photos": 30, "num_images": 40, "yardstick": None}
    assert list(rows) == [0.0]
