"""Every config is valid, and one step of everything; configs/smoke.py is tests/audit/test_pipeline.py's."""

import importlib
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import celeba_25k, celeba_hq, cifar10, custom_folder, default, orl
from side_jax.audit import pipeline
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Audit
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.training import Loss, _train_step, init_state, init_variables
from side_jax.targets import diffusers
from side_jax.targets.target import Target, target_loss
from side_jax.targets.unet import UNet

pytestmark = pytest.mark.optax

ALL = sorted(file.stem for file in (Path(__file__).parents[1] / "configs").glob("[!_]*.py"))
PAPER = (celeba_hq, celeba_25k, cifar10, custom_folder)
SIZE = 16
TINY_UNET = {
    "block_out_channels": (8,),
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def from_command_line(module, **changes):
    """The config as a command line changes it."""
    config = module.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("name", ALL)
def test_every_config_is_locked_valid_and_documented(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    assert config.is_locked
    for text in ("Command", "Hardware", f"--config=configs/{name}.py"):
        assert text in module.__doc__
    if config.extract.descriptor == "sscd":
        assert "--config.extract.weights=" in module.__doc__
        config.extract.descriptor = "pixel"
    if config.target.source == "load" and not config.target.path:
        assert "--config.target.path=" in module.__doc__
        config.target.path = "model"
    if config.target.source == "none":
        assert "--config.samples.paths=" in module.__doc__
        config.samples.paths = (("samples", "generated"),)
    options = AuditOptions.from_config(config)
    options.target.make_net(options.dataset.image_size, options.dataset.channels)
    options.target.make_schedule()


@pytest.mark.parametrize("module", PAPER)
def test_command_of_a_paper_config_gives_valid_options(module):
    config = from_command_line(module, **{"extract.weights": "sscd_disc_mixup.torchvision.pt", "target.path": "model"})
    options = AuditOptions.from_config(config)
    assert (options.extract.descriptor, options.extract.weights) == ("sscd", "sscd_disc_mixup.torchvision.pt")
    for heading in ("Hardware  ", "Cost      ", "Compare   "):
        assert f"\n{heading}" in module.__doc__


def test_without_the_descriptors_weights_nothing_is_computed(tmp_path, identities):
    config = from_command_line(celeba_hq, **{"dataset.path": identities, "extract.top_k": 3})
    with pytest.raises(ValueError, match="extract.weights"):
        pipeline.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_paper_configs_have_the_papers_hyper_parameters(tmp_path):
    """Seed 002, sections 4.1 and 4.2; what it does not state is the Hugging Face example's (DESIGN §5)."""
    for module, steps in ((celeba_hq, 258_000), (celeba_25k, 390_000)):
        config = module.get_config()
        assert config.dataset.image_size == 128
        assert config.dataset.heldout_fraction == 0
        assert config.target.train.num_steps == steps
        assert config.target.train.batch_size == 64
        assert config.classifier.arch == "resnet34"
        assert config.classifier.guide == "time_dependent"
        assert config.classifier.train.learning_rate == 1e-4
        assert tuple(config.extract.scales) == (0.0, 5.0, 6.0, 7.0, 8.0, 9.0)
        assert config.extract.num_images == 50_000
        options = AuditOptions.from_config(from_command_line(module, **{"extract.weights": "sscd.pt"}))
        assert Audit(options, tmp_path, None).bands() == (("low", 0.4, 0.5), ("mid", 0.5, 0.6), ("high", 0.6, 1.0))
    labels = celeba_25k.get_config().labels
    assert (labels.source, labels.num_clusters, labels.cohesion) == ("clusters", 100, 0.5)


@pytest.mark.parametrize(("module", "count"), [(celeba_hq, 113_673_219), (cifar10, 35_746_307)])
def test_unet_has_as_many_parameters_as_the_published_one(module, count):
    """diffusers' own counts: its unconditional example at 128x128, and google/ddpm-cifar10-32."""
    config = module.get_config()
    size = config.dataset.image_size
    unet = UNet(sample_size=size, **config.target.unet.to_dict())
    shapes = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(lambda: unet.lazy_init(jax.random.key(0), *shapes))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def photo(index):
    """Noise: no two are near-duplicates."""
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 18, 3), np.uint8))


