import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from configs import celeba_hq, custom_folder
from side_jax.audit.cost import dry_run as module
from side_jax.audit.cost.accelerators import ACCELERATORS
from side_jax.audit.cost.count import Cost, Need
from side_jax.audit.cost.dry_run import dry_run
from side_jax.audit.cost.jobs import Work
from side_jax.audit.cost.machine import Machine
from side_jax.audit.cost.programs import Program, sampling_step
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.targets import diffusers
from side_jax.targets.target import abstract_target

ROOT = Path(__file__).parents[3]
PLAIN = ROOT / "tests" / "golden" / "plain"
CHANGES = {
    "dataset.image_size": 16,
    "dataset.channels": 1,
    "classifier.guide": "none",
    "extract.scales": (0.0,),
    "extract.descriptor": "pixel",
    "extract.batch_size": 4,
}


def config(**changes):
    config = custom_folder.get_config()
    config.target.unet.update(
        {
            "block_out_channels": (8,),
            "down_block_types": ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        }
    )
    with config.ignore_type():
        config.update_from_flattened_dict(CHANGES | changes)
    return config


def section(text, title):
    """Lines of one paragraph as first words -> the rest."""
    (paragraph,) = [part for part in text.split("\n\n") if part.startswith(title)]
    return paragraph.splitlines()[1:]


def test_dry_run_needs_neither_data_nor_weights_and_writes_nothing(tmp_path):
    flags = [
        "--config=configs/custom_folder.py",
        f"--workdir={tmp_path / 'run'}",
        "--dry_run",
        f"--config.target.path={PLAIN}",
        "--config.dataset.image_size=16",
        "--config.dataset.channels=1",
        "--config.classifier.guide=none",
        "--config.extract.scales=(0.,)",
        "--config.extract.batch_size=auto",
        "--config.extract.descriptor=pixel",
    ]
    command = [sys.executable, str(ROOT / "main.py"), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for title in ("Parameters", "Operations", "Memory per device", "Bytes written", "Device-hours at 20% of peak"):
        assert f"\n{title}" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", "nowhere/model"])
def test_without_a_model_its_architecture_is_the_configs(path):
    first = section(dry_run(config(**{"target.path": path})), "Parameters")[0]
    assert first.startswith("target")
    assert "target.unet" in first


def test_of_a_model_that_is_there_only_the_configuration_is_read(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_bytes((PLAIN / "unet" / "config.json").read_bytes())
    line = section(dry_run(config(**{"target.path": str(tmp_path)})), "Parameters")[0]
    count = sum(leaf.size for leaf in module.jax.tree.leaves(diffusers.load_target(PLAIN).params))
    assert line.split()[1] == f"{count:,}"
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extract.num_images": 0}, "extract.num_images must be at least 1, got 0"),
        ({"target.path": str(PLAIN), "dataset.image_size": 32}, "images of 16 pixels, dataset.image_size is 32"),
        ({"target.path": str(PLAIN), "dataset.channels": 3}, "maps 1 to 1 channels, the images have 3"),
        ({"extract.batch_size": "much"}, "extract.batch_size must be at least 1, or 'auto', got 'much'"),
        ({"extract.num_steps": 2000}, "extract.num_steps must be 1 to 1000, got 2000"),
    ],
)
def test_bad_config_gives_the_usual_error(changes, message):
    with pytest.raises(ValueError, match=message):
        dry_run(config(**changes))


@pytest.mark.parametrize("utilisation", [0.0, 1.5])
def test_impossible_utilisation_is_named(utilisation):
    with pytest.raises(ValueError, match=f"--utilisation must be above 0 and at most 1, got {utilisation}"):
        dry_run(config(), utilisation)


def test_half_the_utilisation_takes_twice_the_hours():
    hours = [
        [float(word) for word in section(dry_run(config(), share), "Device-hours")[-1].split()[2:-1]]
        for share in (0.4, 0.2)
    ]  # but of the machine that it runs on, the last column
    assert len(hours[0]) == len(ACCELERATORS)
    assert [2 * value for value in hours[0]] == pytest.approx(hours[1], rel=0.01)


