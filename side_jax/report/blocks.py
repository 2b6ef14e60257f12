"""What a section of the report shows: notes, sentences, tables, figures and sheets.

Each class here is rendered by the macro of its name in blocks.html.j2, the only module that knows HTML.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

Against = Mapping[str, int]  # a reference set, "train" or "heldout" -> number of its photos


@dataclasses.dataclass(frozen=True)
class Text:
    """A text in the colour of the reference set that it is against, "train" or "heldout"."""

    text: str
    against: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image in a cell.

    Attributes:
      pixels: uint8 [H, W, C].
      alt: what it shows, in words.
    """

    pixels: np.ndarray
    alt: str


@dataclasses.dataclass(frozen=True)
class More:
    """A cell that opens: its summary, then lines and pictures.

    Attributes:
      summary: what the closed cell says.
      lines: below it when open.
      pictures: with a line of text each, below those.
    """

    summary: str
    lines: Sequence[str]
    pictures: Sequence[tuple[Picture, str]] = ()


Cell = str | Text | Picture | More | Sequence[str | Text]  # a sequence has one line for each element


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      headings: one for each column. A heading that is a `Text` colours its column. Empty: the rows are a name and what
        is said of it.
      rows: cells. In a row with fewer cells than columns the last cell spans the others.
      caption: title of the table.
      against: the reference sets that its scores are against; empty for numbers that are against none.
      groups: (heading, number of columns) above the headings, from left to right; empty if they have none.
      foot: rows below a line, which stay in view when the others scroll.
    """

    headings: Sequence[str | Text]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    against: Against = dataclasses.field(default_factory=dict)
    groups: Sequence[tuple[str, int]] = ()
    foot: Sequence[Sequence[Cell]] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing as SVG text, with title and reference sets as in `Table`."""

    svg: str
    caption: str
    against: Against = dataclasses.field(default_factory=dict)


Photo = tuple[np.ndarray, str, float]  # pixels uint8 [H, W, C], id, score


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generated image with its nearest training photo and, if there are any, its nearest held-out photo.

    Attributes:
      number: its row of matches.parquet, by which `--replay` knows it.
      index: of the image among those of its λ.
      scale: λ.
      title: λ = 2, or the name of a set of samples.
      generated: uint8 [H, W, C].
      train: the nearest training photo.
      heldout: the nearest held-out photo, or None.
      label: class of the training photo; empty if it has none.
      band: of the score with the training photo; empty below all bands.
      more: further images of this λ in the highest band with the same training photo, which are not shown.
      name: the file of an image that was given; else empty.
    """

    number: int
    index: int
    scale: float
    title: str
    generated: np.ndarray
    train: Photo
    heldout: Photo | None
    label: str = ""
    band: str = ""
    more: int = 0
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A contact sheet with its title; `drawn` if its pairs are a random sample."""

    title: str
    pairs: Sequence[Pair]
    drawn: bool = False


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph in small type: how to read what stands above it."""

    text: str


@dataclasses.dataclass(frozen=True)
class Sentences:
    """A list of sentences."""

    sentences: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The one verdict of the audit.

    Attributes:
      word: COPIES, NOTHING FOUND or CANNOT TELL.
      sentence: what it means.
      disagreements: a sentence for each pair of kinds of evidence that seem to contradict each other.
      reasons: a clause for each kind of evidence.
    """

    word: str
    sentence: str
    disagreements: Sequence[str]
    reasons: Sequence[str]


Block = Verdict | Note | Sentences | Table | Figure | Sheet
