"""What the detect stage left in a workdir, as the report reads it."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from side_jax.report.inside import Ranked
from side_jax.stages.audit import Audit
from side_jax.stages.detect import HEADLINE, MEMBERSHIP, SCORES, column_name

_SHOWN = (HEADLINE, "loss", "contrast")


def ranked(audit: Audit, found: dict[str, Any]) -> tuple[Ranked | None, Ranked | None]:
    """Scores of the generated images and of the photos that were reported on; None where nothing could be said."""
    generated, members = found["generated"], found["members"]
    images = photos = None
    if not generated["too_few"]:
        table = _read(audit, SCORES)
        odd = table["index"].to_numpy() % 2 == 1
        here = (table["scale"].to_numpy() == generated["scale"]) & odd & table["memorized"].is_valid().to_numpy()
        images = _ranked(table.filter(here), [row for row in generated["rows"] if row["name"] in _SHOWN], "memorized")
    if not members["too_few"]:
        table = _read(audit, MEMBERSHIP)
        photos = _ranked(table.filter(table["number"].to_numpy() % 2 == 1), members["rows"], "member")
    return images, photos


def _ranked(table: pa.Table, rows: list[dict[str, Any]], positive: str) -> Ranked:
    scores = {row["name"]: table[column_name(row["name"], row["chosen"])].to_numpy() for row in rows}
    return Ranked(scores, np.asarray(table[positive].to_numpy(), bool))


def _read(audit: Audit, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO((audit.folder("detect") / name).read_bytes()))
