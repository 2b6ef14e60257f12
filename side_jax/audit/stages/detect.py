"""Stage 8, detect: detects memorized images and attacks the membership of photos, from inside the target (seed 003)."""

import dataclasses
import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from side_jax.audit.cost.jobs import Job, Setting, sampling
from side_jax.audit.stage import Audit, Stage, classes_spec, paired_positions, precision_spec
from side_jax.audit.sweep import generated_images, read_scale
from side_jax.diffusion.schedule import Schedule
from side_jax.evidence import detectors
from side_jax.evidence.memorized import BestScores, label_images
from side_jax.inside.membership import Attack
from side_jax.inside.probe import IndexedImages, Measure, Probe, check_timesteps, generation_classes, photo_classes
from side_jax.inside.spikiness import MEASURES, Forward, Spikiness, measure_spikiness
from side_jax.matching.pool import REFERENCES
from side_jax.runtime.declare import AMOUNT, DISTINCT, SOME, Check, at_least, decided, each_of, option, require
from side_jax.runtime.files import MANIFEST, Json, read_json, write_bytes
from side_jax.runtime.mapped import blocks, temporary
from side_jax.runtime.progress import Progress
from side_jax.runtime.sharding import stage_key
from side_jax.targets.activations import check_layers, decoder_layers
from side_jax.targets.target import Target
from side_jax.theory.linear_diffusion import distance_measure, fit_wiener

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

SCORES, MEMBERSHIP = "scores.parquet", "membership.parquet"
HEADLINE = "std"  # the detector as its authors run it; a higher value means memorized
_GENERATED_FPRS, _MEMBER_FPRS = (0.01,), (0.001, 0.01)


@dataclasses.dataclass(frozen=True)
class DetectOptions:
    """Detectors that look at images from inside the target (seed 003)."""

    num_images: int = option(
        1_000,
        "of every λ, at most, half of them memorized if there are so many; 0: no detect stage",
        Check(lambda value: value >= 0, "0 (no detect stage) or more"),
        decides=AMOUNT,
    )
    layers: tuple[str, ...] = option(
        (), "by diffusers' names; empty: the hidden layer of every ResNet block of the decoder", DISTINCT
    )
    timesteps: tuple[int, ...] = option(
        (10,), "noise levels; of several, as of layers, the best is chosen on half of the images", DISTINCT
    )
    num_noises: int = option(3, "draws of the noise per image and level", at_least(1))
    wiener: bool = option(False, "beside it, the distance of the denoiser from the linear one of the training images")
    attacks: tuple[str, ...] = option(
        ("loss",),
        "whether a photo was trained on: scores of all training and as many held-out photos: loss | secmi | pia",
        each_of("loss", "secmi", "pia"),
    )
    attack_timesteps: tuple[int, ...] = option((50, 100, 200, 300), "noise levels of the attacks", DISTINCT)

    def check(self, path: str) -> None:
        """Refuses an empty list of timesteps."""
        require(SOME, f"{path}.timesteps", self.timesteps)
        if self.attacks:
            require(SOME, f"{path}.attack_timesteps", self.attack_timesteps)


