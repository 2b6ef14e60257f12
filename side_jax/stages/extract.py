"""Stage 5, extract: for every λ, generate images and match them against training and held-out photos."""

from typing import Any

import numpy as np

from side_jax.arrays import ImageStore, load_array, save_array
from side_jax.extraction.descriptors import Descriptor, load_descriptor
from side_jax.extraction.parts import scale_folder
from side_jax.extraction.sweep import Reference, paired_subsets, sweep_scale
from side_jax.images import ImageSet
from side_jax.sampling import Sampler
from side_jax.sharding import stage_key
from side_jax.stages.audit import Audit, data_print, descriptor_spec, load_target, precision_spec
from side_jax.surrogate.classifier import read_classifier


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
            "lowest_score": options.bands[0][1],
            "split_seed": audit.options.dataset.split_seed,
            "train": data_print(audit.split.train),
            "heldout": data_print(audit.split.heldout),
        }
    )


def extract_request(audit: Audit) -> dict[str, Any]:
    """How much."""
    return {"scales": audit.options.extract.scales, "num_images": audit.options.extract.num_images}


def make_sampler(audit: Audit) -> Sampler:
    """Image n at any λ, as the sweep generates it."""
    options = audit.options.extract
    guide = read_classifier(audit.folder("classifier")) if max(options.scales) > 0 else None
    size = min(options.batch_size, options.num_images)
    key = stage_key(audit.options.seed, "extract")
    return Sampler(
        load_target(audit.workdir), key, options.num_steps, options.eta, size, guide, audit.options.precision
    )


def paired_positions(audit: Audit) -> tuple[np.ndarray, np.ndarray]:
    """Equally many training and held-out images, for comparing the two."""
    split = audit.split
    return paired_subsets(len(split.train), len(split.heldout), audit.options.dataset.split_seed)


def image_store(audit: Audit, scale: float) -> ImageStore | None:
    """Where the images of one λ are kept, if they are."""
    options, dataset = audit.options.extract, audit.options.dataset
    if not options.save_images:
        return None
    shape = (dataset.image_size, dataset.image_size, dataset.channels)
    path = scale_folder(audit.folder("extract"), scale) / "images.zarr"
    return ImageStore(path, options.num_images, shape, min(options.batch_size, options.num_images))


def _descriptors(audit: Audit, name: str, images: ImageSet, embed: Descriptor) -> np.ndarray:
    """Descriptors of real photos: computed once, the same for all methods."""
    path = audit.workdir / "extract" / f"{name}_descriptors.zarr"
    if not path.exists():
        save_array(path, embed(images.images))
    return load_array(path)


def extract(audit: Audit) -> dict[str, Any]:
    """Sweeps over λ; descriptors of the real photos are computed once and kept."""
    options, split, folder = audit.options.extract, audit.split, audit.folder("extract")
    embed = load_descriptor(options.descriptor, options.weights, options.preprocessing, audit.options.precision)
    train = Reference.of(split.train, _descriptors(audit, "train", split.train, embed))
    heldout = Reference.of(split.heldout, _descriptors(audit, "heldout", split.heldout, embed))
    in_train, in_heldout = paired_positions(audit)
    references = {"": train, "paired_": train.subset(in_train), "heldout_": heldout.subset(in_heldout)}
    sampler = make_sampler(audit)
    for scale in options.scales:
        sweep_scale(
            folder,
            scale,
            options.num_images,
            sampler,
            embed,
            references,
            options.top_k,
            options.bands[0][1],
            image_store(audit, scale),
        )
    return {"descriptor": embed.facts, "paired_images": len(in_train)}
