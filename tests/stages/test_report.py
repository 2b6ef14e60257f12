import itertools
import json

import numpy as np
import pytest
from etils import epath

from benchmarks.report_scale import synthetic_audit, write_sweep
from side_jax.artifacts import write_json
from side_jax.extraction.parts import read_parts, scale_folder, write_part
from side_jax.stages.report import report


@pytest.fixture
def audit(tmp_path):
    """A synthetic sweep of 3 λ x 40 images against 30 training and 30 held-out photos."""
    made = synthetic_audit(epath.Path(tmp_path), 3, 40, 30)
    write_sweep(made, 4)
    return made


def results(audit):
    report(audit)
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
            write_part(folder, columns, {"name": "pixel"})
    assert results(audit) == whole


def test_damaged_parts_that_the_sweep_counted_are_reported(audit):
    assert results(audit)[1]["damaged_parts"] is None
    write_json(audit.workdir / "extract" / "manifest.json", {"facts": {"damaged_parts": 2}})
    assert results(audit)[1]["damaged_parts"] == 2
    assert "2 damaged parts of the sweep found and computed again" in (audit.workdir / "report.html").read_text()


def test_failed_report_leaves_the_former_table(audit):
    before = results(audit)[0]
    next(scale_folder(audit.workdir / "extract", 2.0).glob("part-*")).unlink()
    write_json(audit.workdir / "extract" / "manifest.json", {"facts": {}})
    with pytest.raises(RuntimeError, match="40 of the 40 rows of λ = 2 are damaged or missing"):
        report(audit)
    assert (audit.workdir / "matches.parquet").read_bytes() == before
    assert not list(audit.workdir.glob(".*.tmp"))
