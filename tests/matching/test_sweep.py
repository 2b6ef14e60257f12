import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

import side_jax
from side_jax.matching import sweep as sweep_module
from side_jax.matching.parts import part_ranges, read_descriptors, read_parts, scale_folder
from side_jax.runtime import preemption
from side_jax.runtime.arrays import load_array
from side_jax.runtime.progress import Progress
from tests.matching.sweep_case import COUNT, SCALES, make_sweep, real_images, run_sweep

ROOT = Path(__file__).parents[2]
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep on one device in batches of 8. Read only."""
    folder = tmp_path_factory.mktemp("sweep")
    run_sweep(make_sweep(folder))
    return folder


def tables(folder):
    return {scale: read_parts(scale_folder(epath.Path(folder), scale)) for scale in SCALES}


def assert_same_but_for_rounding(found, expected):
    """Labels equal, scores within rounding, and ids equal wherever the next score differs by more than that."""
    for column in ("index", "label", "scale"):
        assert found[column].equals(expected[column])
    for prefix in ("", "paired_"):
        scores, others = (np.stack(table[f"{prefix}scores"].to_numpy()) for table in (found, expected))
        np.testing.assert_allclose(scores, others, atol=2e-3)  # a pixel may differ by one level
        gaps = np.diff(others, axis=1, prepend=np.inf, append=-np.inf)
        settled = (np.abs(gaps[:, :-1]) > 4e-3) & (np.abs(gaps[:, 1:]) > 4e-3)
        ids, other_ids = (np.stack(table[f"{prefix}ids"].to_numpy()) for table in (found, expected))
        np.testing.assert_array_equal(ids[settled], other_ids[settled])
    ties = np.stack(found["ids"].to_numpy())[:, :2].astype(int)
    twice = ties[:, 0] < 30  # an image that is there twice: the lower index first, the other right behind it
    np.testing.assert_array_equal(ties[twice, 1], ties[twice, 0] + 60)


@pytest.mark.given(kind=2, input="an audit with `extract.mirror`", before="", now="its scores are those of both views")
@pytest.mark.parametrize("sharded", [False, True])
def test_sweep_with_mirror_matches_both_views(tmp_path, sharded):
    sweep = make_sweep(tmp_path, sharded=sharded)
    sweep = dataclasses.replace(sweep, embed=dataclasses.replace(sweep.embed, mirror=True))
    run_sweep(sweep, scales=SCALES[:1])
    (embed, images), table = (sweep.embed, real_images()), read_parts(scale_folder(epath.Path(tmp_path), SCALES[0]))
    made = np.concatenate([batch for _, batch in sweep.sampler(np.arange(COUNT), SCALES[0])])
    matches = side_jax.match(embed.host_queries(made), embed(images), k=5)
    np.testing.assert_allclose(np.stack(table["scores"].to_numpy()), matches.scores, atol=ROUNDING)


def test_rows_are_what_the_public_functions_give(finished):
    """The fused program against sample, embed and match one after the other."""
    sweep = make_sweep(finished)
    embed, images = side_jax.load_descriptor("pixel"), real_images()
    for scale, table in tables(finished).items():
        assert table["index"].to_pylist() == list(range(COUNT))
        made = np.concatenate([batch for _, batch in sweep.sampler(np.arange(COUNT), scale)])
        matches = side_jax.match(embed(made), embed(images), k=5)
        np.testing.assert_allclose(np.stack(table["scores"].to_numpy()), matches.scores, atol=ROUNDING)
        np.testing.assert_array_equal(np.stack(table["ids"].to_numpy()).astype(int), matches.indices)
        above = side_jax.matching.search.matches_above(embed(made), embed(images), 0.05)
        assert [len(row) for row in table["in_band"].to_pylist()] == [len(indices) for indices, _ in above]
        flat, real = made.reshape(COUNT, -1) / 255, images.reshape(90, -1) / 255
        distances = np.linalg.norm(flat[:, None] - real[None], axis=-1)
        assert [int(name) for name in table["l2_id"].to_pylist()] == distances.argmin(1).tolist()
        assert set(table["label"].to_pylist()) == {-1} if scale == 0 else len(set(table["label"].to_pylist())) > 2


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_nothing_but_rounding(finished, tmp_path, batch_size):
    run_sweep(make_sweep(tmp_path, batch_size))
    for scale, table in tables(tmp_path).items():
        assert_same_but_for_rounding(table, tables(finished)[scale])


@pytest.mark.parametrize(
    ("devices", "batch_size", "layout"), [(2, 7, "sharded"), (8, 64, "replicated"), (8, 8, "sharded")]
)
def test_devices_and_shards_change_nothing_but_rounding(finished, tmp_path, devices, batch_size, layout):
    arguments = [
        sys.executable,
        "-m",
        "tests.matching.sweep_case",
        str(tmp_path),
        str(devices),
        str(batch_size),
        layout,
    ]
    subprocess.run(arguments, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    for scale, table in tables(tmp_path).items():
        assert_same_but_for_rounding(table, tables(finished)[scale])


def test_lists_longer_than_the_first_attempt_are_whole(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("side_jax.matching.search._FIRST_LIST", 8)
    run_sweep(make_sweep(tmp_path, threshold=-2.0))
    for table in tables(tmp_path).values():
        assert all(sorted(row) == list(range(90)) for row in table["in_band"].to_pylist())
        assert all(len(row) == 5 for row in table["ids"].to_pylist())
    again = tables(finished)[3.0]
    for row, other in zip(tables(tmp_path)[3.0]["ids"].to_pylist(), again["ids"].to_pylist(), strict=True):
        assert row == other


def test_what_is_missing_is_made_again_to_the_last_bit(finished, tmp_path):
    """Parts cut in other places: by more images than before, and by one that was lost."""
    sweep = make_sweep(tmp_path)
    run_sweep(sweep, count=13)
    names = sorted(path.name for path in sweep.folder(3.0).iterdir())
    assert part_ranges(names).tolist() == [[0, 7], [8, 12]]
    (sweep.folder(3.0) / names[0]).unlink()
    run_sweep(sweep)
    names = [path.name for path in sweep.folder(3.0).iterdir()]
    assert part_ranges(names).tolist() == [[0, 7], [8, 12], [13, 15], [16, 23]]
    for scale, table in tables(tmp_path).items():
        assert table.equals(tables(finished)[scale])


@pytest.mark.parametrize("mirror", [False, True])
def test_first_images_keep_their_descriptor_wherever_the_sweep_stopped(finished, tmp_path, mirror):
    sweep = dataclasses.replace(make_sweep(tmp_path), descriptors=11)
    sweep = dataclasses.replace(sweep, embed=dataclasses.replace(sweep.embed, mirror=mirror))
    assert read_descriptors(sweep.folder(3.0), 3) is None
    run_sweep(sweep, count=9, scales=(3.0,))  # ends within the first images
    assert read_descriptors(sweep.folder(3.0), 9).shape == (9, 256)
    assert read_descriptors(sweep.folder(3.0), 11) is None
    run_sweep(sweep, scales=(3.0,))
    made = np.concatenate([batch for _, batch in sweep.sampler(np.arange(11), 3.0)])
    np.testing.assert_allclose(read_descriptors(sweep.folder(3.0), 11), sweep.embed(made), atol=ROUNDING)
    assert read_descriptors(sweep.folder(3.0), 12) is None
    if not mirror:
        assert read_parts(sweep.folder(3.0)).equals(tables(finished)[3.0])  # the match table has no descriptors


def test_only_images_with_a_list_are_kept_where_matched_is_asked_for(finished, tmp_path):
    threshold = 0.12
    sweep = make_sweep(tmp_path, save_images="matched", threshold=threshold)
    run_sweep(sweep, scales=(3.0,))
    best = np.stack(tables(finished)[3.0]["scores"].to_numpy())[:, 0]
    kept = load_array(sweep.folder(3.0) / "images.zarr").any((1, 2, 3))
    np.testing.assert_array_equal(kept, best >= threshold)
    assert 0 < kept.sum() < COUNT


def test_stopped_sweep_keeps_what_it_has_and_goes_on(finished, tmp_path, monkeypatch):
    sweep = make_sweep(tmp_path)
    asked = iter([False, False, True])
    monkeypatch.setattr(preemption, "requested", lambda: next(asked, False))
    with pytest.raises(preemption.Preempted):
        run_sweep(sweep)
    assert part_ranges(path.name for path in sweep.folder(0.0).iterdir()).tolist() == [[0, 7]]
    run_sweep(sweep)
    assert tables(tmp_path)[0.0].equals(tables(finished)[0.0])


def test_an_error_of_the_writer_stops_the_sweep(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep_module, "write_part", full)
    with pytest.raises(OSError, match="No space left"):
        run_sweep(make_sweep(tmp_path))


COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\(")


def computations(hlo):
    """Name -> body, of every computation of an HLO module."""
    return {m[1]: m[2] for m in re.finditer(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", hlo, re.M | re.S)}


def reachable(name, bodies):
    """A computation and all that it calls."""
    seen, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current in bodies and current not in seen:
            seen.add(current)
            todo += re.findall(r"%([\w.\-]+)", bodies[current])
    return seen


COMPILE = """
import sys, jax
jax.config.update("jax_num_cpu_devices", 8)
from tests.matching.sweep_case import make_sweep
sweep = make_sweep(sys.argv[1], 8, sys.argv[2] == "sharded")
lowered = sweep.lower(8, 3.0)
print(lowered.compile().as_text())
"""


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_no_device_talks_to_another_while_it_samples(tmp_path, layout):
    """Read from the compiled program for 8 devices: collectives are there (the longest list), but in no loop."""
    arguments = [sys.executable, "-c", COMPILE, str(tmp_path), layout]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    hlo = subprocess.run(arguments, check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    bodies = computations(hlo)
    found = {name: set(COLLECTIVE.findall(body)) for name, body in bodies.items()}
    everywhere = set().union(*found.values())
    merging = {"all-gather", "all-to-all", "reduce-scatter"}
    assert everywhere == {"all-reduce"} | (merging if layout == "sharded" else set())
    loops = re.findall(r"body=%?([\w.\-]+)", hlo)
    assert len(loops) >= 2
    for loop in loops:
        assert not set().union(*(found[name] for name in reachable(loop, bodies)))
    sampling = [loop for loop in loops if any("convolution" in bodies[name] for name in reachable(loop, bodies))]
    assert sampling


def test_one_program_serves_every_scale(tmp_path):
    sweep = make_sweep(tmp_path, batch_size=3)  # of no other test
    before = sweep_module.extract_batch._cache_size()
    for scale in (1.0, 2.0, 9.0):
        jax.block_until_ready(sweep.launch(0, scale))
    assert sweep_module.extract_batch._cache_size() == before + 1


def test_progress_counts_every_row(tmp_path):
    counted = []

    class Counting(Progress):
        def update(self, count):
            counted.append(count)

    with Counting("sweep", COUNT) as progress:
        make_sweep(tmp_path)(0.0, np.arange(COUNT) % 8 > 1, progress)
    assert sum(counted) == 18
