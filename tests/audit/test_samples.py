"""Options of generated images alone, and input that does not fit them: one line before any compute."""

import shutil

import numpy as np
import pytest
from PIL import Image

from configs import orl, samples_only
from side_jax.audit import pipeline
from side_jax.audit.options import AuditOptions
from side_jax.audit.samples import SamplesOptions
from side_jax.audit.stages import STAGES

SIZE = 8


def write(folder, seeds):
    folder.mkdir()
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return str(folder)


@pytest.fixture
def config(tmp_path):
    config = samples_only.get_config()
    paths = {"path": write(tmp_path / "train", range(12)), "heldout_path": write(tmp_path / "unseen", range(20, 32))}
    config.dataset.update({"image_size": SIZE, "channels": 1} | paths)
    config.extract.update({"descriptor": "pixel", "bands": (("high", 0.9, 1.0),)})
    config.samples.paths = (("gen", write(tmp_path / "gen", range(40, 48))),)
    return config


def test_names_of_lambda_are_the_lambda_and_other_names_are_positions():
    assert SamplesOptions((("λ=0", "a"), ("λ=2.5", "b"))).scales == (0.0, 2.5)
    assert SamplesOptions((("lambda = 9", "a"),)).scales == (9.0,)
    mixed = SamplesOptions((("λ=2", "a"), ("other model", "b")))
    assert (mixed.scales, mixed.named) == ((0.0, 1.0), {0.0: "λ=2", 1.0: "other model"})
    assert mixed.title(1.0) == "other model" and SamplesOptions((("λ=2", "a"),)).title(2.0) == "λ = 2"


def test_a_stage_that_says_nothing_is_taken_to_need_the_model(config):
    options = AuditOptions.from_config(config)
    assert [stage.name for stage in STAGES if stage.taken(options)] == ["extract", "report"]
    assert all(stage.of_model for stage in STAGES if stage.name not in ("extract", "report"))
    assert {"target", "extract", "report"} <= {
        s.name for s in STAGES if s.taken(AuditOptions.from_config(orl.get_config()))
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples.paths": ()}, "samples.paths is empty; target.source='none' audits generated images"),
        ({"samples.paths": (("a", "GEN"), ("a", "GEN2"))}, r"samples.paths: names must be without rep"),
        ({"samples.paths": (("λ=1", "GEN"), ("λ=1.0", "GEN2"))}, "samples.paths: λ must be without rep"),
        ({"samples.paths": (("a", "GEN"), ("b", "GEN"))}, "samples.paths: paths must be without rep"),
        ({"samples.paths": (("a", ""),)}, "samples.paths must be names and paths that are not empty"),
        ({"samples.paths": (("a", "no/such"),)}, "samples.paths 'a': 'no/such' does not exist"),
        ({"samples.paths": (("a", "EMPTY"),)}, "samples.paths 'a': .* it has no files"),
        ({"samples.paths": (("a", "TRAIN"),)}, "samples.paths 'a': .* is dataset.path itself; name generated images"),
        ({"samples.paths": (("a", "LINK"),)}, "samples.paths 'a': .* is dataset.path itself; name generated images"),
        ({"samples.paths": (("a", "UNSEEN"),)}, "is dataset.heldout_path itself"),
        ({"samples.paths": (("a", "COPY"),)}, "all of its 12 images are training photos, pixel for pixel"),
        ({"dataset.image_size": 4}, "samples.paths 'gen': .*40.png has 8x8 pixels, dataset.image_size is 4"),
        ({"dataset.channels": 3}, r"samples.paths 'gen': .*40.png has 1 channel\(s\), dataset.channels is 3"),
        ({"dataset.heldout_path": "", "dataset.heldout_fraction": 0.5}, "heldout_fraction=0.5 would hold out photos"),
        ({"dataset.heldout_path": "COPY"}, "12 of its 12 images are training images too"),
        ({"target.source": "train"}, "samples.paths names generated images, but target.source='train' generates"),
        ({"methods": ("random",)}, r"methods \('random',\) make guides, but target.source='none' has no model"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(config, tmp_path, changes, message):
    shutil.copytree(tmp_path / "train", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "train")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "gen2", range(50, 53))

    def real(value):
        if isinstance(value, tuple):
            return tuple(map(real, value))
        return str(tmp_path / value.lower()) if str(value).isupper() or value == "GEN2" else value

    config.update_from_flattened_dict({name: real(value) for name, value in changes.items()})
    with pytest.raises(ValueError, match=message) as error:
        pipeline.run(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_workdir_among_the_samples_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match=r"is or lies in samples.paths 'gen'"):
        pipeline.prepare(config, tmp_path / "gen" / "run")


def test_some_images_that_are_photos_are_a_finding_and_no_fault(config, tmp_path, caplog):
    shutil.copy(tmp_path / "train" / "3.png", tmp_path / "gen" / "50.png")
    audit = pipeline.prepare(config, tmp_path / "run")
    assert len(audit.samples[0.0]) == 9
    assert "samples.paths 'gen': 1 of 9 images: training photos, pixel for pixel: 50.png" in caplog.text
