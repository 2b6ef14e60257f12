"""at_risk.csv: training photos by how surely and how often they come out of the target, and what to do about each.

recall.csv: every photo that was asked for, training and held-out, with its success and its rank.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from side_jax.audit.stage import Audit
from side_jax.audit.stages.recall import Recalled
from side_jax.audit.sweep import generated_images
from side_jax.evidence import ranking
from side_jax.evidence.at_risk import SURE, q_values
from side_jax.evidence.scores import in_band
from side_jax.matching.pool import Pool
from side_jax.report.section import FoundPhoto
from side_jax.runtime.files import Json, write_bytes

FILE, RECALL = "at_risk.csv", "recall.csv"
_RATES = (0.01, 0.05, SURE)


@dataclasses.dataclass(frozen=True)
class Hits:
    """Images of one method and λ that score in the highest band with a training photo.

    Attributes:
      audit: of the method.
      scale: λ.
      index: of the images, int [K].
      winner: their nearest training photos, int [K].
      score: float32 [K].
    """

    audit: Audit
    scale: float
    index: np.ndarray
    winner: np.ndarray
    score: np.ndarray


@dataclasses.dataclass
class SweepFinds:
    """What the generated images of all methods and λ say of each photo of the pool.

    Attributes:
      pool: the photos.
      best: the best score of any image with each photo, float32 [P]; −1 below the lists of the sweep.
      best_by: which images those are, as a position in `hits`; −1 for none.
      blind: as `best`, of images whose guide has not seen which photos were trained on.
      hits: images by name, such as "random λ=0" -> those in the highest band.
    """

    pool: Pool
    best: np.ndarray
    best_by: np.ndarray
    blind: np.ndarray
    hits: dict[str, Hits]

    @classmethod
    def none(cls, pool: Pool) -> "SweepFinds":
        """Before any image."""
        size = len(pool.ids)
        nothing = np.full(size, -1, np.float32)
        return cls(pool, nothing, np.full(size, -1), nothing.copy(), {})

    def add(self, name: str, audit: Audit, scale: float, table: pa.Table, blind: bool) -> None:
        """Takes up the images of one method and λ."""
        best = np.full(len(self.pool.ids), -1, np.float32)
        for prefix in ("", "heldout_"):
            positions = pc.list_flatten(table[f"{prefix}in_band"]).to_numpy()
            np.maximum.at(best, positions, pc.list_flatten(table[f"{prefix}in_band_scores"]).to_numpy())
        self.best_by = np.where(best > self.best, len(self.hits), self.best_by)
        self.best = np.maximum(self.best, best)
        if blind:
            self.blind = np.maximum(self.blind, best)
        nearest = pc.list_element(table["scores"], 0).to_numpy()
        top = nearest.astype(np.float64) >= audit.bands()[-1][1]
        winners = pc.list_element(table["ids"], 0).to_numpy()[top]
        self.hits[name] = Hits(audit, scale, table["index"].to_numpy()[top], winners, nearest[top])

    def of(self, photo: int) -> list[Json]:
        """The images that find a training photo, the best first: "by", "index" and "score"."""
        found = [
            {"by": name, "index": int(index), "score": round(float(score), 4)}
            for name, hits in self.hits.items()
            for here in [hits.winner == photo]
            for index, score in zip(hits.index[here], hits.score[here], strict=True)
        ]
        return sorted(found, key=lambda one: -one["score"])


@dataclasses.dataclass(frozen=True)
class _Recall:
    """Recall by training photo, and by held-out photo of the pool: arrays over the pool's positions.

    Attributes:
      score: cross-fitted best score; −1 for a photo that was not asked for.
      drawn: images that drew it out, and images made, over all λ.
      rank: best rank of the photo.
    """

    score: np.ndarray
    drawn: np.ndarray
    made: np.ndarray
    rank: np.ndarray


def at_risk(audit: Audit, finds: SweepFinds, recalled: Recalled | None) -> tuple[list[Json], Json]:
    """The rows of at_risk.csv, and what metrics.json says of them.

    A photo's score is the better one of sweep and recall, which treat training and held-out photos alike; photos that
    were asked for and those that were not are two lists, each with its own decoys.

    Returns:
      A row for every training photo with a score in the highest band, the surest first; and "listed", their number,
      "sure", the number of photos by false-discovery rate, and whether "decoys" were there.
    """
    band, pool, split = audit.bands()[-1], finds.pool, audit.split
    asked = _by_photo(audit, finds, recalled, band[1])
    score = np.maximum(finds.blind, asked.score).astype(np.float64)
    member = np.arange(len(pool.ids)) < pool.num_train
    alone = np.isin(np.arange(len(pool.ids)), split.representatives()[0]) | ~member  # one photo for each picture
    rate = np.ones(len(score))
    for group in (asked.made > 0, asked.made == 0):
        here = group & alone
        if here.any():
            rate[here] = q_values(score[here], member[here])
    picture = split.train_pictures()
    if picture is not None:  # repeats share what is known of their picture
        first = split.representatives()[0]
        rate[: pool.num_train] = rate[first][picture]
    best = np.maximum(finds.best, asked.score)[: pool.num_train]
    order = np.lexsort((-best, rate[: pool.num_train]))
    listed = [int(i) for i in order if best[i] >= band[1]]
    counts = {name: np.bincount(hits.winner, minlength=pool.num_train) for name, hits in finds.hits.items()}
    rows = [_row(audit, finds, counts, asked, i, float(rate[i])) for i in listed]
    sure = [
        {
            "rate": level,
            "photos": int((rate[listed] <= level).sum()),
            "pictures": _pictures(rate, listed, picture, level),
        }
        for level in _RATES
    ]
    shown = [
        row | {"found": finds.of(photo)[:_LISTED]} for row, photo in zip(rows[:_SHOWN], listed[:_SHOWN], strict=True)
    ]
    return rows, {"listed": len(listed), "sure": sure, "decoys": int((~member).sum()), "rows": shown}


_SHOWN = 24  # in metrics.json and on the page
_LISTED = 100  # images that found a photo, there
_PICTURED = 6  # of them


def _pictures(rate: np.ndarray, listed: list[int], picture: np.ndarray | None, level: float) -> int:
    sure = [i for i in listed if rate[i] <= level]
    return len(sure) if picture is None else len(np.unique(picture[sure]))


def _by_photo(audit: Audit, finds: SweepFinds, recalled: Recalled | None, low: float) -> _Recall:
    size = len(finds.pool.ids)
    empty = _Recall(np.full(size, -1.0), *(np.zeros(size, int) for _ in range(3)))
    if recalled is None or any(ranking.too_few(recalled.asked.member[recalled.asked.half == half]) for half in (0, 1)):
        return empty
    place = {name: i for i, name in enumerate(finds.pool.ids)}
    ids = audit.split.train.ids, audit.split.heldout.ids
    names = [ids[0 if member else 1][i] for member, i in zip(recalled.asked.member, recalled.photo, strict=True)]
    there = np.array([name in place for name in names])  # the pool has a part of many held-out photos
    at = np.array([place[name] for name in names if name in place])
    scores = np.concatenate(list(recalled.asked.scores.values()))[:, there]
    empty.score[at] = recalled.asked.cross_fitted()[there]
    empty.drawn[at], empty.made[at] = in_band(scores.astype(np.float64), low, 1.0).sum(0), len(scores)
    empty.rank[at] = np.min(np.concatenate(list(recalled.ranks.values()))[:, there], axis=0)
    return empty


def _row(
    audit: Audit, finds: SweepFinds, counts: Mapping[str, np.ndarray], asked: _Recall, photo: int, rate: float
) -> Json:
    train, picture = audit.split.train, audit.split.train_pictures()
    found = {name: int(count[photo]) for name, count in counts.items() if count[photo]}
    copies = int((picture == picture[photo]).sum()) if picture is not None else 1
    best = float(finds.best[photo])
    recall = asked.made[photo] > 0
    return {
        "id": train.ids[photo],
        "sha256": train.hashes[photo],
        "class": train.class_of(photo),
        "false_discovery_rate": round(rate, 4),
        "images": sum(found.values()),
        "found_by": ", ".join(f"{name}: {count}" for name, count in found.items()),
        "best_score": round(best, 4) if best >= 0 else None,
        "best_by": list(finds.hits)[finds.best_by[photo]] if best >= 0 else None,
        "recall_score": round(float(asked.score[photo]), 4) if recall else None,
        "recall_drawn": f"{asked.drawn[photo]} of {asked.made[photo]}" if recall else None,
        "recall_rank": int(asked.rank[photo]) if recall else None,
        "picture": int(picture[photo]) if picture is not None else None,
        "copies": copies,
        "advice": _advice(rate, copies),
    }


def _advice(rate: float, copies: int) -> str:
    """What an owner can do about a photo."""
    if rate > SURE:
        return "look"
    return "deduplicate" if copies > 1 else "remove"


def recall_rows(audit: Audit, recalled: Recalled) -> list[Json]:
    """The rows of recall.csv, in the order in which photos were asked for."""
    asked, split, low = recalled.asked, audit.split, audit.bands()[-1][1]
    scores = np.concatenate(list(asked.scores.values())).astype(np.float64)
    ranks = np.concatenate(list(recalled.ranks.values()))
    rows: list[Json] = []
    for i, (photo, member) in enumerate(zip(recalled.photo, asked.member, strict=True)):
        photos = split.train if member else split.heldout
        rows.append(
            {
                "id": photos.ids[photo],
                "trained_on": bool(member),
                "class": photos.class_of(photo),
                "best_score": round(float(scores[:, i].max()), 4),
                "drawn": int(in_band(scores[:, i], low, 1.0).sum()),
                "images": len(scores),
                "rank": int(ranks[:, i].min()),
            }
        )
    return rows


def write_table(path: epath.Path, rows: list[Json], columns: Sequence[str]) -> None:
    """Writes rows as CSV, atomically; without rows the heading alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode())


