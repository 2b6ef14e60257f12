"""A sweep killed twenty times, and one on a disk that is full: the same command finishes with the same bytes."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.test_killed import finish, start

pytestmark = [pytest.mark.slow, pytest.mark.optax]
KILLS, WHILE_WRITING = 20, 5
# Many small parts, so that something is being written nearly always.
SWEEP = (
    "--stages=extract,report",
    "--config.extract.num_images=600",
    "--config.extract.batch_size=2",
    "--config.extract.num_steps=2",
    "--config.synthesize.num_images=16",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Everything up to the sweep, and the same with the sweep. Read only."""
    folder = tmp_path_factory.mktemp("prepared")
    finish(folder / "before", "--stages=target,synthesize,sanity,label,distill")
    shutil.copytree(folder / "before", folder / "whole")
    finish(folder / "whole", *SWEEP)
    return folder


def digest(workdir):
    return hashlib.sha256((workdir / "matches.parquet").read_bytes()).hexdigest()


def entries(workdir):
    """Names in the folders of the sweep."""
    extract = workdir / "extract"
    return [entry.name for folder in extract.glob("scale=*") for entry in os.scandir(folder)]


def temporary(names):
    return [name for name in names if name.endswith(".tmp")]


def parts(names):
    return sum(name.startswith("part-") for name in names)


def kill(workdir, rng, while_writing):
    """One run, killed after some new parts; or as soon as a part is there that has not got its name yet."""
    process = start(workdir, *SWEEP)
    before = parts(entries(workdir))
    while parts(entries(workdir)) == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 1))
    while while_writing and not temporary(entries(workdir)) and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return bool(temporary(entries(workdir)))


def test_twenty_kills_change_no_byte(prepared, tmp_path):
    workdir = tmp_path / "killed"
    shutil.copytree(prepared / "before", workdir)
    rng, caught = random.Random(0), 0
    for number in range(3 * KILLS):
        if number >= KILLS and caught >= WHILE_WRITING:
            break
        caught += kill(workdir, rng, while_writing=number % 2 == 0)
        if (workdir / "matches.parquet").exists():  # it had finished: begin again
            shutil.rmtree(workdir)
            shutil.copytree(prepared / "before", workdir)
    assert number >= KILLS
    assert caught >= WHILE_WRITING
    finish(workdir, *SWEEP)
    assert digest(workdir) == digest(prepared / "whole")
    assert not temporary(entries(workdir))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("save_images", ["none", "all"])
def test_full_disk_is_one_line_and_nothing_is_lost(prepared, small_disk, save_images):
    """At a random moment of the sweep there is no space left; after some was made, the same command goes on."""
    workdir, kept = small_disk / "run", (*SWEEP, f"--config.extract.save_images={save_images}")
    shutil.copytree(prepared / "before", workdir, ignore=shutil.ignore_patterns("checkpoints"))
    free = shutil.disk_usage(small_disk).free
    room = 4096 * random.Random(save_images).randrange(50, 200)
    (small_disk / "ballast").write_bytes(bytes(free - room))
    process = start(workdir, *kept)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 1, error
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line
    assert "resume" in line
    made = parts(entries(workdir))
    assert made > 0
    (small_disk / "ballast").unlink()
    finish(workdir, *kept)
    assert parts(entries(workdir)) > made
    assert digest(workdir) == digest(prepared / "whole")
