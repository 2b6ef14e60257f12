"""Whole audits of photos and targets that are not as they should be, and what their pages say."""

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from absl.testing import flagsaver
from PIL import Image

import main
import side_jax
from configs import orl, smoke
from side_jax.audit import pipeline
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.report.figures import picture_data
from side_jax.report.page import verdicts
from side_jax.runtime.arrays import load_array
from tests.targets.test_steering import small_target

pytestmark = pytest.mark.optax
ROOT = Path(__file__).parents[2]


def one_nan(params):
    """One weight of the first convolution is NaN."""
    kernel = params["conv_in"]["kernel"].copy()
    kernel[0, 0, 0, 0] = np.nan
    return params | {"conv_in": params["conv_in"] | {"kernel": kernel}}


@pytest.fixture
def small(tmp_path):
    """The config of a small audit, as flat fields: 12 photos, 12 held-out ones, and a target of random weights."""
    for name, seed in (("photos", 0), ("unseen", 1)):
        images = np.random.default_rng(seed).integers(0, 256, (12, 8, 8, 1), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images)
    side_jax.save_target(small_target(), tmp_path / "model")
    return {
        "dataset.name": "npz",
        "dataset.path": str(tmp_path / "photos.npz"),
        "dataset.heldout_path": str(tmp_path / "unseen.npz"),
        "dataset.heldout_fraction": 0.0,
        "dataset.image_size": 8,
        "target.source": "load",
        "target.path": str(tmp_path / "model"),
        "methods": ("random",),
        "extract.scales": (0.0,),
        "extract.top_k": 3,
        "detect.num_images": 0,
        "steer.weights": (),
    }


@pytest.mark.given(
    kind=3,
    input="one NaN in a weight, and random weights: a whole run of the command",
    before='exit status 0, and "no sign of copying"',
    now='exit status 0, and a page that says "No verdict: the target does not make images of this kind" and shows them',
)
@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "reason"),
    [(one_nan, "is not finite, as if a weight were NaN"), (lambda params: params, "predicting no noise at all has 1")],
    ids=["nan", "random"],
)
def test_run_of_a_broken_target_exits_0_with_a_page_of_its_images_and_no_verdict(
    small, tmp_path, monkeypatch, change, reason
):
    target = small_target()
    side_jax.save_target(target.replace(params=change(target.params)), tmp_path / "model")
    flags = [f"--config.{name}={value}" for name, value in small.items()]
    arguments = ["main.py", f"--config={ROOT / 'configs' / 'smoke.py'}", f"--workdir={tmp_path / 'run'}", *flags]
    monkeypatch.setattr(sys, "argv", arguments)
    with flagsaver.flagsaver():
        assert main.main(arguments) == 0
    page = html.unescape((tmp_path / "run" / "report.html").read_text())
    said = re.sub(r"\s+", " ", page)
    assert "No verdict: the target does not make images of this kind." in said
    assert reason in said
    assert "<strong>CANNOT TELL.</strong>" in said
    for sentence in ("no sign of copying", "This model gives back training data", "withstood"):
        assert sentence not in said
    preview = load_array(tmp_path / "run" / "sanity" / "images.zarr")
    assert len(preview) == 8
    for image in preview:
        assert picture_data(image) in page


def smoke_config(fields):
    config = smoke.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(fields)
    return config


def relabel(file, labels):
    with np.load(file) as content:
        np.savez(file, images=content["images"], labels=np.array(labels))


def photos_of(folder, seed):
    folder.mkdir()
    for i, image in enumerate(np.random.default_rng(seed).integers(0, 256, (12, 8, 8), np.uint8)):
        Image.fromarray(image).save(folder / f"{i}.png")


@pytest.mark.given(
    kind=13,
    input="README's command in a folder without `runs/`",
    before="fails since runs/ is missing",
    now="runs/quick/report.html is there",
)
@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
def test_command_of_the_readme_makes_the_missing_folder(small, tmp_path, monkeypatch):
    """As it stands there, but for a small model and no SSCD."""
    (command,) = re.findall(r"python (main.py (?:.*\\\n)+.*)", (ROOT / "README.md").read_text(encoding="utf-8"))[:1]
    arguments = shlex.split(command.replace("\\\n", " "))
    assert {"--workdir=runs/quick", "--config.target.path=my_model"} < set(arguments)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").rename(tmp_path / "my_model")
    photos_of(tmp_path / "photos", 0)
    photos_of(tmp_path / "unseen_photos", 1)
    given = [flag for flag in arguments if not flag.startswith("--config.extract.weights")]
    fewer = {name: value for name, value in small.items() if name.split(".")[0] not in ("dataset", "target")}
    fewer |= {"dataset.image_size": 8, "dataset.channels": 1, "extract.descriptor": "pixel", "extract.num_images": 8}
    fewer |= {"extract.num_steps": 3, "synthesize.num_steps": 3}
    arguments = [*given, *(f"--config.{name}={value}" for name, value in fewer.items())]
    monkeypatch.setattr(sys, "argv", arguments)
    with flagsaver.flagsaver():
        assert main.main(arguments) == 0
    assert (tmp_path / "runs" / "quick" / "report.html").exists()


