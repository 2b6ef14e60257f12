import hashlib
import importlib.metadata
import json
import logging
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost
from PIL import Image
from safetensors.numpy import save_file

import side_jax
from configs import smoke
from side_jax.audit import pipeline, provenance, status
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.audit.stages.extract import ExtractStage
from side_jax.audit.stages.report import ReportStage
from side_jax.matching import sweep
from side_jax.matching.descriptors.sscd_network import SSCDNetwork
from side_jax.runtime import training
from side_jax.runtime.arrays import load_array
from side_jax.runtime.files import MANIFEST, SPEC, AuditError, read_json, write_json
from side_jax.runtime.training import TrainingDiverged
from side_jax.surrogate.classifier import load_variables
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.stored import read_guide
from tests.golden.ours import write_adm
from tests.golden.resnet_weights import resnet_weights
from tests.golden.smoke_run import SMOKE, assert_as_recorded

pytestmark = pytest.mark.optax


def smoke_config(**changes):
    config = smoke.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="session")
def finished(finished_smoke):
    """A finished smoke run. Read only."""
    return finished_smoke


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def results(workdir):
    table = pq.read_table(workdir / "matches.parquet")
    return table, json.loads((workdir / "metrics.json").read_text())


def assert_same_results(first, second):
    (table, metrics), (other_table, other_metrics) = results(first), results(second)
    assert table.equals(other_table)
    assert metrics == other_metrics


def test_every_artifact_of_the_contract_is_there(finished):
    for name in (
        "config.json",
        "target/manifest.json",
        "target/checkpoints/3",
        "target/diffusers/unet/diffusion_pytorch_model.safetensors",
        "synthetic/images.zarr",
        "labels/labels.npz",
        "classifier/manifest.json",
        "classifier/variables.safetensors",
        "extract/train_descriptors.zarr",
        "extract/heldout_descriptors.zarr",
        "extract/scale=00.00/images.zarr",
        "extract/scale=02.00/images.zarr",
        "recall/scale=02.00",
        "recall.csv",
        "at_risk.csv",
        "detect/scores.parquet",
        "detect/membership.parquet",
        "steer/manifest.json",
        "metrics.json",
        "audit.json",
        "model_card.md",
        "matches.parquet",
        "report.html",
    ):
        assert (finished / name).exists(), name
    table, metrics = results(finished)
    assert len(table) == 24
    assert [row["scale"] for row in metrics["scales"]] == [0, 2]
    # Pictures are paired: at 16x16 pixels some photos are near-duplicates.
    assert metrics["images"] == {"train": 200, "heldout": 200, "paired": 181}
    assert json.loads(table.schema.metadata[b"descriptor"]) == metrics["descriptor"]
    assert metrics["descriptor"] == {"name": "pixel", "weights": None, "sha256": None, "preprocessing": None}
    assert table["ids"][0].as_py()[0] in table["in_band"][0].as_py() or table["scores"][0].as_py()[0] < 0.94
    assert all(len(row) == 10 for row in table["heldout_ids"].to_pylist())
    provenance = json.loads((finished / "config.json").read_text())
    assert provenance["versions"]["jax"] == jax.__version__
    if (Path(__file__).parents[2] / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}", provenance["commit"])
    assert not list(Path(finished).rglob("*.tmp"))


def test_public_api_reads_a_workdir(finished):
    target = side_jax.load_target(finished)
    guide = side_jax.load_classifier(finished)
    assert guide.log_prob(np.zeros((2, 16, 16, 1), np.float32), np.zeros(2, np.int32)).shape == (2, 40)
    images = side_jax.sample(target, 3, guide=guide, scale=2.0, num_steps=3, batch_size=8)
    table, _ = results(finished)
    guided = table.filter(np.array(table["scale"]) == 2.0)
    embed = side_jax.load_descriptor("pixel")
    split = load_split(pipeline.prepare(smoke_config(), finished).options.dataset)
    matches = side_jax.match(embed(images), embed(split.train.images), k=10)
    for i in range(3):
        assert split.train.ids[matches.indices[i, 0]] == guided["ids"][i].as_py()[0]


