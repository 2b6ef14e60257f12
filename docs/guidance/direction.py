"""Part: whether OL-TI finds more on images not looked at, and what pushes of the same length elsewhere do.

On images that no other part looks at, so that λ, chosen on those, is not chosen here.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from docs.guidance import setting
from docs.guidance.regimes import config_of
from docs.guidance.wrapped import Wrapped
from side_jax.diffusion.guide import Guide
from side_jax.evidence.ratios import equal_counts_p, ratio_with_interval, shared_hits, shared_photos
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler, Sampling

FIRST_INDEX = 20_000
HIT = 0.98
_SCALE = 1.0
_DIRECTIONS = {
    "its own": "OL-TI",
    "upside_down": "OL-TI's gradient, turned upside down",
    "random": "a random direction for each class, of its length",
}


@flax.struct.dataclass
class Turned(Wrapped):
    """OL-TI with its gradient turned elsewhere, of the same length in every image and step.

    Attributes:
      direction: upside_down: the rows of pixels in reverse order, which keeps its spectrum too; random: a direction of
        independent pixels, drawn once for each class.
    """

    direction: str = flax.struct.field(pytree_node=False, default="upside_down")

    def gradient(self, x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        g = super().gradient(x_t, t, labels)
        if self.direction == "upside_down":
            return g[:, ::-1]
        drawn = jax.random.normal(jax.random.key(0), (self.num_classes, *x_t.shape[1:]))[labels]
        return drawn * (_length(g) / _length(drawn))


def _length(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(x).sum((1, 2, 3), keepdims=True))


def make(num_images: int = 960) -> dict[str, Any]:
    """Generates and matches `num_images` unguided images, and as many for each direction; returns the numbers."""
    known = setting.read(config_of("few", 960), 0)
    references = setting.describe(known.photos.images)
    guides: dict[str, Guide | None] = {"none": None, "its own": known.teacher}
    guides |= {name: Turned(known.teacher, name) for name in ("upside_down", "random")}
    photo, hit, asked = {}, {}, {}
    for name, guide in guides.items():
        sampler = Sampler(known.target, stage_key(0, "extract"), Sampling(50), guide)
        indices, lam = np.arange(FIRST_INDEX, FIRST_INDEX + num_images), _SCALE if guide else 0.0
        images = np.concatenate([batch for _, batch in sampler(indices, lam)])
        scores = setting.describe(images) @ references.T
        photo[name], hit[name] = scores.argmax(1), scores.max(1) >= HIT
        asked[name] = float((known.photos.labels[photo[name]] == sampler.draw(indices, lam)).mean())
        print(name, int(hit[name].sum()), flush=True)
    found = {name: np.where(hit[name], photo[name], -1) for name in guides}
    none = {"name": "Random", "hits": int(hit["none"].sum()), "photos": _count(found["none"])}
    rows: list[dict[str, Any]] = [none | {"asked": None, "ams": None, "ums": None}]
    for name, title in _DIRECTIONS.items():
        ams, ums = shared_hits(hit[name], hit["none"]), shared_photos(found[name], found["none"])
        rows.append(
            {
                "name": title,
                "hits": int(hit[name].sum()),
                "photos": _count(found[name]),
                "asked": asked[name],
                "ams": {"ratio": ratio_with_interval(ams)._asdict(), "p": equal_counts_p(ams)},
                "ums": {"ratio": ratio_with_interval(ums)._asdict(), "p": equal_counts_p(ums)},
            }
        )
    return {"num_images": num_images, "first_index": FIRST_INDEX, "scale": _SCALE, "rows": rows}


def _count(found: np.ndarray) -> int:
    return len(np.unique(found[found >= 0]))
