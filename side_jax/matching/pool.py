"""The pool of photos that images are matched with: each photo once, at one position."""

import dataclasses

import numpy as np
from jaxtyping import Int

# "": all training photos; "paired_": a held-out photo is paired with each of them; "heldout_": the held-out photos.
REFERENCES = ("", "paired_", "heldout_")
UNPAIRED = "unpaired_"  # the other training photos


@dataclasses.dataclass(frozen=True)
class Pool:
    """Training photos, then the held-out photos that are paired with some of them.

    Attributes:
      ids: of the photos, by position.
      num_train: M; positions below are training photos, the others are held out.
      paired: positions of the paired training photos, ascending.
    """

    ids: tuple[str, ...]
    num_train: int
    paired: Int[np.ndarray, " p"]

    def members(self, prefix: str) -> Int[np.ndarray, " m"]:
        """Positions of the photos of one reference set, or of `UNPAIRED`, ascending: int32."""
        train = np.arange(self.num_train, dtype=np.int32)
        if prefix == UNPAIRED:
            return np.setdiff1d(train, self.paired)
        held = np.arange(self.num_train, len(self.ids), dtype=np.int32)
        return {"": train, "paired_": self.paired.astype(np.int32), "heldout_": held}[prefix]

    def groups(self) -> dict[str, Int[np.ndarray, " m"]]:
        """The pool divided into groups that are searched one by one; none of them is empty."""
        groups = {prefix: self.members(prefix) for prefix in (UNPAIRED, "paired_", "heldout_")}
        return {prefix: members for prefix, members in groups.items() if len(members)}
