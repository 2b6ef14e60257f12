"""Stage detect: do extracted images look memorized from inside the target, and photos trained on? (seed 003)."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from side_jax.artifacts import MANIFEST, read_json, write_bytes
from side_jax.evidence import detectors, ranking
from side_jax.evidence.memorized import memorized
from side_jax.representation.activations import decoder_layers
from side_jax.representation.membership import Attack
from side_jax.representation.probe import Probe, generation_classes
from side_jax.representation.spikiness import MEASURES, Forward, Spikiness, measure_spikiness
from side_jax.sharding import stage_key
from side_jax.stages.audit import Audit, load_target, precision_spec
from side_jax.stages.extract import generated_images, paired_positions, read_scale
from side_jax.target import Target
from side_jax.theory.linear_diffusion import distance_measure, fit_wiener

SCORES, MEMBERSHIP = "scores.parquet", "membership.parquet"
HEADLINE = "std"  # the detector as its authors run it: fixed, as is that higher means memorized
_GENERATED_FPRS, _MEMBER_FPRS = (0.01,), (0.001, 0.01)


def detect_spec(audit: Audit) -> dict[str, Any]:
    """All but how much."""
    options = dataclasses.asdict(audit.options.detect)
    del options["num_images"]
    return options | precision_spec(audit) | {"seed": audit.options.seed}


def detect_request(audit: Audit) -> dict[str, Any]:
    """How much; and the band that says what is memorized where nothing is held out."""
    extract = audit.main().options.extract
    count = min(audit.options.detect.num_images, extract.num_images)
    return {"scales": extract.scales, "num_images": count, "sweep": extract.num_images, "band": extract.bands[-1]}


def detect(audit: Audit) -> dict[str, Any]:
    """Scores generated images and photos; writes both tables and returns what they say."""
    main, target = audit.main(), load_target(audit.workdir)
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


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Which images of each λ are looked at, and which of them count as memorized.

    Attributes:
      indices: λ -> of the images, ascending, int [N].
      positive: λ -> bool [N].
      clear: λ -> bool [N]. Not clear is a copy of a photo that no held-out one is paired with, as only images matched
        with the paired photos are calibrated.
      facts: threshold, whether held-out photos calibrate it, and how many images of the smallest λ are memorized.
    """

    indices: dict[float, np.ndarray]
    positive: dict[float, np.ndarray]
    clear: dict[float, np.ndarray]
    facts: dict[str, Any]


def _label(audit: Audit, count: int) -> tuple[_Labels, dict[float, np.ndarray]]:
    """Labels of at most `count` images of every λ, and their best scores with training photos.

    One threshold serves all λ, from the held-out scores of all images of the smallest: what counts as a copy is a
    property of two photos, and guided images, which look less like photos, would only lower it.
    """
    options = audit.options.extract
    smallest, low = min(options.scales), options.bands[-1][1]
    columns = {scale: _best_scores(audit, scale) for scale in options.scales}
    paired, heldout = columns[smallest]["paired_"], columns[smallest]["heldout_"]
    calibrated = paired is not None and heldout is not None
    threshold = memorized(paired, heldout)[1] if calibrated else np.nextafter(low, 0)  # a score of `low` is in its band
    facts = {"threshold": float(threshold) if calibrated else low, "calibrated": calibrated, "scale": smallest}
    labels, best = _Labels({}, {}, {}, facts), {}
    for scale, found in columns.items():
        positive = (found["paired_"] if calibrated else found[""]) > threshold
        clear = positive | (found[""] <= threshold)
        chosen = _choose(positive, clear, count)
        labels.indices[scale], best[scale] = chosen, found[""][chosen]
        labels.positive[scale], labels.clear[scale] = positive[chosen], clear[chosen]
        if scale == smallest:
            facts |= {"images": len(positive), "memorized": int(positive.sum()), "ambiguous": int((~clear).sum())}
    return labels, best


