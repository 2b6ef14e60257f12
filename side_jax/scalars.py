"""TensorBoard curves of a stage, in the workdir."""

import tempfile
from typing import Any

from etils import epath

from side_jax.artifacts import is_local
from side_jax.distributed import is_primary


class ScalarLog:
    """Writes scalars by step to a folder that TensorBoard reads; on the primary process alone, nothing on others.

    TensorFlow's writer has its own way to a bucket, with credentials and endpoint of its own. So for a workdir in a
    bucket the file of events is written locally, and copied at every flush.

    Args:
      folder: in the workdir; each log is a new file in it.
    """

    def __init__(self, folder: epath.Path) -> None:
        from clu import metric_writers

        self._folder = folder
        self._copied = None if is_local(folder) else tempfile.TemporaryDirectory()
        writers: list[Any] = []
        if is_primary():
            writers = [metric_writers.SummaryWriter(self._copied.name if self._copied else str(folder))]
        self._writer = metric_writers.MultiWriter(writers)

    def write_scalars(self, step: int, values: dict[str, float]) -> None:
        """One point of each curve, by its name."""
        self._writer.write_scalars(step, values)

    def flush(self) -> None:
        """What was written is in the folder when this returns."""
        self._writer.flush()
        if self._copied:
            for file in epath.Path(self._copied.name).iterdir():
                (self._folder / file.name).write_bytes(file.read_bytes())

    def close(self) -> None:
        """Flushes and ends."""
        self.flush()
        self._writer.close()
        if self._copied:
            self._copied.cleanup()
