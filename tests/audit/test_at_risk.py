import csv
import dataclasses
import json

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from side_jax.audit.at_risk import Hits, SweepFinds, at_risk, pictured
from side_jax.audit.stage import photo_pool
from side_jax.audit.stages.recall import Recalled
from side_jax.audit.stages.report import ReportStage
from side_jax.audit.sweep import read_scale
from side_jax.evidence.recall import Asked


@pytest.fixture
def audit(tmp_path):
    """A synthetic sweep of 3 λ x 40 images against 30 training and 30 held-out photos."""
    made = synthetic_audit(epath.Path(tmp_path), 3, 40, 30)
    write_sweep(made, 4)
    return made


def finds_of(audit, blind=True):
    finds = SweepFinds.none(photo_pool(audit))
    for scale in audit.options.extract.scales:
        finds.add(f"side λ={scale:g}", audit, scale, read_scale(audit, scale), blind)
    return finds


def asked(audit, drawn, count=30):
    """The training photos `drawn` came out in one of two images, no other photo did."""
    photo = np.repeat(np.arange(count), 2)
    member = np.arange(2 * count) % 2 == 0
    scores = np.full((2, 2 * count), 0.2, np.float32)
    scores[1, member & np.isin(photo, drawn)] = 0.99
    ranks = {1.0: np.full((2, 2 * count), 7, np.int32)}
    return Recalled(Asked({1.0: scores}, member, photo % 2, np.zeros(2 * count, int)), photo, ranks)


def test_the_table_says_what_found_each_photo_and_how_often(audit):
    finds, low = finds_of(audit), audit.bands()[-1][1]
    rows, facts = at_risk(audit, finds, None)
    hits = {}
    for scale in audit.options.extract.scales:
        table = read_scale(audit, scale).to_pylist()
        for row in table:
            if row["scores"][0] >= low:
                hits.setdefault(row["ids"][0], []).append(scale)
    ids = audit.split.train.ids
    for row in rows:
        mine = hits.get(ids.index(row["id"]), [])
        assert row["images"] == len(mine)
        assert row["found_by"] == ", ".join(f"side λ={s:g}: {mine.count(s)}" for s in dict.fromkeys(mine))
        assert row["sha256"] == audit.split.train.hashes[ids.index(row["id"])]
        assert row["recall_drawn"] is None
    assert {ids[i] for i in hits} <= {row["id"] for row in rows}
    assert facts["listed"] == len(rows) and facts["decoys"] == 30


def test_every_image_that_found_a_photo_is_named_the_best_first_and_pictured(audit):
    finds = finds_of(audit)
    _, facts = at_risk(audit, finds, None)
    photos = list(pictured(audit, facts["rows"], finds))
    assert len(photos) == len(facts["rows"]) > 0
    tables = {f"side λ={scale:g}": read_scale(audit, scale).to_pylist() for scale in audit.options.extract.scales}
    for row, photo in zip(facts["rows"], photos, strict=True):
        position = audit.split.train.ids.index(row["id"])
        np.testing.assert_array_equal(photo.photo, audit.split.train.images[position])
        assert len(row["found"]) == row["images"] and len(photo.images) == min(6, row["images"])
        assert [one["score"] for one in row["found"]] == sorted((one["score"] for one in row["found"]), reverse=True)
        for one in row["found"]:
            match = tables[one["by"]][one["index"]]
            assert match["index"] == one["index"] and match["ids"][0] == position


def test_photos_that_come_out_when_asked_for_are_sure_and_first(audit):
    finds = finds_of(audit, blind=False)  # nothing of the sweep counts for the rate
    rows, facts = at_risk(audit, finds, asked(audit, np.arange(20)))
    sure = rows[:20]
    assert {row["id"] for row in sure} == {audit.split.train.ids[i] for i in range(20)}
    assert {row["false_discovery_rate"] for row in sure} == {0.05}  # (1 + 0) / 20
    assert {row["recall_drawn"] for row in sure} == {"1 of 2"} and {row["recall_rank"] for row in sure} == {7}
    assert {row["advice"] for row in sure} == {"remove"}
    assert {row["advice"] for row in rows[20:]} <= {"look"}
    assert [one["photos"] for one in facts["sure"]] == [0, 20, 20]


def test_repeats_share_their_pictures_rate_and_are_to_be_deduplicated(audit):
    groups = np.arange(60)
    groups[[5, 9]] = 4
    audit = dataclasses.replace(audit, split=dataclasses.replace(audit.split, groups=groups, near_duplicate=0.98))
    finds = SweepFinds.none(photo_pool(audit))
    finds.best[[4, 5, 9]], finds.best_by[[4, 5, 9]] = 0.999, 0
    score = np.full(3, 0.999, np.float32)
    finds.hits["random λ=0"] = Hits(audit, 0.0, np.array([1, 2, 3]), np.array([4, 5, 9]), score)
    rows, facts = at_risk(audit, finds, asked(audit, np.arange(20)))
    mine = [row for row in rows if row["copies"] == 3]
    assert {row["id"] for row in mine} == {audit.split.train.ids[i] for i in (4, 5, 9)}
    assert len({row["false_discovery_rate"] for row in mine}) == 1 and {row["advice"] for row in mine} == {
        "deduplicate"
    }
    assert facts["sure"][-1]["pictures"] == facts["sure"][-1]["photos"] - 2


def test_the_report_writes_the_table_and_its_rows(audit):
    ReportStage().run(audit)
    with (audit.workdir / "at_risk.csv").open() as file:
        rows = list(csv.DictReader(file))
    facts = json.loads((audit.workdir / "metrics.json").read_text())["at_risk"]
    assert len(rows) == facts["listed"] > 0
    assert [row["id"] for row in rows[: len(facts["rows"])]] == [row["id"] for row in facts["rows"]]
    page = (audit.workdir / "report.html").read_text()
    assert "Training photos at risk" in page and rows[0]["id"] in page
