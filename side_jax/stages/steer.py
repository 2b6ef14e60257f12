"""Stage steer: what steering away from the memorized representation buys and costs, on unguided images (seed 003).

The direction comes from the images of the sweep with an even index, its effect is measured on those with an odd one.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from side_jax import preemption
from side_jax.arrays import read_rows, save_array
from side_jax.artifacts import MANIFEST, open_atomic, read_json, write_bytes
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.evidence.memorized import memorized
from side_jax.evidence.mitigation import Outcome, effect
from side_jax.evidence.scores import Nearest
from side_jax.extraction.descriptors import load_descriptor
from side_jax.progress import Progress
from side_jax.representation.steering import Steering, steered_steps
from side_jax.representation.steering_vectors import steering_vectors
from side_jax.sampling import Sampler
from side_jax.sharding import stage_key
from side_jax.stages.audit import Audit, load_target
from side_jax.stages.extract import descriptor_path, extract_request, generated_images, paired_positions, read_scale

_FEWEST = 5  # images of each kind, below which their mean is no direction
_FEWEST_MEASURED = 3  # below which KID has no interval
_PICTURED = 6  # memorized images shown at every weight
PICTURES = "pictures.zarr"


def steer_spec(audit: Audit) -> dict[str, Any]:
    """All but how much; what the images depend on is in the spec of extract."""
    options = audit.options.steer
    return {"layers": options.layers, "window": options.window}


def steer_request(audit: Audit) -> dict[str, Any]:
    """How much. A sweep that was extended has other memorized images."""
    options, manifest = audit.options, audit.folder("extract") / MANIFEST
    finished = read_json(manifest)["finished"] if manifest.exists() else None
    wanted = {"weights": options.steer.weights, "num_images": options.steer.num_images, "bands": options.extract.bands}
    return wanted | {"sweep": extract_request(audit) | {"extract": finished}}


def steer(audit: Audit) -> dict[str, Any]:
    """Writes vectors.safetensors, matches.parquet and pictures.zarr.

    Returns:
      What the report shows: a row of `effect` for every weight, 0 included; or, where there is nothing to steer by,
      the reason in words.
    """
    audit = audit.main()  # the one that has λ = 0
    if not len(audit.split.heldout):
        return {"reason": "Without held-out photos nothing says which images are memorized: there is no direction."}
    table, limit = read_scale(audit, 0.0), audit.options.steer.num_images
    train, heldout = (Nearest.from_table(table, *known).best for known in _references(audit))
    copies, threshold = memorized(train, heldout)
    even, odd = np.arange(0, len(copies), 2), np.arange(1, len(copies), 2)[:limit]
    positive, negative = (even[chosen][:limit] for chosen in (copies[even], ~copies[even]))
    if min(len(positive), len(negative)) < _FEWEST or len(odd) < _FEWEST_MEASURED:
        return {"reason": _too_few(positive, negative, odd)}
    stored = Nearest.from_table(table, "", list(audit.split.train.ids)).best
    images = [generated_images(audit, 0.0, indices, stored[indices]) for indices in (positive, negative, odd)]
    pictured = odd[copies[odd]][:_PICTURED]
    facts = {"num_positive": len(positive), "num_negative": len(negative), "threshold": threshold, "pictured": pictured}
    return facts | _measure(audit, _direction(audit, *images[:2]), odd, images[2], threshold, pictured)


def _references(audit: Audit) -> list[tuple[str, list[str]]]:
    """Column prefix and ids of equally many training and held-out photos."""
    split = audit.split
    places = zip(("paired_", "heldout_"), (split.train, split.heldout), paired_positions(audit), strict=True)
    return [(prefix, [images.ids[i] for i in chosen]) for prefix, images, chosen in places]


def _too_few(positive: np.ndarray, negative: np.ndarray, odd: np.ndarray) -> str:
    return (
        f"Of the unguided images with an even index {len(positive)} are memorized and {len(negative)} are not, and"
        f" {len(odd)} with an odd index are left to measure: a direction needs {_FEWEST} of each kind, an interval"
        f" {_FEWEST_MEASURED} images. Nothing was steered."
    )


def _direction(audit: Audit, positive: np.ndarray, negative: np.ndarray) -> Steering:
    """The vectors, which are also written: layer -> [S, C], and the timesteps."""
    options = audit.options
    made = steering_vectors(
        load_target(audit.workdir),
        positive,
        negative,
        options.steer.layers or None,
        options.extract.num_steps,
        options.steer.window,
        options.seed,
        precision=options.precision,
    )
    arrays = {**made.vectors, "timesteps": made.timesteps}
    write_bytes(audit.folder("steer") / "vectors.safetensors", save(arrays))
    return made


def _measure(
    audit: Audit, direction: Steering, odd: np.ndarray, unsteered: np.ndarray, threshold: float, pictured: np.ndarray
) -> dict[str, Any]:
    """Every weight on the images `odd`, of which those at α = 0 are `unsteered`, uint8 [N, H, W, C]."""
    options, folder = audit.options, audit.folder("steer")
    extract = options.extract
    embed = load_descriptor(extract.descriptor, extract.weights, extract.preprocessing, options.precision)
    chosen = paired_positions(audit)
    photos = [read_rows(descriptor_path(audit, name), rows) for name, rows in zip(_SETS, chosen, strict=True)]
    outcomes, pictures = {0.0: Outcome.of(embed(unsteered), *photos)}, {0.0: unsteered[np.isin(odd, pictured)]}
    with Progress("steer", len(odd) * len(options.steer.weights)) as progress:
        for weight, images in _steered(audit, direction, odd, progress):
            outcomes[weight] = Outcome.of(embed(images), *photos)
            pictures[weight] = images[np.isin(odd, pictured)]
    weights = sorted(outcomes)
    with open_atomic(folder / "matches.parquet") as file:
        pq.write_table(pa.concat_tables(_matches(audit, weight, odd, outcomes[weight]) for weight in weights), file)
    if len(pictured):
        save_array(folder / PICTURES, np.stack([pictures[weight] for weight in weights]))
    steps = steered_steps(options.steer.window, extract.num_steps)
    rows = [effect(outcomes[weight], outcomes[0.0], photos[1], threshold, extract.bands) for weight in weights]
    return {
        "layers": list(direction.vectors),
        "steps": [steps.start, steps.stop - 1],
        "rows": [{"weight": weight} | row for weight, row in zip(weights, rows, strict=True)],
    }


_SETS = ("train", "heldout")


def _steered(
    audit: Audit, direction: Steering, odd: np.ndarray, progress: Progress
) -> Iterator[tuple[float, np.ndarray]]:
    """Every weight, with its images: of the same noise as the sweep's, in batches as the sweep had them."""
    options, extract = audit.options, audit.options.extract
    batch = read_json(audit.folder("extract") / MANIFEST)["facts"]["device_batch"] * jax.local_device_count()
    key, target = stage_key(options.seed, "extract"), load_target(audit.workdir)
    size = min(batch, len(odd))
    solver, clip = DDIM(extract.eta), options.sampler.clip
    sampler = Sampler(target, key, extract.num_steps, solver, size, None, None, options.precision, direction, clip)
    for weight in options.steer.weights:
        batches = []
        for indices, images in sampler(odd, 0.0, steering_weight=weight):
            preemption.check()
            batches.append(images)
            progress.update(len(indices))
        yield weight, np.concatenate(batches)


def _matches(audit: Audit, weight: float, odd: np.ndarray, outcome: Outcome) -> pa.Table:
    """A row per image: its best training and held-out photo."""
    columns: dict[str, Any] = {"weight": np.full(len(odd), weight, np.float32), "index": odd}
    for name, found, (_, ids) in zip(_SETS, (outcome.train, outcome.heldout), _references(audit), strict=True):
        columns |= {f"{name}_id": [ids[i] for i in found.winner], f"{name}_score": found.best}
    return pa.table(columns)
