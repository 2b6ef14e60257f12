"""A match that was made again: what is said of it, and the picture of its denoising path."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from side_jax.evidence.same_picture import PixelDifference, same_picture
from side_jax.report.figures import HELDOUT, TRAIN, new_figure, png
from side_jax.report.wording import method_name, percent
from side_jax.targets.path import Path

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

_STEPS = 8  # of the path, at most
_NO_SCORE = 5e-5  # a difference that four decimals do not show
_ID = 28  # characters of an id under a picture


@dataclasses.dataclass(frozen=True)
class NearestPhoto:
    """The photo nearest to the image of today, and what the sweep recorded.

    Attributes:
      pixels: of the photo, uint8 [H, W, C].
      id: its id.
      score: today's.
      recorded_id: the nearest photo as it was recorded.
      recorded_score: its score.
    """

    pixels: np.ndarray
    id: str
    score: float
    recorded_id: str
    recorded_score: float

    def describe(self) -> str:
        """The score today, and the one that was recorded, with its photo if that is another."""
        other = f" with {self.recorded_id}" if self.recorded_id != self.id else ""
        return f"{self.id}, score {self.score:.4f}; recorded {self.recorded_score:.4f}{other}"


@dataclasses.dataclass(frozen=True)
class Replayed:
    """A match that was made again.

    Attributes:
      number: its row of matches.parquet.
      method: that made it, by name.
      scale: λ.
      index: of the image.
      path: how the image came about today.
      recorded: the image that the sweep kept, uint8 [H, W, C]; None if it kept none.
      pixels: the difference from it.
      scores: the largest difference of the scores with the photos that were recorded.
      train: the nearest training photo.
      heldout: the nearest held-out photo; None if none is compared with.
      otherwise: what differs from how the sweep ran, such as a version; empty if nothing is known to.
    """

    number: int
    method: str
    scale: float
    index: int
    path: Path
    recorded: np.ndarray | None
    pixels: PixelDifference | None
    scores: float
    train: NearestPhoto
    heldout: NearestPhoto | None
    otherwise: tuple[str, ...]

    @property
    def title(self) -> str:
        """The match in words."""
        guided = f", guided to class {self.path.label}" if self.path.label >= 0 else ""
        return f"match {self.number}: {method_name(self.method)}, λ = {self.scale:g}, image {self.index}{guided}"

    @property
    def answer(self) -> str:
        """Whether it is the same picture, in words and numbers."""
        answer = same_picture(self.pixels, self.scores)
        by_score = f"its scores with the recorded photos differ by {self.scores:.4f} at most"
        if self.scores < _NO_SCORE:
            by_score = "its scores with the recorded photos are the same"
        if self.pixels is None:
            return f"{answer} (the sweep did not keep it): {by_score}"
        if not self.pixels.largest:
            return f"{answer}; {by_score}"
        levels = f"{self.pixels.largest} gray level{'s' if self.pixels.largest > 1 else ''}"
        return (
            f"{answer}: {percent(self.pixels.share)} % of the pixel values differ, by {levels} at most (PSNR"
            f" {self.pixels.psnr:.1f} dB); {by_score}"
        )

    def describe(self) -> str:
        """All of it, in lines."""
        lines = [self.title, self.answer, f"nearest training photo: {self.train.describe()}"]
        if self.heldout:
            lines.append(f"nearest held-out photo: {self.heldout.describe()}")
        if self.otherwise:
            lines.append(f"made otherwise then and now: {'; '.join(self.otherwise)}")
        return "\n".join(lines)


def draw_path(replayed: Replayed) -> bytes:
    """A PNG: x_t and x̂₀ at about 8 steps, the image, the recorded one if it was kept, and the nearest photos."""
    path = replayed.path
    steps = np.unique(np.linspace(0, len(path.timesteps) - 1, _STEPS).round().astype(int))
    ends = [(path.image, "made again", "", "black")]
    if replayed.recorded is not None:
        ends.append((replayed.recorded, "recorded", "", "black"))
    for photo, name, color in (
        (replayed.train, "training photo", TRAIN),
        (replayed.heldout, "held-out photo", HELDOUT),
    ):
        if photo:
            ends.append((photo.pixels, f"nearest {name}", f"{photo.score:.4f}\n{_short(photo.id)}", color))
    figure = new_figure(1.15 * len(steps) + 2.3 * len(ends) + 0.5, 3.6)
    grid = figure.add_gridspec(2, len(steps) + 2 * len(ends))
    for column, step in enumerate(steps):
        for row, (images, name) in enumerate(((path.x_t, "$x_t$"), (path.x0, r"$\hat{x}_0$"))):
            axis = figure.add_subplot(grid[row, column])
            _show(axis, images[step], f"t = {path.timesteps[step]}" if row == 0 else "")
            if column == 0:
                axis.set_ylabel(name, rotation=0, labelpad=14, va="center", fontsize=13)
    for place, (pixels, title, below, color) in enumerate(ends):
        start = len(steps) + 2 * place
        axis = figure.add_subplot(grid[:, start : start + 2])
        _show(axis, pixels, title)
        axis.title.set_color(color)
        axis.set_xlabel(below, color=color)
    figure.suptitle(f"{replayed.title}\n{replayed.answer}", fontsize=11, x=0.01, ha="left", wrap=True)
    return png(figure)


def _short(name: str) -> str:
    return name if len(name) <= _ID else f"…{name[1 - _ID :]}"


def _show(axis: "Axes", pixels: np.ndarray, title: str) -> None:
    gray = pixels.shape[-1] == 1
    axis.imshow(pixels[..., 0] if gray else pixels, cmap="gray" if gray else None, vmin=0, vmax=255)
    axis.set(title=title, xticks=[], yticks=[])
