"""Stage 10, report: metrics.json, matches.parquet and report.html from what the sweep wrote."""

import dataclasses

import numpy as np
import pyarrow as pa

from side_jax.audit.answered import answered, photo_by_photo
from side_jax.audit.at_risk import SweepFinds, pictured
from side_jax.audit.by_method import Row, against_random, beside_controls, by_method, saw_training_photos
from side_jax.audit.compared_samples import compared_samples, same_images
from side_jax.audit.finished import SUMMARY
from side_jax.audit.pictures import choose_rows, contact_sheets, ranked, steered
from side_jax.audit.quality import measure_quality
from side_jax.audit.repeats import repeated_pictures
from side_jax.audit.samples import TABLE, write_table
from side_jax.audit.stage import Audit, Stage, paired_positions, photo_pool
from side_jax.audit.stages.detect import DetectStage
from side_jax.audit.stages.sanity import PREVIEW, SanityStage
from side_jax.audit.stages.steer import SteerStage, nearest_by_weight
from side_jax.audit.sweep import asked_images, heldout_queries, num_images, pool_photos, read_scale
from side_jax.evidence import intervals, null
from side_jax.evidence.forecast_model import forecast
from side_jax.evidence.metrics import average_over_scales
from side_jax.evidence.mitigation import effect_by_band
from side_jax.evidence.scores import Nearest, Scores
from side_jax.evidence.summary import calibrate, null_facts, summarize
from side_jax.evidence.table import RANDOM, table1
from side_jax.matching.columns import reference_columns
from side_jax.matching.descriptors import descriptor_facts
from side_jax.matching.match_table import match_table
from side_jax.matching.pool import Pool
from side_jax.matching.references import compare_photos, place_references
from side_jax.report.page import render, render_summary
from side_jax.report.section import Page
from side_jax.runtime.arrays import load_array
from side_jax.runtime.declare import AMOUNT, Check, amounts, at_least, option
from side_jax.runtime.files import MANIFEST, Json, fingerprint, plain, read_json, write_bytes, write_json
from side_jax.runtime.sharding import local_mesh


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """The page."""

    pairs: int = option(24, "pairs per contact sheet", at_least(1), decides=AMOUNT)
    relevant_share: float = option(
        0.01,
        'share of copies from which copying matters: a "no" that would have missed it is worded "not enough data"',
        Check(lambda value: 0 < value < 1, "in (0, 1)"),
        decides=AMOUNT,
    )


