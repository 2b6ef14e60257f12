"""A class-conditional target of a folder: the classes that it generates, and what the report says of its reading."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import side_jax
from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.options import AuditOptions
from side_jax.inside.membership import Attack
from side_jax.inside.probe import IndexedImages, Probe
from side_jax.runtime.sharding import stage_key
from tests.golden.ours import write_adm
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


def photos_of(folder, names, seed):
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / name)


@pytest.mark.given(
    kind=4,
    input="a class-conditional target of ants, bees and cats, and a held-out folder of bees alone",
    before="numbered anew, so a bee is an ant in membership losses",
    now="the membership loss of a held-out bee is that of the class bee",
)
@pytest.mark.slow
def test_membership_losses_are_those_of_the_class_that_the_folder_names(config, tmp_path):
    photos_of(tmp_path / "photos", [f"{name}/{i}.png" for name in ("ant", "bee", "cat") for i in range(4)], 0)
    photos_of(tmp_path / "unseen", [f"bee/{i}.png" for i in range(4)], 1)
    side_jax.save_target(small_target(3), tmp_path / "bees")
    config.dataset.update({"name": "image_folder", "path": str(tmp_path / "photos"), "image_size": 8})
    config.dataset.heldout_path = str(tmp_path / "unseen")
    config.target.path = str(tmp_path / "bees")
    config.extract.scales = (0.0,)
    config.detect.wiener = False
    workdir = side_jax.run(config, tmp_path / "run", stages=("target", "extract", "detect"))
    audit = pipeline.prepare(config, workdir)
    table = pq.read_table(workdir / "detect" / "membership.parquet").to_pylist()
    facts = json.loads((workdir / "detect" / "manifest.json").read_text())["facts"]
    assert facts["classes_of_photos"] == "labels"
    sets = {True: audit.split.train, False: audit.split.heldout}
    images = np.stack([sets[row["member"]].images[sets[row["member"]].ids.index(row["id"])] for row in table])
    assert [row["id"].split("/")[0] for row in table if not row["member"]] == ["bee"] * 4
    target = audit.target()
    probe = Probe(target, Attack("loss", target.schedule.num_train_timesteps), stage_key(audit.options.seed, "photos"))

    def losses(order):
        classes = np.array([order.index(row["id"].split("/")[0]) for row in table])
        return probe(IndexedImages(images, np.arange(len(table)), classes), 100)["score"]

    measured = np.array([row["loss t = 100"] for row in table])
    np.testing.assert_allclose(measured, losses(["ant", "bee", "cat"]), rtol=1e-4)
    assert (np.abs(measured - losses(["bee", "ant", "cat"])) > 1e-3 * np.abs(measured))[-4:].all()


@pytest.mark.given(
    kind=6,
    input="other labels in the npz file of a class-conditional target's finished workdir",
    before="",
    now="refused by the stages that ask the target for the photos' classes: sanity and detect",
)
@pytest.mark.parametrize(("num_images", "stage"), [(0, "sanity"), pytest.param(4, "detect", marks=pytest.mark.slow)])
def test_other_labels_are_refused_where_the_target_was_asked_for_them(config, tmp_path, num_images, stage):
    config.detect.num_images = num_images
    config.steer.weights = ()
    wanted = ("target", "sanity") if stage == "sanity" else ("target", "extract", "detect")
    side_jax.run(config, tmp_path / "run", stages=wanted)
    with np.load(tmp_path / "photos.npz") as content:
        np.savez(tmp_path / "photos.npz", images=content["images"], labels=1 - content["labels"])
    with pytest.raises(ValueError, match=rf"run/{stage} was made with another config, .*\(classes: .* -> "):
        side_jax.run(config, tmp_path / "run", stages=wanted)


@pytest.mark.given(
    kind=3,
    input="a wrong `num_heads` of an ADM: a whole audit",
    before="loads as another network",
    now='the report notes what the weights do not show: "num_heads=2, …"; one that does not fit is refused',
)
@pytest.mark.slow
def test_report_notes_the_number_of_heads_that_the_weights_do_not_show(config, tmp_path):
    (tmp_path / "adm").mkdir()
    config.target.path = str(write_adm(tmp_path / "adm", "legacy", flags={"num_heads": 2}))
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", images=images)
    config.dataset.update({"image_size": 16, "channels": 3})
    config.extract.scales = (0.0,)
    workdir = side_jax.run(config, tmp_path / "run", stages=("target", "sanity", "extract", "report"))
    said = "the flags or their defaults alone say, and the weights do not show: num_heads=2, "
    assert said in notes(workdir)[0]
    assert said in " ".join((workdir / "report.html").read_text().split())
    write_adm(tmp_path / "adm", "legacy", flags={"num_heads": 5})
    with pytest.raises(ValueError, match="num_attention_heads 5 does not divide attention blocks of"):
        side_jax.run(config, tmp_path / "other")