def test_finished_run_is_skipped(copy, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(training, "_train_step", None)
    monkeypatch.setattr(sweep, "extract_batch", None)
    pipeline.run(smoke_config(), copy)
    assert caplog.text.count("complete, skipped") == 10


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


INTERRUPTED = {
    "target": ["target/manifest.json", "target/diffusers", "target/checkpoints/3"],
    "synthesize": ["synthetic/manifest.json"],
    "label": [
        "labels/manifest.json",
        "labels/labels.npz",
        "labels/teacher/variables.safetensors",
        "labels/teacher/checkpoints/3",
    ],
    "distill": ["classifier/manifest.json", "classifier/variables.safetensors", "classifier/checkpoints"],
    "extract": ["extract/manifest.json", "extract/heldout_descriptors.zarr"],
    "recall": ["recall/manifest.json"],
    "detect": ["detect/manifest.json", "detect/membership.parquet"],
    "steer": ["steer/manifest.json"],
    "report": ["report/manifest.json", "report.html", "metrics.json"],
}


@pytest.mark.parametrize("stage", INTERRUPTED)
def test_interrupted_stage_resumes_to_the_same_results(finished, copy, stage):
    """The workdir as a kill inside the stage leaves it: earlier work there, later work and the manifest not."""
    for name in INTERRUPTED[stage]:
        remove(copy / name)
    if stage == "synthesize":
        shutil.rmtree(copy / "synthetic" / "images.zarr")
    if stage == "extract":
        remove(next((copy / "extract" / "scale=02.00").glob("part-000000008-*")))
    if stage == "recall":
        remove(next((copy / "recall" / "scale=02.00").glob("part-000000008-*")))
    later = pipeline.STAGES[pipeline.stage_names().index(stage) + 1 :]
    for step in later:
        remove(copy / step.folder)
    pipeline.run(smoke_config(), copy)
    assert_same_results(copy, finished)


def test_part_damaged_after_the_run_is_named_and_made_again(finished, copy):
    part = min((copy / "extract" / "scale=00.00").glob("part-*"))
    part.write_bytes(part.read_bytes()[:-100])
    (copy / "report" / MANIFEST).unlink()
    with pytest.raises(AuditError, match="8 of the 12 rows of λ = 0 are damaged or missing; --stages=extract,report"):
        pipeline.run(smoke_config(), copy)
    pipeline.run(smoke_config(), copy)
    (table, metrics), (expected, before) = results(copy), results(finished)
    assert table.equals(expected)
    assert metrics == before | {"damaged_parts": 1}
    assert "1 damaged part of the sweep found and computed again." in (copy / "report.html").read_text()


@pytest.mark.parametrize("name", ["labels/labels.npz", "synthetic/images.zarr/.zarray"])
def test_corrupt_artifact_is_named(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:40])
    shutil.rmtree(copy / "classifier")
    with pytest.raises(AuditError, match=r"cannot be read .*remove its folder to make that stage again"):
        pipeline.run(smoke_config(), copy, stages=("distill",))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, "auto"])
def test_batch_size_changes_no_match(finished, copy, batch_size):
    shutil.rmtree(copy / "extract")
    pipeline.run(smoke_config(**{"extract.batch_size": batch_size}), copy)
    (table, _), (expected, _) = results(copy), results(finished)
    assert table["index"].equals(expected["index"])
    for column in ("scores", "heldout_scores"):
        np.testing.assert_allclose(np.stack(table[column].to_numpy()), np.stack(expected[column].to_numpy()), atol=2e-3)


def test_more_scales_and_images_extend_a_sweep(finished, copy, monkeypatch):
    done = {path.name: path.stat().st_mtime_ns for path in (copy / "extract" / "scale=00.00").glob("part-*")}
    pipeline.run(smoke_config(**{"extract.scales": (0.0, 2.0, 4.0), "extract.num_images": 16}), copy)
    for name, time in done.items():
        assert (copy / "extract" / "scale=00.00" / name).stat().st_mtime_ns == time
    table, metrics = results(copy)
    assert len(table) == 48
    assert [row["scale"] for row in metrics["scales"]] == [0, 2, 4]
    assert table.slice(0, 12).equals(results(finished)[0].slice(0, 12))


CLUSTERS = {"labels.source": "clusters", "labels.num_clusters": 4, "labels.cohesion": -1.0}
METHODS = ("random", "ol_ti", "side", "random_labels")


@pytest.mark.slow
@pytest.mark.given(
    kind=9,
    input="`extract.scales=(0,)` with the default guide",
    before="trains a student for 50,000 steps that nothing uses",
    now="no synthetic images, labels or student are made, until a λ above 0 is asked for",
)
def test_no_guide_is_made_while_only_random_is_asked_for(finished, tmp_path):
    """A student of 50,000 steps that nothing uses would be trained; with a λ above 0 the audit goes on as any other."""
    workdir = tmp_path / "run"
    shutil.copytree(finished / "target", workdir / "target")
    pipeline.run(smoke_config(**{"extract.scales": (0.0,)}), workdir)
    made = ("synthetic", "labels", "classifier")
    assert not any((workdir / name).exists() for name in made)
    assert status.describe(workdir).count("not run: no λ above 0 is asked for") == len(made)
    unguided = times(workdir / "extract" / "scale=00.00")
    for name in made:
        shutil.copytree(finished / name, workdir / name)
    pipeline.run(smoke_config(), workdir)
    assert times(workdir / "extract" / "scale=00.00") == unguided
    assert_same_results(finished, workdir)


