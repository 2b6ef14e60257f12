"""One progress line of the primary process, and the same as TensorBoard curves."""

import resource
import sys
import time
from types import TracebackType
from typing import Any, Self

import jax
from etils import epath
from tqdm import tqdm

from side_jax.distributed import is_primary

_EVERY_SECONDS = 5.0  # between two points of a curve
_LINE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class Progress:
    """Counts images (or steps) done of a total, in a line that process 0 alone shows.

    The line has the rate, the time left, and the peak of memory: of the fullest device of this process where the
    backend knows it, else of the process. Without a terminal it is printed twice a minute.

    Args:
      name: what is being done, such as "extract λ=5".
      total: how many in all.
      done: how many were done before.
      unit: of what.
      logs: gets TensorBoard curves of the same by images done, if given.
    """

    def __init__(
        self, name: str, total: int, done: int = 0, unit: str = "image", logs: epath.Path | None = None
    ) -> None:
        self._unit, self._logs, self._done = unit, logs, done
        self._primary = is_primary()
        self._writer: Any = None
        self._written, self._time = done, time.monotonic()  # the last point of the curves
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            unit=f" {unit}s",
            bar_format=_LINE,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            miniters=1,
            disable=not self._primary,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._done > self._written:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def update(self, count: int) -> None:
        """So many more, of all processes together, are done."""
        if not self._primary:
            return
        self._done += count
        self._bar.set_postfix_str(f"{peak_memory_gib():.2f} GiB", refresh=False)
        self._bar.update(count)
        if time.monotonic() - self._time >= _EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        """One point of each curve; the rate is that since the last point."""
        if self._logs is None:
            return
        if self._writer is None:
            from clu import metric_writers  # imports TensorFlow

            self._writer = metric_writers.SummaryWriter(str(self._logs))
        now = time.monotonic()
        rate = (self._done - self._written) / (now - self._time)
        scalars = {f"{self._unit}s_done": self._done, f"{self._unit}s_per_second": rate}
        self._writer.write_scalars(self._done, scalars | {"device_memory_gib": peak_memory_gib()})
        self._written, self._time = self._done, now


def peak_memory_gib() -> float:
    """The most memory so far, in GiB: of the fullest local device, or of this process if the backend does not tell."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks: list[Any] = [known.get("peak_bytes_in_use", known.get("bytes_in_use")) for known in stats]
    if None not in peaks:
        return max(peaks) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