@pytest.fixture
def identities(tmp_path):
    """CelebA-HQ-FI's layout: 12 photos of 3 people, of whom one is in train/ only."""
    for i, name in enumerate(("train/7", "train/7", "train/12", "train/12", "train/30", "train/30") * 2):
        half = "test" + name[5:] if i in (2, 5, 9) and not name.endswith("/7") else name
        folder = tmp_path / "identities" / half
        folder.mkdir(parents=True, exist_ok=True)
        photo(i).save(folder / f"{i}.jpg")
    return str(tmp_path / "identities")


@pytest.fixture
def unseen(tmp_path):
    (tmp_path / "unseen").mkdir()
    for i in range(100, 108):
        photo(i).save(tmp_path / "unseen" / f"{i}.png")
    return str(tmp_path / "unseen")


@pytest.fixture
def model(tmp_path):
    """A diffusers directory, untrained."""
    unet = UNet(sample_size=SIZE, **TINY_UNET)
    shapes = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    params = init_variables(unet, jax.random.key(0), shapes)
    diffusers.save_target(Target(unet, params["params"], Schedule()), tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def public_data(tmp_path):
    """Makes TFDS's mock of a real builder: its features and metadata, 20 records in "train" and 8 in "test"."""

    def mock(name):
        builder = tfds.builder(name, data_dir=str(tmp_path))
        counts = {"train": 20, "test": 8}
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path, dataset_name=name, filetype_suffix="array_record"
        )
        builder.info.set_splits(
            tfds.core.SplitDict([tfds.core.SplitInfo(key, [count], 0, template) for key, count in counts.items()])
        )
        builder.data_path.mkdir(parents=True)
        builder.info.write_to_directory(builder.data_path)
        return tfds.testing.mock_data(
            policy=tfds.testing.MockPolicy.USE_FILES, data_dir=str(tmp_path), as_data_source_fn=records
        )

    return mock