def _choose(positive: np.ndarray, clear: np.ndarray, count: int) -> np.ndarray:
    """All images if they are at most `count`; else the first memorized ones, up to half of it, and others.

    Copies may be one in a thousand. Neither AUROC nor TPR at an FPR depends on how many there are of each kind.
    """
    if len(positive) <= count:
        return np.arange(len(positive))
    copies = np.flatnonzero(positive)[: count // 2]
    return np.sort(np.concatenate([copies, np.flatnonzero(clear & ~positive)[: count - len(copies)]]))


def _best_scores(audit: Audit, scale: float) -> dict[str, Any]:
    """Best score of every image of one λ with each reference set, float64 [N_G]; None without that set."""
    table = read_scale(audit, scale)
    found: dict[str, Any] = {}
    for prefix in ("", "paired_", "heldout_"):
        lists = table[f"{prefix}scores"]
        empty = pc.min(pc.list_value_length(lists)).as_py() in (0, None)
        found[prefix] = None if empty else pc.list_element(lists, 0).to_numpy().astype(np.float64)
    return found


def _generated(
    audit: Audit, target: Target, layers: tuple[str, ...], batch_size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Detectors on the generated images: (comparison, how they were labelled). Writes `SCORES`."""
    options, seed = audit.options.detect, audit.options.seed
    count = min(options.num_images, audit.options.extract.num_images)
    labels, best = _label(audit, count)
    probe = Probe(target, Forward(layers), stage_key(seed, "detect"), batch_size, precision=audit.options.precision)
    linear = _linear_probe(audit, target, batch_size) if options.wiener else None
    found: dict[float, dict[str, dict[str, np.ndarray]]] = {}
    tables, draws = [], None
    for scale, indices in labels.indices.items():
        classes = generation_classes(target, stage_key(seed, "extract"), indices)
        images = generated_images(audit, scale, indices, best[scale].astype(np.float32))
        spiky = measure_spikiness(probe, layers, images, indices, options.timesteps, options.num_noises, classes)
        contrast = images.std((1, 2, 3), dtype=np.float64)
        found[scale] = _detectors(spiky) | {"contrast": {"high": contrast, "low": -contrast}}
        if linear:
            found[scale] |= {"wiener": _distances(linear, audit, images, indices, classes)}
        if scale == labels.facts["scale"]:
            draws = spiky.measure(HEADLINE)
        positive = pa.array(labels.positive[scale], mask=~labels.clear[scale])
        columns = {"scale": np.full(len(indices), scale), "index": indices, "memorized": positive}
        tables.append(pa.table(columns | _columns(found[scale])))
    _write(pa.concat_tables(tables), audit.folder("detect") / SCORES)
    assert draws is not None
    return _compare_generated(found, labels, draws), labels.facts


def _linear_probe(audit: Audit, target: Target, batch_size: int) -> Probe:
    """Distance from the best linear denoiser of all training images."""
    key, wiener = stage_key(audit.options.seed, "detect"), fit_wiener(audit.split.train.images)
    precision = audit.options.precision
    return Probe(target, distance_measure, key, batch_size, precision=precision, extra=(wiener,))


def _distances(
    probe: Probe, audit: Audit, images: np.ndarray, indices: np.ndarray, classes: np.ndarray | None
) -> dict[str, np.ndarray]:
    """t and direction -> score, mean over draws of the noise. No theory says which way copies go."""
    options, scores = audit.options.detect, dict[str, np.ndarray]()
    for t in options.timesteps:
        draws = [probe(images, indices, t, draw, classes)["distance"] for draw in range(options.num_noises)]
        distance = np.mean(draws, axis=0)
        scores |= {f"far, t = {t}": distance, f"near, t = {t}": -distance}
    return scores


def _detectors(found: Spikiness) -> dict[str, dict[str, np.ndarray]]:
    """Measure -> layer and t -> score, mean over draws of the noise; minus the loss, as copies are denoised well."""
    spiky = {
        name: {
            f"{layer}, t = {t}": values[:, i, j].mean(-1)
            for i, layer in enumerate(found.layers)
            for j, t in enumerate(found.timesteps)
        }
        for name, values in ((name, found.measure(name)) for name in MEASURES)
    }
    return spiky | {"loss": {f"t = {t}": -found.loss[:, j].mean(-1) for j, t in enumerate(found.timesteps)}}


def _compare_generated(
    found: Mapping[float, detectors.Detectors], labels: _Labels, draws: np.ndarray
) -> dict[str, Any]:
    """The headline is of the smallest λ: images at a large λ differ from photos in other ways too.

    Rows of other λ have the layer and t chosen there; the last one is of all λ together, an index being one draw.
    """
    smallest = labels.facts["scale"]
    clear = labels.clear[smallest]
    indices = labels.indices[smallest][clear]
    here = {name: {key: s[clear] for key, s in choices.items()} for name, choices in found[smallest].items()}
    summary = detectors.compare(here, labels.positive[smallest][clear], indices, _GENERATED_FPRS)
    summary |= {"draws": [], "scales": []}
    if summary["too_few"]:
        return summary
    chosen = summary["rows"][0]["chosen"]
    place = list(found[smallest][HEADLINE]).index(chosen)
    odd = {scale: labels.clear[scale] & (labels.indices[scale] % 2 == 1) for scale in found}
    by_draw = draws.reshape(len(draws), -1, draws.shape[-1])[odd[smallest], place]
    summary["draws"] = detectors.aurocs(list(by_draw.T), labels.positive[smallest][odd[smallest]])
    scores = {scale: np.asarray(found[scale][HEADLINE][chosen], np.float64)[odd[scale]] for scale in found}
    positive = {scale: labels.positive[scale][odd[scale]] for scale in found}
    rows = {scale: labels.indices[scale][odd[scale]] for scale in found}
    summary["scales"] = [_scale_row(scale, scores[scale], positive[scale]) for scale in found]
    if len(found) > 1:
        together = [np.concatenate([part[scale] for scale in found]) for part in (scores, positive, rows)]
        summary["scales"].append(_scale_row(None, *together))
    return summary


def _scale_row(
    scale: float | None, scores: np.ndarray, positive: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    counts = {"scale": scale, "positives": int(positive.sum()), "negatives": int((~positive).sum())}
    reason = ranking.too_few(positive)
    if reason:
        return counts | {"too_few": reason}
    return counts | {"too_few": None} | detectors.measure(scores, positive, _GENERATED_FPRS, groups)


def _photos(
    audit: Audit, target: Target, layers: tuple[str, ...], batch_size: int
) -> tuple[dict[str, Any], str | None]:
    """Attacks on paired training and held-out photos: (comparison, where classes come from). Writes `MEMBERSHIP`."""
    split, options, seed = audit.split, audit.options.detect, audit.options.seed
    in_train, in_heldout = paired_positions(audit)
    if not len(in_heldout):
        return {"too_few": "no photos were held out", "positives": 0, "negatives": 0, "rows": []}, None
    images = np.concatenate([split.train.images[in_train], split.heldout.images[in_heldout]])
    given = np.concatenate([split.train.labels[in_train], split.heldout.labels[in_heldout]])
    indices, key = np.arange(len(images)), stage_key(seed, "photos")
    classes, source = _photo_classes(target, given, key, indices)

    def probe(measure: Any) -> Probe:
        return Probe(target, measure, key, batch_size, precision=audit.options.precision)

    found: dict[str, dict[str, np.ndarray]] = {}
    for name in options.attacks:
        attack = Attack(name, target.schedule.num_train_timesteps)
        run, draws = probe(attack), range(options.num_noises if attack.draws_noise else 1)
        found[name] = {
            f"t = {t}": np.mean([run(images, indices, t, draw, classes)["score"] for draw in draws], axis=0)
            for t in options.attack_timesteps
        }
    forward = probe(Forward(layers))
    spiky = measure_spikiness(forward, layers, images, indices, options.timesteps, options.num_noises, classes)
    found[HEADLINE] = _detectors(spiky)[HEADLINE]
    member, number = indices < len(in_train), np.concatenate([np.arange(len(in_train)), np.arange(len(in_heldout))])
    ids = [split.train.ids[i] for i in in_train] + [split.heldout.ids[i] for i in in_heldout]
    _write(
        pa.table({"id": ids, "number": number, "member": member} | _columns(found)), audit.folder("detect") / MEMBERSHIP
    )
    return detectors.compare(found, member, number, _MEMBER_FPRS), source


def _photo_classes(
    target: Target, labels: np.ndarray, key: jax.Array, indices: np.ndarray
) -> tuple[np.ndarray | None, str | None]:
    """Classes of photos for a class-conditional target: their labels if the target can have such, else drawn."""
    count = target.unet.num_class_embeds
    if count is None:
        return None, None
    if labels.min() >= 0 and labels.max() < count:
        return labels.astype(np.int32), "labels"
    return generation_classes(target, key, indices), "drawn"


def _columns(found: detectors.Detectors) -> dict[str, np.ndarray]:
    """One column for each detector and choice, such as "std up_blocks.0.resnets.0.dropout, t = 10"; float32."""
    return {
        column_name(name, choice): scores.astype(np.float32)
        for name, choices in found.items()
        for choice, scores in choices.items()
    }


def column_name(detector: str, choice: str) -> str:
    """Of a score in the stage's tables."""
    return f"{detector} {choice}"


def _write(table: pa.Table, path: epath.Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(path, buffer.getvalue())
