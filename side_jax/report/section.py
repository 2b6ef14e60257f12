"""What a section of the report is, and what every section is given."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from side_jax.report.blocks import Against, Block, Sheet
from side_jax.runtime.files import Json


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Scores of the images that a comparison reports on.

    Attributes:
      scores: detector -> float [N].
      positive: bool [N].
    """

    scores: dict[str, np.ndarray]
    positive: np.ndarray


@dataclasses.dataclass(frozen=True)
class FoundPhoto:
    """A photo that was found.

    Attributes:
      photo: uint8 [H, W, C].
      images: the best images that found it, uint8 [H, W, C] each, in the order of its row's "found".
    """

    photo: np.ndarray
    images: Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Page:
    """What an audit measured.

    Attributes:
      metrics: metrics.json.
      facts: options, provenance and stage manifests.
      sheets: contact sheets, in the order shown.
      best: λ -> "training" / "held-out" -> best score of every generated image.
      ranked: of the detect stage, if it ran: the scores of generated images and of photos that it reports on.
      steered: a few images at every weight of the steer stage, uint8 [A, K, H, W, C].
      preview: unguided images of the sanity stage, uint8 [N, H, W, C].
      at_risk: the photos of the rows of metrics.json "at_risk".
    """

    metrics: Json
    facts: Json
    sheets: list[Sheet]
    best: dict[float, dict[str, np.ndarray]]
    ranked: tuple[Ranked | None, Ranked | None] | None = None
    steered: np.ndarray | None = None
    preview: np.ndarray | None = None
    at_risk: Sequence[FoundPhoto] = ()

    @property
    def calibrated(self) -> bool:
        """Whether held-out photos calibrate the scores."""
        return self.metrics["heldout_photos"] is not None

    @property
    def untestable(self) -> str | None:
        """Why the relabelling test can say nothing of any excess; None if it can, or if nothing is held out."""
        return self.metrics["null"]["reason"] if self.calibrated else None

    @property
    def repeated(self) -> bool:
        """Whether a picture is more than once among the training photos, so that finds are counted by picture too."""
        return bool((self.metrics["duplicates"] or {}).get("repeated"))

    @property
    def band(self) -> str:
        """Name of the highest band."""
        return self.metrics["bands"][-1][0]

    @property
    def paired(self) -> Against:
        """Equally many training and held-out photos; all training photos if nothing is held out."""
        images = self.metrics["images"]
        if not self.calibrated:
            return {"train": images["train"]}
        return {"train": images["paired"], "heldout": images["paired"]}

    @property
    def all_train(self) -> Against:
        """All training photos and, if there are any, the held-out photos, which may be fewer."""
        return {**self.paired, "train": self.metrics["images"]["train"]}


@dataclasses.dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes:
      name: that of its module, and its anchor.
      heading: its title.
      blocks: what it shows, from top to bottom.
      needed: whether a page has it.
      verdict: metrics.json -> sentences for the head of the page: each with its interval, or with why nothing can be
        said.
      withheld: metrics.json -> sentences that replace all verdicts, where these could not be trusted; else none.
    """

    name: str
    heading: str
    blocks: Callable[[Page], Iterable[Block]]
    needed: Callable[[Page], bool] = lambda _: True
    verdict: Callable[[Json], list[str]] = lambda _: []
    withheld: Callable[[Json], list[str]] = lambda _: []
