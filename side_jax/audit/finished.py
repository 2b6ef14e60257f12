"""`load_audit`: a finished audit as an object, which a notebook shows as its verdict and some pairs."""

import dataclasses

from etils import epath

from side_jax.report.answers import answers
from side_jax.report.audit_json import read_audit
from side_jax.report.page import render_summary, withheld
from side_jax.report.section import Page
from side_jax.report.stored import FILE, load_page
from side_jax.runtime.files import Json


@dataclasses.dataclass(frozen=True, repr=False)
class FinishedAudit:
    """What the workdir of a finished audit says; it displays itself.

    Attributes:
      workdir: with report.html, matches.parquet and the other artifacts (docs/artifacts.md).
      page: what report.html is made from.
      summary: audit.json, whose fields keep their names.
    """

    workdir: epath.Path
    page: Page
    summary: Json

    @property
    def metrics(self) -> Json:
        """metrics.json."""
        return self.page.metrics

    def __repr__(self) -> str:
        """Its name and verdict, and a line for each answer."""
        verdict = self.summary["verdict"]
        said = withheld(self.metrics) or [
            f"{one.question}: {one.answer}: {one.numbers}" for one in answers(self.metrics)
        ]
        return "\n".join([f"FinishedAudit({self.workdir.name!r})", f"{verdict['word']}. {verdict['sentence']}", *said])

    def _repr_html_(self) -> str:
        return render_summary(self.page)


def load_audit(workdir: epath.PathLike) -> FinishedAudit:
    """A finished audit. Neither the model nor the photos are needed, nor is anything computed.

    Args:
      workdir: of an audit whose report stage is complete; what `run` and `audit_samples` return.

    Raises:
      AuditError: if its page is not there, damaged or of another version.
      ValueError: if audit.json is.

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
    return FinishedAudit(root, load_page(root / "report" / FILE), read_audit(root))
