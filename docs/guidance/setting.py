"""What both studies begin with: the demo's target, its photos, and synthetic images with the teacher's labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from ml_collections import ConfigDict

import side_jax
from side_jax.data.images import ImageSet
from side_jax.matching.descriptors import load_descriptor
from side_jax.runtime.arrays import load_array
from side_jax.runtime.sharding import stage_key
from side_jax.surrogate.classifier import Classifier, load_variables
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.stored import SYNTHETIC
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.target import Target

WORKDIRS = Path("runs/guidance")
_TARGET = Path(__file__).parents[2] / "assets" / "orl_target"


class Setting(NamedTuple):
    """The demo, up to its teacher.

    Attributes:
      target: copies much.
      photos: of training.
      synthetic: unguided images, uint8 [N, H, W, C]; the first 1,024 are the demo's.
      teacher: p(y | x), trained on the photos.
    """

    target: Target
    photos: ImageSet
    synthetic: np.ndarray
    teacher: Classifier


def read(config: ConfigDict, num_synthetic: int) -> Setting:
    """Makes or reads them; `config` is that of the first regime, whose workdir holds them."""
    WORKDIRS.mkdir(parents=True, exist_ok=True)
    workdir = epath.Path(side_jax.run(config, WORKDIRS / "few", stages=("target", "synthesize", "label")))
    target = side_jax.load_target(_TARGET)
    photos, arch = training_photos(target), ARCHITECTURES[config.classifier.arch]
    teacher = Classifier(ResNet(arch, int(photos.labels.max()) + 1), load_variables(workdir / "labels" / "teacher"))
    return Setting(target, photos, _synthetic(config, target, workdir, num_synthetic), teacher)


def training_photos(target: Target) -> ImageSet:
    """The photos that a target of this page was trained on, and their people."""
    size, _, channels = target.image_shape
    photos = side_jax.load_images("orl", None, image_size=size, channels=channels)
    return photos[np.flatnonzero(np.isin(photos.ids, target.facts["training_ids"]))]


def describe(images: np.ndarray) -> np.ndarray:
    """Centred pixels of norm 1: float32 [N, D]."""
    return load_descriptor("pixel", "", "")(images)


def _synthetic(config: ConfigDict, target: Target, workdir: epath.Path, count: int) -> np.ndarray:
    """The stage's images, and those that it would have made next."""
    made, more = load_array(workdir / SYNTHETIC), WORKDIRS / "more_synthetic.npy"
    if count <= len(made):
        return made[:count]
    if not more.exists():
        sampler = Sampler(target, stage_key(config.seed, "synthesize"), Sampling(config.synthesize.num_steps))
        batches = sampler(np.arange(len(made), count), 0.0)
        np.save(more, np.concatenate([images for _, images in batches]))
    return np.concatenate([made, np.load(more)])[:count]
