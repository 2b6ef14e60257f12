"""Reads the sweep of a method for later stages: match tables, generated images, descriptors of the photos."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
import pyarrow as pa
from etils import epath
from jax.sharding import Mesh

from side_jax.audit.stage import Audit, paired_positions
from side_jax.matching.given import GivenImages
from side_jax.matching.parts import read_descriptors, read_parts, scale_folder
from side_jax.matching.references import Photos
from side_jax.runtime.arrays import ImageStore, load_array
from side_jax.runtime.files import MANIFEST, AuditError, Json, read_json
from side_jax.runtime.mapped import copied
from side_jax.runtime.sharding import local_mesh, stage_key
from side_jax.surrogate.stored import read_guide
from side_jax.targets.sampling import Sampler

EQUAL_COMPUTE = "equal_compute.json"
LISTS = "lists.json"


def lists_from(audit: Audit) -> float | None:
    """The score from which the sweep lists all matches of an image, fixed when it began; None before."""
    path = audit.folder("extract") / LISTS
    return float(read_json(path)["lowest_score"]) if path.exists() else None


def read_scale(audit: Audit, scale: float, count: int | None = None) -> pa.Table:
    """The match table of one λ: one row per image in order, of the first `count` images (default `asked_images`).

    Raises:
      AuditError: if rows are missing or damaged; the stage is then no longer complete.
    """
    count = count or asked_images(audit, scale)
    table = read_parts(scale_folder(audit.folder("extract"), scale))
    inside = table["index"].to_numpy() < count
    table = table if inside.all() else table.filter(inside)
    if len(table) != count:
        (audit.folder("extract") / MANIFEST).unlink(missing_ok=True)  # the stage is no longer complete
        raise AuditError(
            f"{count - len(table)} of the {count} rows of λ = {scale:g} are damaged or missing; --stages=extract,report"
            " makes them again"
        )
    return table


def generated_descriptors(audit: Audit, scale: float) -> np.ndarray | None:
    """Descriptors of the first images of one λ, float32 [N, D]; None if the sweep kept none, or fewer than 3."""
    extract = audit.options.extract
    count = min(extract.quality_images, extract.num_images)
    return read_descriptors(scale_folder(audit.folder("extract"), scale), count) if count >= 3 else None


def generated_images(audit: Audit, scale: float, indices: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Images of one λ by index: read if they were kept, else generated again from (seed, index).

    Args:
      audit: with a finished sweep.
      scale: λ.
      indices: int [N].
      best: their best scores with training photos, which decide what was kept, float32 [N].

    Returns:
      uint8 [N, H, W, C].
    """
    if audit.samples:
        return copied(audit.samples[scale].images, indices)
    kept = _kept(audit, best)
    shape = (audit.options.dataset.image_size,) * 2 + (audit.options.dataset.channels,)
    images = np.empty((len(indices), *shape), np.uint8)
    if kept.any():
        images[kept] = load_array(_store_path(audit, scale), indices[kept])
    if not kept.all():
        # In the sweep's batches: another program would round differently, by a gray level in some pixels.
        size = read_json(audit.folder("extract") / MANIFEST)["facts"]["device_batch"] * jax.local_device_count()
        batches = make_sampler(audit, size)(indices[~kept], scale)
        images[~kept] = np.concatenate([batch for _, batch in batches])
    return images


def kept_image(audit: Audit, scale: float, index: int, best: float) -> np.ndarray | None:
    """An image of a model's sweep as it was kept, uint8 [H, W, C]; None if it was not.

    Args:
      audit: with a finished sweep.
      scale: λ.
      index: of the image.
      best: its best score with a training photo.
    """
    if not _kept(audit, np.array([best]))[0]:
        return None
    image: np.ndarray = load_array(_store_path(audit, scale), np.array([index]))[0]
    return image


def _kept(audit: Audit, best: np.ndarray) -> np.ndarray:
    """The images of these best scores that the sweep kept, bool [N]."""
    lowest = {"none": np.inf, "matched": lists_from(audit), "all": -np.inf}[audit.options.extract.save_images]
    return best >= np.float32(lowest)