class DetectStage(Stage):
    """Detectors of memorized images, and membership attacks on photos."""

    name = "detect"
    folder = "detect"
    needs = ("target", "extract")
    alone = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if any image is to be looked at."""
        return options.detect.num_images > 0

    def spec(self, audit: Audit) -> Json:
        """Everything but the number of images. A conditional target is asked for the classes of the photos."""
        options, split = audit.options, audit.split
        spec: Json = {"detect": decided(options.detect), "seed": options.seed} | precision_spec(audit)
        return spec | classes_spec(audit, split.train, split.heldout)

    def request(self, audit: Audit) -> Json:
        """The number of images; where no photo is held out also the band, which then defines memorized."""
        extract = audit.main().options.extract
        count = min(audit.options.detect.num_images, extract.num_images)
        band = {} if audit.options.dataset.held_out else {"band": audit.bands()[-1:]}
        return {"scales": extract.scales, "num_images": count, "sweep": extract.num_images} | band

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """The schedule must have the timesteps, and the network the layers."""
        detect, last = options.detect, target.schedule.num_train_timesteps
        check_timesteps(detect.timesteps, last, "detect.timesteps")
        for attack in detect.attacks:
            highest = Attack(attack, last).last_timestep
            check_timesteps(detect.attack_timesteps, highest + 1, f"detect.attack_timesteps of {attack}")
        check_layers(target, detect.layers)

    def run(self, audit: Audit) -> Json:
        """Scores generated images and photos, writes both tables, and returns the comparisons."""
        main, target = audit.main(), audit.target()
        layers = audit.options.detect.layers or decoder_layers(target)
        device_batch = read_json(main.folder("extract") / MANIFEST)["facts"]["device_batch"]
        batch_size = device_batch * jax.local_device_count()
        generated, labels = _generated(main, target, layers, batch_size)
        photos, classes = _photos(main, target, layers, batch_size)
        return {
            "layers": layers,
            "timesteps": audit.options.detect.timesteps,
            "classes_of_photos": classes,
            "generated": labels | generated,
            "members": photos,
        }

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Forward passes on generated images and on photos. Generated images that were not kept are sampled again."""
        main, detect = next(iter(setting.options.rows().values())), setting.options.detect
        extract, looks = main.extract, len(detect.timesteps) * detect.num_noises
        count = min(detect.num_images, extract.num_images)
        if not count:
            return
        batch, numbers = extract.batch_size, {"unguided": 0, "guided": 0}
        if extract.save_images != "all":  # an upper bound: "matched" keeps some
            for scale in extract.scales:
                numbers["guided" if scale else "unguided"] += count
        for what, images in numbers.items():
            if images:
                guided = main if what == "guided" else None
                yield sampling("detect", setting, images, extract.num_steps, batch, guided)
        one = sampling("detect", setting, len(extract.scales) * count, looks, batch)
        yield dataclasses.replace(one, what=f"generated images, {looks} forward passes")
        if setting.has_heldout:
            attacks = [
                (Attack(name, Schedule().num_train_timesteps), t)
                for name in detect.attacks
                for t in detect.attack_timesteps
            ]
            looks += sum(attack.calls(t) * (detect.num_noises if attack.draws_noise else 1) for attack, t in attacks)
            photos = sampling("detect", setting, 2 * setting.num_train, looks, batch)
            yield dataclasses.replace(photos, what=f"photos, {looks} forward passes")


def _best_scores(audit: Audit, scale: float) -> BestScores:
    """Best scores of the images of one λ with each reference set that has photos."""
    table = read_scale(audit, scale)
    lists = {prefix: table[f"{prefix}scores"] for prefix in REFERENCES}
    filled = {prefix: found for prefix, found in lists.items() if pc.min(pc.list_value_length(found)).as_py()}
    return {prefix: pc.list_element(found, 0).to_numpy().astype(np.float64) for prefix, found in filled.items()}


def _generated(audit: Audit, target: Target, layers: tuple[str, ...], batch_size: int) -> tuple[Json, Json]:
    """Detectors on the generated images: (comparison, how they were labelled). Writes `SCORES`."""
    options, seed = audit.options.detect, audit.options.seed
    count = min(options.num_images, audit.options.extract.num_images)
    scores = {scale: _best_scores(audit, scale) for scale in audit.options.extract.scales}
    labels = label_images(scores, audit.bands()[-1][1], count)
    probe = Probe(target, Forward(layers), stage_key(seed, "detect"), batch_size, precision=audit.options.precision)
    linear = _linear_probe(audit, target, batch_size) if options.wiener else None
    found: dict[float, dict[str, dict[str, np.ndarray]]] = {}
    tables, draws = [], None
    with Progress("detect", sum(map(len, labels.indices.values()))) as progress:
        for scale, indices in labels.indices.items():
            classes = generation_classes(target, stage_key(seed, "extract"), indices)
            images = generated_images(audit, scale, indices, labels.best[scale].astype(np.float32))
            indexed = IndexedImages(images, indices, classes)
            spiky = measure_spikiness(probe, layers, indexed, options.timesteps, options.num_noises)
            contrast = images.std((1, 2, 3), dtype=np.float64)
            found[scale] = _detectors(spiky) | {"contrast": {"high": contrast, "low": -contrast}}
            if linear:
                found[scale] |= {"wiener": _distances(linear, audit, indexed)}
            if scale == labels.facts["scale"]:
                draws = spiky.measure(HEADLINE)
            positive = pa.array(labels.positive[scale], mask=~labels.clear[scale])
            columns = {"scale": np.full(len(indices), scale), "index": indices, "memorized": positive}
            tables.append(pa.table(columns | _columns(found[scale])))
            progress.update(len(indices))
    _write(pa.concat_tables(tables), audit.folder("detect") / SCORES)
    assert draws is not None
    return detectors.compare_by_scale(found, labels, draws, _GENERATED_FPRS), labels.facts


