"""The bands of the scores: checked, and fixed before any image is generated."""

import itertools

import numpy as np

from side_jax.audit.stage import BANDS, Audit
from side_jax.audit.sweep import LISTS, descriptor_path, heldout_queries, lists_from
from side_jax.evidence.bands import measured_bands
from side_jax.evidence.scores import Band
from side_jax.matching.search import match
from side_jax.runtime.arrays import load_array
from side_jax.runtime.declare import Check, require
from side_jax.runtime.files import write_json

_PHOTOS = 4096  # at once


def check_bands(bands: tuple[Band, ...]) -> None:
    """Refuses bands without a name, or that overlap or descend. Ends may touch: a band is [α, β)."""
    named = Check(
        lambda band: isinstance(band[0], str) and band[1] < band[2] <= 1, "(name, low, high), low < high <= 1"
    )
    for band in bands:
        require(named, "extract.bands", band)
    for (first, _, end), (second, start, _) in itertools.pairwise(bands):
        if start < end:
            raise ValueError(f"extract.bands {first!r} and {second!r} overlap or descend: {end} > {start}")


def fix_bands(audit: Audit) -> None:
    """Before any image is generated: measures the bands, if nothing else gives them, and fixes where lists begin."""
    if not audit.bands():
        best, count = _best_of_heldout(audit), len(audit.split.train)
        measured = measured_bands(best)._asdict() | {"heldout": len(best), "train": count}
        measured["rates"] = {name: rate._asdict() for name, rate in measured["rates"].items()}
        write_json(audit.workdir / "extract" / BANDS, measured)
    if lists_from(audit) is None:
        write_json(audit.folder("extract") / LISTS, {"lowest_score": audit.bands()[0][1]})


def _best_of_heldout(audit: Audit) -> np.ndarray:
    """The best score of each held-out picture with all training photos, float32 [H]."""
    heldout, best = audit.split.representatives()[1], []
    for start in range(0, len(heldout), _PHOTOS):
        photos = heldout_queries(audit, heldout[start : start + _PHOTOS])
        blocks = np.array_split(np.arange(len(audit.split.train)), -(-len(audit.split.train) // _PHOTOS))
        found = [match(photos, load_array(descriptor_path(audit, "train"), rows), k=1).scores[:, 0] for rows in blocks]
        best.append(np.max(found, axis=0))
    return np.concatenate(best)
