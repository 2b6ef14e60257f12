"""The forecast from the first tenth of a sweep against the whole: `python -m docs.evidence.forecast`.

4,800 unguided images of the ORL target, 20 minutes on two cores; what is matched is kept in runs/evidence.
"""

from pathlib import Path

import numpy as np

import side_jax
from configs import orl
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler, Sampling

NUM_IMAGES, NUM_STEPS, SEED, HIT = 4_800, 25, 0, 0.98  # fixed before any image was generated
_KEPT = Path("runs/evidence/forecast")
_CHUNK = 240


def winners() -> np.ndarray:
    """The best match of each image in the demo's highest band, −1 for the others: int [N]. Made, or read if kept."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    options = AuditOptions.from_config(orl.get_config())
    target, embed = side_jax.load_target(options.target.path), side_jax.load_descriptor("pixel")
    photos = embed(load_split(options.dataset).train.images)
    sampler = Sampler(target, stage_key(SEED, "forecast"), Sampling(NUM_STEPS, batch_size=60))
    chunks = []
    for start in range(0, NUM_IMAGES, _CHUNK):
        path = _KEPT / f"{start:06d}.npy"
        if not path.exists():
            images = np.concatenate([batch for _, batch in sampler(np.arange(start, start + _CHUNK), 0.0)])
            found = side_jax.match(embed(images), photos, k=1)
            np.save(path, np.where(found.scores[:, 0] >= HIT, found.indices[:, 0], -1))
            print(f"{start + _CHUNK} images", flush=True)
        chunks.append(np.load(path))
    return np.concatenate(chunks)


if __name__ == "__main__":
    winners()
