"""Marks that a reader gave pairs on the page: keep for a copy, reject for a chance likeness."""

import csv
import dataclasses
import io
from collections.abc import Iterator

from etils import epath

COLUMNS = ("run", "scale", "index", "mark")
KEEP, REJECT = "keep", "reject"


@dataclasses.dataclass(frozen=True)
class Mark:
    """One mark: of the image `index` at λ = `scale`."""

    scale: float
    index: int
    kept: bool


def read_marks(path: epath.Path, run: str) -> list[Mark]:
    """Reads the CSV file that the page saves.

    Args:
      path: of the file.
      run: the sweep that the page was made of, in the first column of every row.

    Raises:
      ValueError: if the file is not there, is not such a file, or is of another sweep.
    """
    if not path.exists():
        raise ValueError(f"report.marks: {path} does not exist")
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(f"report.marks: {path} does not begin with {','.join(COLUMNS)}, as what the page saves does")
    return list(_marks(path, rows[1:], run))


def _marks(path: epath.Path, rows: list[list[str]], run: str) -> Iterator[Mark]:
    for number, row in enumerate(rows, start=2):
        try:
            of, scale, index, mark = row
            kept = {KEEP: True, REJECT: False}[mark]
            found = Mark(float(scale), int(index), kept)
        except (ValueError, KeyError) as error:
            raise ValueError(f"report.marks: line {number} of {path} is not a mark: {','.join(row)!r}") from error
        if of != run:
            raise ValueError(f"report.marks: {path} has marks of another run ({of}, and this one is {run})")
        yield found