@pytest.mark.given(
    kind=6,
    input="other labels in the npz files of a finished workdir",
    before="keeps the old p",
    now="no stage but report runs, and the page says what the new classes leave to change places",
)
def test_other_labels_in_the_npz_files_make_the_report_again(small, tmp_path, caplog):
    """Half of the training photos get a class that no held-out photo has.

    Recall is left out: it spreads the photos that it asks for over the classes, so it would refuse.
    """
    small |= {"recall.num_photos": 0}
    caplog.set_level("INFO", "side_jax")
    relabel(tmp_path / "photos.npz", [0] * 12)
    relabel(tmp_path / "unseen.npz", [0] * 12)
    workdir = side_jax.run(smoke_config(small), tmp_path / "run")
    before = json.loads((workdir / "metrics.json").read_text())
    assert before["null"] == {"least_p": 1e-4, "relabelled": 24, "reason": None}
    relabel(tmp_path / "photos.npz", [0, 1] * 6)
    caplog.clear()
    side_jax.run(smoke_config(small), tmp_path / "run")
    skipped = [record.message for record in caplog.records if "complete, skipped" in record.message]
    assert skipped == [f"{name}: complete, skipped" for name in ("target", "sanity", "extract")]
    after = json.loads((workdir / "metrics.json").read_text())
    assert after["null"]["relabelled"] == 18
    assert "Only 18 of the photos can change places" in (workdir / "report.html").read_text()


@pytest.mark.given(
    kind=13,
    input="`run({...})` with few fields, to the end",
    before="wants every field",
    now="a finished report; config.json has the defaults of the other fields",
)
def test_plain_dict_of_few_fields_runs_to_the_end(small, tmp_path):
    """Lists too, as JSON has them."""
    config = {
        "dataset": {"name": "npz", "path": small["dataset.path"], "heldout_path": small["dataset.heldout_path"]},
        "target": {"source": "load", "path": small["target.path"]},
        "methods": ["random"],
        "extract": {"scales": [0.0], "num_images": 8, "num_steps": 3, "top_k": 3},
        "synthesize": {"num_steps": 3},
        "detect": {"num_images": 0},
        "steer": {"weights": []},
    }
    config["dataset"] |= {"heldout_fraction": 0.0, "image_size": 8, "channels": 1}
    workdir = side_jax.run(config, tmp_path / "run")
    assert (workdir / "report.html").exists()
    assert len(pq.read_table(workdir / "matches.parquet")) == 8
    stored = json.loads((workdir / "config.json").read_text())["config"]
    assert AuditOptions.from_config(stored) == AuditOptions.from_config(config)
    assert (stored["seed"], stored["sanity"]["num_images"]) == (0, 64)


def as_png(image, path):
    Image.fromarray(image).save(path)


@pytest.fixture
def demo(tmp_path):
    """Audits the demo's target, which copies: its training photos in class folders, held-out ones in a flat folder."""
    split = load_split(AuditOptions.from_config(orl.get_config()).dataset)
    # A model whose manifest names its photos by their pixels is refused with others.
    shutil.copytree(ROOT / "assets" / "orl_target", tmp_path / "model", ignore=lambda *_: ["manifest.json"])

    def write(name, images, files, save):
        for image, file in zip(images, files, strict=True):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            save(image[..., 0], path)

    def audit(heldout, num_images, num_steps, save=as_png, suffix=".png", run="run", **fields):
        write("photos", split.train.images, [str(Path(name).with_suffix(suffix)) for name in split.train.ids], save)
        chosen = split.heldout.images[np.linspace(0, len(split.heldout) - 1, heldout).astype(int)]
        write("unseen", chosen, [f"{i}{suffix}" for i in range(heldout)], save)
        config = orl.get_config()
        paths = {"path": str(tmp_path / "photos"), "heldout_path": str(tmp_path / "unseen")}
        config.dataset.update({"name": "image_folder", "heldout_fraction": 0.0} | paths)
        config.target.path = str(tmp_path / "model")
        config.methods = ("random",)
        config.extract.update({"scales": (0.0,), "num_images": num_images, "num_steps": num_steps})
        config.extract.update({"batch_size": min(num_images, 32), "save_images": "none"})
        config.synthesize.num_steps = num_steps
        config.sanity.num_images = 16
        config.detect.num_images = 0
        config.steer.weights = ()
        with config.ignore_type():
            config.update_from_flattened_dict(fields)
        workdir = pipeline.run(config, tmp_path / run)
        return json.loads((workdir / "metrics.json").read_text()), (workdir / "report.html").read_text()

    return audit


