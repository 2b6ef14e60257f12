"""Stage 5, extract: for every λ, generate images and match them against training and held-out photos."""

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from etils import epath
from jax.sharding import Mesh

from side_jax.arrays import ImageStore, array_exists, read_rows, save_array
from side_jax.artifacts import MANIFEST, AuditError, read_json, write_json
from side_jax.batch_size import resolve
from side_jax.cost.equal_compute import random_images_at_equal_compute
from side_jax.cost.jobs import CLASSES, Setting
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.distributed import barrier, broadcast, is_primary, once
from side_jax.extraction.descriptors import Descriptor, load_descriptor
from side_jax.extraction.parts import count_damaged, covered, drop_damaged, read_parts, scale_folder
from side_jax.extraction.references import ReferenceSet, place_references
from side_jax.extraction.sweep import Sweep
from side_jax.progress import Progress
from side_jax.sampling import Sampler
from side_jax.sharding import data_mesh, local_mesh, replicate, stage_key
from side_jax.stages.audit import Audit, data_print, descriptor_spec, load_target, paired_positions, precision_spec
from side_jax.surrogate.stored import read_guide

_EQUAL_COMPUTE = "equal_compute.json"
_REFERENCE_SHARE = 1 / 4  # of a device's memory may be references; more, and they are split over all devices


def extract_spec(audit: Audit) -> dict[str, Any]:
    """All but how much: more λ or more images extend a sweep, and batch size changes nothing."""
    options = audit.options.extract
    spec = {name: getattr(options, name) for name in ("num_steps", "eta", "top_k", "save_images")}
    spec |= {"weights": ""} | descriptor_spec(options.descriptor, options.weights, options.preprocessing)
    return (
        spec
        | precision_spec(audit)
        | {
            "seed": audit.options.seed,
            "clip": audit.options.sampler.clip,
            "draw": audit.options.labels.draw,
            "lowest_score": options.bands[0][1],
            "split_seed": audit.options.dataset.split_seed,
            "train": data_print(audit.split.train),
            "heldout": data_print(audit.split.heldout),
        }
    )


def extract_request(audit: Audit) -> dict[str, Any]:
    """How much."""
    options = audit.options.extract
    return {name: getattr(options, name) for name in ("scales", "num_images", "equal_compute")}


def num_images(audit: Audit, scale: float) -> int:
    """Images of one λ: N_G, and at λ = 0 those beside them for the comparison at equal compute."""
    count = audit.options.extract.num_images
    return max([count, *(facts["random_images"] for facts in equal_compute(audit))] if scale == 0 else [count])


def equal_compute(audit: Audit) -> list[dict[str, Any]]:
    """What the extract stage counted of every method, in order; empty if it was not asked to."""
    path = audit.workdir / "extract" / _EQUAL_COMPUTE
    return read_json(path) if audit.options.extract.equal_compute and path.exists() else []


def _count_equal_compute(audit: Audit) -> None:
    """Counts for every guided method how many images Random makes for what it takes."""
    rows = [row for row in audit.compared or (audit.options,) if row.classifier.guide != "none"]
    counted = []
    for row in rows:
        labels = audit.split.train.labels
        setting = Setting(
            row,
            load_target(audit.workdir).unet,
            1,  # device, so that the number does not depend on the machine
            len(audit.split.train),
            len(np.unique(labels[labels >= 0])) or CLASSES,
        )
        name = {"source": row.labels.source, "guide": row.classifier.guide}
        counted.append(name | random_images_at_equal_compute(setting, row, row.extract.num_images)[1])
    write_json(audit.workdir / "extract" / _EQUAL_COMPUTE, counted)


def make_sampler(audit: Audit, batch_size: int, mesh: Mesh | None = None, sharded: bool = False) -> Sampler:
    """Image n at any λ, as the sweep generates it; on the devices of this process unless told otherwise."""
    options, mesh = audit.options.extract, mesh or local_mesh()
    guide = None
    if max(options.scales) > 0:
        guide = read_guide(audit.folder("classifier"), audit.workdir, mesh, sharded)
    key, solver = stage_key(audit.options.seed, "extract"), DDIM(options.eta)
    target, precision, clip = load_target(audit.workdir), audit.options.precision, audit.options.sampler.clip
    return Sampler(
        target,
        key,
        options.num_steps,
        solver,
        batch_size,
        guide,
        mesh,
        precision,
        None,
        clip,
        audit.options.labels.draw,
    )


def image_store(audit: Audit, scale: float, rows: int) -> ImageStore:
    """Where the images of one λ are kept; `rows` of them to a chunk."""
    dataset = audit.options.dataset
    shape = (dataset.image_size, dataset.image_size, dataset.channels)
    path = scale_folder(audit.folder("extract"), scale) / "images.zarr"
    return ImageStore(path, num_images(audit, scale), shape, rows)


def descriptor_path(audit: Audit, name: str) -> epath.Path:
    """Descriptors of the real photos, "train" or "heldout": computed once, the same for all methods."""
    return audit.workdir / "extract" / f"{name}_descriptors.zarr"


def _sharded(audit: Audit, width: int) -> bool:
    """Must the references be split over the devices of all processes?

    Split, they need as little memory as can be, but every batch then waits for all processes.
    """
    options, train = audit.options.extract, audit.split.train
    if options.references != "auto":
        return options.references == "sharded"
    stats = jax.local_devices()[0].memory_stats() or {}  # None on CPU
    needed = 2 * len(train) * (4 * width + math.prod(train.images.shape[1:]))  # all, and those that are paired
    return needed > _REFERENCE_SHARE * stats.get("bytes_limit", math.inf)


