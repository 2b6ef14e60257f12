"""The report's contact sheets: generated images beside the photos they resemble most."""

import numpy as np
import pyarrow as pa

from side_jax.images import ImageSet
from side_jax.report.page import Pair, Photo, Sheet
from side_jax.stages.audit import Audit
from side_jax.stages.extract import generated_images

_COLUMNS = ["index", "ids", "scores", "heldout_ids", "heldout_scores"]


def choose_rows(audit: Audit, table: pa.Table, best: np.ndarray) -> dict[str, pa.Table]:
    """Of one λ's table the rows to show, by title: with the best scores, and chosen at random.

    Args:
      audit: gives number and seed.
      table: N rows.
      best: their best scores, [N].
    """
    count = min(audit.options.report.pairs, len(best))
    chosen = {
        "best": np.argsort(-best, kind="stable")[:count],
        "randomly chosen": np.random.default_rng(audit.options.seed).choice(len(best), count, replace=False),
    }
    return {title: table.select(_COLUMNS).take(rows) for title, rows in chosen.items()}


def contact_sheets(audit: Audit, chosen: dict[float, dict[str, pa.Table]]) -> list[Sheet]:
    """λ -> title -> rows (`choose_rows`), with their images."""
    return [
        Sheet(f"λ = {scale:g}, {title}", _pairs(audit, scale, rows))
        for scale, tables in chosen.items()
        for title, rows in tables.items()
    ]


def _pairs(audit: Audit, scale: float, table: pa.Table) -> list[Pair]:
    rows = table.to_pylist()
    best = np.array([row["scores"][0] for row in rows], np.float32)
    generated = generated_images(audit, scale, table["index"].to_numpy(), best)
    train = _nearest_photos(audit.split.train, rows, "")
    heldout = (
        _nearest_photos(audit.split.heldout, rows, "heldout_") if all(row["heldout_ids"] for row in rows) else None
    )
    return [
        Pair(row["index"], image, train[i], heldout[i] if heldout else None)
        for i, (row, image) in enumerate(zip(rows, generated, strict=True))
    ]


def _nearest_photos(images: ImageSet, rows: list[dict], prefix: str) -> list[Photo]:
    position = {name: i for i, name in enumerate(images.ids)}
    best = [(row[f"{prefix}ids"][0], row[f"{prefix}scores"][0]) for row in rows]
    return [(images.images[position[name]], name, score) for name, score in best]
