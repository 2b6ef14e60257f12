"""The finished smoke run beside copies of its files, in which something is changed."""

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from side_jax.report.__main__ import main
from side_jax.report.compare import compare
from side_jax.runtime.files import read_json, write_json

_READ = ("config.json", "metrics.json", "matches.parquet", "at_risk.csv", "recall.csv", "photos/photos.json")
_READ += ("photos/train.npy", "report/manifest.json", "detect/membership.parquet")


@pytest.fixture
def other(finished_smoke, tmp_path):
    """The files of the smoke run that a comparison reads."""
    for name in _READ:
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished_smoke / name, tmp_path / "other" / name)
    return tmp_path / "other"


def change(path, **values):
    """Sets fields of a JSON file: a__b=1 sets ["a"]["b"]."""
    content = read_json(path)
    for name, value in values.items():
        *parents, last = name.split("__")
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = value
    write_json(path, content)


def page(a, b):
    said = compare(a, b).splitlines()
    text = html.unescape(Path(said[-1].removeprefix("comparison: ")).read_text())
    return said, text


def table_rows(text):
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    return [row for row in cells if row]


def test_audit_beside_itself_has_no_difference(finished_smoke, other):
    said, text = page(finished_smoke, other)
    assert said[-1] == f"comparison: {other / 'compare.html'}"
    assert [line.split(".")[0] for line in said if line.startswith("λ")] == [
        "λ = 0: no difference shown",
        "λ = 2: no difference shown",
    ]
    assert [line[:14] for line in said[2:4]] == ["A: No verdict:", "B: No verdict:"]  # a target of three steps
    assert "Config, versions and devices are the same." in text
    assert "begin from the same noise (seed 0), and are compared in pairs" in text
    differences = [row[4] for row in table_rows(text) if row[0].startswith(("λ", "membership"))]
    assert len(differences) == 2 * (3 * 4 + 1) + 2 + 2 * 2  # λ, bands, scores; detectors; KID and Fréchet distance
    assert all(re.match(r"-?0\.0+($| )", one) for one in differences)
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_images_that_became_copies_are_counted_by_index(finished_smoke, other):
    """At λ = 2 every image of B has a score of 0.99 with the photo that it resembled."""
    table = pq.read_table(other / "matches.parquet")
    rows = table.to_pylist()
    for row in rows:
        if row["scale"] == 2:
            row["scores"] = [0.99] * len(row["scores"])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), other / "matches.parquet")
    said, text = page(finished_smoke, other)
    guided = next(line for line in said if line.startswith("λ = 2"))
    assert any(line.startswith("λ = 0: no difference shown.") for line in said)
    assert guided.startswith("λ = 2: more copies in B. AMS (high) 0.00 % in A, 100.0 % in B: 100.0 [")
    assert "p < 0.001" in guided  # McNemar: 2 · 2⁻¹²
    row = next(row for row in table_rows(text) if row[:2] == ["λ = 2", "UMS, all training photos"])
    photos = len({tuple(row["ids"][:1]) for row in rows if row["scale"] == 2})
    assert row[3].startswith(f"{100 * photos / 12:.1f} [")


def test_other_seed_is_compared_as_a_whole_and_more_images_by_the_first(finished_smoke, other):
    change(other / "config.json", config__seed=7)
    metrics = read_json(other / "metrics.json")
    metrics["scales"][1]["train"]["num_images"] = 10
    write_json(other / "metrics.json", metrics)
    text = page(finished_smoke, other)[1]
    assert "The seeds differ (0 and 7): the two sets are compared as independent ones." in text
    assert "As many images of both are compared (λ = 2, 12 and 10 images: the first 10)." in text
    assert ["seed", "0", "7"] in table_rows(text)


