"""A finished audit as its workdir has it, for a comparison: read from files alone, without JAX or the model."""

import csv
import dataclasses
import functools
import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from side_jax.evidence.before_after import Images
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.table import RANDOM
from side_jax.runtime import mapped
from side_jax.runtime.files import MANIFEST, Json, read_json

_NEEDED = ("config.json", "metrics.json", "matches.parquet", "at_risk.csv", "photos/photos.json", f"report/{MANIFEST}")
_SETS = ("", "paired_", "heldout_")
Rows = Sequence[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Finished:
    """One workdir.

    Attributes:
      path: the workdir.
      provenance: config.json.
      metrics: metrics.json.
      photos: photos.json, what it says of the photos.
    """

    path: epath.Path
    provenance: Json
    metrics: Json
    photos: Json

    @property
    def options(self) -> Json:
        """The config, every default included."""
        options: Json = self.provenance["config"]
        return options

    @property
    def bands(self) -> list[Band]:
        """Bands of the scores."""
        return [(name, low, high) for name, low, high in self.metrics["bands"]]

    @functools.cached_property
    def trained_on(self) -> dict[str, int]:
        """Content hash of each training photo -> its position."""
        return {content: i for i, content in enumerate(self.photos["train"]["hashes"])}

    def pixels(self, content: str) -> np.ndarray:
        """The training photo of this content hash, uint8 [H, W, C]."""
        return np.asarray(self._pixels[self.trained_on[content]])

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return mapped.load(self.path / "photos" / "train.npy")

    def scales(self) -> dict[str, tuple[str, float, int]]:
        """The main method's sweep: title of each λ, or of each set of samples -> method, λ and number of images."""
        rows, main = self.metrics["scales"], self.metrics["method"]
        return {
            row.get("name") or f"λ = {row['scale']:g}": (
                main if row["scale"] or self.metrics["samples"] else RANDOM,
                row["scale"],
                row["train"]["num_images"],
            )
            for row in rows
        }

    @functools.cached_property
    def _matches(self) -> pa.Table:
        columns = ["method", "scale", "index", *(f"{name}{column}" for name in _SETS for column in ("ids", "scores"))]
        return pq.read_table(io.BytesIO((self.path / "matches.parquet").read_bytes()), columns=columns)

    def images(self, title: str, numbers: dict[str, int]) -> Images:
        """The images of one λ.

        Args:
          title: of `scales`.
          numbers: id of a photo -> its number, which is added to: the same dictionary for both audits.
        """
        method, scale, count = self.scales()[title]
        table = self._matches
        here = pc.and_(pc.equal(table["method"], method), pc.equal(table["scale"], pa.scalar(scale, pa.float32())))
        rows = table.filter(pc.and_(here, pc.less(table["index"], count))).sort_by("index")
        if len(rows) != count:
            raise ValueError(f"{self.path}/matches.parquet has {len(rows)} of the {count} images of {title}")
        return Images(*(_nearest(rows, name, numbers) for name in _SETS))  # type: ignore[arg-type]

    def rows(self, name: str) -> Rows:
        """A CSV of the workdir; empty if it has none."""
        path = self.path / name
        return list(csv.DictReader(io.StringIO(path.read_text()))) if path.exists() else []

    def membership(self) -> pa.Table | None:
        """Scores of the photos in the attacks of the detect stage; None if it did not run."""
        path, members = self.path / "detect" / "membership.parquet", (self.metrics["detect"] or {}).get("members")
        if not members or members["too_few"] or not path.exists():
            return None
        return pq.read_table(io.BytesIO(path.read_bytes()))


def _nearest(rows: pa.Table, prefix: str, numbers: dict[str, int]) -> Nearest | None:
    if not pc.min(pc.list_value_length(rows[f"{prefix}ids"])).as_py():
        return None
    best = pc.list_element(rows[f"{prefix}scores"], 0).to_numpy().astype(np.float32)
    named = pc.list_element(rows[f"{prefix}ids"], 0).to_pylist()
    return Nearest(best, np.array([numbers.setdefault(name, len(numbers)) for name in named], np.int32))


def read_finished(workdir: epath.PathLike) -> Finished:
    """A finished audit. Raises `ValueError`, in one line, if the workdir is none."""
    path = epath.Path(workdir)
    if not path.exists():
        raise ValueError(f"workdir {str(path)!r} does not exist")
    if not (path / "config.json").exists():
        raise ValueError(f"{str(path)!r} is no workdir of an audit: it has no config.json")
    if missing := [name for name in _NEEDED if not (path / name).exists()]:
        raise ValueError(
            f"{str(path)!r} holds no finished audit: it has no {missing[0]}; run python main.py --workdir={path}"
        )
    metrics = read_json(path / "metrics.json")
    if lacking := {"verdicts", "at_risk", "recall", "detect", "samples", "method"} - metrics.keys():
        raise ValueError(f"{path}/metrics.json is of another version: it has no {min(lacking)!r}; run its report again")
    return Finished(
        path, read_json(path / "config.json"), metrics, read_json(path / "photos" / "photos.json")["content"]
    )
