"""Stage 9, steer: measures the effect and the cost of steering away from the memorized representation (seed 003).

The direction comes from the unguided images of the sweep with an even index, its effect is measured on those with an
odd one.
"""

import dataclasses
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from side_jax.audit.cost.jobs import Job, Setting, sampling
from side_jax.audit.stage import Audit, Stage, paired_positions, photo_pool
from side_jax.audit.sweep import descriptor_path, generated_images, read_scale
from side_jax.evidence.memorized import memorized
from side_jax.evidence.mitigation import Outcome, effect
from side_jax.evidence.scores import Nearest
from side_jax.inside.steering_vectors import steering_vectors
from side_jax.runtime import preemption
from side_jax.runtime.arrays import load_array, save_array
from side_jax.runtime.declare import AMOUNT, DISTINCT, WINDOW, Check, amounts, at_least, decided, option, require
from side_jax.runtime.files import MANIFEST, Json, open_atomic, read_json, write_bytes
from side_jax.runtime.progress import Progress
from side_jax.runtime.sharding import stage_key
from side_jax.targets.activations import check_layers
from side_jax.targets.sampling import Sampler
from side_jax.targets.steering import Steering, steered_steps
from side_jax.targets.target import Target

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_FEWEST = 5  # images of each kind that a direction needs
_FEWEST_MEASURED = 3  # images that an interval of KID needs
_PICTURED = 6  # memorized images shown at every weight
PICTURES = "pictures.zarr"


@dataclasses.dataclass(frozen=True)
class SteerOptions:
    """Steering away from the memorized representation, as a mitigation."""

    weights: tuple[float, ...] = option(
        (),
        "α of h + α (mean(memorized) − mean(others)), negative to steer away; empty: no steer stage",
        DISTINCT,
        decides=AMOUNT,
    )
    layers: tuple[str, ...] = option((), "empty: every block of the decoder", DISTINCT)
    window: tuple[float, float] = option(
        (0.5, 0.95),
        "from which to which share of the sampler's steps",
        WINDOW,
    )
    num_images: int = option(
        1_000, "per α, at most; unguided ones of the sweep, with an odd index", at_least(2), decides=AMOUNT
    )

    def check(self, path: str) -> None:
        """Refuses the weight 0: the unsteered images are always measured."""
        require(
            Check(lambda weights: 0 not in weights, "without 0, which is there anyway"), f"{path}.weights", self.weights
        )