def _reference_sets(audit: Audit, mesh: Mesh, sharded: bool) -> dict[str, ReferenceSet]:
    """All training images, as many of them as there are held out, and those held out; sets without images left out."""
    split, (in_train, in_heldout) = audit.split, paired_positions(audit)
    sets = {"": ("train", np.arange(len(split.train))), "paired_": ("train", in_train)}
    sets["heldout_"] = ("heldout", in_heldout)
    placed = {}
    for prefix, (name, chosen) in sets.items():
        images = split.train if name == "train" else split.heldout
        if len(chosen):
            read = functools.partial(read_rows, descriptor_path(audit, name))
            placed[prefix] = place_references(np.array(images.ids), read, images.images, chosen, mesh, sharded)
    return placed


def _prepare(audit: Audit, embed: Descriptor) -> tuple[dict[float, np.ndarray], int]:
    """Which images of each λ are missing, [N_G], the same on all processes; and how many parts were damaged so far."""
    options, split, folder = audit.options.extract, audit.split, audit.folder("extract")
    damaged = 0
    if is_primary():
        if options.equal_compute and 0.0 in options.scales:
            _count_equal_compute(audit)
        for name, images in (("train", split.train), ("heldout", split.heldout)):
            if not array_exists(descriptor_path(audit, name)):
                save_array(descriptor_path(audit, name), embed(images.images))
        damaged = count_damaged(folder, sum(drop_damaged(scale_folder(folder, scale)) for scale in options.scales))
    barrier("extract: descriptors and parts")
    missing = {scale: ~covered(scale_folder(folder, scale), num_images(audit, scale)) for scale in options.scales}
    return broadcast(missing), damaged


def extract(audit: Audit) -> dict[str, Any]:
    """Sweeps over λ; descriptors of the real photos are computed once and kept."""
    options, folder = audit.options.extract, audit.folder("extract")
    embed = load_descriptor(options.descriptor, options.weights, options.preprocessing, audit.options.precision)
    missing, damaged = _prepare(audit, embed)
    sharded = _sharded(audit, read_rows(descriptor_path(audit, "train"), np.arange(1)).shape[1])
    mesh = data_mesh() if sharded else local_mesh()
    sampler = make_sampler(audit, 1, mesh, sharded)

    def store(scale: float) -> ImageStore:
        return image_store(audit, scale, sampler.batch_size * local_mesh().size // mesh.size)

    sweep = Sweep(
        lambda scale: scale_folder(folder, scale),
        sampler,
        dataclasses.replace(embed, variables=replicate(embed.variables, mesh)),
        _reference_sets(audit, mesh, sharded),
        sharded,
        options.top_k,
        options.bands[0][1],
        options.save_images,
        store,
    )
    largest = max(options.scales)  # with the guide, if there is one, the program takes the most memory
    lower, program = (
        functools.partial(sweep.lower, scale=largest),
        (sweep.program(largest)[0], sampler.signature(largest)),
    )
    sampler.batch_size = resolve(options.batch_size, lower, program, options.num_images, mesh, "extract")
    if options.save_images != "none":
        once("image stores", lambda: [store(scale) for scale in options.scales])  # creates them, for all to open
    for scale in options.scales:
        count, logs = len(missing[scale]), folder / "logs" / scale_folder(folder, scale).name
        with Progress(f"extract λ={scale:g}", count, count - int(missing[scale].sum()), logs=logs) as progress:
            sweep(scale, missing[scale], progress)
    return {
        "descriptor": embed.facts,
        "paired_images": len(paired_positions(audit)[0]),
        "damaged_parts": damaged,
        "device_batch": sampler.batch_size // mesh.size,
    }


def read_scale(audit: Audit, scale: float, count: int | None = None) -> pa.Table:
    """The match table of one λ, a row for each image, in order: of the N_G images, or of `count`.

    Raises:
      AuditError: if rows are missing or damaged; the stage is then no longer complete.
    """
    count = count or audit.options.extract.num_images
    table = read_parts(scale_folder(audit.folder("extract"), scale))
    inside = table["index"].to_numpy() < count
    table = table if inside.all() else table.filter(inside)
    if len(table) != count:
        (audit.folder("extract") / MANIFEST).unlink(missing_ok=True)  # not complete after all
        raise AuditError(
            f"{count - len(table)} of the {count} rows of λ = {scale:g} are damaged or missing; --stages=extract,report"
            " makes them again"
        )
    return table


def generated_images(audit: Audit, scale: float, indices: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Images of one λ by index: from the store where they were kept, else generated again from (seed, index).

    Args:
      audit: with a finished sweep.
      scale: λ.
      indices: int [N].
      best: their best scores with training images, which say what was kept, float32 [N].

    Returns:
      uint8 [N, H, W, C].
    """
    lowest = np.float32(audit.options.extract.bands[0][1])
    kept = {"none": best > np.inf, "matched": best >= lowest, "all": best > -np.inf}[audit.options.extract.save_images]
    shape = (audit.options.dataset.image_size,) * 2 + (audit.options.dataset.channels,)
    images = np.empty((len(indices), *shape), np.uint8)
    if kept.any():
        images[kept] = read_rows(scale_folder(audit.folder("extract"), scale) / "images.zarr", indices[kept])
    if not kept.all():
        # In batches as the sweep had them: another program would round otherwise, here and there by a gray level.
        size = read_json(audit.folder("extract") / MANIFEST)["facts"]["device_batch"] * jax.local_device_count()
        batches = make_sampler(audit, size)(indices[~kept], scale)
        images[~kept] = np.concatenate([batch for _, batch in batches])
    return images
