"""How much of its training data does this diffusion model give back?

The public API; everything is imported on first use, so that `import side_jax` costs nothing but JAX.

    target = side_jax.load_target("assets/orl_target")
    images = side_jax.sample(target, num_images=16, seed=0)
    embed = side_jax.load_descriptor("pixel")
    matches = side_jax.match(embed(images), embed(train_images), k=10)
    side_jax.ams(matches, 0.5, 0.6), side_jax.ums(matches, 0.5, 0.6)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from side_jax.audit.audit_samples import audit_samples as audit_samples
    from side_jax.audit.finished import FinishedAudit as FinishedAudit
    from side_jax.audit.finished import load_audit as load_audit
    from side_jax.audit.pipeline import run as run
    from side_jax.audit.target_files import load_target as load_target
    from side_jax.data.images import ImageSet as ImageSet
    from side_jax.data.load import load_images as load_images
    from side_jax.evidence.metrics import ams as ams
    from side_jax.evidence.metrics import ums as ums
    from side_jax.inside.spikiness import spikiness as spikiness
    from side_jax.inside.steering_vectors import steering_vectors as steering_vectors
    from side_jax.matching.descriptors import load_descriptor as load_descriptor
    from side_jax.matching.search import Matches as Matches
    from side_jax.matching.search import match as match
    from side_jax.surrogate.exact import exact_guide as exact_guide
    from side_jax.surrogate.stored import load_classifier as load_classifier
    from side_jax.targets.diffusers import save_target as save_target
    from side_jax.targets.sampling import sample as sample

# gs:// through gcsfs, which takes credentials and endpoint as Google's own library does. Without its cache of listings:
# TensorStore, Orbax and other processes write beside it.
os.environ.setdefault("EPATH_USE_TF", "0")
os.environ.setdefault("FSSPEC_GCS_USE_LISTINGS_CACHE", "")

_HOME = {
    "FinishedAudit": "side_jax.audit.finished",
    "ImageSet": "side_jax.data.images",
    "Matches": "side_jax.matching.search",
    "audit_samples": "side_jax.audit.audit_samples",
    "ams": "side_jax.evidence.metrics",
    "exact_guide": "side_jax.surrogate.exact",
    "load_audit": "side_jax.audit.finished",
    "load_classifier": "side_jax.surrogate.stored",
    "load_descriptor": "side_jax.matching.descriptors",
    "load_images": "side_jax.data.load",
    "load_target": "side_jax.audit.target_files",
    "match": "side_jax.matching.search",
    "run": "side_jax.audit.pipeline",
    "sample": "side_jax.targets.sampling",
    "save_target": "side_jax.targets.diffusers",
    "spikiness": "side_jax.inside.spikiness",
    "steering_vectors": "side_jax.inside.steering_vectors",
    "ums": "side_jax.evidence.metrics",
}
__all__ = list(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'side_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