@pytest.mark.slow
def test_other_methods_are_added_to_an_audit_and_make_table_1(finished, copy):
    """The finished audit is SIDE's: its stages are skipped, and each other row is made beside it."""
    pipeline.run(smoke_config(methods=METHODS), copy)
    table, metrics = results(copy)
    expected, before = results(finished)
    assert metrics["scales"] == before["scales"]
    assert [row["method"] for row in metrics["table1"]] == list(METHODS)
    assert [row["method"] for row in before["table1"]] == ["random", "side"]
    assert [metrics["table1"][i] for i in (0, 2)] == before["table1"]
    assert all(row["gain"] for row in metrics["table1"][1:])
    assert set(table["method"].to_pylist()) == set(METHODS)
    assert table.slice(0, len(expected)).equals(expected)
    assert not (copy / "methods" / "ol_ti" / "extract" / "scale=00.00").exists()
    assert not (copy / "methods" / "ol_ti" / "extract" / "train_descriptors.zarr").exists()
    facts = json.loads((copy / "methods" / "random_labels" / "labels" / MANIFEST).read_text())["facts"]
    assert facts["num_classes"] == facts["num_images"] == 16
    facts = json.loads((copy / "methods" / "ol_ti" / "classifier" / MANIFEST).read_text())["facts"]
    assert (facts["guide"], facts["num_classes"]) == ("time_independent", 40)
    assert "Table 1" in (copy / "report.html").read_text()
    remove(copy / "methods" / "ol_ti" / "extract")
    remove(copy / "report" / MANIFEST)
    pipeline.run(smoke_config(methods=METHODS), copy)
    assert results(copy)[0].equals(table)
    assert results(copy)[1]["table1"] == metrics["table1"]


EXACT = {"classifier.guide": "exact"}


def test_exact_guide_runs_from_the_labels_to_the_end(finished, copy):
    """The whole audit but target, synthetic images and labels, which are those of the student."""
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**EXACT), copy)
    table, metrics = results(copy)
    assert [row["method"] for row in metrics["table1"]] == ["random", "side_exact"]
    expected, _ = results(finished)
    unguided, guided = (np.array(table["scale"]) == scale for scale in (0, 2))
    assert table.filter(unguided)["scores"].equals(expected.filter(unguided)["scores"])
    assert not table.filter(guided)["scores"].equals(expected.filter(guided)["scores"])
    files = {path.name for path in (copy / "classifier").iterdir()}
    assert "set.safetensors" in files
    assert not files & {"images.zarr", "variables.safetensors", "checkpoints"}  # nothing is trained or kept twice
    guide, labels = side_jax.load_classifier(copy), np.load(copy / "labels" / "labels.npz")
    assert isinstance(guide, ExactGuide)
    made = side_jax.exact_guide(side_jax.load_target(copy), load_array(copy / "synthetic/images.zarr"), labels["probs"])
    x_t, t = jax.random.normal(jax.random.key(0), (3, 16, 16, 1)), np.array([10, 400, 900], np.int32)
    np.testing.assert_array_equal(guide.log_prob(x_t, t), made.log_prob(x_t, t))
    np.testing.assert_array_equal(guide.gradient(x_t, t, t % 40), made.gradient(x_t, t, t % 40))
    images = side_jax.sample(side_jax.load_target(copy), 3, guide=made, scale=2.0, num_steps=3, batch_size=8)
    split = load_split(pipeline.prepare(smoke_config(**EXACT), copy).options.dataset)
    embed = side_jax.load_descriptor("pixel")
    matches = side_jax.match(embed(images), embed(split.train.images), k=1)
    best = [ids[0] for ids in table.filter(guided)["ids"].slice(0, 3).to_pylist()]
    assert [split.train.ids[i] for i in matches.indices[:, 0]] == best


def test_facts_of_an_exact_guide_say_what_it_is_and_how_near_to_the_ceiling(copy, caplog):
    """It is its own ceiling, level by level; the student has the same one. Few of 40 classes have two of 16 images."""
    student = json.loads((copy / "classifier" / MANIFEST).read_text())["facts"]
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**EXACT), copy, stages=("distill",))
    facts = json.loads((copy / "classifier" / MANIFEST).read_text())["facts"]
    assert (facts["guide"], facts["synthetic"], facts["set_images"], facts["num_classes"]) == ("exact", True, 16, 40)
    assert facts["agreement"] == facts["ceiling"] == student["ceiling"]
    assert facts["agreement"].keys() == student["agreement"].keys()
    assert facts["thin_classes"] == student["thin_classes"] >= 40 - 16 // 2
    said = f"the guide may not guide: {facts['thin_classes']} of its 40 classes have one image or none"
    assert any(said in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "may not guide" in (copy / "report.html").read_text()


def test_block_of_an_exact_guide_is_no_other_audit(copy):
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**EXACT, **{"classifier.block": 5}), copy, stages=("distill",))
    assert side_jax.load_classifier(copy).block == 5
    pipeline.run(smoke_config(**EXACT, **{"classifier.block": 7}), copy, stages=("distill",))
    assert side_jax.load_classifier(copy).block == 5  # made already


def test_exact_guide_that_cannot_be_read_is_named(copy):
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**EXACT), copy, stages=("distill",))
    file = copy / "classifier" / "set.safetensors"
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(AuditError, match=r"set.safetensors cannot be read .*remove its folder") as error:
        side_jax.load_classifier(copy)
    assert "\n" not in str(error.value)


EXACT_METHODS = ("random", "side_exact", "exact_train", "exact_heldout")


