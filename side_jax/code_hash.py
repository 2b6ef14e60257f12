"""Which source files decide the result of a stage, and their hashes: a workdir made by other code is refused.

Files that load, check, order, count or show are in no list. Those that read images are not either: a spec holds the
images themselves, by content. Comments, docstrings and blank lines change no hash, for they change no result.
"""

import functools
import hashlib
import io
import tokenize
from pathlib import Path

_UNET = ("models.conv", "models.layers", "models.unet")
_RESNET = ("models.conv", "models.layers", "models.resnet", "interop.state_dict", "interop.torchvision")
_TARGET = (*_UNET, "interop.diffusers", "interop.guided_diffusion", "interop.state_dict", "target")
_DESCRIPTORS = ("extraction.descriptors", "extraction.preprocessing", "interop.sscd", "models.sscd")

# By stage: modules and packages of side_jax.
DECIDING = {
    "target": ("diffusion", *_UNET, "sharding", "stages.target", "target", "training"),
    "synthesize": ("diffusion", *_TARGET, "precision", "sampling", "sharding", "stages.surrogate"),
    "label": (
        *("diffusion", *_RESNET, *_DESCRIPTORS, "extraction.matching", "sharding", "stages.surrogate"),
        *("surrogate.labels", "training"),
    ),
    "distill": (
        *("diffusion", *_RESNET, "sharding", "training"),
        *("stages.distill", "stages.surrogate", "surrogate"),
    ),
    "extract": (
        *("diffusion", *_TARGET, *_RESNET, *_DESCRIPTORS, "precision", "sampling", "sharding"),
        *("evidence.metrics", "extraction", "stages.extract"),
        *("surrogate.classifier", "surrogate.draw", "surrogate.exact", "surrogate.guide", "surrogate.stored"),
    ),
    "detect": (
        *("diffusion", *_TARGET, "precision", "sampling", "sharding", "stages.detect"),
        *("evidence.detectors", "evidence.intervals", "evidence.memorized", "evidence.ranking"),
        *("representation.activations", "representation.membership", "representation.probe"),
        *("representation.spikiness", "theory.linear_diffusion"),
    ),
    "steer": (
        *("diffusion", *_TARGET, *_DESCRIPTORS, "precision", "sampling", "sharding", "extraction.matching"),
        *("evidence.bitsets", "evidence.intervals", "evidence.memorized", "evidence.metrics", "evidence.mitigation"),
        *("evidence.quality", "evidence.scores", "stages.steer"),
        *("representation.activations", "representation.probe", "representation.steering"),
        "representation.steering_vectors",
    ),
}

_ROOT = Path(__file__).parent


@functools.cache
def code_hashes(stage: str) -> dict[str, str]:
    """Module -> first 16 hex digits of SHA-256 over its source, of all that decide what `stage` makes."""
    return {module: _hash(path) for name in DECIDING[stage] for module, path in modules(name).items()}


def modules(name: str = "") -> dict[str, Path]:
    """The source files of a module or package below side_jax, by name; "" for all."""
    place = _ROOT.joinpath(*name.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return {".".join(file.relative_to(_ROOT).with_suffix("").parts): file for file in files}


def _hash(path: Path) -> str:
    return hashlib.sha256(without_comments(path.read_text(encoding="utf-8")).encode()).hexdigest()[:16]


def without_comments(source: str) -> str:
    """Python source without comments, docstrings, blank lines and space at the ends of lines.

    By position in the text and not from the tokens or the syntax tree, which differ between versions of Python.
    """
    spans, statement_begins = [], True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and statement_begins):
            spans.append((token.start, token.end))
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            statement_begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines = source.split("\n")
    for (first, begin), (last, end) in reversed(spans):
        lines[first - 1 : last] = [lines[first - 1][:begin] + lines[last - 1][end:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())
