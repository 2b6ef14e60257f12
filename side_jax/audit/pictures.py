"""What the report draws besides metrics.json: contact sheets, scores of the detect stage, images of the steer stage."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from side_jax.audit.stage import Audit
from side_jax.audit.stages.detect import HEADLINE, MEMBERSHIP, SCORES, column_name
from side_jax.audit.stages.steer import PICTURES
from side_jax.audit.sweep import generated_images, num_images
from side_jax.data.images import ImageSet
from side_jax.evidence.metrics import in_band
from side_jax.evidence.scores import Nearest
from side_jax.matching.columns import with_ids
from side_jax.report.blocks import Pair, Photo, Sheet
from side_jax.report.section import Ranked
from side_jax.runtime.arrays import load_array
from side_jax.runtime.files import Json

_COLUMNS = ["index", "ids", "scores", "heldout_ids", "heldout_scores"]
_DRAWN = (HEADLINE, "loss", "contrast")  # of the detectors of generated images


@dataclasses.dataclass(frozen=True)
class ChosenRows:
    """Rows of one λ's table to show.

    Attributes:
      title: how they were chosen.
      rows: of the table, with ids.
      more: further images in the highest band with the same nearest training photo, of each row: int [K].
      drawn: whether they are a random sample.
    """

    title: str
    rows: pa.Table
    more: np.ndarray
    drawn: bool


def choose_rows(audit: Audit, table: pa.Table, train: Nearest, ids: Sequence[str]) -> list[ChosenRows]:
    """The rows with the best scores, one for each training photo; and rows chosen at random.

    Args:
      audit: gives number and seed.
      table: N rows of one λ.
      train: their nearest training photos.
      ids: of the photos, by position.
    """
    count, best = min(audit.options.report.pairs, len(train.best)), np.argsort(-train.best, kind="stable")
    top = best[np.sort(np.unique(train.winner[best], return_index=True)[1])][:count]
    drawn = np.random.default_rng(audit.options.seed).choice(len(best), count, replace=False)
    hits = train.hits(audit.bands()[-1])
    found = np.bincount(train.winner[hits], minlength=int(train.winner.max()) + 1)
    return [
        ChosenRows(title, with_ids(table.select(_COLUMNS).take(rows), ids), more, random)
        for title, rows, more, random in (
            ("best, one of each photo", top, np.maximum(found[train.winner[top]] - 1, 0), False),
            ("randomly chosen", drawn, np.zeros(count, int), True),
        )
    ]


def contact_sheets(audit: Audit, chosen: dict[float, list[ChosenRows]]) -> list[Sheet]:
    """λ -> rows, with their images."""
    scales = audit.options.extract.scales  # matches.parquet has the main method's first, in this order
    counts = np.cumsum([0, *(num_images(audit, scale) for scale in scales)])
    first = dict(zip(scales, counts.tolist(), strict=False))
    return [
        Sheet(
            f"{audit.options.samples.title(scale)}, {rows.title}", _pairs(audit, scale, rows, first[scale]), rows.drawn
        )
        for scale, several in chosen.items()
        for rows in several
    ]


def _pairs(audit: Audit, scale: float, chosen: ChosenRows, first: int) -> list[Pair]:
    """Rows of one λ with their images; row `first` of matches.parquet is image 0."""
    rows, train = chosen.rows.to_pylist(), audit.split.train
    best = np.array([row["scores"][0] for row in rows], np.float32)
    bands = {name: in_band(best.astype(np.float64), low, high) for name, low, high in audit.bands()}
    generated = generated_images(audit, scale, chosen.rows["index"].to_numpy(), best)
    nearest = _nearest_photos(train, rows, "")
    compared = all(row["heldout_ids"] for row in rows)
    heldout = _nearest_photos(audit.split.heldout, rows, "heldout_") if compared else None
    names = audit.samples[scale].ids if audit.samples else ()
    place = {name: i for i, name in enumerate(train.ids)}
    return [
        Pair(
            number=first + row["index"],
            index=row["index"],
            scale=scale,
            title=audit.options.samples.title(scale),
            generated=image,
            train=nearest[i],
            heldout=heldout[i] if heldout else None,
            label=train.class_of(place[nearest[i][1]]),
            band=next((name for name, inside in bands.items() if inside[i]), ""),
            more=int(chosen.more[i]),
            name=names[row["index"]] if names else "",
        )
        for i, (row, image) in enumerate(zip(rows, generated, strict=True))
    ]


def _nearest_photos(images: ImageSet, rows: list[Json], prefix: str) -> list[Photo]:
    position = {name: i for i, name in enumerate(images.ids)}
    best = [(row[f"{prefix}ids"][0], row[f"{prefix}scores"][0]) for row in rows]
    return [(images.images[position[name]], name, score) for name, score in best]


def ranked(audit: Audit, detect: Json) -> tuple[Ranked | None, Ranked | None]:
    """Scores of the generated images and of the photos that the detect stage reports on; None if they are too few.

    Args:
      audit: with a finished detect stage.
      detect: what its manifest says.
    """
    generated, members = detect["generated"], detect["members"]
    images = photos = None
    if not generated["too_few"]:
        table = _read(audit, SCORES)
        odd = table["index"].to_numpy() % 2 == 1
        here = (table["scale"].to_numpy() == generated["scale"]) & odd & table["memorized"].is_valid().to_numpy()
        images = _ranked(table.filter(here), [row for row in generated["rows"] if row["name"] in _DRAWN], "memorized")
    if not members["too_few"]:
        table = _read(audit, MEMBERSHIP)
        photos = _ranked(table.filter(table["number"].to_numpy() % 2 == 1), members["rows"], "member")
    return images, photos


def _read(audit: Audit, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO((audit.folder("detect") / name).read_bytes()))


def _ranked(table: pa.Table, rows: list[Json], positive: str) -> Ranked:
    scores = {row["name"]: table[column_name(row["name"], row["chosen"])].to_numpy() for row in rows}
    return Ranked(scores, np.asarray(table[positive].to_numpy(), bool))


def steered(audit: Audit, steer: Json) -> np.ndarray | None:
    """The same noise at every weight of the steer stage, uint8 [A, K, H, W, C]; None if it has no memorized images."""
    return load_array(audit.folder("steer") / PICTURES) if steer.get("pictured") else None