def test_photos_at_risk_are_compared_by_content(finished_smoke, other, tmp_path):
    """Photo 0 is new at risk, photo 1 is no longer, photo 2 in both, and photo 3 is not trained on in B."""
    first = shutil.copytree(other, tmp_path / "first")
    photos = read_json(first / "photos" / "photos.json")["content"]["train"]

    def write(workdir, rates):
        with (workdir / "at_risk.csv").open() as file:
            columns = next(csv.reader(file))
        with (workdir / "at_risk.csv").open("w") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for i, rate in rates.items():
                facts = {
                    "false_discovery_rate": rate,
                    "images": 1,
                    "id": photos["ids"][i],
                    "sha256": photos["hashes"][i],
                }
                writer.writerow(dict.fromkeys(columns, "") | facts)

    write(first, {0: 0.5, 1: 0.04, 2: 0.04, 3: 0.04})
    write(other, {0: 0.04, 2: 0.06})
    stored = read_json(other / "photos" / "photos.json")
    stored["content"]["train"]["hashes"][3] = "removed"
    write_json(other / "photos" / "photos.json", stored)
    said, text = page(first, other)
    counts = (
        "1 at risk in B, not in A, 1 no longer at risk in B, 1 at risk in A, not trained on in B, 1 at risk in both"
    )
    assert said[-2] == f"Photos at risk at a false-discovery rate of 10 %: 3 in A, 2 in B ({counts})."
    rows = [row[1:] for row in table_rows(text) if "<img" in row[0]]
    assert rows == [
        [photos["ids"][0], "at risk in B, not in A", "0.500, 1", "0.040, 1"],
        [photos["ids"][1], "no longer at risk in B", "0.040, 1", "not listed"],
        [photos["ids"][3], "at risk in A, not trained on in B", "0.040, 1", "not listed"],
        [photos["ids"][2], "at risk in both", "0.040, 1", "0.060, 1"],
    ]
    pictures = lambda text: re.findall(r'<img src="([^"]*)"', text)
    change(other / "config.json", config__report__redact=True)  # one of the two is enough
    redacted = pictures(page(first, other)[1])
    assert len(redacted) == len(rows) and not set(redacted) & set(pictures(text))


def test_recall_of_other_numbers_of_images_is_not_compared(finished_smoke, other):
    assert any(row[0].startswith("recall, AUROC") for row in table_rows(page(finished_smoke, other)[1]))
    text = (other / "recall.csv").read_text().splitlines()
    (other / "recall.csv").write_text(
        "\n".join([text[0], *(re.sub(r",1,(\d+)$", r",4,\1", line) for line in text[1:])])
    )
    shown = page(finished_smoke, other)[1]
    assert "Recall is not compared: photos were asked for with 1 and 4 images each." in shown
    assert any(row[0].startswith("membership, AUROC of loss") for row in table_rows(shown))


def _other_photos(workdir):
    stored = read_json(workdir / "photos" / "photos.json")
    hashes = stored["content"]["train"]["hashes"]
    stored["content"]["train"]["hashes"] = [f"{name}-" for name in hashes]
    write_json(workdir / "photos" / "photos.json", stored)


def _other_scales(workdir):
    metrics = read_json(workdir / "metrics.json")
    for row in metrics["scales"]:
        row["scale"] += 1
    write_json(workdir / "metrics.json", metrics)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "' does not exist"),
        (lambda path: (path / "config.json").unlink(), "is no workdir of an audit: it has no config.json"),
        (
            lambda path: (path / "report" / "manifest.json").unlink(),
            "holds no finished audit: it has no report/manifest",
        ),
        (lambda path: (path / "metrics.json").unlink(), "it has no metrics.json; run python main.py --workdir="),
        (lambda path: change(path / "metrics.json", descriptor__name="sscd"), "of other descriptors, and cannot be"),
        (lambda path: change(path / "config.json", config__extract__mirror=True), "name=pixel, mirror=True"),
        (lambda path: change(path / "metrics.json", bands=[["high", 0.9, 1.0]]), "the bands differ: "),
        (_other_photos, "no training photo is in both audits, of 200 and 200 at 16×16×1 and 16×16×1 pixels"),
        (_other_scales, "no λ is in both audits: λ = 0, λ = 2 and λ = 1, λ = 3"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(finished_smoke, other, capsys, damage, message):
    damage(other)
    before = set(other.parent.rglob("*"))
    assert main([str(finished_smoke), str(other)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(other.parent.rglob("*")) == before


@pytest.mark.parametrize("count", [1, 3])
def test_two_workdirs_are_compared(capsys, count):
    assert main(["run"] * count) == 2
    assert ("the workdir has no finished report" if count == 1 else "got 3") in capsys.readouterr().err


def test_comparison_needs_no_jax(finished_smoke, other, tmp_path):
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('jax', 'flax', 'tensorstore', 'orbax', 'tensorflow')));"
        " from side_jax.report.__main__ import main; sys.exit(main())"
    )
    out = tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, "-c", script, str(finished_smoke), str(other), f"--out={out}"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"comparison: {out}"
    assert json.loads((other / "config.json").read_text())["config_hash"] in out.read_text()
