"""The demo's target, trained on upright photos by the default recipe, says so whatever the config says."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import orl
from side_jax.audit import pipeline
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.audit.recipes import measure_recipes, other_recipes
from side_jax.audit.stage import Audit
from side_jax.data.load import load_images, location
from side_jax.evidence.recipes import OWN
from side_jax.report.page import verdicts


def measured(tmp_path, **changes):
    config = orl.get_config()
    config.dataset.update(changes)
    options = AuditOptions.from_config(config)
    audit = Audit(options, tmp_path / "run", load_split(options.dataset))
    return measure_recipes(audit, np.arange(0, len(audit.split.train), 10), 20, other_recipes(options.dataset))


@pytest.mark.given(
    kind=2,
    input="photos read by the recipe of the target's training",
    before="",
    now="its loss is the lowest, and nothing is recommended",
)
def test_recipe_of_its_training_has_the_lowest_loss(tmp_path):
    found = measured(tmp_path)
    assert found["lowest"] is None
    assert found["recipes"][0]["recipe"] == OWN
    names = {name for row in found["recipes"] for name in row["recipe"].split(" or ")}
    # The others make the same pixels as the config's own: of upright, opaque photos of 8 bits.
    assert names == {OWN, "dataset.prepare=diffusers", "dataset.prepare=guided_diffusion"}
    assert all(row["photos"] == 20 for row in found["recipes"] if row["recipe"] != OWN)


@pytest.mark.given(
    kind=2,
    input="a target trained with `side_jax`, photos read by another recipe",
    before="",
    now="the target's loss recommends `dataset.prepare=side_jax`",
)
@pytest.mark.parametrize("wrong", ["diffusers", "guided_diffusion"])
def test_recipe_of_its_training_is_recommended_to_another(tmp_path, wrong):
    found = measured(tmp_path, prepare=wrong)
    assert "dataset.prepare=side_jax" in found["lowest"].split(" or ")


@pytest.fixture
def turned(tmp_path):
    """The demo's training photos, and unseen ones: upright in the files, which an EXIF tag says to turn."""
    split = load_split(AuditOptions.from_config(orl.get_config()).dataset)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, photos in (("photos", split.train), ("unseen", split.heldout)):
        for one in photos.ids:
            file = tmp_path / name / one
            file.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(location("orl", None) / one) as image:
                image.save(file.with_suffix(".png"), exif=exif)
    paths = {"path": str(tmp_path / "photos"), "heldout_path": str(tmp_path / "unseen")}
    return {"name": "image_folder", "heldout_fraction": 0.0, **paths}


@pytest.mark.given(
    kind=2,
    input="EXIF orientation 6 where training read raw pixels",
    before="no sign of copying, p = .19",
    now="the target's loss recommends `dataset.orientation=stored`",
)
def test_photos_that_training_did_not_turn_are_recommended_as_stored(tmp_path, turned):
    found = measured(tmp_path, **turned)
    assert found["lowest"] == "dataset.orientation=stored"


def test_npz_has_pixels_and_no_recipe(tmp_path):
    photos = load_images("orl", None, 32, 1)
    np.savez(tmp_path / "photos.npz", images=photos.images)
    assert measured(tmp_path, name="npz", path=str(tmp_path / "photos.npz"), heldout_fraction=0.0) is None


def test_every_other_recipe_is_one_change_of_the_config(tmp_path):
    options = AuditOptions.from_config(orl.get_config()).dataset
    assert len(other_recipes(options)) == 7  # 2 other names, and 1 + 2 + 2 single choices


@pytest.mark.given(
    kind=2,
    input="EXIF orientation 6 where training read raw pixels: a whole audit of the demo target",
    before="no sign, p = .19",
    now="no verdict, and `dataset.orientation=stored` is recommended; with it, copying (p < 0.001)",
)
@pytest.mark.slow
@pytest.mark.optax
def test_audit_of_photos_that_training_did_not_turn_says_so_and_finds_the_copies_when_told(tmp_path, turned):
    """Turned, the copies match nothing: "no sign of copying" would be the worst answer. There is no verdict then."""

    shutil.copytree("assets/orl_target", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()  # which names the photos by their pixels: others are refused

    def verdict(name, **changes):
        config = orl.get_config()
        config.dataset.update(turned | changes)
        config.target.path = str(tmp_path / "model")
        config.methods = ("random",)
        config.extract.update({"scales": (0.0,), "num_images": 96, "save_images": "none"})
        config.detect.num_images = 0
        config.steer.weights = ()
        workdir = pipeline.run(config, tmp_path / f"audit_{name}")
        metrics = json.loads((workdir / "metrics.json").read_text())
        return " ".join(verdicts(metrics))

    turned_text, stored_text = verdict("turned"), verdict("stored", orientation="stored")
    assert "gives back training data" not in turned_text
    assert "no sign of copying" not in turned_text
    assert "better with dataset.orientation=stored" in turned_text
    assert "gives back training data (p < 0.001)" in stored_text
    assert "denoises" not in stored_text