def test_the_machine_that_it_runs_on_has_a_column_at_the_speed_that_was_measured():
    machine = Machine("this CPU, 2 cores", {"default": 1e9, "bfloat16": 1e9, "float32": 2e9}, 4)
    works = [Work("extract", "unguided", 10, 36e10), Work("extract", "match", 10, 36e10, "float32")]
    header, row, total = module._hour_lines(Cost({}, works, [], 1, True), 0.2, machine)
    assert header.endswith("TPU v6e  this CPU, 2 cores")
    assert row.split()[-1] == total.split()[-1] == "1.5"  # 3.6 TFLOP at 1 GFLOP/s, and as many at 2
    assert module._hour_lines(Cost({}, works, [], 1, True), 0.2, None)[0].endswith("TPU v6e")


def test_what_is_assumed_is_said_first_and_loudly_and_what_is_there_is_counted(tmp_path):
    for k in range(3):
        Image.new("L", (4, 4), k).save(tmp_path / f"{k}.png")
    text = dry_run(config(**{"dataset.path": str(tmp_path), "dataset.heldout_path": "no_such"}))
    assert text.split("\n\n")[0].splitlines()[1:] == [
        "ASSUMED: the model is the UNet of target.unet, as target.path is empty",
        f"Counted: 3 photos in {str(tmp_path)!r}",
        "ASSUMED: 3 held-out photos, as dataset.heldout_path 'no_such' does not exist",
    ]
    assert section(text, "Bytes written")[0].split()[1:] == ["1.54", "kB"]  # 6 photos of 16 x 16
    assert "Measured now on this" in text


def lines_for(batch, gibibytes, devices=1):
    program = Program(256, 1.0, gibibytes * 2**30, 2**30, True)
    return module._need_lines(Cost({}, [], [Need("extract", batch, program)], devices, True))


def test_a_batch_that_will_not_fit_is_said_beforehand_with_one_that_would():
    text = "\n".join(lines_for(256, 93))
    assert "extract: batch 256 needs 93 GiB a device and does not fit H100 80 GB, where JAX has 60 GiB" in text
    assert "a batch of 128 would" in text
    assert "fits" not in text


def test_a_batch_that_fits_is_called_so_and_an_automatic_one_has_its_size():
    assert lines_for(256, 3)[2].split().count("fits") == len(ACCELERATORS)
    assert lines_for("auto", 93, devices=2)[2].split()[-3:] == ["128", "64", "128"]


def test_one_image_too_large_for_a_device_is_said():
    assert "not even one image a device does" in "\n".join(lines_for(256, 10_000))


@pytest.mark.slow
def test_memory_of_the_papers_sampler_is_compared_with_every_accelerator():
    changed = celeba_hq.get_config()
    changed.extract.weights = "sscd.pt"
    net = AuditOptions.from_config(changed).target.make_net(128, 3)
    program = sampling_step(abstract_target(net, Schedule()), 256).count()
    line = module._need_lines(Cost({}, [], [Need("synthesize", 256, program)], 1, True))[2]
    verdicts = ["fits" if program.bytes <= one.memory else "no" for one in ACCELERATORS]
    assert line.split()[-len(ACCELERATORS) :] == verdicts
    assert 2**33 < program.bytes < 2**36  # 256 images of 128x128 with 128 channels of float32 are 2 GiB, several times


@pytest.mark.optax
@pytest.mark.slow
def test_exact_guide_and_the_images_for_equal_compute_are_counted():
    """Nothing is trained but the teacher; a guided step has the set's two products; Random gets images beside N."""
    changes = {
        "classifier.guide": "exact",
        "classifier.arch": "resnet10_tiny",
        "labels.source": "classifier",
        "synthesize.num_images": 64,
        "extract.scales": (0.0, 2.0),
        "extract.num_images": 8,
        "extract.equal_compute": True,
    }
    text = dry_run(config(**changes))
    rows = [line for line in section(text, "Operations") if line.startswith(("distill", "extract"))]
    assert not any("train" in row for row in rows)
    (more,) = [row for row in rows if "for equal compute" in row]
    assert int(more.split("compute")[1].split()[0].replace(",", "")) > 64  # the synthetic images alone, and a teacher
    assert sum("guided, 50 steps" in row and "unguided" not in row for row in rows) == 1
    without = dry_run(config(**changes | {"extract.equal_compute": False}))
    assert "for equal compute" not in without