class ReportStage(Stage):
    """The page, and the numbers on it."""

    name = "report"
    folder = "report"
    needs = ("target", "sanity", "distill", "extract")
    of_model = False
    version = 3
    alone = True
    remade = True

    def spec(self, audit: Audit) -> Json:
        """The strata within which the null relabels the photos."""
        return {"strata": fingerprint(audit.split.strata())}

    def request(self, audit: Audit) -> Json:
        """What it shows besides the artifacts that it is made from."""
        return {
            "dataset": plain(audit.options.dataset),
            "bands": audit.options.extract.bands,
            **amounts(audit.options.report),
            "methods": {name: amounts(method.options.extract) for name, method in audit.methods().items()},
        }

    def run(self, audit: Audit) -> Json:
        """Reads the parts, one λ at a time; writes the table, the numbers and the page."""
        methods, options = audit.methods(), audit.options.extract
        name_of_main, main = next(iter(methods.items()))
        descriptor = descriptor_facts(options.descriptor, options.weights, options.preprocessing)
        photos = _References.of(audit)
        sweeps: dict[str, dict[float, Row]] = {name: {} for name in methods}
        shown: dict[float, _Shown] = {}
        finds = SweepFinds.none(photos.pool)
        with match_table(audit.workdir / "matches.parquet", descriptor, photos.pool.ids) as append:
            for name, method in methods.items():
                for scale in method.options.extract.scales:
                    table = read_scale(method, scale, num_images(method, scale))
                    append(table, name if scale > 0 or method.samples else RANDOM)
                    sweeps[name][scale] = _row(method, scale, table, photos)
                    label = audit.options.samples.named.get(scale) or f"{name if scale else RANDOM} λ={scale:g}"
                    blind = scale == 0 or not saw_training_photos(method.options)
                    finds.add(label, table, blind, audit.bands()[-1][1])
                    if name == name_of_main:
                        shown[scale] = _shown(method, scale, table, photos)
                    del table  # before the next one is read
        quality, measured = measure_quality(main)
        for scale, found in shown.items():
            found.metrics["quality"] = quality.get(scale)
        random = sweeps[name_of_main].get(0.0)
        compared = {name: _against_random(method, sweeps[name], random) for name, method in methods.items()}
        metrics = _metrics(main, [found.metrics for found in shown.values()], photos) | {
            "descriptor": descriptor,
            "damaged_parts": sum(_sweep_facts(method)["facts"]["damaged_parts"] for method in methods.values()),
            "method": name_of_main,
            "guided_against_random": compared[name_of_main],
            "duplicates": repeated_pictures(main, sweeps[name_of_main]),
            "table1": _table1(audit, sweeps),
            "methods": by_method(audit, sweeps, compared),
            "forecast": _forecast(main, sweeps[name_of_main]),
            "quality": measured,
            "samples": compared_samples(main, sweeps[name_of_main]),
            "sanity": _facts_of(SanityStage(), audit),
            "detect": _facts_of(DetectStage(), audit),
            "steer": _steered(audit),
        }
        metrics |= photo_by_photo(main, finds)
        metrics["verdicts"] = answered(main, metrics, sweeps[name_of_main])
        if audit.samples:
            write_table(audit.workdir / TABLE, audit.options, audit.samples)
        write_json(audit.workdir / "metrics.json", metrics)
        page = _page(main, metrics, shown)
        write_bytes(audit.workdir / "report.html", render(page).encode())
        write_bytes(audit.workdir / SUMMARY, render_summary(page).encode())
        return {"rows": sum(len(row.train.best) for sweep in sweeps.values() for row in sweep.values())}


@dataclasses.dataclass(frozen=True)
class _References:
    """The photos, as every λ is matched with them.

    Attributes:
      pool: all of them.
      pictures: the picture of each training photo, if any is there more than once; else None.
      labels: relabellings of the paired photos; None if nothing is held out.
    """

    pool: Pool
    pictures: np.ndarray | None
    labels: null.Relabellings | None

    @classmethod
    def of(cls, audit: Audit) -> "_References":
        in_train, in_heldout = paired_positions(audit)
        labels = _relabellings(audit, in_train, in_heldout) if len(in_heldout) else None
        pictures = audit.split.train_pictures()
        repeated = pictures is not None and len(np.unique(pictures)) < len(pictures)
        return cls(photo_pool(audit), pictures if repeated else None, labels)

    def nearest(self, table: pa.Table, prefix: str) -> Nearest:
        """Best matches with one reference set."""
        return Nearest.from_table(table, prefix, self.pool.members(prefix), self._pictures(prefix))

    def scores(self, table: pa.Table, prefix: str) -> Scores:
        """Everything of one reference set."""
        return Scores.from_table(table, prefix, self.pool.members(prefix), self._pictures(prefix))

    def _pictures(self, prefix: str) -> np.ndarray | None:
        """Of the other sets every photo is another picture."""
        return None if prefix else self.pictures


@dataclasses.dataclass(frozen=True)
class _Shown:
    """What the page shows of one λ of the main method.

    Attributes:
      metrics: its row of metrics.json.
      best: best scores for the histograms, by reference set.
      pictures: `choose_rows`.
    """

    metrics: Json
    best: dict[str, np.ndarray]
    pictures: dict[str, pa.Table]


def _row(audit: Audit, scale: float, table: pa.Table, photos: _References) -> Row:
    """What the comparison of methods keeps of one λ: some bytes per image."""
    first = table.slice(0, asked_images(audit, scale))
    train = photos.nearest(first, "")
    heldout = photos.nearest(first, "heldout_") if photos.labels else None
    asked = None
    if scale > 0 and not audit.samples and audit.options.labels.source in ("classifier", "dataset", "heldout"):
        asked = audit.split.train.labels[train.winner] == first["label"].to_numpy()
    unguided = scale == 0
    more = photos.nearest(table, "") if unguided else None
    tested = heldout is not None and (unguided or scale in audit.options.samples.named)
    return Row(train, heldout, asked, more, photos.nearest(first, "paired_") if tested else None)


