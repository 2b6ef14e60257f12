"""Quality beside copies: how far the images of each λ are from photos, in the space of the scores."""

import numpy as np

from side_jax.audit.stage import Audit
from side_jax.audit.sweep import descriptor_path, generated_descriptors
from side_jax.evidence.quality import quality_by_scale
from side_jax.runtime.arrays import load_array
from side_jax.runtime.files import Json

_PHOTOS = 1_024  # at most
_FEWEST = 3  # that an interval of KID needs


def measure_quality(audit: Audit) -> tuple[dict[float, Json], Json | None]:
    """By λ, the row "quality" of metrics.json; and what is common to all. Empty and None if the sweep kept nothing.

    Against held-out photos, one of each picture; against training photos where fewer than 3 are held out, to which a
    copy is near by itself. "yardstick" is of as many training photos as images, against the held-out ones.
    """
    kept = {scale: generated_descriptors(audit, scale) for scale in audit.options.extract.scales}
    generated = {scale: images for scale, images in kept.items() if images is not None}
    train, heldout = audit.split.representatives()
    against, chosen = ("heldout", heldout) if len(heldout) >= _FEWEST else ("train", train)
    if not generated or len(chosen) < _FEWEST:
        return {}, None
    photos = _descriptors(audit, against, chosen, _PHOTOS)
    count = len(next(iter(generated.values())))
    measurable = against == "heldout" and len(train) >= _FEWEST
    yardstick = _descriptors(audit, "train", train, count) if measurable else None
    rows, real = quality_by_scale(generated, photos, yardstick)
    return dict(rows), {"against": against, "photos": len(photos), "num_images": count, "yardstick": real}


def _descriptors(audit: Audit, name: str, positions: np.ndarray, most: int) -> np.ndarray:
    """Of these photos, or of so many of them, drawn with the split's seed: float32 [M, D]."""
    rng = np.random.default_rng((audit.options.dataset.split_seed, 5))
    rows = np.sort(rng.permutation(positions)[:most])
    found: np.ndarray = load_array(descriptor_path(audit, name), rows)
    return found
