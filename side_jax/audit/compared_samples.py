"""The sets of an audit of generated images alone, as rows of one table: each with the first, by image or as a whole."""

from collections.abc import Mapping

import numpy as np

from side_jax.audit.by_method import Row
from side_jax.audit.stage import Audit
from side_jax.data.images import ImageSet
from side_jax.evidence.intervals import share_difference
from side_jax.evidence.scores import Nearest
from side_jax.evidence.unpaired import unpaired_share_difference
from side_jax.runtime.files import Json

_NAMED = 20  # images that are photos, pixel for pixel: those that metrics.json names


def compared_samples(audit: Audit, sweep: Mapping[float, Row]) -> list[Json] | None:
    """A row for each set, in the order of the config; None with a model.

    Returns:
      "name", "path", "scale" and "num_images"; "skipped", files that were not read; "traits", as `ImageSet.traits`;
      "identical", how many of its images are training and held-out photos pixel for pixel, with the ids of some;
      "against_first", None for the first set: whether the two are "paired" by id, and by band the "ams" of the set less
      that of the first.
    """
    if not audit.samples:
        return None
    first, rows = audit.options.samples.scales[0], []
    for scale, (name, path) in zip(audit.options.samples.scales, audit.options.samples.paths, strict=True):
        images = audit.samples[scale]
        row = {"name": name, "path": path, "scale": scale, "num_images": len(images), "skipped": images.skipped}
        row |= {"traits": images.traits, "identical": _identical(audit, images), "against_first": None}
        if scale != first:
            row["against_first"] = _against(
                audit, (images, sweep[scale].train), (audit.samples[first], sweep[first].train)
            )
        rows.append(row)
    return rows


def same_images(audit: Audit) -> bool:
    """Whether all sets have the same ids in the same order: image i of one is paired with image i of the others."""
    return len({images.ids for images in audit.samples.values()}) == 1


def _identical(audit: Audit, images: ImageSet) -> Json:
    train, heldout = set(audit.split.train.hashes), set(audit.split.heldout.hashes)
    same = [name for name, content in zip(images.ids, images.hashes, strict=True) if content in train]
    return {"train": len(same), "ids": same[:_NAMED], "heldout": sum(one in heldout for one in images.hashes)}


def _against(audit: Audit, one: tuple[ImageSet, Nearest], first: tuple[ImageSet, Nearest]) -> Json:
    (images, best), (before, best_before) = one, first
    order = {name: i for i, name in enumerate(before.ids)}
    paired = order.keys() == set(images.ids)
    places = np.array([order[name] for name in images.ids]) if paired else np.arange(len(before))
    difference = share_difference if paired else unpaired_share_difference
    bands = {
        band[0]: {"ams": difference(best.hits(band), best_before.hits(band)[places]).facts()} for band in audit.bands()
    }
    return {"paired": paired, "bands": bands}
