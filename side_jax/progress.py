"""One progress line of the primary process."""

from types import TracebackType
from typing import Self

from tqdm import tqdm

from side_jax.distributed import is_primary


class Progress:
    """Counts images (or steps) done of a total, in a line that process 0 alone shows.

    Args:
      name: what is being done, such as "extract λ=5".
      total: how many in all.
      done: how many were done before.
      unit: of what.
    """

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "image") -> None:
        self._bar = tqdm(total=total, initial=done, desc=name, unit=unit, disable=not is_primary())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """So many more, of all processes together, are done."""
        self._bar.update(count)