@pytest.mark.slow
def test_exact_methods_are_rows_of_table_1_with_bound_and_control(copy):
    """Target and synthetic images are there; the bound and its control keep their own photos, equally many."""
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    changes = {"detect.num_images": 0, "steer.weights": (), "extract.equal_compute": True}
    pipeline.run(smoke_config(methods=EXACT_METHODS, **changes), copy)
    table, metrics = results(copy)
    assert [row["method"] for row in metrics["table1"]] == list(EXACT_METHODS)
    assert [group["method"] for group in metrics["methods"]] == list(EXACT_METHODS)
    counted = json.loads((copy / "extract" / "equal_compute.json").read_text())
    paid = {facts["source"]: facts["random_images"] for facts in counted}
    assert paid["classifier"] > 12 + 16 * 3 / 3  # more than the synthetic images alone, as many steps each
    assert paid["classifier"] > paid["dataset"] >= 12  # the bound needs no synthetic images
    scales = np.array(table["scale"])
    assert (scales == 0).sum() == max(paid.values())
    assert (scales == 2).sum() == 3 * 12
    assert metrics["scales"][0]["train"]["num_images"] == 12  # scores by λ are of equally many images
    for group in metrics["methods"][1:]:
        assert group["against_random"]["num_images"] == 6
        assert group["against_random"]["equal_compute"]["num_images"] == 6
        assert 0 <= group["scales"][0]["asked"]["value"] <= 1
    page = (copy / "report.html").read_text()
    assert "Every method by λ" in page
    assert "At equal compute" in page
    assert set(table["method"].to_pylist()) == set(EXACT_METHODS)
    split = load_split(pipeline.prepare(smoke_config(), copy).options.dataset)
    for method, photos in (("exact_train", split.train), ("exact_heldout", split.heldout)):
        folder = copy / "methods" / method
        facts = json.loads((folder / "classifier" / MANIFEST).read_text())["facts"]
        assert (facts["guide"], facts["synthetic"], facts["set_images"]) == ("exact", False, 200)
        kept = load_array(folder / "classifier" / "images.zarr")
        np.testing.assert_array_equal(kept, photos.images)
        guide = read_guide(epath.Path(folder / "classifier"), epath.Path(copy))
        np.testing.assert_array_equal(guide.labels[:200], photos.labels)
    assert "Table 1" in (copy / "report.html").read_text()


