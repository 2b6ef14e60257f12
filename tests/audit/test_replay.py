"""--replay on the finished smoke run: 12 images at λ = 0 and 12 at λ = 2, all kept."""

import html
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from absl.testing import flagsaver
from PIL import Image

import main
from configs import samples_only, smoke
from side_jax.audit.replay import find_match, replay
from side_jax.audit.status import stored_config
from side_jax.evidence.same_picture import IDENTICAL, OTHER, SAME, PixelDifference
from side_jax.report.replayed import NearestPhoto, Replayed, draw_path
from side_jax.runtime.arrays import ImageStore, load_array
from side_jax.runtime.files import read_json, write_json
from side_jax.targets.path import Path as DenoisingPath

pytestmark = pytest.mark.optax


@pytest.fixture(scope="module")
def workdir(finished_smoke, tmp_path_factory):
    """A copy, as replay writes into its workdir."""
    return shutil.copytree(finished_smoke, tmp_path_factory.mktemp("replay") / "run")


@pytest.fixture(scope="module")
def config(finished_smoke):
    return stored_config(finished_smoke)[0]


def test_match_is_made_again_and_drawn(workdir, config):
    said = replay(config, workdir, "17").splitlines()
    row = pq.read_table(workdir / "matches.parquet").slice(17, 1).to_pylist()[0]
    assert said[0] == f"match 17: SIDE, λ = 2, image 5, guided to class {row['label']}"
    assert said[1].startswith((IDENTICAL, SAME))
    for line, prefix in zip(said[2:4], ("", "heldout_"), strict=True):
        assert f"{row[f'{prefix}ids'][0]}, score" in line
        assert f"recorded {row[f'{prefix}scores'][0]:.4f}" in line
    picture = Path(said[4].removeprefix("picture: "))
    assert picture == workdir / "replay" / "match-17.png"
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > 1000


def test_recorded_image_of_other_pixels_is_not_the_same(workdir, config, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "copy")
    path = copy / "extract" / "scale=02.00" / "images.zarr"
    images = load_array(path)
    ImageStore(path, len(images), images.shape[1:], 8).write(np.array([5]), images[6:7])
    assert replay(config, copy, "17").splitlines()[1].startswith(OTHER)


@pytest.mark.parametrize(
    ("asked", "scale", "index"), [("0", 0, 0), ("17", 2, 5), ("2:5", 2, 5), ("side:2.0:11", 2, 11)]
)
def test_match_is_a_row_or_an_image_of_a_sweep(finished_smoke, asked, scale, index):
    match = find_match(finished_smoke, asked)
    assert (match.scale, match.index) == (scale, index)
    assert match.row == pq.read_table(finished_smoke / "matches.parquet").slice(match.number, 1).to_pylist()[0]


def test_number_on_the_page_is_the_number_of_the_match(finished_smoke):
    """Each pair shows the number, the scores and the photos of that row."""
    text = html.unescape((finished_smoke / "report.html").read_text())
    pattern = (
        r"generated<br>λ = \d<br>#(\d+)</span></div><div[^>]*><img [^>]*><span[^>]*>training<br>([\d.-]+)<br>([^<]*)<"
    )
    pairs = re.findall(pattern, text)
    assert len(pairs) == 3 + 2 * 2 * 4  # of the first screen; λ, best and random, pairs of a sheet
    rows = pq.read_table(finished_smoke / "matches.parquet").to_pylist()
    assert {rows[int(number)]["scale"] for number, _, _ in pairs} == {0, 2}
    for number, score, photo in pairs:
        assert f"{rows[int(number)]['scores'][0]:.3f}" == score
        assert rows[int(number)]["ids"][0] == photo


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")  # ml_collections loads a config with it
@pytest.mark.parametrize(
    ("asked", "flags", "message"),
    [
        ("24", (), "matches.parquet has the rows 0 … 23"),
        ("-1", (), "such as 17, λ:index such as 2:5, or method:λ:index, got '-1'"),
        ("best", (), "got 'best'"),
        (":5", (), "got ':5'"),
        ("a:b:2:5", (), "got 'a:b:2:5'"),
        ("3:5", (), "no such image; it has images of random:0, side:2"),
        ("side:0:5", (), "no such image"),
        (
            "17",
            ("--config=configs/smoke.py", "--config.seed=1"),
            "made with another config, weights or version (seed: 0",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_2(workdir, monkeypatch, capsys, asked, flags, message):
    arguments = ["main.py", *flags, f"--workdir={workdir}", f"--replay={asked}"]
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "argv", arguments)
    with flagsaver.flagsaver():
        assert main.main(arguments) == 2
    out, err = capsys.readouterr()
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert not out


def test_unfinished_audit_and_samples_alone_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"needs a finished audit: .* has no matches\.parquet"):
        replay(smoke.get_config(), tmp_path, "0")
    config = samples_only.get_config()
    config.samples.paths = (("λ=0", "samples.npz"),)
    config.extract.descriptor = "pixel"
    with pytest.raises(ValueError, match="there is none to make a match again"):
        replay(config, tmp_path, "0")


def test_other_versions_and_precision_are_told(workdir, config, tmp_path):
    """Of another machine: its jax differs, and its products."""
    copy = shutil.copytree(workdir, tmp_path / "copy")
    spec = copy / "extract" / "spec.json"
    write_json(
        spec, read_json(spec) | {"precision": "float32 (TF32 products)", "software": {"jax": "0.1", "flax": "0.1"}}
    )
    said = replay(config, copy, "3").splitlines()
    assert said[1].startswith((IDENTICAL, SAME))
    assert 'software.jax: "0.1" -> ' in said[4]
    assert "precision: float32 (TF32 products) -> float32" in said[4]


def test_strip_of_many_steps_and_colours_has_eight_of_them():
    """A path of 50 steps in colour, of an image that was not kept, without held-out photos, and a long id."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 256, (50, 8, 8, 3), np.uint8)
    path = DenoisingPath(steps[0], 3, np.arange(980, -1, -20, np.int32), steps, steps)
    photo = NearestPhoto(steps[1], "a/very/long/path/of/a/photo/in/its/folder.png", 0.9812, "b.png", 0.9813)
    replayed = Replayed(17, "side_exact", 2.0, 5, path, None, None, 1e-4, photo, None, ())
    assert "as far as its scores tell (the sweep did not keep it)" in replayed.answer
    assert "recorded 0.9813 with b.png" in replayed.describe()
    assert draw_path(replayed).startswith(b"\x89PNG")


def test_difference_is_said_in_numbers():
    path = DenoisingPath(
        np.zeros((1, 1, 1), np.uint8), -1, np.zeros(1, np.int32), *2 * [np.zeros((1, 1, 1, 1), np.uint8)]
    )
    photo = NearestPhoto(path.image, "a.png", 0.5, "a.png", 0.5)
    replayed = Replayed(3, "random", 0.0, 3, path, path.image, PixelDifference(0.0123, 2, 51.04), 3e-4, photo, None, ())
    assert replayed.title == "match 3: Random, λ = 0, image 3"
    assert replayed.answer == (
        "the same picture, but for rounding: 1.23 % of the pixel values differ, by 2 gray levels at most (PSNR 51.0"
        " dB); its scores with the recorded photos differ by 0.0003 at most"
    )
