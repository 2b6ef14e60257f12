"""Part: which classes, and which of their draws, make guidance find *different* photos.

Everything is compared on images of its own, so that the figures of the two regimes are not what a draw was chosen by.
"""

import dataclasses
import hashlib
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from docs.guidance import setting
from docs.guidance.regimes import config_of
from docs.guidance.setting import Setting
from docs.guidance.wrapped import Wrapped
from side_jax.inside.membership import Attack
from side_jax.inside.probe import IndexedImages, Probe
from side_jax.matching.search import repeats_above
from side_jax.runtime.sharding import stage_key
from side_jax.surrogate.exact import check_labels, make_exact_guide
from side_jax.surrogate.labels import Labels, classifier_labels, cluster_labels, repeat_labels, unique_labels
from side_jax.targets.sampling import Sampler, Sampling

FIRST_INDEX = 10_000  # the audits look at images 0 … some thousand
HIT = 0.98
_FEW, _MORE = 1_024, 3_072  # synthetic images
_LOSS_TIMESTEPS, _LOSS_DRAWS = (50, 100, 200, 300), 3  # those of the membership attack


@flax.struct.dataclass
class Window(Wrapped):
    """A guide that is asked only while low ≤ t < high."""

    low: int = flax.struct.field(pytree_node=False, default=0)
    high: int = flax.struct.field(pytree_node=False, default=1000)

    def gradient(self, x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        inside = ((t >= self.low) & (t < self.high))[:, None, None, None]
        return jnp.where(inside, super().gradient(x_t, t, labels), 0)


@dataclasses.dataclass(frozen=True)
class Draw:
    """One way of asking.

    Attributes:
      classes: what a class is: teacher | clusters K | repeats THRESHOLD | single | surest COUNT.
      scales: λ; of several, image n gets the one at place n mod their number.
      draw: uniform | balanced.
      window: t from … to, in which guidance acts.
      synthetic: images that the guide knows.
    """

    classes: str
    scales: tuple[float, ...]
    draw: str = "uniform"
    window: tuple[int, int] = (0, 1000)
    synthetic: int = _FEW


DRAWS = (
    Draw("none", (0.0,)),
    *(Draw("teacher", (lam,)) for lam in (2.0, 4.0)),
    Draw("teacher", (1.0, 2.0, 4.0, 8.0)),
    Draw("teacher", (4.0,), window=(500, 1000)),
    Draw("teacher", (4.0,), window=(0, 500)),
    Draw("clusters 40", (4.0,)),
    *(Draw(f"clusters {k}", (lam,)) for k in (100, 200) for lam in (2.0, 4.0)),
    *(Draw("repeats 0.97", (lam,), draw) for draw in ("uniform", "balanced") for lam in (2.0, 4.0)),
    *(Draw(f"repeats {threshold}", (2.0,), "balanced") for threshold in (0.95, 0.9)),
    Draw("single", (2.0,), "balanced"),
    *(Draw(f"surest {count}", (2.0,), "balanced") for count in (100, 200)),
    *(Draw("repeats 0.97", (lam,), "balanced", synthetic=_MORE) for lam in (2.0, 4.0)),
    *(Draw(f"surest {count}", (2.0,), "balanced", synthetic=_MORE) for count in (200, 400)),
)


def make(num_images: int = 480) -> dict[str, Any]:
    """Generates and matches `num_images` for every draw, or reads what a run before has matched."""
    known = setting.read(config_of("few", 960), _MORE)
    references = setting.describe(known.photos.images)
    synthetic = _best(references, known.synthetic)
    rows = []
    for draw in DRAWS:
        photo, score = _matched(known, references, draw, num_images)
        found = [_photos(photo[:n], score[:n]) for n in range(num_images // 4, num_images + 1, num_images // 4)]
        rows.append(dataclasses.asdict(draw) | {"hits": int((score >= HIT).sum()), "photos": found})
        print(rows[-1], flush=True)
    photo, score = synthetic
    of_set = {str(n): [int((score[:n] >= HIT).sum()), _photos(photo[:n], score[:n])] for n in (_FEW, _MORE)}
    return {"num_images": num_images, "first_index": FIRST_INDEX, "synthetic": of_set, "rows": rows}


def _best(references: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest photo of each image, and its score."""
    scores = setting.describe(images) @ references.T
    return scores.argmax(1), scores.max(1)


def _photos(photo: np.ndarray, score: np.ndarray) -> int:
    return len(np.unique(photo[score >= HIT]))


def _matched(known: Setting, references: np.ndarray, draw: Draw, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    name = hashlib.sha256(repr((draw, num_images)).encode()).hexdigest()[:16]
    path = setting.WORKDIRS / "draws" / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        photo, score = _best(references, _images(known, draw, num_images))
        np.savez(path, photo=photo, score=score)
    with np.load(path) as arrays:
        return arrays["photo"], arrays["score"]


def _images(known: Setting, draw: Draw, num_images: int) -> np.ndarray:
    guide: Any = None
    if draw.classes != "none":
        images = known.synthetic[: draw.synthetic]
        labels = check_labels(images, _labels(known, images, draw.classes).targets, draw.classes)
        guide = make_exact_guide(images, labels, known.target.schedule.process())
        guide = guide if draw.window == (0, 1000) else Window(guide, *draw.window)
    sampler = Sampler(
        known.target, stage_key(0, "extract"), Sampling(50, draw=draw.draw, batch_size=min(64, num_images)), guide
    )
    indices = np.arange(FIRST_INDEX, FIRST_INDEX + num_images)
    made = np.empty((num_images, *known.target.image_shape), np.uint8)
    for place, lam in enumerate(draw.scales):
        here = np.arange(place, num_images, len(draw.scales))
        made[here] = np.concatenate([batch for _, batch in sampler(indices[here], lam)])
    return made


def _labels(known: Setting, images: np.ndarray, classes: str) -> Labels:
    kind, _, value = classes.partition(" ")
    if kind == "teacher":
        return classifier_labels(known.teacher.net, known.teacher.variables, images)
    if kind == "clusters":
        return cluster_labels(setting.describe(images), int(value), 0.5, 0)
    if kind == "repeats":
        return repeat_labels(repeats_above(setting.describe(images), float(value)), float(value))
    if kind == "single":
        return unique_labels(len(images))
    return _surest(known, images, int(value))


def _surest(known: Setting, images: np.ndarray, count: int, same: float = 0.97) -> Labels:
    """The `count` different images of the lowest denoising loss, each a class with those that repeat it; no photo."""
    target = known.target
    probe = Probe(target, Attack("loss", target.schedule.num_train_timesteps), stage_key(0, "surest"))
    scores = np.mean([_standard(_scores(probe, images, t)) for t in _LOSS_TIMESTEPS], axis=0)
    cosine = (described := setting.describe(images)) @ described.T
    labels, found = np.full(len(images), -1, np.int32), 0
    for i in np.argsort(-scores):
        if labels[i] >= 0 or found == count:
            continue
        labels[(cosine[i] >= same) & (labels < 0)] = found
        labels[i], found = found, found + 1
    return Labels(labels, found)


def _scores(probe: Probe, images: np.ndarray, t: int) -> np.ndarray:
    draws = [probe(IndexedImages(images, np.arange(len(images))), t, draw)["score"] for draw in range(_LOSS_DRAWS)]
    return np.mean(draws, axis=0)


def _standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / scores.std()