def _shown(audit: Audit, scale: float, table: pa.Table, photos: _References) -> _Shown:
    """Every score of one λ."""
    bands, table = audit.bands(), table.slice(0, asked_images(audit, scale))
    train = photos.scores(table, "")
    row: Json = {"scale": scale, **audit.options.samples.name(scale), "train": summarize(train, bands)}
    pictures = choose_rows(audit, table, train.best, photos.pool.ids)
    if photos.labels is None:
        return _Shown(row, {"training": train.best}, pictures)
    paired, heldout = photos.scores(table, "paired_"), photos.scores(table, "heldout_")
    row |= {"paired": summarize(paired, bands), "heldout": summarize(heldout, bands)}
    row |= calibrate(paired, heldout, photos.labels, bands)
    return _Shown(row, {"training": paired.best, "held-out": heldout.best}, pictures)


def _against_random(method: Audit, sweep: dict[float, Row], random: Row | None) -> dict[str, Json] | None:
    if method.samples and (method.options.samples.named or not same_images(method)):
        return None
    guided = {scale: row.train for scale, row in sweep.items() if scale > 0}
    return against_random(method, guided, random.more if random else None)


def _metrics(audit: Audit, rows: list[Json], photos: _References) -> Json:
    """What metrics.json says of the main method, whose λ have these rows."""
    split, bands = audit.split, audit.bands()
    in_train, in_heldout = paired_positions(audit)
    return {
        "images": {"train": len(split.train), "heldout": len(split.heldout), "paired": len(in_train)},
        "skipped": split.skipped,
        "traits": split.traits,
        "bands": bands,
        "measured_bands": audit.measured_bands() if not audit.options.extract.bands else None,
        "level": intervals.LEVEL,
        "scales": rows,
        "null": null_facts(photos.labels) if photos.labels else None,
        "guided_mean": _guided_mean(rows),
        "heldout_photos": _heldout_photos(audit, in_train, in_heldout) if photos.labels else None,
    }


def _table1(audit: Audit, sweeps: dict[str, dict[float, Row]]) -> list[Json]:
    """Every method as a row of Table 1, Random first, a control beside what it controls; none of samples."""
    if audit.samples:
        return []
    by_method = {RANDOM: [sweep[0.0] for sweep in sweeps.values() if 0.0 in sweep]}
    methods = audit.methods()
    for method in beside_controls([name for name in audit.options.methods if name != RANDOM] or list(sweeps), methods):
        guided = [row for scale, row in sweeps[method].items() if scale > 0]
        by_method[method] = by_method.get(method, []) + guided
    train = {method: [row.train for row in rows] for method, rows in by_method.items() if rows}
    heldout = {method: [row.heldout for row in by_method[method] if row.heldout] for method in train}
    rows = table1(train, {m: rows for m, rows in heldout.items() if rows}, audit.bands())
    saw = {name: saw_training_photos(method.options) for name, method in methods.items()}
    return [row | {"saw_training_photos": saw.get(str(row["method"]), False)} for row in rows]


def _forecast(audit: Audit, sweep: dict[float, Row]) -> Json:
    """Photos that more images would find, in the highest band: unguided, and at the λ > 0 with the most hits."""
    band, seed = audit.bands()[-1], audit.options.seed
    guided = [scale for scale in sweep if scale > 0]
    best = [max(guided, key=lambda scale: sweep[scale].train.hits(band).sum())] if guided else []
    rows = []
    for scale in [0.0] * (0.0 in sweep) + best:
        nearest = sweep[scale].more or sweep[scale].train
        named = audit.options.samples.name(scale)
        rows.append({"scale": scale, **named} | forecast(nearest.unique(band), len(audit.split.train), seed))
    return {"band": band[0], "scales": rows}


def _facts_of(stage: Stage, audit: Audit) -> Json | None:
    """What the manifest of a stage says that the report can do without."""
    facts: Json | None = (stage.complete(audit) or {}).get("facts")
    return facts


