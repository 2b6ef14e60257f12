"""Stage 10, report: metrics.json, audit.json, matches.parquet, model_card.md and report.html, from the sweep."""

import dataclasses

import numpy as np
import pyarrow as pa
from etils import epath

from side_jax.audit.answered import answered, photo_by_photo
from side_jax.audit.by_method import Row, against_random, beside_controls, by_method, saw_training_photos
from side_jax.audit.compared_samples import compared_samples, same_images
from side_jax.audit.marked import precision_of_bands
from side_jax.audit.quality import measure_quality
from side_jax.audit.read_sweeps import ComparedPhotos, Sweeps
from side_jax.audit.repeats import repeated_pictures
from side_jax.audit.samples import TABLE, write_table
from side_jax.audit.shown import make_page, run_name, sweep_facts
from side_jax.audit.stage import Audit, Stage, paired_positions
from side_jax.audit.stages.detect import DetectStage
from side_jax.audit.stages.sanity import SanityStage
from side_jax.audit.stages.steer import SteerStage, nearest_by_weight
from side_jax.audit.sweep import heldout_queries, pool_photos
from side_jax.evidence import intervals
from side_jax.evidence.forecast_model import forecast
from side_jax.evidence.metrics import average_over_scales
from side_jax.evidence.mitigation import effect_by_band
from side_jax.evidence.scores import Scores
from side_jax.evidence.summary import null_facts, summarize
from side_jax.evidence.table import RANDOM, table1
from side_jax.matching.columns import reference_columns
from side_jax.matching.descriptors import descriptor_facts
from side_jax.matching.references import compare_photos, place_references
from side_jax.report.audit_json import FILE as AUDIT
from side_jax.report.audit_json import audit_json
from side_jax.report.marks import Mark, read_marks
from side_jax.report.model_card import FILE as MODEL_CARD
from side_jax.report.model_card import model_card
from side_jax.report.page import render, withheld
from side_jax.report.stored import FILE, save_page
from side_jax.report.verdict import whole
from side_jax.runtime.declare import AMOUNT, Check, amounts, at_least, option
from side_jax.runtime.files import Json, fingerprint, plain, write_bytes, write_json
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
    redact: bool = option(False, "blur every picture of the page beyond recognition", decides=AMOUNT)
    marks: str = option("", "a CSV file of marks that the page saved: it gives the bands' precision", decides=AMOUNT)


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
            "marks": fingerprint([dataclasses.astuple(mark) for mark in _marks(audit)]),
            "methods": {name: amounts(method.options.extract) for name, method in audit.methods().items()},
        }

    def check(self, audit: Audit) -> None:
        """The marks must be there, and be of this sweep."""
        _marks(audit)

    def run(self, audit: Audit) -> Json:
        """Writes the table, the numbers and the page."""
        photos = ComparedPhotos.of(audit)
        sweeps = Sweeps.read(audit, photos)
        metrics = _measured(audit, photos, sweeps)
        if audit.samples:
            write_table(audit.workdir / TABLE, audit.options, audit.samples)
        page = make_page(audit, metrics, sweeps.shown, sweeps.finds)
        found = audit_json(page.metrics, page.facts, bool(withheld(page.metrics)))
        write_json(audit.workdir / "metrics.json", metrics)
        write_json(audit.workdir / AUDIT, found)
        write_bytes(audit.workdir / MODEL_CARD, model_card(found).encode())
        save_page(page, audit.folder(self.folder) / FILE)
        write_bytes(audit.workdir / "report.html", render(page).encode())
        return {"rows": sum(len(row.train.best) for sweep in sweeps.rows.values() for row in sweep.values())}


def _measured(audit: Audit, photos: ComparedPhotos, sweeps: Sweeps) -> Json:
    """metrics.json."""
    methods, extract = audit.methods(), audit.options.extract
    name_of_main, main = next(iter(methods.items()))
    rows = sweeps.rows[name_of_main]
    quality, yardstick = measure_quality(main)
    for scale, found in sweeps.shown.items():
        found.metrics["quality"] = quality.get(scale)
    compared = {name: _against_random(method, sweeps.rows[name], rows.get(0.0)) for name, method in methods.items()}
    metrics = _metrics(main, [found.metrics for found in sweeps.shown.values()], photos) | {
        "descriptor": descriptor_facts(extract.descriptor, extract.weights, extract.preprocessing),
        "damaged_parts": sum(sweep_facts(method)["facts"]["damaged_parts"] for method in methods.values()),
        "method": name_of_main,
        "guided_against_random": compared[name_of_main],
        "duplicates": repeated_pictures(main, rows),
        "table1": _table1(audit, sweeps.rows),
        "methods": by_method(audit, sweeps.rows, compared),
        "forecast": _forecast(main, rows),
        "quality": yardstick,
        "samples": compared_samples(main, rows),
        "sanity": _facts_of(SanityStage(), audit),
        "detect": _facts_of(DetectStage(), audit),
        "steer": _steered(audit),
    }
    metrics |= photo_by_photo(main, sweeps.finds)
    metrics["verdicts"] = answered(main, metrics, rows)
    metrics["verdict"] = whole(metrics, withheld(metrics))
    drawn = {scale: found.drawn() for scale, found in sweeps.shown.items()}
    marks = _marks(audit)
    metrics["marks"] = precision_of_bands(marks, rows, drawn, main.bands()) if marks else None
    return metrics


def _against_random(method: Audit, sweep: dict[float, Row], random: Row | None) -> dict[str, Json] | None:
    if method.samples and (method.options.samples.named or not same_images(method)):
        return None
    guided = {scale: row.train for scale, row in sweep.items() if scale > 0}
    return against_random(method, guided, random.more if random else None)


def _metrics(audit: Audit, rows: list[Json], photos: ComparedPhotos) -> Json:
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


def _marks(audit: Audit) -> list[Mark]:
    path = audit.options.report.marks
    return read_marks(epath.Path(path), run_name(audit)) if path else []