@pytest.mark.given(
    kind=1,
    input="one, or three, held-out photos: a whole audit of the demo target",
    before="no p below .05 is possible",
    now='"cannot be tested, because only 6 of the 6 photos can change places, and the smallest p possible is 0.05"',
)
@pytest.mark.slow
@pytest.mark.parametrize(("heldout", "least"), [(1, "0.50"), (3, "0.05")])
def test_audit_with_few_held_out_photos_says_that_copying_cannot_be_tested(demo, heldout, least):
    metrics, page = demo(heldout, num_images=16, num_steps=10)
    assert metrics["images"]["paired"] == heldout
    assert metrics["sanity"]["failed"] == []
    why = (
        f"cannot be tested, because only {2 * heldout} of the {2 * heldout} photos can change places, and the smallest"
        f" p possible is {least}."
    )
    ams, nearest = verdicts(metrics)[:2]
    assert ams.endswith(f"the excess {why}")
    assert nearest.endswith(f"Whether this target gives back training data {why}")
    said = re.sub(r"\s+", " ", html.unescape(page))
    assert nearest in said
    assert "no sign of copying" not in said


@pytest.mark.given(
    kind=1,
    input="training photos in class folders, held-out photos in a flat folder: a whole audit of the demo target",
    before='"within 90.6 to 90.6 % … p = 1.000"',
    now='"this target gives back training data (p < 0.001)", with 96 images',
)
@pytest.mark.slow
def test_audit_of_class_folders_and_a_flat_held_out_folder_finds_the_copies(demo):
    metrics, page = demo(200, num_images=96, num_steps=25)
    assert metrics["null"] == {"least_p": 1e-4, "relabelled": 2 * metrics["images"]["paired"], "reason": None}
    assert "this target gives back training data (p < 0.001)" in " ".join(verdicts(metrics))
    assert "gives back training data (p &lt; 0.001)" in page


def twelve_bits(image, path):
    """In a PNG of 16 bits, as cameras and scanners write it."""
    Image.fromarray(np.round(image * (4095 / 255)).astype(np.uint16)).save(path)


def floats(image, path):
    Image.fromarray(image.astype(np.float32) / 255).save(path)


def transparent_top(image, path):
    """The colour that `convert("RGB")` gives training is stored below the transparent rows."""
    alpha = np.full_like(image, 255)
    alpha[:5] = 0
    Image.fromarray(np.stack([image, image, image, alpha], -1)).save(path)


COPIES = "this target gives back training data (p < 0.001)"


@pytest.mark.given(
    kind=2,
    input="12-bit PNG, transparent PNG: a whole audit of the demo target",
    before='16 gray levels, or white parts, and "no sign of copying"',
    now="the head names the field that the target's loss recommends; with that field, copying (p < 0.001)",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("save", "field", "value", "untold"),
    [
        (twelve_bits, "dataset.white", 4095, {}),
        # Their white parts make some photos near-duplicates, which is refused first.
        (transparent_top, "dataset.background", "dropped", {"dataset.near_duplicate": 0.999}),
    ],
    ids=["12 bits", "transparent"],
)
def test_audit_of_photos_that_training_read_otherwise_says_so_and_finds_the_copies_when_told(
    demo, save, field, value, untold
):
    said = " ".join(verdicts(demo(200, 32, 20, save, run="untold", **untold)[0]))
    (advice,) = re.findall(r"The target denoises the training photos better with (.*?): its loss is", said)
    assert f"{field}={value}" in advice.split(" or ")
    assert COPIES in " ".join(verdicts(demo(200, 32, 20, save, run="told", **{field: value})[0]))


@pytest.mark.given(
    kind=2,
    input="a float TIFF in [0, 1]: a whole audit of the demo target",
    before="black, verdict flips",
    now="refused, naming `dataset.white`; with `dataset.white=1` copying (p < 0.001)",
)
@pytest.mark.slow
def test_audit_of_float_photos_is_refused_and_finds_the_copies_when_told(demo):
    with pytest.raises(ValueError, match=r"none of its .* can be read as an image.*set dataset.white"):
        demo(200, 32, 20, floats, ".tiff")
    metrics, _ = demo(200, 32, 20, floats, ".tiff", **{"dataset.white": 1.0})
    assert COPIES in " ".join(verdicts(metrics))


@pytest.mark.given(
    kind=2,
    input="mirrored copies, as of a target trained with flips: a whole audit of the demo target",
    before="AMS 9.4 → 0 with `pixel`",
    now="`extract.mirror` finds them; without it the page says that mirrored copies are not found",
)
@pytest.mark.slow
def test_audit_with_mirror_finds_mirrored_copies(demo):
    def mirrored(image, path):
        as_png(image[:, ::-1], path)

    without, page = demo(200, 32, 20, mirrored, run="without")
    with_mirror, _ = demo(200, 32, 20, mirrored, run="mirror", **{"extract.mirror": True})
    assert COPIES in " ".join(verdicts(with_mirror))
    assert "neither mirrored, shifted nor partial ones" in " ".join(page.split())
    before, after = (found["scales"][0]["train"]["bands"]["high"]["ams"]["value"] for found in (without, with_mirror))
    assert before == 0 < after
