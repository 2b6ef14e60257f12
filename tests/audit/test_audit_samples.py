"""Generated images alone: the same numbers and sentences as with the model that made them, and several sets."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import side_jax
from configs import orl, samples_only
from side_jax.audit import pipeline, status
from side_jax.audit.cost.dry_run import dry_run
from side_jax.data.splitting import split_images
from side_jax.report.page import verdicts
from side_jax.report.wording import method_name

BANDS = (("low", 0.94, 0.96), ("mid", 0.96, 0.98), ("high", 0.98, 1.0))


def write_photos(folder, images):
    for image, name in zip(images.images, images.ids, strict=True):
        path = (folder / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folders of the photos that assets/orl_target was trained on, and of those that it never saw."""
    root = tmp_path_factory.mktemp("photos")
    split = split_images(side_jax.load_images("orl", None, image_size=32, channels=1), 0.5, 0.0, 0)
    return write_photos(root / "train", split.train), write_photos(root / "heldout", split.heldout)


def with_photos(config, photos):
    config.dataset.update({"name": "image_folder", "path": photos[0], "heldout_path": photos[1]})
    config.dataset.update({"heldout_fraction": 0.0, "image_size": 32, "channels": 1})
    config.extract.update({"descriptor": "pixel", "bands": BANDS, "batch_size": 16})
    return config


@pytest.fixture(scope="module")
def of_model(tmp_path_factory, photos):
    """A finished audit of the model, which keeps its images; Random and one λ."""
    config = with_photos(orl.get_config(), photos)
    config.labels.source = "dataset"
    config.extract.update({"scales": (0.0, 2.0), "num_images": 40, "num_steps": 12, "equal_compute": False})
    config.synthesize.num_steps, config.sanity.num_images = 12, 12
    config.detect.num_images, config.steer.weights = 0, ()
    return pipeline.run(config, tmp_path_factory.mktemp("runs") / "model")


@pytest.fixture(scope="module")
def sets(tmp_path_factory, photos):
    """40 images for each of two λ, some of which are training photos with a little noise."""
    train, rng = side_jax.load_images("image_folder", photos[0], 32, 1).images, np.random.default_rng(0)
    root, paths = tmp_path_factory.mktemp("sets"), []
    for scale, copies in ((0, 4), (2, 20)):
        noise = np.where(np.arange(40) < copies, 2, 120)[:, None, None, None]
        images = np.clip(train[:40] + noise * rng.normal(size=train[:40].shape), 0, 255).astype(np.uint8)
        np.savez(root / f"{scale}.npz", images=images)
        paths.append((f"λ={scale}", str(root / f"{scale}.npz")))
    return tuple(paths)


def of_samples(photos, sets, workdir, **changes):
    config = with_photos(samples_only.get_config(), photos)
    config.samples.paths = sets
    config.update_from_flattened_dict(changes)
    return pipeline.run(config, workdir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, photos, sets):
    """A finished audit of these images."""
    return of_samples(photos, sets, tmp_path_factory.mktemp("runs") / "alone")


@pytest.fixture(scope="module")
def of_its_images(tmp_path_factory, photos, of_model):
    """A finished audit of the images of `of_model`, as its images.zarr has them, without the model."""
    sets = tuple((f"λ={scale}", str(of_model / f"extract/scale=0{scale}.00/images.zarr")) for scale in (0, 2))
    return of_samples(photos, sets, tmp_path_factory.mktemp("runs") / "its_images")


def metrics(workdir):
    return json.loads((workdir / "metrics.json").read_text())


