import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from configs import smoke
from side_jax.audit import status
from side_jax.audit.lock import LOCK, workdir_lock
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import SCHEMA, images_done, write_part
from side_jax.runtime.files import fingerprint, plain, read_json, write_json
from tests.test_main import ROOT


def part(first, last):
    return f"part-{first:09d}-{last:09d}-{'0' * 16}.parquet"


@pytest.mark.parametrize(
    ("names", "done"),
    [
        ([], 0),
        ([part(0, 0)], 1),
        ([part(8, 11), part(0, 3)], 8),
        ([part(0, 7), part(4, 11), part(5, 6)], 12),  # batches of another size
        ([part(0, 11), part(2, 3), part(11, 12)], 13),
        ([part(0, 15), part(16, 31)], 20),  # more than this config asks for
        ([part(32, 47)], 0),
        ([part(0, 7), f".{part(8, 15)}.0123abcd.tmp", "images.zarr"], 8),
    ],
)
def test_images_done_are_those_that_any_part_holds(names, done):
    assert images_done(names, 20) == done


def test_four_hundred_thousand_parts_are_counted_exactly():
    names = [part(i * 256, i * 256 + 255) for i in range(400_000)]
    assert images_done(names[::-1], 10**9) == 400_000 * 256


def test_name_that_the_sweep_gives_a_part_is_understood(tmp_path):
    columns = {name: [None] * 5 for name in SCHEMA.names} | {"index": np.arange(3, 8)}
    write_part(epath.Path(tmp_path), columns, DescriptorFacts("pixel"))
    (path,) = tmp_path.iterdir()
    assert images_done([path.name], 100) == 5


def test_status_starts_no_device_and_writes_nothing(tmp_path):
    """A TPU belongs to one process at a time; --status must not ask for it while the audit runs."""
    config = smoke.get_config().to_dict()
    write_json(
        tmp_path / "config.json",
        {"config": plain(config), "config_hash": fingerprint(config), "versions": {"side_jax": "0"}},
    )
    script = "import sys, main; from jax._src import xla_bridge; status = main.main(['main.py', *sys.argv[1:]]);"
    script += "print(status, xla_bridge.backends_are_initialized())"
    done = subprocess.run(
        [sys.executable, "-c", script, f"--workdir={tmp_path}", "--status"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    first, second, *stages, last = done.stdout.splitlines()
    assert first == f"{tmp_path}: config {fingerprint(config)}, side_jax 0"
    assert second == "no run is at work"
    assert len(stages) == 10 and all(line.endswith("  not begun") for line in stages)
    assert last == "0 False"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_status_says_who_is_at_work(tmp_path):
    root = epath.Path(tmp_path)
    assert status.at_work(root) == "no run is at work"
    with workdir_lock(root):
        assert status.at_work(root).startswith(
            f"a run is at work: host {socket.gethostname()}, pid {os.getpid()}, since 2"
        )
        content = (root / LOCK).read_text()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (root / LOCK).write_text(content.replace(f'"pid": {os.getpid()}', f'"pid": {dead.pid}'))
    assert status.at_work(root).startswith("the last run was killed: host ")
    (root / LOCK).write_text("{")
    assert status.at_work(root) == "lock.json is damaged; the next run replaces it"


def begun(root, **changes):
    """A workdir of the smoke audit with so many stages begun and none complete."""
    config = smoke.get_config()
    config.update_from_flattened_dict(changes)
    config = config.to_dict()
    known = {"config": plain(config), "config_hash": fingerprint(config), "versions": {"side_jax": "0"}}
    write_json(root / "config.json", known)
    for folder in ("classifier", "extract"):
        write_json(root / folder / "spec.json", {})
    return root


@pytest.mark.given(
    kind=6,
    input="`--status` of a workdir whose config has another field",
    before="dies",
    now='"config.json is of a version with other fields (…); read as far as known"',
)
def test_workdir_of_a_version_with_other_fields_is_read_and_the_fields_named(tmp_path):
    root = begun(epath.Path(tmp_path))
    known = read_json(root / "config.json")
    del known["config"]["extract"]["equal_compute"], known["config"]["steer"]
    known["config"]["extract"]["old"] = known["config"]["older"] = 1
    write_json(root / "config.json", known)
    line, begins = status.describe(root).splitlines()[2:4]
    assert line == (
        "config.json is of a version with other fields (older, steer, extract.old, extract.equal_compute);"
        " read as far as known"
    )
    assert begins.startswith("target ")


def test_random_images_for_equal_compute_are_part_of_what_is_to_be_done(tmp_path):
    root = begun(epath.Path(tmp_path), **{"extract.equal_compute": True, "extract.scales": (0.0, 2.0)})
    write_json(root / "extract" / "equal_compute.json", [{"random_images": 70}, {"random_images": 90}])
    lines = [line.strip() for line in status.describe(root).splitlines()]
    assert "λ=0      0 of 90 images" in lines
    assert f"λ=2      0 of {smoke.get_config().extract.num_images} images" in lines


@pytest.mark.parametrize(("guide", "trains"), [("exact", False), ("time_dependent", True)])
def test_only_a_guide_that_is_trained_has_steps(tmp_path, guide, trains):
    root = begun(epath.Path(tmp_path), **{"classifier.guide": guide})
    distill = status.describe(root).split("distill", 1)[1].split("extract", 1)[0]
    assert ("steps" in distill) == trains
