"""`load_audit`: a finished audit as an object, which a notebook shows as its verdict and some pairs."""

import dataclasses

from etils import epath

from side_jax.report.answers import answers
from side_jax.report.page import withheld
from side_jax.runtime import files
from side_jax.runtime.files import Json

SUMMARY = "report/summary.html"  # of the report stage
_NEEDED = ("metrics.json", f"report/{files.MANIFEST}", SUMMARY)


@dataclasses.dataclass(frozen=True, repr=False)
class FinishedAudit:
    """What the workdir of a finished audit holds; it displays itself.

    Attributes:
      workdir: with report.html, matches.parquet and the other artifacts (docs/artifacts.md).
      metrics: metrics.json.
    """

    workdir: epath.Path
    metrics: Json

    def __repr__(self) -> str:
        """Its name, and a line for each answer of the verdict."""
        said = withheld(self.metrics) or [": ".join(map(str, row)) for row in answers(self.metrics).rows]
        return "\n".join([f"FinishedAudit({self.workdir.name!r})", *said])

    def _repr_html_(self) -> str:
        return (self.workdir / SUMMARY).read_text()


def load_audit(workdir: epath.PathLike) -> FinishedAudit:
    """A finished audit. Neither the model nor the photos are needed, nor is anything computed.

    Args:
      workdir: of an audit whose report stage is complete; what `run` and `audit_samples` return.

    Raises:
      ValueError: if it holds no finished audit, or that of a version without what is shown.

    Example:
      >>> import tempfile, side_jax
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1).images
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     bands = (("high", 0.98, 1.0),)
      ...     workdir = side_jax.audit_samples(
      ...         photos[:8] // 2 * 2, photos[:16], photos[300:316], workdir=folder + "/audit", bands=bands
      ...     )
      ...     side_jax.load_audit(workdir).metrics["verdicts"]["copies"][0]["answer"]
      'yes'
    """
    root = epath.Path(workdir)
    missing = [name for name in _NEEDED if not (root / name).exists()]
    if missing:
        raise ValueError(
            f"{str(root)!r} holds no finished audit of this version: it has no {missing[0]}; the audit's command makes"
            " it (python main.py --workdir=WORKDIR)"
        )
    return FinishedAudit(root, files.read_json(root / "metrics.json"))