def _store_path(audit: Audit, scale: float) -> epath.Path:
    return scale_folder(audit.folder("extract"), scale) / "images.zarr"


def asked_images(audit: Audit, scale: float) -> int:
    """N_G, the number of images of one λ that scores are of; of samples, as many as there are."""
    if not audit.options.modelless:
        return audit.options.extract.num_images
    sets = audit.sample_facts().values()
    return next((int(one["num_images"]) for one in sets if one["scale"] == scale), 0)


def num_images(audit: Audit, scale: float) -> int:
    """Number of images of one λ: N_G, and more at λ = 0 if the comparison at equal compute needs them."""
    count = asked_images(audit, scale)
    return max([count, *(facts["random_images"] for facts in equal_compute(audit))] if scale == 0 else [count])


def equal_compute(audit: Audit) -> list[Json]:
    """Counts for the comparison at equal compute, one per method; empty without that comparison."""
    path = audit.workdir / "extract" / EQUAL_COMPUTE
    return read_json(path) if audit.options.extract.equal_compute and path.exists() else []


def make_source(audit: Audit, mesh: Mesh, sharded: bool) -> Sampler | GivenImages:
    """Where the images of the sweep come from: samples that are given, or the sampler."""
    if audit.samples:
        return GivenImages({scale: images.images for scale, images in audit.samples.items()}, mesh)
    return make_sampler(audit, 1, mesh, sharded)


def make_sampler(audit: Audit, batch_size: int, mesh: Mesh | None = None, sharded: bool = False) -> Sampler:
    """The sweep's sampler; on the devices of this process unless a mesh is given."""
    options, mesh = audit.options.extract, mesh or local_mesh()
    guide = None
    if max(options.scales) > 0:
        guide = read_guide(audit.folder("classifier"), audit.workdir, mesh, sharded)
    key, how = stage_key(audit.options.seed, "extract"), audit.sampling(options.num_steps, options.eta)
    how = dataclasses.replace(how, batch_size=batch_size)
    return Sampler(audit.target(), key, how, guide, mesh=mesh)


def image_store(audit: Audit, scale: float, rows: int) -> ImageStore:
    """The store of the images of one λ, with `rows` images per chunk."""
    dataset = audit.options.dataset
    shape = (dataset.image_size, dataset.image_size, dataset.channels)
    return ImageStore(_store_path(audit, scale), num_images(audit, scale), shape, rows)


def descriptor_path(audit: Audit, name: str) -> epath.Path:
    """The file of the descriptors of the photos `name`, "train" or "heldout"; all methods share it."""
    return audit.workdir / "extract" / f"{name}_descriptors.zarr"


def heldout_queries(audit: Audit, rows: np.ndarray) -> np.ndarray:
    """Descriptors of held-out photos, to be matched as generated images are: float32 [N, D] or [N, 2, D]."""
    if audit.options.extract.mirror:
        return audit.descriptor().host_queries(audit.split.heldout.images[rows])
    return load_array(descriptor_path(audit, "heldout"), rows)


def pool_photos(audit: Audit) -> Photos:
    """Readers of the descriptors and pixels of the pool's photos."""
    split, count, in_heldout = audit.split, len(audit.split.train), paired_positions(audit)[1]

    def read(rows: Callable[[str, np.ndarray], np.ndarray], positions: np.ndarray) -> np.ndarray:
        train, held = positions[positions < count], in_heldout[positions[positions >= count] - count]
        parts = [rows(name, chosen) for name, chosen in (("train", train), ("heldout", held)) if len(chosen)]
        return np.concatenate(parts or [rows("train", train)])

    def pixels(name: str, chosen: np.ndarray) -> np.ndarray:
        images = (split.train if name == "train" else split.heldout).images[chosen]
        return images.reshape(len(images), math.prod(images.shape[1:]))

    descriptors = functools.partial(read, lambda name, chosen: load_array(descriptor_path(audit, name), chosen))
    return Photos(descriptors, functools.partial(read, pixels))