def test_unguided_audit_makes_no_surrogate(copy):
    for folder in ("synthetic", "labels", "classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(methods=("random",)), copy)
    assert not any((copy / folder).exists() for folder in ("synthetic", "labels", "classifier"))
    table, metrics = results(copy)
    assert len(table) == 12
    assert metrics["guided_against_random"] is None
    assert "Random" in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "guide", "num_classes"),
    [
        ({"classifier.guide": "time_independent"}, "time_independent", 40),  # the teacher itself
        pytest.param({"labels.targets": "hard"}, "time_dependent", 40, marks=pytest.mark.slow),
        pytest.param({"labels.source": "dataset"}, "time_dependent", 40, marks=pytest.mark.slow),
        pytest.param(
            {"labels.targets": "hard", "classifier.guide": "time_independent"} | CLUSTERS,
            "time_independent",
            4,
            marks=pytest.mark.slow,
        ),
        pytest.param({"labels.descriptor": "teacher"} | CLUSTERS, "time_dependent", 4, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_label_and_guide_trains(copy, changes, guide, num_classes):
    for folder in ("labels", "classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**changes), copy, stages=("label", "distill"))
    classifier = side_jax.load_classifier(copy)
    assert classifier.net.time_conditioned == (guide == "time_dependent")
    logs = classifier.log_prob(np.zeros((1, 16, 16, 1), np.float32), np.zeros(1, np.int32))
    assert logs.shape == (1, num_classes)
    np.testing.assert_allclose(np.exp(logs).sum(), 1, rtol=1e-5)


def test_time_independent_guide_is_the_teacher(copy):
    for folder in ("classifier", "extract", "recall", "detect", "steer", "report"):
        remove(copy / folder)
    pipeline.run(smoke_config(**{"classifier.guide": "time_independent"}), copy, stages=("distill",))
    guide, teacher = load_variables(copy / "classifier"), load_variables(copy / "labels" / "teacher")
    for ours, theirs in zip(jax.tree.leaves(guide), jax.tree.leaves(teacher), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_stages_that_the_primary_does_alone_wait_for_no_other_process(copy, monkeypatch):
    """With images to be generated again, for which they need target and guide."""

    def never(*arguments, **options):
        raise AssertionError("waits for the other processes")

    audit = pipeline.prepare(smoke_config(**{"extract.save_images": "none"}), copy)
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    monkeypatch.setattr(multihost, "sync_global_processes", never)
    for name in ("process_allgather", "broadcast_one_to_all", "sync_global_devices"):
        monkeypatch.setattr(multihost_utils, name, never)
    alone = [stage for stage in pipeline.STAGES if stage.alone]
    assert [stage.name for stage in alone] == ["sanity", "recall", "detect", "steer", "report"]
    for stage in alone:
        assert stage.run(audit), stage.name


def test_images_not_kept_are_regenerated_for_the_page(finished, copy):
    for folder in ("extract", "recall", "detect", "steer"):
        remove(copy / folder)
    pipeline.run(smoke_config(**{"extract.save_images": "none"}), copy)
    assert not (copy / "extract" / "scale=00.00" / "images.zarr").exists()
    pictures = [line for line in (copy / "report.html").read_text().splitlines() if "data:image/png" in line]
    original = [line for line in (finished / "report.html").read_text().splitlines() if "data:image/png" in line]
    assert pictures == original


def times(workdir):
    return {path: path.stat().st_mtime_ns for path in Path(workdir).rglob("*") if path.is_file()}


OTHER = "was made with another config, weights or version"
HASH = "[0-9a-f]{16}"
HASHES = f"{HASH} -> {HASH}"
REMEDY = rf"add --force_new to work in \S*/copy-{HASH}, or remove \S* and the folders of the later stages to make"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, rf"target {OTHER} \(seed: 0 -> 1; spec {HASHES}\); {REMEDY} stage target again"),
        ({"target.train.num_steps": 4}, rf"target {OTHER} \(target.train.num_steps: 3 -> 4; spec {HASHES}\); {REMEDY}"),
        (
            {"extract.eta": 1.0},
            rf"extract {OTHER} \(extract.eta: 0.0 -> 1.0; spec {HASHES}\); {REMEDY} stage extract again",
        ),
        ({"dataset.split_seed": 5}, rf"target {OTHER} \(images: \"{HASH}\" -> \"{HASH}\"; spec {HASHES}\); {REMEDY}"),
        (
            {
                "extract.eta": 1.0,
                "extract.top_k": 9,
                "extract.save_images": "none",
                "extract.num_steps": 4,
                "extract.bands": (("a", 0.2, 0.9),),
            },
            rf"extract {OTHER} \(extract.eta: 0.0 -> 1.0; extract.num_steps: 3 -> 4; .*; and 2 more; spec",
        ),
    ],
)
def test_workdir_of_another_config_is_refused_and_untouched(copy, change, message):
    before = times(copy)
    with pytest.raises(ValueError, match=message) as refusal:
        pipeline.run(smoke_config(**change), copy)
    assert "\n" not in str(refusal.value)
    assert times(copy) == before


def test_workdir_of_another_version_of_a_stage_is_refused(copy, monkeypatch):
    now = ExtractStage.version
    monkeypatch.setattr(ExtractStage, "version", now + 1)
    with pytest.raises(ValueError, match=rf"extract {OTHER} \(version: {now} -> {now + 1}; spec {HASHES}\); {REMEDY}"):
        pipeline.run(smoke_config(), copy)


def test_another_version_of_the_report_makes_it_again(copy, monkeypatch):
    (copy / "report.html").unlink()
    monkeypatch.setattr(ReportStage, "version", ReportStage.version + 1)
    assert unfinished(copy) == ["report"]


def unfinished(workdir, **changes):
    audit = pipeline.prepare(smoke_config(**changes), workdir)
    return [step.name for step in pipeline.plan(audit) if not step.complete]


@pytest.mark.given(
    kind=6,
    input="a stage that ended after the report",
    before='the page stays stale ("report: complete, skipped")',
    now="the report is made again",
)
@pytest.mark.given(
    kind=6, input="another `dataset.near_duplicate`", before="keeps the old p", now="the report is made again"
)
@pytest.mark.given(
    kind=6,
    input="other classes of the photos, and so other photos that change places",
    before="keeps the old p",
    now="the report is made again",
)
def test_report_is_made_again_after_any_stage_and_for_other_strata(copy):
    assert unfinished(copy) == []
    assert unfinished(copy, **{"dataset.near_duplicate": 0.9801}) == ["report"]  # the same pairs, in other words
    spec = read_json(copy / "report" / SPEC)
    write_json(copy / "report" / SPEC, spec | {"strata": "as other classes would give"})
    assert unfinished(copy) == ["report"]
    pipeline.run(smoke_config(), copy)
    manifest = read_json(copy / "detect" / MANIFEST)
    write_json(copy / "detect" / MANIFEST, manifest | {"finished": "2030-01-01T00:00:00+00:00"})
    assert unfinished(copy) == ["report"]
    pipeline.run(smoke_config(), copy)
    assert unfinished(copy) == []


def test_report_killed_on_its_way_is_not_complete(copy, monkeypatch):
    """It was begun for other strata than its page is of."""
    spec = read_json(copy / "report" / SPEC)
    write_json(copy / "report" / SPEC, spec | {"strata": "as other classes would give"})

    def killed(self, audit):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReportStage, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(smoke_config(), copy)
    assert unfinished(copy) == ["report"]


def test_workdir_of_another_jax_is_refused_but_not_of_another_patch(copy, monkeypatch):
    known = importlib.metadata.version
    for jax_version, differs in (("0.1.0", True), (f"{provenance.software()['jax']}.99", False)):
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name, v=jax_version: v if name == "jax" else known(name)
        )
        audit = pipeline.prepare(smoke_config(), copy)
        if not differs:
            assert all(step.complete for step in pipeline.plan(audit))
            continue
        with pytest.raises(ValueError, match=rf'target {OTHER} \(software.jax: "[0-9.]+" -> "0.1"; spec {HASHES}\)'):
            pipeline.plan(audit)


def test_workdir_from_before_versions_is_refused(copy):
    stored = json.loads((copy / "target" / SPEC).read_text())
    del stored["version"], stored["software"]
    (copy / "target" / SPEC).write_text(json.dumps(stored | {"code": {"sampling": "0123456789abcdef"}}))
    with pytest.raises(ValueError, match=rf"target {OTHER} \(code.sampling: .*; software.flax: null -> .*; and 1 more"):
        pipeline.run(smoke_config(), copy)


