"""The page of an audit: pictures and facts beside metrics.json."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from side_jax.audit.at_risk import SweepFinds, pictured
from side_jax.audit.pictures import ChosenRows, contact_sheets, ranked, steered
from side_jax.audit.stage import Audit
from side_jax.audit.stages.sanity import PREVIEW
from side_jax.report.redact import redacted
from side_jax.report.section import Page
from side_jax.runtime.arrays import load_array
from side_jax.runtime.files import MANIFEST, Json, fingerprint, plain, read_json

_PREVIEWED = 16  # images of the sanity check


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows of one λ of the main method.

    Attributes:
      metrics: its row of metrics.json.
      best: best scores for the histograms, by reference set.
      pictures: `choose_rows`.
    """

    metrics: Json
    best: dict[str, np.ndarray]
    pictures: list[ChosenRows]

    def drawn(self) -> np.ndarray:
        """The indices of the images that were chosen at random."""
        return np.concatenate([rows.rows["index"].to_numpy() for rows in self.pictures if rows.drawn])


def make_page(audit: Audit, metrics: Json, shown: Mapping[float, Shown], finds: SweepFinds) -> Page:
    """The page of the main method.

    Args:
      audit: of it.
      metrics: metrics.json.
      shown: by λ.
      finds: of all methods.
    """
    main, detect, steer = audit.main(), metrics["detect"], metrics["steer"]
    page = Page(
        plain(metrics),
        _facts(audit),
        contact_sheets(main, {scale: shown[scale].pictures for scale in _pictured(metrics)}),
        {scale: found.best for scale, found in shown.items()},
        ranked(main, detect) if detect else None,
        steered(main, steer) if steer else None,
        load_array(main.folder("sanity") / PREVIEW)[:_PREVIEWED] if metrics["sanity"] else None,
        list(pictured(main, metrics["at_risk"]["rows"], finds)),
    )
    return redacted(page) if audit.options.report.redact else page


def run_name(audit: Audit) -> str:
    """What the finished sweeps were made of, in 16 digits; empty before they are finished."""
    manifests = [sweep_facts(method) for method in audit.methods().values()]
    return fingerprint([manifest["fingerprint"] for manifest in manifests]) if all(manifests) else ""


def sweep_facts(method: Audit) -> Json:
    """The manifest of its sweep; nothing if that is not complete."""
    manifest = method.folder("extract") / MANIFEST
    return read_json(manifest) if manifest.exists() else {}


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
        "run": run_name(audit),
        "options": plain(audit.options),
        "provenance": read_json(audit.workdir / "config.json"),
        "stages": {manifest["stage"]: manifest for manifest in found},
    }