def same(first, second):
    """The same JSON but for rounding."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            same(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, abs=1e-6)
    else:
        assert first == second


@pytest.mark.slow
def test_same_images_have_the_same_numbers_with_the_model_and_without(of_model, of_its_images):
    ours, models = metrics(of_its_images), metrics(of_model)
    for name in ("scales", "null", "heldout_photos", "duplicates", "guided_mean", "guided_against_random", "bands"):
        same(ours[name], models[name])
    assert any(row["train"]["bands"]["high"]["ams"]["value"] > 0 for row in ours["scales"])
    columns = [
        name for name in pq.read_schema(of_its_images / "matches.parquet").names if name not in ("label", "method")
    ]
    table, other = (
        pq.read_table(workdir / "matches.parquet", columns=columns) for workdir in (of_its_images, of_model)
    )
    for name in columns:
        one, two = table[name].to_pylist(), other[name].to_pylist()
        if name.endswith(("scores", "ratio")):  # distances lose digits: ‖x‖² − 2 (x·y − ½‖y‖²)
            np.testing.assert_allclose(np.hstack(one), np.hstack(two), atol=1e-6 if "scores" in name else 1e-5, rtol=0)
        else:
            assert one == two, name


@pytest.mark.slow
def test_verdicts_are_the_same_sentences_with_the_model_and_without(of_model, of_its_images):
    ours, models = metrics(of_its_images), metrics(of_model)
    said = [sentence.replace(method_name(models["method"]), "Guidance") for sentence in verdicts(models)]
    said = [sentence for sentence in said if not sentence.startswith("Asked for by name")]  # recall needs the model
    assert any("this target gives back training data" in sentence for sentence in said)
    assert any("its best λ against Random" in sentence for sentence in said)
    assert [sentence for sentence in verdicts(ours) if sentence in said] == said
    page = (of_its_images / "report.html").read_text()
    assert all(sentence.replace("<", "&lt;") in page for sentence in said)


LEFT_OUT = ("target", "synthesize", "sanity", "label", "distill", "recall", "detect", "steer")


def test_stages_of_a_model_are_left_out_by_name(alone, photos, sets, tmp_path, caplog):
    caplog.set_level("INFO", "side_jax")
    of_samples(photos, sets, alone)
    (said,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("left out")]
    assert set(LEFT_OUT) <= set(said.removeprefix("left out, as there is no model: ").split(", "))
    assert "extract" not in said and "report" not in said
    row = "<td>Left out, as there is no model</td><td>" + said.removeprefix("left out, as there is no model: ")
    assert row in (alone / "report.html").read_text()
    assert not any((alone / folder).exists() for folder in (*LEFT_OUT, "labels", "classifier"))
    lines = status.describe(alone)
    assert "extract                  complete" in lines and not any(f"\n{name} " in lines for name in LEFT_OUT)
    assert f"Left out, as there is no model: {', '.join(LEFT_OUT[:3])}" in dry_run(samples_only.get_config())


def test_finished_audit_is_skipped_and_a_killed_one_goes_on(alone, photos, sets, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(alone, copy)
    before = (copy / "matches.parquet").read_bytes()
    parts = sorted((copy / "extract/scale=02.00").glob("part-*.parquet"))
    assert len(parts) == 3  # blocks of 16 of 40 images
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    (copy / "extract/manifest.json").unlink()
    of_samples(photos, sets, copy)
    assert (copy / "matches.parquet").read_bytes() == before
    assert parts[0].stat().st_mtime_ns == kept
    finished = json.loads((copy / "extract/manifest.json").read_text())["finished"]
    of_samples(photos, sets, copy)
    assert json.loads((copy / "extract/manifest.json").read_text())["finished"] == finished


def test_another_set_extends_an_audit_and_other_images_are_refused(alone, photos, sets, tmp_path):
    first = of_samples(photos, sets[:1], tmp_path / "run")
    parts = {path.name for path in (first / "extract/scale=00.00").glob("part-*")}
    of_samples(photos, sets, first)
    assert {path.name for path in (first / "extract/scale=00.00").glob("part-*")} == parts
    same(metrics(first)["scales"], metrics(alone)["scales"])
    with pytest.raises(ValueError, match="samples.paths: other images in 'λ=2', or another order"):
        of_samples(photos, (sets[0], ("λ=2", str(shutil.copy(sets[0][1], tmp_path / "other.npz")))), first)


def write_set(folder, images, names):
    folder.mkdir()
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image[..., 0]).save(folder / name)
    return str(folder)


def test_named_sets_are_rows_of_one_table_paired_where_their_ids_pair(photos, sets, tmp_path):
    """The same names in another order of files pair; other names do not."""
    images = side_jax.load_images("image_folder", photos[0], 32, 1).images
    generated = images[:30] // 2 * 2
    names = [f"{i}.png" for i in range(30)]
    other = generated.copy()
    other[:10] = 255 - other[:10]
    paths = {
        "A": write_set(tmp_path / "a", generated, names),
        "B": write_set(tmp_path / "b", other, names),
        "C": write_set(tmp_path / "c", np.concatenate([other[:19], images[:1]]), [f"other{i}.png" for i in range(20)]),
    }
    fields = {"extract.batch_size": 16, "report.pairs": 3}
    workdir = side_jax.audit_samples(paths, *photos, workdir=tmp_path / "run", bands=BANDS, fields=fields)
    found = metrics(workdir)
    assert [row["name"] for row in found["scales"]] == ["A", "B", "C"]
    assert [row["train"]["num_images"] for row in found["scales"]] == [30, 30, 20]
    assert [row["identical"]["train"] for row in found["samples"]] == [0, 0, 1]
    first, second, third = (row["against_first"] for row in found["samples"])
    assert (first, second["paired"], third["paired"]) == (None, True, False)
    lost = second["bands"]["high"]["ams"]
    assert lost["difference"]["value"] == pytest.approx(-1 / 3)
    assert lost["p"] == pytest.approx(2 * 0.5**10)  # McNemar: 10 images lost, none gained
    said = verdicts(found)
    assert sum(sentence.startswith(("A: 100", "B: 66.7", "C: 50")) for sentence in said) == 3
    assert any("the model that made them gives back training data" in sentence for sentence in said)
    assert any(sentence.startswith("1 of the 20 images of C is a training photo, pixel for") for sentence in said)
    assert any(sentence.startswith("B against A, by image: AMS (high) differs by -33.3") for sentence in said)
    assert any(sentence.startswith("C against A, as a whole: AMS (high) differs by -50.0") for sentence in said)
    assert "λ =" not in (workdir / "report.html").read_text()
    table = pq.read_table(workdir / "samples.parquet").to_pylist()
    assert [row["id"] for row in table[:3]] == ["0.png", "1.png", "2.png"] and table[-1]["name"] == "C"


def test_without_heldout_photos_the_verdict_is_withheld_and_says_why(photos, sets, tmp_path):
    workdir = side_jax.audit_samples(sets[0][1], photos[0], workdir=tmp_path / "run", bands=BANDS)
    said = verdicts(metrics(workdir))
    assert "No held-out images were given: nothing calibrates these scores." in said
    assert not any("gives back" in sentence for sentence in said)


def test_arrays_are_kept_in_the_workdir_and_audited_as_files_are(tmp_path):
    images = side_jax.load_images("orl", None, image_size=32, channels=1).images
    given = (images[:12] // 2 * 2, images[:100], images[300:])
    workdir = side_jax.audit_samples(*given, workdir=tmp_path / "run", bands=BANDS)
    assert len(list((workdir / "given").iterdir())) == 3
    before = (workdir / "metrics.json").read_bytes()
    assert side_jax.audit_samples(*given, workdir=workdir, bands=BANDS) == workdir
    assert (workdir / "metrics.json").read_bytes() == before
    with pytest.raises(ValueError, match="other images in 'samples'"):
        side_jax.audit_samples(given[0][:5], *given[1:], workdir=workdir, bands=BANDS)


@pytest.mark.parametrize(
    ("generated", "heldout", "message"),
    [
        (np.zeros((3, 32, 32, 1), np.float32), None, r"'samples' of generated must be uint8 .* got float32"),
        (np.zeros((3, 32, 16, 1), np.uint8), None, "must be square, got 32x16"),
        (np.ones((3, 32, 32, 1), np.uint8), "FOLDER", "must both be folders, or both"),
        ({}, None, "generated has no images"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, generated, heldout, message):
    photos = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 1), np.uint8)
    with pytest.raises(ValueError, match=message) as error:
        side_jax.audit_samples(generated, photos, heldout, workdir=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