def pictured(audit: Audit, rows: list[Json], finds: SweepFinds) -> Iterator[FoundPhoto]:
    """The photos of these rows, with the best images that found each."""
    train = audit.split.train
    position = {name: i for i, name in enumerate(train.ids)}
    shown = [(i, one) for i, row in enumerate(rows) for one in row["found"][:_PICTURED]]
    drawn: dict[tuple[int, str, int], np.ndarray] = {}
    for name, hits in finds.hits.items():
        here = [(i, one) for i, one in shown if one["by"] == name]
        index, best = (np.array([one[key] for _, one in here]) for key in ("index", "score"))
        if here:
            made = generated_images(hits.audit, hits.scale, index, best.astype(np.float32))
            drawn |= {(i, name, one["index"]): image for (i, one), image in zip(here, made, strict=True)}
    for i, row in enumerate(rows):
        found = [drawn[i, one["by"], one["index"]] for one in row["found"][:_PICTURED]]
        yield FoundPhoto(train.images[position[row["id"]]], found)


COLUMNS = (
    "id",
    "sha256",
    "class",
    "false_discovery_rate",
    "images",
    "found_by",
    "best_score",
    "best_by",
    "recall_score",
    "recall_drawn",
    "recall_rank",
    "picture",
    "copies",
    "advice",
)
RECALL_COLUMNS = ("id", "trained_on", "class", "best_score", "drawn", "images", "rank")