@pytest.mark.parametrize("stage", SMOKE)
def test_results_of_this_version_are_as_recorded(finished, stage):
    assert_as_recorded(finished, stage)


def test_force_new_works_beside_a_workdir_that_was_made_otherwise(copy):
    """The same command comes back to the same folder; the old one is not touched, and its own audit stays there."""
    before = times(copy)
    first, again = (pipeline.beside(pipeline.prepare(smoke_config(seed=1), copy)) for _ in range(2))
    assert first.workdir == again.workdir
    assert re.fullmatch(f"copy-{HASH}", first.workdir.name) and first.workdir.parent == copy.parent
    pipeline.execute(first, ("target",))
    assert pipeline.plan(again)[0].complete
    more = smoke_config(seed=1, **{"extract.num_images": 20})
    assert pipeline.beside(pipeline.prepare(more, copy)).workdir == first.workdir
    other = smoke_config(seed=2)
    assert pipeline.beside(pipeline.prepare(other, copy)).workdir not in (first.workdir, copy)
    assert str(pipeline.beside(pipeline.prepare(smoke_config(), copy)).workdir) == str(copy)
    assert times(copy) == before


def test_status_says_where_every_stage_stands(copy):
    pipeline.run(smoke_config(methods=("side", "ol_ti")), copy, stages=("label",))
    before = times(copy)
    lines = status.describe(copy).splitlines()
    states = dict(re.split("  +", line, maxsplit=1) for line in lines[2:])
    assert list(states) == [
        *("target", "synthesize", "sanity", "label", "label (ol_ti)", "distill", "distill (ol_ti)"),
        *("extract", "extract (ol_ti)", "recall", "detect", "steer", "report"),
    ]
    for name in ("target", "synthesize", "label", "label (ol_ti)", "distill", "extract"):
        assert re.fullmatch(r"complete, \d{4}-\d\d-\d\dT\S+, in \d+ s", states[name]), name
    assert states["distill (ol_ti)"] == states["extract (ol_ti)"] == "not begun"
    assert states["report"] == "complete for an earlier request"
    for folder in ("target", "synthetic", "labels", "classifier", "extract"):
        (copy / folder / MANIFEST).unlink()
    remove(copy / "target" / "checkpoints" / "3")
    remove(copy / "classifier" / "checkpoints")
    remove(copy / "synthetic" / "images.zarr" / "1.0.0.0")
    remove(next((copy / "extract" / "scale=02.00").glob("part-000000008-*")))
    before = times(copy)
    text = status.describe(copy)
    for name, details in {
        "target": ["2 of 3 steps"],
        "synthesize": ["8 of 16 images"],
        "label": ["teacher: 3 of 3 steps"],
        "distill": ["0 of 3 steps"],
        "extract": ["λ=0      12 of 12 images", "λ=2      8 of 12 images"],
    }.items():
        assert "\n".join([f"{name:<24} begun, not complete", *(f"  {detail}" for detail in details)]) in text
    assert times(copy) == before


def test_stage_without_its_input_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"stage distill needs target, synthesize, label, not complete in .*; run that first"
    ):
        pipeline.run(smoke_config(), tmp_path / "run", stages=("distill",))
    assert not (tmp_path / "run").exists()


def test_diverged_training_keeps_the_workdir_resumable(tmp_path):
    config = smoke_config(**{"target.train.learning_rate": 1e38, "target.train.warmup_steps": 0})
    with pytest.raises(TrainingDiverged, match="target: loss is"):
        pipeline.run(config, tmp_path / "run", stages=("target",))
    assert not (tmp_path / "run" / "target" / MANIFEST).exists()


