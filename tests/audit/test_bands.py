"""Bands belong to the report: given, published or measured before any image, and moved without a new sweep."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.dataset import load_split
from side_jax.audit.sweep import lists_from
from side_jax.evidence.bands import measured_bands
from side_jax.matching import sweep
from side_jax.matching.descriptors import load_descriptor
from side_jax.matching.search import match
from side_jax.runtime import training

pytestmark = pytest.mark.optax


def config(**changes):
    made = smoke.get_config()
    with made.ignore_type():
        made.update_from_flattened_dict(changes)
    return made


@pytest.fixture
def copy(finished_smoke, tmp_path):
    shutil.copytree(finished_smoke, tmp_path / "copy")
    return tmp_path / "copy"


def unfinished(workdir, **changes):
    audit = pipeline.prepare(config(**changes), workdir)
    return [step.name for step in pipeline.plan(audit) if not step.complete]


def metrics(workdir):
    return json.loads((workdir / "metrics.json").read_text())


RAISED = {"extract.bands": (("near", 0.95, 0.97), ("equal", 0.97, 1.0))}


@pytest.mark.given(
    kind=12,
    input="raised bands for a finished workdir",
    before='refused: "lowest_score: 0.4 -> 0.85", a name that is in no config',
    now="the same table is filtered again, and no stage but report runs",
)
def test_other_bands_filter_the_same_matches_again(copy, monkeypatch):
    """Raised bands refused the workdir, in a name that no config has; now only the page is made."""
    monkeypatch.setattr(training, "_train_step", None)
    monkeypatch.setattr(sweep, "extract_batch", None)
    before, table = metrics(copy), (copy / "matches.parquet").read_bytes()
    assert unfinished(copy, **RAISED) == ["report"]
    pipeline.run(config(**RAISED), copy)
    after = metrics(copy)
    assert [band[:2] for band in after["bands"]] == [["near", 0.95], ["equal", 0.97]]
    assert after["measured_bands"] is None
    assert (copy / "matches.parquet").read_bytes() == table
    assert "near [0.95, 0.97)" in (copy / "report.html").read_text()
    pipeline.run(config(), copy)
    assert metrics(copy) == before


@pytest.mark.given(
    kind=12,
    input="bands below what the sweep kept",
    before="",
    now='refused: "extract.bands: the lists of matches begin at 0.94 -> 0.2"',
)
def test_bands_below_what_the_lists_hold_are_refused_by_name_and_open_a_folder_beside(copy):
    lower = {"extract.bands": (("a", 0.2, 0.9),)}
    message = r"\(extract.bands: the lists of matches begin at 0.94 -> 0.2\); add --force_new to work in \S*copy-\w{16}"
    with pytest.raises(ValueError, match=message):
        unfinished(copy, **lower)
    beside = pipeline.beside(pipeline.prepare(config(**lower), copy))
    assert beside.workdir.name != "copy"
    assert not any(step.complete for step in pipeline.plan(beside))
    assert unfinished(copy) == []


def test_a_sweep_that_goes_on_under_raised_bands_keeps_its_lists_whole(copy):
    pipeline.run(config(**RAISED, **{"extract.num_images": 16}), copy, stages=("extract",))
    pipeline.run(config(**{"extract.num_images": 16}), copy, stages=("report",))
    table = pq.read_table(copy / "matches.parquet")
    assert len(table) == 32
    for row in table.to_pylist():
        assert len(row["in_band"]) >= sum(score >= 0.94 for score in row["scores"])


PIXEL = {"extract.bands": (), "methods": ("random",), "detect.num_images": 0, "steer.weights": ()}


@pytest.fixture
def trained(copy):
    """A workdir with its target alone."""
    for folder in ("synthetic", "labels", "classifier", "extract", "recall", "detect", "steer", "report"):
        shutil.rmtree(copy / folder)
    return copy


@pytest.mark.given(
    kind=12,
    input="`pixel` without `extract.bands`",
    before='the paper\'s bands without a word: "70.8 % score 0.6 or more" for a blurry model that copies nothing',
    now="bands are measured on held-out photos before any image is generated; the report says how many reach them",
)
def test_a_descriptor_without_published_bands_is_measured_on_photos_before_any_image(trained, monkeypatch):
    """With pixels the paper's bands for SSCD were used without a word, and real photos reached the highest."""
    monkeypatch.setattr(sweep.Sweep, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config(**PIXEL), trained)
    stored = json.loads((trained / "extract" / "bands.json").read_text())
    split, embed = load_split(pipeline.prepare(config(), trained).options.dataset), load_descriptor("pixel")
    heldout = split.representatives()[1]
    best = match(embed(split.heldout.images[heldout]), embed(split.train.images), k=1).scores[:, 0]
    assert [tuple(band) for band in stored["bands"]] == list(measured_bands(best).bands)
    assert (stored["heldout"], stored["train"]) == (len(heldout), 200)
    assert stored["rates"]["low"]["value"] <= 0.1
    monkeypatch.undo()
    pipeline.run(config(**PIXEL), trained)
    assert metrics(trained)["bands"] == stored["bands"]
    assert metrics(trained)["measured_bands"] == stored
    page = (trained / "report.html").read_text()
    assert re.search(
        rf"of {len(heldout)} held-out photos, one of each picture, \d.* % score 0.\d+ or more \(low\)", page
    )
    assert unfinished(trained, **PIXEL) == []
    audit = pipeline.prepare(config(**PIXEL), trained)
    assert lists_from(audit) == stored["bands"][0][1]
    assert unfinished(trained, **(PIXEL | {"extract.bands": (("mine", 0.99, 1.0),)})) == ["report"]
    with pytest.raises(ValueError, match=r"extract.bands: the lists of matches begin at 0.9\d* -> 0.4"):
        unfinished(trained, **(PIXEL | {"extract.bands": (("mine", 0.4, 1.0),)}))


def stopped(*arguments):
    raise KeyboardInterrupt


@pytest.mark.given(
    kind=12,
    input="`pixel` without bands and without held-out photos",
    before="",
    now='refused: "extract.bands is empty: the pixel descriptor has no published bands"',
)
def test_without_bands_and_held_out_photos_bands_are_asked_for(tmp_path):
    with pytest.raises(
        ValueError, match=r"extract.bands is empty: the pixel descriptor has no published bands"
    ) as error:
        pipeline.prepare(config(**PIXEL, **{"dataset.heldout_fraction": 0.0}), tmp_path / "run")
    assert "\n" not in str(error.value)
    given = PIXEL | {"extract.bands": (("high", 0.98, 1.0),), "dataset.heldout_fraction": 0.0}
    assert len(pipeline.prepare(config(**given), tmp_path / "run").split.heldout) == 0
