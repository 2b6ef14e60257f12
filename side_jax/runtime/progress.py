"""One progress line of the primary process, and TensorBoard curves in the workdir."""

import logging
import resource
import sys
import tempfile
import time
from typing import Self

import jax
from etils import epath
from tqdm import tqdm

from side_jax.runtime.distributed import is_primary
from side_jax.runtime.files import is_local

_log = logging.getLogger(__name__)

_LONG = 3600.0  # seconds from which a loop is warned of
_EVERY_SECONDS = 5.0  # between two points of a curve
_LINE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


class TimeToGo:
    """Says once in the log how long a loop over several bars still takes on this device.

    The first update waits for a compilation, so the time of the second one counts.

    Args:
      name: what is being done, such as "extract".
      total: how many are left.
      shorter: what an owner lowers, where it is more than an hour.
    """

    def __init__(self, name: str, total: int, shorter: str) -> None:
        self._name, self._left, self._shorter = name, total, shorter
        self._since: float | None = None
        self._said = False

    def update(self, count: int) -> None:
        """Takes up that `count` more are done."""
        self._left -= count
        now, since = time.monotonic(), self._since
        self._since = now
        if since is None or self._said or self._left <= 0:
            return
        self._said = True
        seconds = self._left * (now - since) / count
        if seconds > _LONG:
            _log.warning(
                "%s: about %.1f hours to go on this device. %s makes it shorter; it can be stopped, and the same"
                " command resumes",
                self._name,
                seconds / 3600,
                self._shorter,
            )
        else:
            _log.info("%s: about %s to go on this device", self._name, _duration(seconds))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


class Progress:
    """Counts images (or steps) done of a total, in a line that process 0 alone shows.

    The line has the rate, the time left, and the peak of memory: of the fullest device of this process where the
    backend knows it, else of the process. Without a terminal it is printed twice a minute.

    Args:
      name: what is being done, such as "extract λ=5".
      total: how many in all.
      done: how many were done before.
      unit: of what.
      logs: gets TensorBoard curves of the same numbers by images done, if given.
      to_go: is told of every update, if given.
      waits: what stands in the line until the first ones are done.
    """

    def __init__(
        self,
        name: str,
        total: int,
        done: int = 0,
        unit: str = "image",
        logs: epath.Path | None = None,
        to_go: TimeToGo | None = None,
        waits: str = "compiling …",
    ) -> None:
        self._to_go = to_go
        self._unit, self._logs, self._done = unit, logs, done
        self._primary = is_primary()
        self._log: ScalarLog | None = None  # none before the first point
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
            postfix=waits,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *more: object) -> None:
        self._bar.close()
        if self._done > self._written and error is None:  # on a full disk the log's own error would hide that one
            self._write()
        if self._log is not None:
            self._log.close()

    def update(self, count: int, note: str = "") -> None:
        """Adds `count` that all processes together have done. `note` stands at the end of the line."""
        if not self._primary:
            return
        self._done += count
        if self._to_go is not None:
            self._to_go.update(count)
        self._bar.set_postfix_str(f"{peak_memory_gib():.2f} GiB{note and f', {note}'}", refresh=False)
        self._bar.update(count)
        if time.monotonic() - self._time >= _EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        """One point of each curve; the rate is that since the last point."""
        if self._logs is None:
            return
        self._log = self._log or ScalarLog(self._logs)
        now = time.monotonic()
        rate = (self._done - self._written) / (now - self._time)
        scalars = {f"{self._unit}s_done": self._done, f"{self._unit}s_per_second": rate}
        self._log.write_scalars(self._done, scalars | {"device_memory_gib": peak_memory_gib()})
        self._written, self._time = self._done, now


def peak_memory_gib() -> float:
    """The most memory so far, in GiB: of the fullest local device, or of this process if the backend does not tell."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [known.get("peak_bytes_in_use", known.get("bytes_in_use", 0)) for known in stats]
    if any(peaks):
        return max(peaks) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class ScalarLog:
    """Writes scalars by step to a folder that TensorBoard reads. Only the primary process writes.

    TensorFlow's writer reaches a bucket with credentials and an endpoint of its own. So for a workdir in a bucket the
    file of events is written locally, and copied at every flush.

    Args:
      folder: in the workdir; each log is a new file in it.
    """

    def __init__(self, folder: epath.Path) -> None:
        from clu import metric_writers

        self._folder = folder
        self._local = None if is_local(folder) else tempfile.TemporaryDirectory()
        written = self._local.name if self._local else str(folder)
        self._writer = metric_writers.MultiWriter([metric_writers.SummaryWriter(written)] if is_primary() else [])

    def write_scalars(self, step: int, values: dict[str, float]) -> None:
        """One point of each curve, by its name."""
        self._writer.write_scalars(step, values)

    def flush(self) -> None:
        """Returns when all points are in the folder."""
        self._writer.flush()
        if self._local:
            for file in epath.Path(self._local.name).iterdir():
                (self._folder / file.name).write_bytes(file.read_bytes())

    def close(self) -> None:
        """Flushes and ends."""
        self.flush()
        self._writer.close()
        if self._local:
            self._local.cleanup()
