"""What the evidence reads of the match table, in columns: best matches, and everything in the bands."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from side_jax.evidence.intervals import Finds
from side_jax.evidence.metrics import in_band

Band = tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The best match of each of N images in one reference set: what is kept of every λ.

    Attributes:
      best: highest score, float32 [N].
      winner: position of the reference that has it, int32 [N].
    """

    best: np.ndarray
    winner: np.ndarray

    @classmethod
    def from_table(cls, table: pa.Table, prefix: str, ids: Sequence[str]) -> "Nearest":
        """Reads the columns of one reference set, of which `ids` gives positions.

        Raises:
          ValueError: if the table names an image that is not in `ids`.
        """
        return Nearest(
            _float32(pc.list_element(table[f"{prefix}scores"], 0)),
            _positions(pc.list_element(table[f"{prefix}ids"], 0), ids),
        )

    def hits(self, band: Band) -> np.ndarray:
        """Whose best score lies in the band: bool [N]. Its mean is AMS, Eq. (12)."""
        return in_band(self.best.astype(np.float64), band[1], band[2])

    def winners(self, band: Band) -> np.ndarray:
        """Best match of each image if it lies in the band, else −1: int [N]. Distinct ones over N: UMS, Eq. (13)."""
        return np.where(self.hits(band), self.winner, -1)

    def unique(self, band: Band) -> Finds:
        """`winners` as finds, at most one per image."""
        return Finds.of(self.winners(band))

    def half(self, odd: bool) -> "Nearest":
        """The images at odd or at even places."""
        return Nearest(self.best[int(odd) :: 2], self.winner[int(odd) :: 2])

    def nearest(self) -> "Nearest":
        """Without what else `Scores` holds."""
        return Nearest(self.best, self.winner)


@dataclasses.dataclass(frozen=True)
class InBand:
    """Every reference that scores at least the lowest band, per image, in any order: image i has those from
    `offsets[i]` up to `offsets[i + 1]`.

    Attributes:
      offsets: int64 [N + 1].
      positions: of references, int32 [offsets[−1]].
      scores: float32 [offsets[−1]].
    """

    offsets: np.ndarray
    positions: np.ndarray
    scores: np.ndarray

    def rows(self, start: int, stop: int) -> "InBand":
        """Those of the images `start` up to `stop`, as a view."""
        offsets = self.offsets[start : stop + 1]
        held = slice(offsets[0], offsets[-1])
        return InBand(offsets - offsets[0], self.positions[held], self.scores[held])

    def images(self) -> np.ndarray:
        """The image of every entry, int [offsets[−1]]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclasses.dataclass(frozen=True)
class Scores(Nearest):
    """What the match table says of N images against one reference set.

    Attributes:
      above: all references in the bands.
      carlini, ratio: `metrics.carlini_ratio`, `metrics.nearest_ratio`, [N].
    """

    above: InBand
    carlini: np.ndarray
    ratio: np.ndarray

    @classmethod
    def from_table(cls, table: pa.Table, prefix: str, ids: Sequence[str]) -> "Scores":
        """As `Nearest.from_table`."""
        found, names = Nearest.from_table(table, prefix, ids), table[f"{prefix}in_band"]
        lengths = pc.list_value_length(names).to_numpy()
        above = InBand(
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            _positions(pc.list_flatten(names), ids),
            _float32(pc.list_flatten(table[f"{prefix}in_band_scores"])),
        )
        ratios = (table[f"{prefix}{name}_ratio"].to_numpy() for name in ("carlini", "nearest"))
        return cls(found.best, found.winner, above, *ratios)

    def all_in_band(self, band: Band) -> Finds:
        """Every reference in the band, per image. Their union over N is UMS_all."""
        inside = in_band(self.above.scores, band[1], band[2])
        return Finds(self.above.images()[inside], self.above.positions[inside], len(self.best))


def _float32(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.float32, copy=False)


def _positions(names: pa.ChunkedArray, known: Sequence[str]) -> np.ndarray:
    found = pc.index_in(names, value_set=pa.array(known, pa.string()))
    if found.null_count:
        unknown = names.filter(pc.is_null(found))[0].as_py()
        raise ValueError(
            f"the match table names {unknown!r}, which is none of the {len(known)} images that it was made with;"
            " restore the data set, or remove the extract folder to make that stage again"
        )
    return found.to_numpy().astype(np.int32, copy=False)
