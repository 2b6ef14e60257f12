"""Stage 6, report: metrics.json, matches.parquet and report.html from what the sweep wrote."""

import functools
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from side_jax.arrays import load_array, read_rows
from side_jax.artifacts import MANIFEST, AuditError, plain, read_json, write_bytes, write_json
from side_jax.evidence import intervals, null
from side_jax.evidence.metrics import average_over_scales
from side_jax.evidence.summary import Scores, calibrate, compare_with_random, summarize
from side_jax.evidence.table import RANDOM, table1
from side_jax.extraction.columns import reference_columns
from side_jax.extraction.descriptors import descriptor_facts
from side_jax.extraction.parts import read_parts, scale_folder, with_descriptor
from side_jax.extraction.references import compare_photos, place_references
from side_jax.images import ImageSet
from side_jax.report.page import Pair, Sheet, render
from side_jax.sampling import Sampler
from side_jax.sharding import local_mesh
from side_jax.splitting import near_duplicate_groups
from side_jax.stages.audit import Audit
from side_jax.stages.extract import descriptor_path, extract_request, make_sampler, paired_positions


def report_request(audit: Audit) -> dict[str, Any]:
    """The report is made again whenever anything it shows has changed."""
    options = audit.options
    sweeps = {}
    for name, method in audit.methods().items():
        manifest = method.folder("extract") / MANIFEST
        finished = read_json(manifest)["finished"] if manifest.exists() else None
        sweeps[name] = {"extract": finished} | extract_request(method)
    return {"bands": options.extract.bands, "pairs": options.report.pairs, "sweeps": sweeps}


def report(audit: Audit) -> dict[str, Any]:
    """Reads the parts, computes every score, writes the table, the numbers and the page."""
    methods = audit.methods()
    tables = {
        name: {scale: _read_scale(method, scale) for scale in method.options.extract.scales}
        for name, method in methods.items()
    }
    rows = _match_table(tables)
    buffer = io.BytesIO()
    main = next(iter(methods))
    metrics = compute_metrics(methods[main], tables[main])
    metrics |= {"method": main, "table1": _table1(audit, tables)}
    pq.write_table(with_descriptor(rows, metrics["descriptor"]), buffer)
    write_bytes(audit.workdir / "matches.parquet", buffer.getvalue())
    write_json(audit.workdir / "metrics.json", metrics)
    best = {scale: _best_scores(table) for scale, table in tables[main].items()}
    page = render(plain(metrics), _facts(methods[main]), _sheets(methods[main], tables[main], metrics), best)
    write_bytes(audit.workdir / "report.html", page.encode())
    return {"rows": len(rows)}


def _match_table(tables: dict[str, dict[float, pa.Table]]) -> pa.Table:
    """matches.parquet: every row of every sweep, and which method made it."""
    parts = []
    for method, sweep in tables.items():
        for scale, table in sweep.items():
            names = pa.array([method if scale > 0 else RANDOM] * len(table), pa.string())
            parts.append(table.append_column("method", names))
    return pa.concat_tables(parts)


def _read_scale(audit: Audit, scale: float) -> pa.Table:
    count = audit.options.extract.num_images
    table = read_parts(scale_folder(audit.folder("extract"), scale))
    table = table.filter(table["index"].to_numpy() < count)
    if len(table) != count:
        (audit.folder("extract") / MANIFEST).unlink(missing_ok=True)  # not complete after all
        raise AuditError(
            f"{count - len(table)} of the {count} rows of λ = {scale:g} are damaged or missing; --stages=extract,report"
            " makes them again"
        )
    return table


def _reference_ids(audit: Audit) -> dict[str, list[str]]:
    """Ids of each reference set, by its columns' prefix."""
    split, (in_train, in_heldout) = audit.split, paired_positions(audit)
    return {
        "": list(split.train.ids),
        "paired_": [split.train.ids[i] for i in in_train],
        "heldout_": [split.heldout.ids[i] for i in in_heldout],
    }


def compute_metrics(audit: Audit, tables: dict[float, pa.Table]) -> dict[str, Any]:
    """What metrics.json says of one method."""
    options, split = audit.options, audit.split
    bands = options.extract.bands
    in_train, in_heldout = paired_positions(audit)
    ids = _reference_ids(audit)
    calibrated = len(in_heldout) > 0
    labels = _relabellings(audit, in_train, in_heldout) if calibrated else None
    rows, train_scores = [], {}
    for scale, table in tables.items():
        train = train_scores[scale] = Scores.from_table(table, "", ids[""])
        row: dict[str, Any] = {"scale": scale, "train": summarize(train, bands)}
        if labels is not None:
            paired, heldout = (Scores.from_table(table, name, ids[name]) for name in ("paired_", "heldout_"))
            row |= {"paired": summarize(paired, bands), "heldout": summarize(heldout, bands)}
            row |= calibrate(paired, heldout, labels, bands)
        rows.append(row)
    guided = {scale: scores for scale, scores in train_scores.items() if scale > 0}
    return {
        "images": {"train": len(split.train), "heldout": len(split.heldout), "paired": len(in_train)},
        "skipped": split.skipped,
        "descriptor": descriptor_facts(
            options.extract.descriptor, options.extract.weights, options.extract.preprocessing
        ),
        "bands": bands,
        "level": intervals.LEVEL,
        "scales": rows,
        "guided_mean": _guided_mean(rows, bands),
        "heldout_photos": _heldout_photos(audit, in_train, in_heldout) if calibrated else None,
        "guided_against_random": {band[0]: compare_with_random(guided, train_scores[0.0], band) for band in bands}
        if guided and 0.0 in train_scores and options.extract.num_images >= 4
        else None,
    }


