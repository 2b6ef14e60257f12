import dataclasses
import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from side_jax.audit.stages.report import ReportStage
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import read_parts, scale_folder, write_part
from side_jax.runtime.files import write_json


@pytest.fixture
def audit(tmp_path):
    """A synthetic sweep of 3 λ x 40 images against 30 training and 30 held-out photos."""
    made = synthetic_audit(epath.Path(tmp_path), 3, 40, 30)
    write_sweep(made, 4)
    return made


def results(audit):
    ReportStage().run(audit)
    return (audit.workdir / "matches.parquet").read_bytes(), json.loads((audit.workdir / "metrics.json").read_text())


def test_results_do_not_depend_on_how_the_parts_were_cut(audit):
    whole = results(audit)
    for scale, ends in ((0.0, [0, 1, 40]), (1.0, [0, 7, 14, 21, 28, 35, 40]), (2.0, [0, 39, 40])):
        folder = scale_folder(audit.workdir / "extract", scale)
        table = read_parts(folder)
        for path in folder.glob("part-*"):
            path.unlink()
        for start, stop in itertools.pairwise(ends):
            rows = table.slice(start, stop - start)
            columns = {name: rows[name] for name in rows.column_names} | {"index": np.arange(start, stop)}
            write_part(folder, columns, DescriptorFacts("pixel"))
    assert results(audit) == whole


def test_damaged_parts_that_the_sweep_counted_are_reported(audit):
    assert results(audit)[1]["damaged_parts"] == 0
    write_json(
        audit.workdir / "extract" / "manifest.json",
        {"stage": "extract", "fingerprint": "", "facts": {"damaged_parts": 2}},
    )
    assert results(audit)[1]["damaged_parts"] == 2
    assert "2 damaged parts of the sweep found and computed again" in (audit.workdir / "report.html").read_text()


@pytest.mark.given(
    kind=1,
    input="three training photos of one picture, all found by generated images",
    before="",
    now="the report counts one picture",
)
def test_repeated_pictures_are_counted_with_what_finds_them(audit, tmp_path):
    """Photos 4, 5 and 9 are one picture, on the training side."""
    groups = np.arange(60)
    groups[[5, 9]] = 4
    split = dataclasses.replace(audit.split, groups=groups, near_duplicate=0.98)
    again = dataclasses.replace(audit, workdir=epath.Path(tmp_path) / "again", split=split)
    write_sweep(again, 4)
    metrics = results(again)[1]
    assert metrics["images"] == {"train": 30, "heldout": 30, "paired": 28}
    found, ids = metrics["duplicates"], audit.split.train.ids
    assert found["pictures"] == 28
    (repeated,) = found["repeated"]
    assert (repeated["keep"], repeated["delete"]) == (ids[4], [ids[5], ids[9]])
    table = pq.read_table(again.workdir / "matches.parquet").to_pylist()
    finders = [row for row in table if row["scores"][0] >= 0.6 and row["ids"][0] in (ids[4], ids[5], ids[9])]
    assert repeated["images"] == len(finders) > 0
    for row in found["scales"]:
        best = {r["ids"][0] for r in table if r["scale"] == row["scale"] and r["scores"][0] >= 0.6}
        assert row["photos"] == len(best)
        assert row["pictures"] == len({ids[4] if name in (ids[5], ids[9]) else name for name in best})
    for row in metrics["scales"]:
        best = [r["ids"][0] for r in table if r["scale"] == row["scale"] and r["scores"][0] >= 0.6]
        scores = row["train"]["bands"]["high"]
        assert scores["ums"]["value"] == len(set(best)) / 40
        assert scores["ums_pictures"]["value"] == len({ids[4] if i in (ids[5], ids[9]) else i for i in best}) / 40
        assert "ums_pictures" not in row["paired"]["bands"]["high"]
    assert "ums_pictures" not in results(audit)[1]["scales"][0]["train"]["bands"]["high"]
    assert "Repeated pictures" in (again.workdir / "report.html").read_text()


def test_failed_report_leaves_the_former_table(audit):
    before = results(audit)[0]
    next(scale_folder(audit.workdir / "extract", 2.0).glob("part-*")).unlink()
    write_json(
        audit.workdir / "extract" / "manifest.json",
        {"stage": "extract", "fingerprint": "", "facts": {"damaged_parts": 0}},
    )
    with pytest.raises(RuntimeError, match="40 of the 40 rows of λ = 2 are damaged or missing"):
        ReportStage().run(audit)
    assert (audit.workdir / "matches.parquet").read_bytes() == before
    assert not list(audit.workdir.glob(".*.tmp"))


def test_forecasts_are_of_random_and_of_the_scale_with_most_hits(audit):
    metrics = results(audit)[1]
    rows = {row["scale"]: row for row in metrics["forecast"]["scales"]}
    hits = {row["scale"]: round(40 * row["train"]["bands"]["high"]["ams"]["value"]) for row in metrics["scales"]}
    best = max((1.0, 2.0), key=lambda scale: hits[scale])
    assert list(rows) == [0.0, best]
    for scale, row in rows.items():
        (scores,) = (one["train"]["bands"]["high"] for one in metrics["scales"] if one["scale"] == scale)
        assert (row["hits"], row["seen"], row["photos"]) == (hits[scale], round(40 * scores["ums"]["value"]), 30)