class SteerStage(Stage):
    """Compares every weight with no steering."""

    name = "steer"
    folder = "steer"
    needs = ("target", "extract")
    version = 2
    alone = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if a weight is given."""
        return bool(options.steer.weights)

    def spec(self, audit: Audit) -> Json:
        """Everything but the amounts. The spec of extract covers the images."""
        return {"steer": decided(audit.options.steer)}

    def request(self, audit: Audit) -> Json:
        """The amounts, and the state of the sweep: an extended sweep has other memorized images."""
        options, manifest = audit.options, audit.folder("extract") / MANIFEST
        finished = read_json(manifest)["finished"] if manifest.exists() else None
        return amounts(options.steer) | {"sweep": amounts(options.extract) | {"extract": finished}}

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """The window must contain sampler steps, and the network must have the layers."""
        try:
            steered_steps(options.steer.window, options.extract.num_steps)
        except ValueError as error:
            raise ValueError(f"steer.{error}") from error
        check_layers(target, options.steer.layers)

    def run(self, audit: Audit) -> Json:
        """Writes vectors.safetensors, matches.parquet and pictures.zarr.

        Returns:
          Facts for the report: a row of `effect` for every weight, 0 included; or the reason why nothing was steered.
        """
        audit = audit.main()  # the method that has λ = 0
        if not len(audit.split.heldout):
            return {"reason": "Without held-out photos nothing says which images are memorized: there is no direction."}
        table, limit = read_scale(audit, 0.0), audit.options.steer.num_images
        train, heldout = (Nearest.from_table(table, *known).best for known in _references(audit))
        copies, threshold = memorized(train, heldout)
        even, odd = np.arange(0, len(copies), 2), np.arange(1, len(copies), 2)[:limit]
        positive, negative = (even[chosen][:limit] for chosen in (copies[even], ~copies[even]))
        if min(len(positive), len(negative)) < _FEWEST or len(odd) < _FEWEST_MEASURED:
            return {"reason": _too_few(positive, negative, odd)}
        stored = Nearest.from_table(table, "", photo_pool(audit).members("")).best
        images = [generated_images(audit, 0.0, indices, stored[indices]) for indices in (positive, negative, odd)]
        pictured = odd[copies[odd]][:_PICTURED]
        facts = {
            "num_positive": len(positive),
            "num_negative": len(negative),
            "threshold": threshold,
            "pictured": pictured,
        }
        return facts | _measure(audit, _direction(audit, *images[:2]), odd, images[2], threshold, pictured)

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Unguided images at every weight, and forward passes on the two sets that the direction comes from.

        This is an upper bound: both sets may be smaller. Images that were not kept are sampled again.
        """
        main, steer = next(iter(setting.options.rows().values())), setting.options.steer
        extract, count = main.extract, min(steer.num_images, main.extract.num_images // 2)
        if not steer.weights:
            return
        samples = len(steer.weights) * count + (0 if extract.save_images == "all" else 3 * count)
        yield sampling("steer", setting, samples, extract.num_steps, extract.batch_size)
        looks = len(steered_steps(steer.window, extract.num_steps))
        passes = sampling("steer", setting, 2 * count, looks, extract.batch_size)
        yield dataclasses.replace(passes, what=f"direction, {looks} forward passes")


def _references(audit: Audit) -> list[tuple[str, np.ndarray]]:
    """Column prefix and positions of each of two equally large reference sets: training and held-out."""
    pool = photo_pool(audit)
    return [(prefix, pool.members(prefix)) for prefix in ("paired_", "heldout_")]


def _too_few(positive: np.ndarray, negative: np.ndarray, odd: np.ndarray) -> str:
    return (
        f"Of the unguided images with an even index {len(positive)} are memorized and {len(negative)} are not, and"
        f" {len(odd)} with an odd index are left to measure: a direction needs {_FEWEST} of each kind, an interval"
        f" {_FEWEST_MEASURED} images. Nothing was steered."
    )


def _direction(audit: Audit, positive: np.ndarray, negative: np.ndarray) -> Steering:
    """Computes and writes the steering vectors, [S, C] per layer, with their timesteps."""
    options = audit.options
    made = steering_vectors(
        audit.target(),
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
) -> Json:
    """Measures every weight on the images `odd`; `unsteered` are these images at α = 0, uint8 [N, H, W, C]."""
    options, folder = audit.options, audit.folder("steer")
    extract = options.extract
    embed = audit.descriptor()
    chosen = paired_positions(audit)
    photos = [load_array(descriptor_path(audit, name), rows) for name, rows in zip(_SETS, chosen, strict=True)]
    outcomes, pictures = (
        {0.0: Outcome.of(embed.host_queries(unsteered), *photos)},
        {0.0: unsteered[np.isin(odd, pictured)]},
    )
    with Progress("steer", len(odd) * len(options.steer.weights)) as progress:
        for weight, images in _steered(audit, direction, odd, progress):
            outcomes[weight] = Outcome.of(embed.host_queries(images), *photos)
            pictures[weight] = images[np.isin(odd, pictured)]
    weights = sorted(outcomes)
    with open_atomic(folder / "matches.parquet") as file:
        pq.write_table(pa.concat_tables(_matches(audit, weight, odd, outcomes[weight]) for weight in weights), file)
    if len(pictured):
        save_array(folder / PICTURES, np.stack([pictures[weight] for weight in weights]))
    steps = steered_steps(options.steer.window, extract.num_steps)
    rows = [effect(outcomes[weight], outcomes[0.0], photos[1], threshold) for weight in weights]
    return {
        "layers": list(direction.vectors),
        "steps": [steps.start, steps.stop - 1],
        "rows": [{"weight": weight} | row for weight, row in zip(weights, rows, strict=True)],
    }


_SETS = ("train", "heldout")


def nearest_by_weight(audit: Audit) -> dict[float, dict[str, Nearest]]:
    """Best matches with training and with held-out photos of the images at every weight, read from matches.parquet."""
    table = pq.read_table(io.BytesIO((audit.folder("steer") / "matches.parquet").read_bytes()))
    photos = {name: np.unique(table[f"{name}_id"].to_numpy(), return_inverse=True)[1] for name in _SETS}
    weights = table["weight"].to_numpy()
    return {
        float(weight): {
            name: Nearest(table[f"{name}_score"].to_numpy()[weights == weight], photos[name][weights == weight])
            for name in _SETS
        }
        for weight in np.unique(weights)
    }


def _steered(
    audit: Audit, direction: Steering, odd: np.ndarray, progress: Progress
) -> Iterator[tuple[float, np.ndarray]]:
    """Yields every weight with its images, from the sweep's noise and in the sweep's batches."""
    options, extract = audit.options, audit.options.extract
    batch = read_json(audit.folder("extract") / MANIFEST)["facts"]["device_batch"] * jax.local_device_count()
    how = dataclasses.replace(audit.sampling(extract.num_steps, extract.eta), batch_size=min(batch, len(odd)))
    sampler = Sampler(audit.target(), stage_key(options.seed, "extract"), how, steering=direction)
    for weight in options.steer.weights:
        batches = []
        for indices, images in sampler(odd, 0.0, steering_weight=weight):
            preemption.check()
            batches.append(images)
            progress.update(len(indices))
        yield weight, np.concatenate(batches)


def _matches(audit: Audit, weight: float, odd: np.ndarray, outcome: Outcome) -> pa.Table:
    """One row per image: its nearest training photo and its nearest held-out photo."""
    columns: Json = {"weight": np.full(len(odd), weight, np.float32), "index": odd}
    ids = photo_pool(audit).ids
    for name, found, (_, members) in zip(_SETS, (outcome.train, outcome.heldout), _references(audit), strict=True):
        columns |= {f"{name}_id": [ids[members[i]] for i in found.winner], f"{name}_score": found.best}
    return pa.table(columns)