def _table1(audit: Audit, tables: dict[str, dict[float, pa.Table]]) -> list[dict[str, Any]]:
    """Every method as a row of Table 1, Random first, then as asked for."""
    by_method: dict[str, list[pa.Table]] = {RANDOM: [sweep[0.0] for sweep in tables.values() if 0.0 in sweep]}
    for method in [name for name in audit.options.methods if name != RANDOM] or list(tables):
        by_method[method] = by_method.get(method, []) + [t for scale, t in tables[method].items() if scale > 0]
    ids = _reference_ids(audit)
    scores = {
        prefix: {
            method: [Scores.from_table(table, prefix, ids[prefix]) for table in sweep]
            for method, sweep in by_method.items()
            if sweep
        }
        for prefix in ("", "heldout_")
        if ids[prefix]
    }
    return table1(scores[""], scores.get("heldout_", {}), audit.options.extract.bands)


def _relabellings(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> np.ndarray:
    train, heldout = audit.split.train[in_train], audit.split.heldout[in_heldout]
    dataset = audit.options.dataset
    groups = near_duplicate_groups(np.concatenate([train.images, heldout.images]), dataset.near_duplicate)
    actual = np.arange(len(groups)) < len(train)
    return null.relabellings(actual, groups, np.concatenate([train.labels, heldout.labels]), dataset.split_seed)


def _guided_mean(rows: list[dict[str, Any]], bands: tuple[tuple[str, float, float], ...]) -> dict[str, Any] | None:
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
    descriptors = read_rows(descriptor_path(audit, "heldout"), in_heldout)
    read = functools.partial(read_rows, descriptor_path(audit, "train"))
    train = place_references(np.array(split.train.ids), read, split.train.images, in_train, local_mesh(), False)
    photos = split.heldout.images[in_heldout]
    found = compare_photos(photos, descriptors, train, options.top_k, options.bands[0][1])
    columns = reference_columns(found, train.ids, options.top_k)
    scores = Scores.from_table(pa.table(columns), "", list(train.ids))
    return summarize(scores, options.bands) | {"best": np.round(scores.best, 4)}


def _best_scores(table: pa.Table) -> dict[str, np.ndarray]:
    """Best score of every image against equally many training and held-out photos, or against all training photos."""
    rows = {name: table[column].to_pylist() for name, column in _HISTOGRAMS.items()}
    best = {name: np.array([row[0] for row in column]) for name, column in rows.items() if all(column)}
    return best or {"training": np.array([row[0] for row in table["scores"].to_pylist()])}


_HISTOGRAMS = {"training": "paired_scores", "held-out": "heldout_scores"}


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
}


def _sheets(audit: Audit, tables: dict[float, pa.Table], metrics: dict[str, Any]) -> list[Sheet]:
    """Best and randomly chosen pairs, at λ = 0 and at the λ > 0 with the highest AMS in the highest band."""
    top = audit.options.extract.bands[-1][0]
    guided = [row for row in metrics["scales"] if row["scale"] > 0]
    best = [max(guided, key=lambda row: row["train"]["bands"][top]["ams"]["value"])["scale"]] if guided else []
    sampler = None if audit.options.extract.save_images == "all" else make_sampler(audit)
    sheets = []
    for scale in [s for s in tables if s == 0] + best:
        table = tables[scale]
        scores = np.array([row[0] for row in table["scores"].to_pylist()])
        count = min(audit.options.report.pairs, len(scores))
        random = np.random.default_rng(audit.options.seed).choice(len(scores), count, replace=False)
        for title, chosen in (("best", np.argsort(-scores, kind="stable")[:count]), ("randomly chosen", random)):
            sheets.append(Sheet(f"λ = {scale:g}, {title}", _pairs(audit, scale, table, chosen, sampler)))
    return sheets


def _pairs(audit: Audit, scale: float, table: pa.Table, chosen: np.ndarray, sampler: Sampler | None) -> list[Pair]:
    rows = table.take(chosen).to_pylist()
    generated = _generated(audit, scale, np.array([row["index"] for row in rows]), sampler)
    pairs = []
    for row, image in zip(rows, generated, strict=True):
        train = _photo(audit.split.train, row["ids"]), row["ids"][0], row["scores"][0]
        heldout = None
        if row["heldout_ids"]:
            photo = _photo(audit.split.heldout, row["heldout_ids"])
            heldout = photo, row["heldout_ids"][0], row["heldout_scores"][0]
        pairs.append(Pair(row["index"], image, train, heldout))
    return pairs


def _photo(images: ImageSet, ids: list[str]) -> np.ndarray:
    return images.images[images.ids.index(ids[0])]


def _generated(audit: Audit, scale: float, indices: np.ndarray, sampler: Sampler | None) -> np.ndarray:
    """The images themselves: from the store, or generated again from (seed, index)."""
    if sampler is None:
        path = scale_folder(audit.folder("extract"), scale) / "images.zarr"
        return load_array(path)[indices]
    return np.concatenate([images for _, images in sampler(indices, scale)])