def _steered(audit: Audit) -> Json | None:
    """What the steer stage says, with the scores of every weight in the bands of today."""
    facts = _facts_of(SteerStage(), audit)
    if facts is None or "reason" in facts:
        return facts
    found = nearest_by_weight(audit)
    for row in facts["rows"]:
        row["bands"] = effect_by_band(found[float(np.float32(row["weight"]))], found[0.0], audit.bands())
    return facts


def _page(audit: Audit, metrics: Json, shown: dict[float, _Shown]) -> Page:
    """The page of the main method."""
    detect, steer = metrics["detect"], metrics["steer"]
    return Page(
        plain(metrics),
        _facts(audit),
        contact_sheets(audit, {scale: shown[scale].pictures for scale in _pictured(metrics)}),
        {scale: found.best for scale, found in shown.items()},
        ranked(audit, detect) if detect else None,
        steered(audit, steer) if steer else None,
        load_array(audit.folder("sanity") / PREVIEW)[:_PREVIEWED] if metrics["sanity"] else None,
        list(pictured(audit, metrics["at_risk"]["rows"])),
    )


_PREVIEWED = 16  # images of the sanity check


def _sweep_facts(method: Audit) -> Json:
    """The manifest of its sweep; nothing if that is not complete."""
    manifest = method.folder("extract") / MANIFEST
    return read_json(manifest) if manifest.exists() else {}


def _relabellings(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> null.Relabellings:
    train, heldout = audit.split.strata()
    actual = np.arange(2 * len(in_train)) < len(in_train)
    strata = np.concatenate([train[in_train], heldout[in_heldout]])
    return null.relabellings(actual, strata, audit.options.dataset.split_seed)


def _guided_mean(rows: list[Json]) -> dict[str, float] | None:
    """AMS and UMS averaged over λ > 0, against as many training photos as are held out, if any are."""
    if any("name" in row for row in rows):  # their λ are positions
        return None
    guided = [row["paired" if "paired" in row else "train"]["bands"] for row in rows if row["scale"] > 0]
    values = [
        {f"{band}/{score}": estimate["value"] for band, scores in bands.items() for score, estimate in scores.items()}
        for bands in guided
    ]
    return average_over_scales(values) if values else None


def _heldout_photos(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> Json:
    """Held-out photos matched against training photos: how alike two real photos are that nothing copied."""
    options, split, bands = audit.options.extract, audit.split, audit.bands()
    train = place_references(pool_photos(audit), in_train.astype(np.int32), local_mesh(), False)
    tables = []
    for start in range(0, len(in_heldout), _PHOTOS):
        rows = in_heldout[start : start + _PHOTOS]
        found = compare_photos(
            split.heldout.images[rows], heldout_queries(audit, rows), train, options.top_k, bands[0][1]
        )
        tables.append(pa.table(reference_columns(found, options.top_k)))
    scores = Scores.from_table(pa.concat_tables(tables), "", train.members)
    return summarize(scores, bands) | {"best": np.round(scores.best.astype(np.float64), 4)}


_PHOTOS = 4096  # at once


def _pictured(metrics: Json) -> list[float]:
    """λ = 0, and the λ > 0 with the highest AMS in the highest band; of sets with names, all."""
    if any("name" in row for row in metrics["scales"]):
        return [row["scale"] for row in metrics["scales"]]
    top = metrics["bands"][-1][0]
    scales = [row["scale"] for row in metrics["scales"]]
    guided = [row for row in metrics["scales"] if row["scale"] > 0]
    best = [max(guided, key=lambda row: row["train"]["bands"][top]["ams"]["value"])["scale"]] if guided else []
    return [scale for scale in scales if scale == 0] + best


def _facts(audit: Audit) -> Json:
    """What the page says of where its numbers come from."""
    found = map(read_json, sorted(audit.workdir.glob(f"*/{MANIFEST}")))  # the main method's lie there too
    return {
        "workdir": audit.workdir.name,
        "options": plain(audit.options),
        "provenance": read_json(audit.workdir / "config.json"),
        "stages": {manifest["stage"]: manifest for manifest in found},
    }
