"""Stage 3, sanity: whether the target makes images of the kind of its photos. If not, the report has no verdict."""

import dataclasses
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from side_jax.audit.cost.jobs import Job, Setting, sampling
from side_jax.audit.recipes import LEVELS, measure_recipes, other_recipes
from side_jax.audit.stage import (
    Audit,
    Stage,
    classes_spec,
    data_print,
    descriptor_spec,
    paired_positions,
    sampling_spec,
)
from side_jax.evidence.recipes import advice
from side_jax.evidence.sanity import sanity
from side_jax.inside.membership import Attack
from side_jax.inside.probe import IndexedImages, Probe, photo_classes
from side_jax.runtime.arrays import load_array, save_array
from side_jax.runtime.declare import at_least, decided, option
from side_jax.runtime.files import MANIFEST, Json
from side_jax.runtime.sharding import local_mesh, stage_key
from side_jax.targets.sampling import Sampler

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_log = logging.getLogger(__name__)
_LEVELS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)  # noise levels of the loss, in T
PREVIEW = "images.zarr"


@dataclasses.dataclass(frozen=True)
class SanityOptions:
    """A check that the target makes images of the kind of its photos."""

    num_images: int = option(64, "unguided images, and as many photos", at_least(3))


class SanityStage(Stage):
    """Measures the target on few images and photos."""

    name = "sanity"
    folder = "sanity"
    needs = ("target",)  # synthetic images are read if they are there, and the same ones made if not
    version = 2
    alone = True

    def spec(self, audit: Audit) -> Json:
        """Images, photos, descriptor and sampler. A conditional target is asked for the classes of training photos."""
        options = audit.options
        extract = options.extract
        return {
            "sanity": decided(options.sanity),
            "num_steps": options.synthesize.num_steps,
            "train": data_print(audit.split.train),
            "heldout": data_print(audit.split.heldout),
            **descriptor_spec(extract.descriptor, extract.weights, extract.preprocessing),
            **sampling_spec(audit),
            **classes_spec(audit, audit.split.train),
        }

    def run(self, audit: Audit) -> Json:
        """Returns the measurements, and warns at once if the target fails a check."""
        images, (photos, source), training = _images(audit), _photos(audit), _spread(len(audit.split.train), audit)
        rng = np.random.default_rng(audit.options.seed)
        shuffled = rng.permuted(images.reshape(len(images), -1, images.shape[-1]), axis=1).reshape(images.shape)
        embed = audit.descriptor()
        variation = [float(one.std(0, dtype=np.float64).mean()) for one in (images, photos)]
        losses = _losses(audit, training)
        facts = sanity(losses, (variation[0], variation[1]), embed(images), embed(shuffled), embed(photos))
        save_array(audit.folder(self.folder) / PREVIEW, images)
        if facts["failed"]:
            _log.warning("sanity: the target fails; the report has no verdict: %s", "; ".join(facts["failed"]))
        batch_size, others = _batch_size(audit.options, len(training)), other_recipes(audit.options.dataset)
        recipes = measure_recipes(audit, training, batch_size, others)
        if recipes and (sentence := advice(recipes)):
            _log.warning("sanity: %s", sentence)
        return facts | {"num_images": len(images), "photos": source, "recipes": recipes}

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """The sampler, unless there are synthetic images; and forward passes on photos."""
        options = setting.options
        batch = _batch_size(options, options.sanity.num_images)
        if not options.synthetic or max(options.extract.scales) == 0:
            yield sampling(self.name, setting, options.sanity.num_images, options.synthesize.num_steps, batch)
        one = sampling(self.name, setting, options.sanity.num_images, len(_LEVELS), batch)
        yield dataclasses.replace(one, what=f"photos, {len(_LEVELS)} forward passes")
        if recipes := other_recipes(options.dataset):
            passes = len(LEVELS) * (1 + len(recipes))
            one = sampling(self.name, setting, options.sanity.num_images, passes, batch)
            yield dataclasses.replace(one, what=f"by {len(recipes)} other recipes, {passes} forward passes")


def _images(audit: Audit) -> np.ndarray:
    """The first synthetic images: those of the stage, or made here where no guide needs them."""
    options, synthetic = audit.options, audit.folder("synthetic") / "images.zarr"
    indices = np.arange(options.sanity.num_images)
    if (audit.folder("synthetic") / MANIFEST).exists():
        return load_array(synthetic, slice(0, min(len(indices), options.synthesize.num_images)))
    how = audit.sampling(options.synthesize.num_steps)
    how = dataclasses.replace(how, batch_size=_batch_size(options, len(indices)))
    sampler = Sampler(audit.target(), stage_key(options.seed, "synthesize"), how, mesh=local_mesh())
    return np.concatenate([batch for _, batch in sampler(indices, 0.0)])


def _photos(audit: Audit) -> tuple[np.ndarray, str]:
    """Held-out photos, one for each picture, or training photos if fewer than 3 are held out; and which they are."""
    split, heldout = audit.split, paired_positions(audit)[1]
    if len(heldout) < 3:
        return split.train.images[_spread(len(split.train), audit)], "training"
    return split.heldout.images[heldout[_spread(len(heldout), audit)]], "held-out"


def _batch_size(options: "AuditOptions", count: int) -> int:
    """That of synthesize, if it is a number, and at most `count`."""
    size = options.synthesize.batch_size
    return min(count, size) if isinstance(size, int) else count


def _spread(count: int, audit: Audit) -> np.ndarray:
    """As many positions as images are asked for, spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, audit.options.sanity.num_images)).astype(int))


def _losses(audit: Audit, training: np.ndarray) -> np.ndarray:
    """Denoising losses of training photos by noise level, float [N, levels]."""
    photos, labels = audit.split.train.images[training], audit.split.train.labels[training]
    target, key, indices = audit.target(), stage_key(audit.options.seed, "sanity"), np.arange(len(photos))
    count, batch_size = target.schedule.num_train_timesteps, _batch_size(audit.options, len(photos))
    probe = Probe(target, Attack("loss", count), key, batch_size, precision=audit.options.precision)
    indexed = IndexedImages(photos, indices, photo_classes(target, labels, key, indices)[0])
    return -np.stack([probe(indexed, int(level * count))["score"] for level in _LEVELS], axis=1)
