"""The sweep as the report reads it: every λ of every method once, and what is kept of it."""

import dataclasses

import numpy as np
import pyarrow as pa

from side_jax.audit.at_risk import SweepFinds
from side_jax.audit.by_method import Row, saw_training_photos
from side_jax.audit.pictures import choose_rows
from side_jax.audit.shown import Shown
from side_jax.audit.stage import Audit, paired_positions, photo_pool
from side_jax.audit.sweep import asked_images, num_images, read_scale
from side_jax.evidence import null
from side_jax.evidence.scores import Nearest, Scores
from side_jax.evidence.summary import calibrate, summarize
from side_jax.evidence.table import RANDOM
from side_jax.matching.descriptors import descriptor_facts
from side_jax.matching.match_table import match_table
from side_jax.matching.pool import Pool
from side_jax.runtime.files import Json
from side_jax.runtime.progress import Progress


@dataclasses.dataclass(frozen=True)
class ComparedPhotos:
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
    def of(cls, audit: Audit) -> "ComparedPhotos":
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


def _row(audit: Audit, scale: float, table: pa.Table, photos: ComparedPhotos) -> Row:
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


def _shown(audit: Audit, scale: float, table: pa.Table, photos: ComparedPhotos) -> Shown:
    """Every score of one λ."""
    bands, table = audit.bands(), table.slice(0, asked_images(audit, scale))
    train = photos.scores(table, "")
    row: Json = {"scale": scale, **audit.options.samples.name(scale), "train": summarize(train, bands)}
    pictures = choose_rows(audit, table, train, photos.pool.ids)
    if photos.labels is None:
        return Shown(row, {"training": train.best}, pictures)
    paired, heldout = photos.scores(table, "paired_"), photos.scores(table, "heldout_")
    row |= {"paired": summarize(paired, bands), "heldout": summarize(heldout, bands)}
    row |= calibrate(paired, heldout, photos.labels, bands)
    return Shown(row, {"training": paired.best, "held-out": heldout.best}, pictures)


@dataclasses.dataclass(frozen=True)
class Sweeps:
    """What is kept of all matches.

    Attributes:
      rows: method -> λ -> its images.
      shown: λ of the main method -> what the page shows of it.
      finds: by photo.
    """

    rows: dict[str, dict[float, Row]]
    shown: dict[float, Shown]
    finds: SweepFinds

    @classmethod
    def read(cls, audit: Audit, photos: ComparedPhotos) -> "Sweeps":
        """Reads the parts, one λ at a time, and writes matches.parquet."""
        methods, extract = audit.methods(), audit.options.extract
        kept = cls({name: {} for name in methods}, {}, SweepFinds.none(photos.pool))
        descriptor = descriptor_facts(extract.descriptor, extract.weights, extract.preprocessing)
        rows = sum(num_images(method, scale) for method in methods.values() for scale in method.options.extract.scales)
        with (
            Progress("report", rows, waits="reading …") as progress,
            match_table(audit.workdir / "matches.parquet", descriptor, photos.pool.ids) as append,
        ):
            for name, method in methods.items():
                for scale in method.options.extract.scales:
                    table = read_scale(method, scale, num_images(method, scale))
                    append(table, name if scale > 0 or method.samples else RANDOM)
                    kept.rows[name][scale] = _row(method, scale, table, photos)
                    label = audit.options.samples.named.get(scale) or f"{name if scale else RANDOM} λ={scale:g}"
                    blind = scale == 0 or not saw_training_photos(method.options)
                    kept.finds.add(label, method, scale, table, blind)
                    if name == next(iter(methods)):
                        kept.shown[scale] = _shown(method, scale, table, photos)
                    progress.update(len(table))
                    del table  # before the next one is read
        return kept


def _relabellings(audit: Audit, in_train: np.ndarray, in_heldout: np.ndarray) -> null.Relabellings:
    train, heldout = audit.split.strata()
    actual = np.arange(2 * len(in_train)) < len(in_train)
    strata = np.concatenate([train[in_train], heldout[in_heldout]])
    return null.relabellings(actual, strata, audit.options.dataset.split_seed)