@pytest.mark.given(
    kind=2,
    input="14 photos that the recipes resize otherwise",
    before="",
    now='said once at the start, and in the report: "14 photos are not 16 pixels on the short side (dataset.filter)"',
)
@pytest.mark.given(kind=5, input="a damaged JPEG among the photos", before="", now="the report names it")
def test_loaded_target_clusters_and_no_heldout(finished, tmp_path, caplog):
    """The other branches: a model from a folder, labels without training data, a sweep that nothing calibrates."""
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (14, 20, 20), np.uint8)):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    config = smoke_config(
        **{
            "dataset.name": "image_folder",
            "dataset.path": str(tmp_path / "photos"),
            "dataset.heldout_fraction": 0.0,
            "target.source": "load",
            "target.path": str(finished),
        }
        | CLUSTERS
    )
    # The smoke target names its training images, and these photos are not they.
    with pytest.raises(ValueError, match=r"it never saw 14 of the 14 called training images"):
        pipeline.run(config, tmp_path / "run")
    shutil.copytree(finished / "target" / "diffusers", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    config.target.path = str(tmp_path / "model")
    caplog.set_level("INFO", "side_jax")
    pipeline.run(config, tmp_path / "run")
    assert caplog.text.count("14 photos are not 16 pixels on the short side (dataset.filter)") == 1
    _, metrics = results(tmp_path / "run")
    assert metrics["heldout_photos"] is None
    assert metrics["skipped"][0][0] == "broken.jpg"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Without held-out images a high score may mean only" in page
    assert "broken.jpg" in page
    assert "14 not 16 pixels on the short side" in page


def test_target_of_another_workdir_is_audited(finished, tmp_path):
    """A workdir whose target was trained, and then one whose target was loaded from there."""
    for name, path in (("second", finished), ("third", tmp_path / "second")):
        config = smoke_config(**{"target.source": "load", "target.path": str(path)})
        pipeline.run(config, tmp_path / name, stages=("target", "synthesize"))
    first, third = (side_jax.load_target(root).params for root in (finished, tmp_path / "third"))
    for ours, theirs in zip(jax.tree.leaves(third), jax.tree.leaves(first), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_model_that_moved_is_found_at_its_new_path(finished, tmp_path):
    shutil.copytree(finished / "target" / "diffusers", tmp_path / "old")
    config = smoke_config(**{"target.source": "load", "target.path": str(tmp_path / "old")})
    pipeline.run(config, tmp_path / "run", stages=("target",))
    (tmp_path / "old").rename(tmp_path / "new")
    config.target.path = str(tmp_path / "new")
    pipeline.run(config, tmp_path / "run", stages=("target",))
    assert side_jax.load_target(tmp_path / "run").image_shape == (16, 16, 1)


@pytest.mark.slow
def test_guided_diffusion_model_is_audited_from_its_two_files(tmp_path):
    """Class-conditional with a learned variance; moved, it is still the same model, and with other flags it is not."""
    (tmp_path / "old").mkdir()
    file = write_adm(tmp_path / "old", "updown")
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", images=images)
    changes = {"dataset.name": "npz", "dataset.path": str(tmp_path / "photos.npz"), "dataset.channels": 3}
    changes |= {"target.source": "load", "methods": ("random",), "extract.top_k": 3}
    changes |= {"dataset.heldout_fraction": 0.0}  # the file does not say what the model was trained on
    wanted = ("target", "sanity", "extract", "report")  # the others have a program each to compile
    pipeline.run(smoke_config(**changes, **{"target.path": str(file)}), tmp_path / "run", wanted)
    assert len(results(tmp_path / "run")[0]) == 12
    (tmp_path / "old").rename(tmp_path / "new")
    config = smoke_config(**changes, **{"target.path": str(tmp_path / "new" / "model.safetensors")})
    pipeline.run(config, tmp_path / "run", stages=("target",))
    assert side_jax.load_target(tmp_path / "run").image_shape == (16, 16, 3)
    flags = tmp_path / "new" / "model.json"
    flags.write_text(flags.read_text().replace("}", ', "noise_schedule": "cosine"}'))
    with pytest.raises(ValueError, match=rf'target {OTHER} \(files.model.json: "{HASH}" -> "{HASH}"; spec {HASHES}\)'):
        pipeline.run(config, tmp_path / "run")


@pytest.mark.given(
    kind=1,
    input="a target that does not name its training images, and `heldout_fraction=0.5` of these",
    before="p = .55",
    now='refused: "does not say which … heldout_path, or set dataset.heldout_fraction=0"',
)
def test_photos_are_not_held_out_of_those_that_a_silent_target_may_have_seen(finished, tmp_path):
    """Half of the training photos would be called held-out, and no copying seen. Two ways on are named, and open."""
    shutil.copytree(finished / "target" / "diffusers", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()  # which names the training images
    for name, seed in (("photos", 0), ("unseen", 1)):
        images = np.random.default_rng(seed).integers(0, 256, (12, 16, 16, 1), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images)
    paths = {"dataset.name": "npz", "dataset.path": str(tmp_path / "photos.npz"), "extract.top_k": 3}
    changes = paths | {"target.source": "load", "target.path": str(tmp_path / "model"), "methods": ("random",)}
    with pytest.raises(
        ValueError, match=r"does not say which .*heldout_path, or set dataset.heldout_fraction=0"
    ) as error:
        pipeline.run(smoke_config(**changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    changes["dataset.heldout_fraction"] = 0.0
    assert len(pipeline.prepare(smoke_config(**changes), tmp_path / "run").split.heldout) == 0
    changes["dataset.heldout_path"] = str(tmp_path / "unseen.npz")
    assert len(pipeline.prepare(smoke_config(**changes), tmp_path / "run").split.heldout) == 12


def test_no_git_is_no_obstacle(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.provenance(AuditOptions())["commit"] is None


@pytest.mark.given(
    kind=1,
    input="a held-out photo with the bytes of a training photo",
    before="",
    now='refused: "1 of its 13 images are training images too, or nearly … copy.png (as 3.png)"',
)
def test_heldout_images_that_were_trained_on_are_refused(tmp_path):
    for folder, seed in (("photos", 0), ("unseen", 1)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(np.random.default_rng(seed).integers(0, 256, (12, 16, 16), np.uint8)):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    shutil.copy(tmp_path / "photos" / "3.png", tmp_path / "unseen" / "copy.png")
    options = {"name": "image_folder", "path": str(tmp_path / "photos"), "heldout_fraction": 0.0}
    options |= {"heldout_path": str(tmp_path / "unseen")}
    config = smoke_config(**{f"dataset.{key}": value for key, value in options.items()})
    with pytest.raises(
        ValueError, match=r"1 of its 13 images are training images too, or nearly .*: copy.png \(as 3.png\)$"
    ):
        pipeline.prepare(config, tmp_path / "run")
    (tmp_path / "unseen" / "copy.png").unlink()
    audit = pipeline.prepare(
        smoke_config(**{f"dataset.{k}": v for k, v in options.items()} | CLUSTERS), tmp_path / "run"
    )
    assert len(audit.split.train) == len(audit.split.heldout) == 12


OTHER_MODEL = "assets/orl_target/unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset.image_size": 15}, "image_size 15 is not divisible by the UNet's stride 2"),
        ({"extract.top_k": 201}, "top_k 201 is more than the 200 training images"),
        ({"extract.descriptor": "sscd"}, "needs its weights: download https://.*MIT licence.*set extract.weights"),
        ({"extract.descriptor": "sscd", "extract.weights": "no/file.pt"}, "extract.weights 'no/file.pt' is no file"),
        ({"extract.descriptor": "sscd", "extract.weights": OTHER_MODEL}, "looks like no ResNet: .*wanted is SSCD's"),
        ({"classifier.pretrained": OTHER_MODEL}, "torchvision has no weights for classifier.arch 'resnet10_tiny'"),
        (
            {"classifier.pretrained": OTHER_MODEL, "classifier.arch": "resnet34"},
            "looks like no ResNet: .*; classifier.arch 'resnet34' needs its own weights",
        ),
        ({"extract.num_steps": 1001}, "extract.num_steps must be 1 to 1000, got 1001"),
        pytest.param(
            {"target.source": "load", "target.path": "no/model"},
            "target path 'no/model' does not exist",
            marks=pytest.mark.given(
                kind=10,
                input="a hub name as `target.path`",
                before="the program's own exception",
                now="\"target path 'no/model' does not exist\"",
            ),
        ),
        ({"target.source": "load"}, r"makes \(32, 32, 1\) images, the data set is \(16, 16, 1\)"),
        ({"target.source": "load", "dataset.image_size": 32, "dataset.split_seed": 1}, "are held out by this config"),
        ({"dataset.name": "image_folder", "dataset.path": "tests/golden"}, "none of its .* can be read as an image"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(ValueError, match=message):
        pipeline.run(smoke_config(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_published_weights_go_in_as_teachers_start_and_as_descriptor(finished, tmp_path):
    """torchvision's ResNet18 and SSCD's ResNet50, of their full size; every result says which files made it."""
    save_file(resnet_weights(SSCDNetwork(), "backbone."), tmp_path / "sscd.safetensors")
    save_file(resnet_weights(ResNet(ARCHITECTURES["resnet18"], 1000)), tmp_path / "resnet18.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8)
    np.savez(tmp_path / "photos.npz", images=images, labels=np.arange(12) % 2)
    shutil.copytree(finished / "target" / "diffusers", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    config = smoke_config(
        **{
            "dataset.name": "npz",
            "dataset.path": str(tmp_path / "photos.npz"),
            "dataset.heldout_fraction": 0.0,
            "target.source": "load",
            "target.path": str(tmp_path / "model"),
            "classifier.arch": "resnet18",
            "classifier.pretrained": str(tmp_path / "resnet18.safetensors"),
            "labels.train.num_steps": 2,
            "classifier.train.num_steps": 2,
            "extract.descriptor": "sscd",
            "extract.weights": str(tmp_path / "sscd.safetensors"),
            "extract.scales": (2.0,),
            "steer.weights": (),
            "extract.num_images": 4,
            "extract.top_k": 3,
        }
    )
    workdir = pipeline.run(config, tmp_path / "run")
    table, metrics = results(workdir)
    assert metrics["descriptor"]["weights"] == "sscd.safetensors"
    assert metrics["descriptor"]["sha256"] == hashlib.sha256((tmp_path / "sscd.safetensors").read_bytes()).hexdigest()
    assert metrics["descriptor"]["preprocessing"] == "small_edge_288"
    for file in (workdir / "matches.parquet", next((workdir / "extract" / "scale=02.00").glob("part-*"))):
        assert json.loads(pq.read_schema(file).metadata[b"descriptor"]) == metrics["descriptor"]
    assert metrics["descriptor"]["sha256"][:12] in (workdir / "report.html").read_text()
    assert len(table) == 4
    guide = side_jax.load_classifier(workdir)
    assert guide.net.imagenet_input
    assert guide.variables["params"]["conv1"]["kernel"].shape == (7, 7, 3, 64)  # gray photos, repeated
    # Files that moved are the same weights; others are not.
    (tmp_path / "sscd.safetensors").rename(tmp_path / "moved.safetensors")
    config.extract.weights = str(tmp_path / "moved.safetensors")
    assert all(step.complete for step in pipeline.plan(pipeline.prepare(config, workdir)))
    save_file(resnet_weights(SSCDNetwork(16), "backbone."), tmp_path / "moved.safetensors")
    with pytest.raises(ValueError, match=rf'sanity {OTHER} \(weights: "\w{{64}}" -> "\w{{64}}"; spec {HASHES}\)'):
        pipeline.run(config, workdir)
