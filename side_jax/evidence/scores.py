"""The columns of the match table that scores come from: best matches, and all references in the bands."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from side_jax.evidence.intervals import Finds, proportion, unique_share

Band = tuple[str, float, float]


def in_band(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """low ≤ score < high. A band up to 1 has no upper limit, since rounding may put a perfect match above 1."""
    return (scores >= low) & ((scores < high) | (high >= 1.0))


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The best match of each of N images in one reference set. Every λ keeps it.

    Attributes:
      best: highest score, float32 [N].
      winner: position of the best match in the reference set, int32 [N].
      pictures: the picture of each reference, int [M]; None if each is another.
    """

    best: np.ndarray
    winner: np.ndarray
    pictures: np.ndarray | None = dataclasses.field(default=None, kw_only=True)

    @classmethod
    def from_table(
        cls, table: pa.Table, prefix: str, members: np.ndarray, pictures: np.ndarray | None = None
    ) -> "Nearest":
        """Reads the columns of one reference set.

        Args:
          table: the match table, with photos as positions in the pool.
          prefix: of the set's columns.
          members: positions of the set's photos in the pool, ascending; `winner` is a position in `members`.
          pictures: of `members`.

        Raises:
          ValueError: if the table has a photo that is not a member.
        """
        return Nearest(
            _float32(pc.list_element(table[f"{prefix}scores"], 0)),
            _within(pc.list_element(table[f"{prefix}ids"], 0), members),
            pictures=pictures,
        )

    def hits(self, band: Band) -> np.ndarray:
        """The images whose best score lies in the band: bool [N]. The mean is AMS, Eq. (12)."""
        return in_band(self.best.astype(np.float64), band[1], band[2])

    def winners(self, band: Band) -> np.ndarray:
        """The best match of each hit, −1 for other images: int [N]. Distinct ones over N are UMS, Eq. (13)."""
        return np.where(self.hits(band), self.winner, -1)

    def unique(self, band: Band) -> Finds:
        """`winners` as finds, at most one per image."""
        return Finds.of(self.winners(band))

    def unique_pictures(self, band: Band) -> Finds:
        """The pictures of `winners` as finds."""
        winners = self.winners(band)
        return Finds.of(winners if self.pictures is None else np.where(winners >= 0, self.pictures[winners], -1))

    def ams_and_ums(self, band: Band) -> dict[str, dict[str, float]]:
        """AMS and UMS in the band with intervals, as metrics.json has them; and UMS by picture where photos repeat."""
        scores = {"ams": proportion(self.hits(band)), "ums": unique_share(self.unique(band))}
        if self.pictures is not None:
            scores["ums_pictures"] = unique_share(self.unique_pictures(band))
        return {name: estimate._asdict() for name, estimate in scores.items()}

    def half(self, odd: bool) -> "Nearest":
        """The images with an odd or with an even position."""
        return Nearest(self.best[int(odd) :: 2], self.winner[int(odd) :: 2], pictures=self.pictures)

    def nearest(self) -> "Nearest":
        """The best matches alone, for a `Scores` too."""
        return Nearest(self.best, self.winner, pictures=self.pictures)


@dataclasses.dataclass(frozen=True)
class InBand:
    """All references that score at least the lowest band, in any order. Image i has those from `offsets[i]` up to
    `offsets[i + 1]`.

    Attributes:
      offsets: int64 [N + 1].
      positions: of references, int32 [offsets[−1]].
      scores: float32 [offsets[−1]].
    """

    offsets: np.ndarray
    positions: np.ndarray
    scores: np.ndarray

    def rows(self, start: int, stop: int) -> "InBand":
        """The references of the images `start` up to `stop`, as a view."""
        offsets = self.offsets[start : stop + 1]
        held = slice(offsets[0], offsets[-1])
        return InBand(offsets - offsets[0], self.positions[held], self.scores[held])

    def images(self) -> np.ndarray:
        """The image of every entry, int [offsets[−1]]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclasses.dataclass(frozen=True)
class Scores(Nearest):
    """All columns of the match table for N images against one reference set.

    Attributes:
      above: all references in the bands.
      carlini, ratio: `columns.carlini_ratio`, `columns.nearest_ratio` of matching, [N].
    """

    above: InBand
    carlini: np.ndarray
    ratio: np.ndarray

    @classmethod
    def from_table(
        cls, table: pa.Table, prefix: str, members: np.ndarray, pictures: np.ndarray | None = None
    ) -> "Scores":
        """As `Nearest.from_table`."""
        nearest, listed = Nearest.from_table(table, prefix, members), table[f"{prefix}in_band"]
        lengths = pc.list_value_length(listed).to_numpy()
        above = InBand(
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            _within(pc.list_flatten(listed), members),
            _float32(pc.list_flatten(table[f"{prefix}in_band_scores"])),
        )
        ratios = (table[f"{prefix}{name}_ratio"].to_numpy() for name in ("carlini", "nearest"))
        return cls(nearest.best, nearest.winner, above, *ratios, pictures=pictures)

    def all_in_band(self, band: Band) -> Finds:
        """All pairs of an image and a reference in the band. The distinct references over N are UMS_all."""
        inside = in_band(self.above.scores, band[1], band[2])
        return Finds(self.above.images()[inside], self.above.positions[inside], len(self.best))


def _float32(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.float32, copy=False)


def _within(column: pa.ChunkedArray, members: np.ndarray) -> np.ndarray:
    """Positions in the pool as positions in a set."""
    positions = column.to_numpy()
    unknown = ~np.isin(positions, members)
    if unknown.any():
        raise ValueError(
            f"the match table has photo {positions[unknown][0]}, which is none of the {len(members)} that it was made"
            " with; restore the data set, or remove the extract folder to make that stage again"
        )
    return np.searchsorted(members, positions).astype(np.int32)
