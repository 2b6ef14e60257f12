"""A class-conditional target of a folder: the classes that it generates, and what the report says of its reading."""

import json

import numpy as np
import pytest

import side_jax
from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.options import AuditOptions
from tests.targets.test_diffusers import make_directory
from tests.targets.test_steering import small_target


@pytest.fixture
def config(tmp_path):
    """The golden model of 5 classes, and photos of 2."""
    (tmp_path / "model").mkdir()
    make_directory(tmp_path / "model", "classes")
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "photos.npz", images=images, labels=np.arange(12) % 2)
    config = smoke.get_config()
    config.dataset.update({"name": "npz", "path": str(tmp_path / "photos.npz"), "image_size": 8})
    config.dataset.heldout_fraction = 0.0  # the model does not say what it was trained on
    config.target.update({"source": "load", "path": str(tmp_path / "model")})
    config.methods = ("random",)
    config.extract.update({"num_images": 4, "top_k": 3})
    return config


def notes(workdir):
    return json.loads((workdir / "target" / "manifest.json").read_text())["facts"]["notes"]


@pytest.mark.given(
    kind=4,
    input="a target of 5 classes, and photos of 2",
    before="",
    now='"images are generated of its 5 classes, but the photos have 2: target.classes names those"',
)
@pytest.mark.given(
    kind=3, input="a warning while a target is loaded", before="", now="it stands in the log and in the report"
)
def test_another_number_of_classes_is_said_in_log_and_report(config, tmp_path, caplog):
    workdir = side_jax.run(config, tmp_path / "run")
    said = "images are generated of its 5 classes, but the photos have 2: target.classes names those"
    assert said in caplog.text
    assert said in notes(workdir)[0]
    assert said in (workdir / "report.html").read_text()


def test_chosen_classes_are_those_of_the_workdir_wherever_it_is_loaded(config, tmp_path, caplog):
    config.target.classes = (1, 4)
    workdir = side_jax.run(config, tmp_path / "run", stages=("target",))
    assert notes(workdir) == ["images are generated of 2 of its 5 classes (target.classes)"]
    assert "but the photos have" not in caplog.text
    assert side_jax.load_target(workdir).classes == (1, 4)
    assert side_jax.load_target(config.target.path).classes is None
    config.target.path, config.target.classes = str(workdir), ()
    audit = pipeline.prepare(config, tmp_path / "second")
    assert audit.target().classes == (1, 4)
    assert pipeline.plan(audit)[0].spec["target"]["classes"] == [1, 4]


def test_other_classes_are_another_target(config, tmp_path):
    side_jax.run(config, tmp_path / "run", stages=("target",))
    config.target.classes = (1, 4)
    with pytest.raises(ValueError, match=r"target.classes: null -> \[1, 4\]"):
        side_jax.run(config, tmp_path / "run", stages=("target",))


@pytest.mark.given(
    kind=0,
    input="`target.classes=(0,5)` for a target of 5 classes",
    before="",
    now='"target.classes names 5, but the target … has the classes 0 … 4"',
)
def test_classes_that_the_target_has_not_are_refused(config, tmp_path):
    config.target.classes = (0, 5)
    with pytest.raises(ValueError, match="target.classes names 5, but the target .* has the classes 0 … 4"):
        pipeline.prepare(config, tmp_path / "run")
    side_jax.save_target(small_target(), tmp_path / "unconditional")
    config.target.path = str(tmp_path / "unconditional")
    with pytest.raises(ValueError, match="target.classes names 0, but the target .* has no classes"):
        pipeline.prepare(config, tmp_path / "run")


def test_classes_of_a_target_that_is_trained_are_refused():
    config = smoke.get_config()
    config.target.classes = (0, 1)
    with pytest.raises(ValueError, match=r"target.classes is \(0, 1\), but a target is trained without classes"):
        AuditOptions.from_config(config)