def _linear_probe(audit: Audit, target: Target, batch_size: int) -> Probe:
    """Distance from the best linear denoiser of all training images."""
    key, wiener = stage_key(audit.options.seed, "detect"), fit_wiener(audit.split.train.images)
    precision = audit.options.precision
    return Probe(target, distance_measure, key, batch_size, precision=precision, extra=(wiener,))


def _distances(probe: Probe, audit: Audit, indexed: IndexedImages) -> dict[str, np.ndarray]:
    """Scores by timestep and direction, mean over draws of the noise. No theory predicts the direction of copies."""
    options, scores = audit.options.detect, dict[str, np.ndarray]()
    for t in options.timesteps:
        draws = [probe(indexed, t, draw)["distance"] for draw in range(options.num_noises)]
        distance = np.mean(draws, axis=0)
        scores |= {f"far, t = {t}": distance, f"near, t = {t}": -distance}
    return scores


def _detectors(found: Spikiness) -> dict[str, dict[str, np.ndarray]]:
    """Scores by measure, layer and timestep, mean over noise draws; and minus the loss, as copies are denoised well."""
    spiky = {
        name: {
            f"{layer}, t = {t}": values[:, i, j].mean(-1)
            for i, layer in enumerate(found.layers)
            for j, t in enumerate(found.timesteps)
        }
        for name, values in ((name, found.measure(name)) for name in MEASURES)
    }
    return spiky | {"loss": {f"t = {t}": -found.loss[:, j].mean(-1) for j, t in enumerate(found.timesteps)}}


def _photos(audit: Audit, target: Target, layers: tuple[str, ...], batch_size: int) -> tuple[Json, str | None]:
    """Attacks on paired training and held-out photos: (comparison, where classes come from). Writes `MEMBERSHIP`."""
    split, options, seed = audit.split, audit.options.detect, audit.options.seed
    in_train, in_heldout = paired_positions(audit)
    if not len(in_heldout):
        return {"too_few": "no photos were held out", "positives": 0, "negatives": 0, "rows": []}, None
    paired = split.train[in_train], split.heldout[in_heldout]
    images = temporary(
        itertools.chain.from_iterable(blocks(some.images) for some in paired), split.train.images.shape[1:]
    )
    given = np.concatenate([some.labels for some in paired])
    indices, key = np.arange(len(images)), stage_key(seed, "photos")
    classes, source = photo_classes(target, given, key, indices)
    indexed = IndexedImages(images, indices, classes)

    def probe(measure: Measure) -> Probe:
        return Probe(target, measure, key, batch_size, precision=audit.options.precision)

    found: dict[str, dict[str, np.ndarray]] = {}
    for name in options.attacks:
        attack = Attack(name, target.schedule.num_train_timesteps)
        run, draws = probe(attack), range(options.num_noises if attack.draws_noise else 1)
        found[name] = {
            f"t = {t}": np.mean([run(indexed, t, draw)["score"] for draw in draws], axis=0)
            for t in options.attack_timesteps
        }
    spiky = measure_spikiness(probe(Forward(layers)), layers, indexed, options.timesteps, options.num_noises)
    found[HEADLINE] = _detectors(spiky)[HEADLINE]
    member, number = indices < len(in_train), np.concatenate([np.arange(len(in_train)), np.arange(len(in_heldout))])
    ids = [split.train.ids[i] for i in in_train] + [split.heldout.ids[i] for i in in_heldout]
    _write(
        pa.table({"id": ids, "number": number, "member": member} | _columns(found)), audit.folder("detect") / MEMBERSHIP
    )
    return detectors.compare(found, member, number, _MEMBER_FPRS), source


def _columns(found: detectors.Detectors) -> dict[str, np.ndarray]:
    """One column for each detector and choice, such as "std up_blocks.0.resnets.0.dropout, t = 10"; float32."""
    return {
        column_name(name, choice): scores.astype(np.float32)
        for name, choices in found.items()
        for choice, scores in choices.items()
    }


def column_name(detector: str, choice: str) -> str:
    """Name of a score's column in the stage's tables."""
    return f"{detector} {choice}"


def _write(table: pa.Table, path: epath.Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(path, buffer.getvalue())
