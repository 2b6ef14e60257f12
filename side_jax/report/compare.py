"""Two finished audits side by side: before and after a mitigation, two checkpoints, two guides. No JAX, no model."""

import os
from collections.abc import Iterator

from etils import epath

from side_jax.report.blocks import Block
from side_jax.report.compared import at_risk, configs, images, photos, quality, questions
from side_jax.report.finished import Finished, read_finished
from side_jax.report.page import template
from side_jax.runtime.files import write_bytes

PAGE = "compare.html"


def compare(first: epath.PathLike, second: epath.PathLike, out: epath.PathLike | None = None) -> str:
    """Writes a page that compares two workdirs.

    Args:
      first: the workdir of A, "before".
      second: the workdir of B, "after": every difference is B less A.
      out: where the page goes; compare.html in the workdir of B if not given.

    Returns:
      What is said of it, in lines; the last one is the path of the page.

    Raises:
      ValueError: in one line, if a workdir is none, is not finished, or cannot be compared with the other.
    """
    a, b = read_finished(first), read_finished(second)
    titles = comparable(a, b)
    sections = dict(_sections(a, b, titles))
    sentences = [sentence for said, _ in sections.values() for sentence in said]
    names = [f"{name}: {os.fspath(audit.path)}" for name, audit in (("A", a), ("B", b))]
    blocks = {heading: shown for heading, (_, shown) in sections.items() if shown}
    text = template("compare.html.j2").render(names=names, sentences=sentences, sections=blocks, audits=(a, b))
    path = epath.Path(out) if out else b.path / PAGE
    write_bytes(path, text.encode())
    return "\n".join([*names, *sentences, f"comparison: {path}"])


def comparable(a: Finished, b: Finished) -> list[str]:
    """The titles of the λ, or of the sets of samples, that both audits have.

    Raises:
      ValueError: in one line, saying why the two cannot be compared.
    """
    kinds = [
        {name: audit.metrics["descriptor"][name] for name in ("name", "sha256", "preprocessing")}
        | {"mirror": audit.options["extract"]["mirror"]}
        for audit in (a, b)
    ]
    if kinds[0] != kinds[1]:
        said = " and ".join(", ".join(f"{name}={value}" for name, value in kind.items() if value) for kind in kinds)
        raise ValueError(f"the scores are of other descriptors, and cannot be compared: {said}")
    if a.bands != b.bands:
        said = " and ".join(str(tuple(audit.bands)) for audit in (a, b))
        raise ValueError(
            f"the bands differ: {said}; --config.extract.bands=… with --stages=report gives both the same"
            " and generates nothing"
        )
    if not a.trained_on.keys() & b.trained_on.keys():
        raise ValueError(
            f"no training photo is in both audits, of {len(a.trained_on)} and {len(b.trained_on)} at"
            f" {_size(a)} and {_size(b)} pixels: their scores are of different things"
        )
    titles = [title for title in a.scales() if title in b.scales()]
    if not titles:
        raise ValueError(f"no λ is in both audits: {', '.join(a.scales())} and {', '.join(b.scales())}")
    return titles


def _size(audit: Finished) -> str:
    dataset = audit.options["dataset"]
    return f"{dataset['image_size']}×{dataset['image_size']}×{dataset['channels']}"


def _sections(a: Finished, b: Finished, titles: list[str]) -> Iterator[tuple[str, tuple[list[str], list[Block]]]]:
    """Heading -> sentences for the head of the page, and blocks."""
    yield "What differs", ([], list(configs(a, b)))
    yield "The questions of the audit", questions(a, b)
    yield "Scores of the generated images", images(a, b, titles)
    yield "Photos at risk", at_risk(a, b)
    yield "Photos that were asked for, and membership", photos(a, b)
    yield "Quality", quality(a, b, titles)
