"""The last stage, report: metrics.json, matches.parquet and report.html from what the sweep wrote."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from side_jax.arrays import load_array, read_rows
from side_jax.artifacts import MANIFEST, plain, read_json, write_bytes, write_json
from side_jax.evidence import intervals, null
from side_jax.evidence.metrics import average_over_scales
from side_jax.evidence.scores import Band, Nearest, Scores
from side_jax.evidence.summary import calibrate, null_facts, summarize
from side_jax.evidence.table import RANDOM, table1
from side_jax.extraction.columns import reference_columns
from side_jax.extraction.descriptors import descriptor_facts
from side_jax.extraction.match_table import match_table
from side_jax.extraction.references import compare_photos, place_references
from side_jax.report.page import render
from side_jax.sharding import local_mesh
from side_jax.splitting import near_duplicate_groups
from side_jax.stages import inside
from side_jax.stages.against_random import against_random
from side_jax.stages.audit import Audit
from side_jax.stages.by_method import Row, by_method
from side_jax.stages.detect import detect_request
from side_jax.stages.extract import descriptor_path, extract_request, num_images, paired_positions, read_scale
from side_jax.stages.pictures import choose_rows, contact_sheets
from side_jax.stages.steer import PICTURES, steer_request


def report_request(audit: Audit) -> dict[str, Any]:
    """The report is made again whenever anything it shows has changed."""
    options = audit.options
    sweeps = {}
    for name, method in audit.methods().items():
        manifest = method.folder("extract") / MANIFEST
        finished = read_json(manifest)["finished"] if manifest.exists() else None
        sweeps[name] = {"extract": finished} | extract_request(method)
    request = {"bands": options.extract.bands, "pairs": options.report.pairs, "sweeps": sweeps}
    return request | {name: _finished(audit, name) for name in _LATER}


def _finished(audit: Audit, name: str) -> str | None:
    """When a stage that the report can do without ended, if it did what this audit asks for; else None."""
    wanted, request = _LATER[name]
    manifest = audit.folder(name) / MANIFEST
    if not wanted(audit) or not manifest.exists():
        return None
    found = read_json(manifest)
    return found["finished"] if found["request"] == plain(request(audit)) else None


def _found(audit: Audit, name: str) -> dict[str, Any] | None:
    """What it found; None if it is not complete, or not asked for."""
    return read_json(audit.folder(name) / MANIFEST)["facts"] if _finished(audit, name) else None


_LATER: dict[str, tuple[Callable[[Audit], bool], Callable[[Audit], dict[str, Any]]]] = {
    "detect": (lambda audit: audit.options.detect.num_images > 0, detect_request),
    "steer": (lambda audit: bool(audit.options.steer.weights), steer_request),
}


def report(audit: Audit) -> dict[str, Any]:
    """Reads the parts, one λ at a time; writes the table, the numbers and the page."""
    methods = audit.methods()
    main, options = next(iter(methods)), audit.options.extract
    descriptor = descriptor_facts(options.descriptor, options.weights, options.preprocessing)
    pool = _Pool.of(audit)
    sweeps: dict[str, dict[float, _Scale]] = {name: {} for name in methods}
    with match_table(audit.workdir / "matches.parquet", descriptor) as append:
        for name, method in methods.items():
            read = _read_main if name == main else _read_nearest
            for scale in method.options.extract.scales:
                table = read_scale(method, scale, num_images(method, scale))
                append(table, name if scale > 0 else RANDOM)
                sweeps[name][scale] = read(method, scale, table, pool)
                del table  # before the next one is read
    metrics = _metrics(methods[main], sweeps[main], pool) | {
        "descriptor": descriptor,
        "damaged_parts": _damaged_parts(methods),
        "method": main,
        "table1": _table1(audit, sweeps),
        "methods": by_method(audit, {name: _nearest(sweep) for name, sweep in sweeps.items()}),
        "detect": _found(audit, "detect"),
        "steer": _found(audit, "steer"),
    }
    write_json(audit.workdir / "metrics.json", metrics)
    shown = {scale: sweeps[main][scale].pictures for scale in _pictured(metrics)}
    best = {scale: found.best for scale, found in sweeps[main].items()}
    ranked = inside.ranked(audit, metrics["detect"]) if metrics["detect"] else None
    sheets, steered = contact_sheets(methods[main], shown), _steer_pictures(audit, metrics["steer"])
    page = render(plain(metrics), _facts(methods[main]), sheets, best, ranked, steered)
    write_bytes(audit.workdir / "report.html", page.encode())
    return {"rows": sum(len(found.train.best) for sweep in sweeps.values() for found in sweep.values())}


@dataclasses.dataclass(frozen=True)
class _Pool:
    """The reference images, as every λ is matched with them.

    Attributes:
      ids: column prefix -> ids of that reference set.
      labels: relabellings of the paired images; None if nothing is held out.
    """

    ids: dict[str, list[str]]
    labels: null.Relabellings | None

    @classmethod
    def of(cls, audit: Audit) -> "_Pool":
        split, (in_train, in_heldout) = audit.split, paired_positions(audit)
        ids = {
            "": list(split.train.ids),
            "paired_": [split.train.ids[i] for i in in_train],
            "heldout_": [split.heldout.ids[i] for i in in_heldout],
        }
        return cls(ids, _relabellings(audit, in_train, in_heldout) if len(in_heldout) else None)


@dataclasses.dataclass(frozen=True)
class _Scale:
    """What is kept of one λ: some bytes per image, and what the page shows. The table is dropped.

    Attributes:
      train: against all training images.
      heldout: against held-out images, if there are any.
      asked: whether the nearest training photo has the class asked for, bool [N_G]; None if classes are not of photos.
      more: against all training images, with the images for the comparison at equal compute.
      row: its row of metrics.json; of the main method only.
      best: best scores for the histograms, by reference.
      pictures: `choose_rows`.
    """

    train: Nearest
    heldout: Nearest | None
    asked: np.ndarray | None = None
    more: Nearest | None = None
    row: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    pictures: dict[str, pa.Table] = dataclasses.field(default_factory=dict)


def _read_nearest(audit: Audit, scale: float, table: pa.Table, pool: _Pool) -> _Scale:
    """What the comparison of methods needs."""
    train = Nearest.from_table(table, "", pool.ids[""])
    heldout = Nearest.from_table(table, "heldout_", pool.ids["heldout_"]) if pool.labels else None
    return _Scale(train, heldout, _asked(audit, scale, table, train))


def _asked(audit: Audit, scale: float, table: pa.Table, train: Nearest) -> np.ndarray | None:
    """Has the nearest training photo the class that the image was guided to?"""
    if scale == 0 or audit.options.labels.source not in ("classifier", "dataset", "heldout"):
        return None
    return audit.split.train.labels[train.winner] == table["label"].to_numpy()


def _read_main(audit: Audit, scale: float, table: pa.Table, pool: _Pool) -> _Scale:
    """Every score of one λ of the main method, too."""
    bands, more = audit.options.extract.bands, Nearest.from_table(table, "", pool.ids[""])
    table = table.slice(0, audit.options.extract.num_images)
    scores = {prefix: Scores.from_table(table, prefix, ids) for prefix, ids in pool.ids.items() if ids}
    train = scores[""]
    row: dict[str, Any] = {"scale": scale, "train": summarize(train, bands)}
    pictures, asked = choose_rows(audit, table, train.best), _asked(audit, scale, table, train)
    if pool.labels is None:
        return _Scale(train.nearest(), None, asked, more, row, {"training": train.best}, pictures)
    paired, heldout = scores["paired_"], scores["heldout_"]
    row |= {"paired": summarize(paired, bands), "heldout": summarize(heldout, bands)}
    row |= calibrate(paired, heldout, pool.labels, bands)
    best = {"training": paired.best, "held-out": heldout.best}
    return _Scale(train.nearest(), heldout.nearest(), asked, more, row, best, pictures)


def _metrics(audit: Audit, sweep: dict[float, _Scale], pool: _Pool) -> dict[str, Any]:
    """What metrics.json says of the main method."""
    split, bands = audit.split, audit.options.extract.bands
    guided = {scale: found.train for scale, found in sweep.items() if scale > 0}
    rows = [found.row for found in sweep.values()]
    in_train, in_heldout = paired_positions(audit)
    return {
        "images": {"train": len(split.train), "heldout": len(split.heldout), "paired": len(in_train)},
        "skipped": split.skipped,
        "bands": bands,
        "level": intervals.LEVEL,
        "scales": rows,
        "null": null_facts(pool.labels) if pool.labels else None,
        "guided_mean": _guided_mean(rows, bands),
        "heldout_photos": _heldout_photos(audit, in_train, in_heldout) if pool.labels else None,
        "guided_against_random": against_random(audit, guided, sweep[0.0].more if 0.0 in sweep else None),
    }


def _nearest(sweep: dict[float, _Scale]) -> dict[float, Row]:
    return {scale: Row(found.train, found.heldout, found.asked, found.more) for scale, found in sweep.items()}


def _table1(audit: Audit, sweeps: dict[str, dict[float, _Scale]]) -> list[dict[str, Any]]:
    """Every method as a row of Table 1, Random first, then as asked for."""
    by_method = {RANDOM: [sweep[0.0] for sweep in sweeps.values() if 0.0 in sweep]}
    for method in [name for name in audit.options.methods if name != RANDOM] or list(sweeps):
        guided = [found for scale, found in sweeps[method].items() if scale > 0]
        by_method[method] = by_method.get(method, []) + guided
    train = {method: [found.train for found in sweep] for method, sweep in by_method.items() if sweep}
    heldout = {method: [found.heldout for found in by_method[method] if found.heldout] for method in train}
    return table1(train, {m: sweep for m, sweep in heldout.items() if sweep}, audit.options.extract.bands)


def _damaged_parts(methods: dict[str, Audit]) -> int | None:
    """Parts that the sweeps found damaged and made again; None if none of them counted."""
    manifests = (method.folder("extract") / MANIFEST for method in methods.values())
    facts = [read_json(manifest)["facts"] for manifest in manifests if manifest.exists()]
    counted = [found["damaged_parts"] for found in facts if "damaged_parts" in found]
    return sum(counted) if counted else None


def _steer_pictures(audit: Audit, found: dict[str, Any] | None) -> np.ndarray | None:
    """The same noise at every weight, uint8 [A, K, H, W, C]; None if nothing was steered, or nothing memorized."""
    return load_array(audit.folder("steer") / PICTURES) if found and found.get("pictured") else None


def _relabellings(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> null.Relabellings:
    train, heldout, dataset = audit.split.train, audit.split.heldout, audit.options.dataset
    images = itertools.chain((train.images[i] for i in in_train), (heldout.images[i] for i in in_heldout))
    groups = near_duplicate_groups(images, dataset.near_duplicate)
    actual = np.arange(len(groups)) < len(in_train)
    classes = np.concatenate([train.labels[in_train], heldout.labels[in_heldout]])
    return null.relabellings(actual, groups, classes, dataset.split_seed)


def _guided_mean(rows: list[dict[str, Any]], bands: tuple[Band, ...]) -> dict[str, Any] | None:
    """AMS and UMS averaged over λ > 0, as Table 1 has them."""
    values = [
        {f"{band[0]}/{score}": row["train"]["bands"][band[0]][score]["value"] for band in bands for score in _SCORES}
        for row in rows
        if row["scale"] > 0
    ]
    return average_over_scales(values) if values else None


_SCORES = ("ams", "ums", "ums_all")


def _heldout_photos(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> dict[str, Any]:
    """Held-out photos matched against training photos: how alike two real photos are that nothing copied."""
    options, split = audit.options.extract, audit.split
    read = functools.partial(read_rows, descriptor_path(audit, "train"))
    train = place_references(np.array(split.train.ids), read, split.train.images, in_train, local_mesh(), False)
    tables = []
    for start in range(0, len(in_heldout), _PHOTOS):
        rows = in_heldout[start : start + _PHOTOS]
        descriptors = read_rows(descriptor_path(audit, "heldout"), rows)
        found = compare_photos(split.heldout.images[rows], descriptors, train, options.top_k, options.bands[0][1])
        tables.append(pa.table(reference_columns(found, train.ids, options.top_k)))
    scores = Scores.from_table(pa.concat_tables(tables), "", list(train.ids))
    return summarize(scores, options.bands) | {"best": np.round(scores.best.astype(np.float64), 4)}


_PHOTOS = 4096  # at once


def _pictured(metrics: dict[str, Any]) -> list[float]:
    """λ = 0, and the λ > 0 with the highest AMS in the highest band."""
    top = metrics["bands"][-1][0]
    scales = [row["scale"] for row in metrics["scales"]]
    guided = [row for row in metrics["scales"] if row["scale"] > 0]
    best = [max(guided, key=lambda row: row["train"]["bands"][top]["ams"]["value"])["scale"]] if guided else []
    return [scale for scale in scales if scale == 0] + best


def _facts(audit: Audit) -> dict[str, Any]:
    """What the page says of where its numbers come from."""
    manifest = {
        name: read_json(audit.folder(folder) / MANIFEST)
        for name, folder in _FOLDERS.items()
        if (audit.folder(folder) / MANIFEST).exists()
    }
    return {
        "workdir": audit.workdir.name,
        "options": plain(audit.options),
        "provenance": read_json(audit.workdir / "config.json"),
        "stages": manifest,
    }


_FOLDERS = {
    "target": "target",
    "synthesize": "synthetic",
    "label": "labels",
    "distill": "classifier",
    "extract": "extract",
    "steer": "steer",
}
