"""What the dry run reads of a config's data and model. Nothing is compiled."""

import re
from pathlib import Path

import pytest
from PIL import Image

from configs import custom_folder, samples_only, smoke
from side_jax.audit.cost.inputs import read_inputs
from side_jax.audit.options import AuditOptions

PLAIN = Path(__file__).parents[2] / "golden" / "plain"
LOADED = {"target.path": str(PLAIN), "dataset.image_size": 16, "dataset.channels": 1, "extract.descriptor": "pixel"}


def inputs(module=custom_folder, **changes):
    config = module.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict((LOADED if module is custom_folder else {}) | changes)
    return read_inputs(AuditOptions.from_config(config))


def assumed(found):
    return [line for line in found.lines if "ASSUMED" in line]


@pytest.fixture
def photos(tmp_path):
    """10 photos of 5 classes, and 4 that were held out."""
    for k in range(14):
        folder = tmp_path / (f"train/{k % 5}" if k < 10 else "heldout")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(folder / f"{k}.png")
    return {"dataset.path": str(tmp_path / "train"), "dataset.heldout_path": str(tmp_path / "heldout")}


def test_photos_classes_and_model_that_are_there_leave_nothing_to_assume(photos):
    found = inputs(**photos, **{"labels.source": "classifier"})
    assert assumed(found) == []
    setting = found.setting
    assert (setting.num_train, setting.heldout, setting.num_classes) == (10, 4, 5)
    assert setting.model.image_shape == (16, 16, 1) and found.source == str(PLAIN)


def test_a_share_is_held_out_of_the_photos_that_were_counted():
    setting = inputs(smoke, **{"dataset.heldout_fraction": 0.25}).setting
    assert (setting.num_train, setting.heldout, setting.num_classes) == (300, 100, 40)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"dataset.path": "no_such"},
            ["10,000 training photos, as dataset.path 'no_such' does not exist"],
        ),
        (
            {"dataset.heldout_path": "no_such"},
            ["10 held-out photos, as dataset.heldout_path 'no_such' does not exist"],
        ),
        (
            {"dataset.path": "no_such", "dataset.heldout_path": "", "dataset.heldout_fraction": 0.5},
            ["10,000 training photos, and as many held out, as dataset.path 'no_such' does not exist"],
        ),
        (
            {"dataset.name": "tfds", "dataset.path": "cifar10@train", "dataset.heldout_path": ""},
            ["10,000 training photos, as the dry run opens no TensorFlow data set (dataset.name='tfds')"],
        ),
        (
            {"target.path": "no/model", "dataset.image_size": 32},
            ["the model is the UNet of target.unet, as target.path 'no/model' does not exist"],
        ),
        (
            {"labels.source": "classifier", "dataset.labels": "no.csv"},
            ["1,000 classes of training photos, as dataset.labels 'no.csv' is not a file"],
        ),
    ],
)
def test_what_is_missing_is_assumed_loudly_and_by_name(photos, changes, lines):
    found = inputs(**photos | changes)
    assert assumed(found) == [f"ASSUMED: {line}" for line in lines]


def test_classes_are_assumed_only_where_a_method_needs_them():
    missing = {"dataset.path": "no_such"}
    assert "classes" not in " ".join(inputs(**missing).lines)
    assert "ASSUMED: 1,000 classes" in " ".join(inputs(**missing, **{"labels.source": "classifier"}).lines)


def test_given_images_are_counted_and_those_that_are_missing_assumed(photos):
    given = {"dataset.path": photos["dataset.path"], "dataset.image_size": 4, "extract.descriptor": "pixel"}
    paths = (("one", photos["dataset.heldout_path"]), ("other", "no_such"))
    found = inputs(samples_only, **given, **{"samples.paths": paths})
    assert found.setting.options.extract.num_images == 4 and found.setting.target is None
    assert assumed(found) == [
        "ASSUMED: 4 generated images in each other set, as 'no_such' of samples.paths does not exist"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.heldout_fraction": 1.5, "dataset.heldout_path": ""}, "heldout_fraction must be in [0, 1), got 1.5"),
        ({"dataset.path": __file__}, "is not a folder"),
        ({"dataset.name": "photos"}, "dataset.name must be one of orl"),
        ({"dataset.path": "heldout", "labels.source": "classifier"}, "needs training images of at least 2 classes"),
    ],
)
def test_data_that_are_there_and_do_not_fit_are_refused_as_by_an_audit(photos, changes, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        inputs(**photos | changes)
    assert "\n" not in str(error.value)