def records(self, split, **options):
    """Another photo for every record of every split; the mock's own are the same in all splits."""
    (part,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(self.info.splits)
    first = {"train": 0, "test": 100}[part.splitname]
    examples = []
    for i in range(part.from_ or 0, part.to or self.info.splits[part.splitname].num_examples):
        buffer = io.BytesIO()
        photo(first + i).save(buffer, "PNG")
        examples.append({"image": buffer.getvalue(), "label": i % 3})
    return examples


def reduced(module, **changes):
    """One step of everything at 16x16."""
    config = module.get_config()
    config.target.unet.update(TINY_UNET)  # CIFAR-10's keeps its padding, embedding and heads
    for train in (config.target.train, config.labels.train, config.classifier.train):
        train.update({"num_steps": 1, "batch_size": 4, "warmup_steps": 0})
    config.classifier.arch = "resnet10_tiny"
    config.synthesize.update({"num_images": 8, "num_steps": 1, "batch_size": 8})
    config.labels.update({"num_clusters": 3, "cohesion": -1.0})
    config.extract.update(
        {"descriptor": "pixel", "scales": (0.0, 5.0), "num_images": 4, "num_steps": 1, "batch_size": 8, "top_k": 5}
    )
    with config.ignore_type():
        config.update_from_flattened_dict({"dataset.image_size": SIZE} | changes)
    return config


def facts(workdir, folder):
    return json.loads((workdir / folder / "manifest.json").read_text())["facts"]


def images(workdir):
    assert (workdir / "report.html").stat().length > 10_000
    return json.loads((workdir / "metrics.json").read_text())["images"]


@pytest.mark.slow
def test_one_step_of_the_celeba_hq_config(tmp_path, identities, unseen):
    config = reduced(celeba_hq, **{"dataset.path": identities, "dataset.heldout_path": unseen})
    workdir = pipeline.run(config, tmp_path / "run")
    assert images(workdir) == {"train": 12, "heldout": 8, "paired": 8}
    assert facts(workdir, "labels")["num_classes"] == 3


def test_calibrated_celeba_hq_run_holds_half_of_each_person_out(tmp_path, identities):
    config = reduced(celeba_hq, **{"dataset.path": identities, "dataset.heldout_fraction": 0.5})
    split = pipeline.prepare(config, tmp_path / "run").split
    assert split.train.label_names == ("7", "12", "30")
    for half in (split.train, split.heldout):
        np.testing.assert_array_equal(np.bincount(half.labels), [2, 2, 2])


@pytest.mark.slow
def test_one_step_of_the_celeba_25k_config(tmp_path, public_data):
    paths = {"dataset.path": "celeb_a@train[:12]", "dataset.heldout_path": "celeb_a@train[12:20]"}
    with public_data("celeb_a"):
        workdir = pipeline.run(reduced(celeba_25k, **paths), tmp_path / "run")
    assert images(workdir) == {"train": 12, "heldout": 8, "paired": 8}
    assert facts(workdir, "labels")["source"] == "clusters"
    assert facts(workdir, "target")["heldout_ids"][0] == "celeb_a/2.1.0/train#12"


@pytest.mark.slow
def test_one_step_of_the_cifar10_config(tmp_path, public_data):
    with public_data("cifar10"):
        config = reduced(cifar10, **{"dataset.path": "cifar10@train[:12]"})
        workdir = pipeline.run(config, tmp_path / "run")
    assert images(workdir) == {"train": 12, "heldout": 8, "paired": 8}
    assert facts(workdir, "labels")["num_classes"] == 3


@pytest.mark.slow
def test_one_step_of_the_custom_folder_config(tmp_path, identities, unseen, model):
    paths = {"dataset.path": identities, "dataset.heldout_path": unseen, "target.path": model}
    workdir = pipeline.run(reduced(custom_folder, **paths), tmp_path / "run")
    assert images(workdir) == {"train": 12, "heldout": 8, "paired": 8}
    assert facts(workdir, "target")["source"] == "load"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset.path": ""}, "dataset.path is empty; dataset.name='image_folder' needs one"),
        ({"dataset.path": "no/photos"}, "dataset.path 'no/photos' does not exist"),
        ({"dataset.path": "EMPTY"}, "it has no files"),
        ({"dataset.path": "CORRUPT"}, "none of its 2 files can be read as an image"),
        ({"dataset.heldout_path": "no/photos"}, "'no/photos' does not exist"),
        ({"dataset.channels": 1}, r"makes \(16, 16, 3\) images, the data set is \(16, 16, 1\); set dataset.image_size"),
        ({"dataset.image_size": 32}, r"makes \(16, 16, 3\) images, the data set is \(32, 32, 3\)"),
        ({"dataset.name": "tfds"}, r"is not NAME\[/CONFIG\]\[:VERSION\]@SPLIT"),
        ({"target.path": ""}, "target.path is empty; target.source='load' needs a diffusers directory"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, identities, unseen, model, change, message):
    for name in ("EMPTY", "CORRUPT"):
        (tmp_path / name).mkdir()
        if change.get("dataset.path") == name:
            change = {"dataset.path": str(tmp_path / name)}
    for name in ("a.png", "b.jpg"):
        (tmp_path / "CORRUPT" / name).write_bytes(b"no image")
    paths = {"dataset.path": identities, "dataset.heldout_path": unseen, "target.path": model}
    with pytest.raises(ValueError, match=message) as error:
        pipeline.run(reduced(custom_folder, **(paths | change)), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_step_of_the_orl_config(tmp_path):
    config = orl.get_config()
    config.synthesize.update({"num_images": 4, "num_steps": 1, "batch_size": 4})
    for train in (config.labels.train, config.classifier.train):
        train.update({"num_steps": 1, "batch_size": 4, "warmup_steps": 0})
    config.extract.update({"scales": (0.0, 5.0), "num_images": 4, "num_steps": 1, "batch_size": 4})
    config.detect.update({"num_noises": 1, "attack_timesteps": (100,)})
    config.steer.window = (0.0, 1.0)
    workdir = pipeline.run(config, tmp_path / "run")
    assert (workdir / "report.html").stat().length > 10_000


@pytest.mark.slow
def test_one_training_step_of_the_default_config():
    options = AuditOptions.from_config(default.get_config()).target
    unet, schedule = options.make_net(128, 3), options.make_schedule()
    shapes = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    state = init_state(init_variables(unet, jax.random.key(0), shapes), options.train)
    batch = {"image": np.zeros((1, 128, 128, 3), np.uint8)}
    loss = Loss(target_loss(unet, schedule, options.train.flip), jax.random.key(0))
    state, metrics, _ = _train_step(state, loss, batch, jnp.zeros(1, jnp.int32), options.train)
    assert int(state.step) == 1
    assert 0.5 < float(metrics["loss"]) < 3
