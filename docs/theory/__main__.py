"""Makes docs/theory.md and its figures.

python -m docs.theory                        # make docs
python -m docs.theory --only relu_dae        # one chapter anew; the others as they are
"""

import argparse
import importlib
import inspect
import sys
import time
from pathlib import Path
from typing import Any

import jinja2
from etils import epath

from docs.theory.controls import control_targets
from side_jax.runtime.files import read_json, write_json

HERE = Path(__file__).parent
PAGE, FIGURES, NUMBERS = HERE.parent / "theory.md", HERE.parent / "figures", HERE / "numbers.json"
CHAPTERS = ("memorization", "relu_dae", "linear_diffusion", "linearisation", "detection", "steering")


def make(chapter: str) -> dict[str, Any]:
    """Computes and draws one chapter; returns its numbers."""
    function = _module(chapter).make
    needs_controls = "controls" in inspect.signature(function).parameters
    numbers: dict[str, Any] = function(FIGURES, **({"controls": control_targets()} if needs_controls else {}))
    return numbers


def _module(chapter: str) -> Any:
    return importlib.import_module(f"docs.theory.{chapter}")


def render(numbers: dict[str, dict[str, Any]]) -> str:
    """The page, from the numbers of every chapter."""
    texts = {name: chapter_text(name, numbers[name]) for name in CHAPTERS}
    claims = [claim for name in CHAPTERS for claim in _module(name).claims(numbers[name])]
    return _environment().get_template("page.md.j2").render(chapters=texts, claims=claims).strip() + "\n"


def chapter_text(chapter: str, numbers: dict[str, Any]) -> str:
    """The Markdown of one chapter."""
    claims = _module(chapter).claims(numbers)
    return _environment().get_template(f"{chapter}.md.j2").render(n=numbers, claims=claims).strip()


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def main() -> int:
    """0, or 2 for an unknown chapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CHAPTERS, nargs="+", default=CHAPTERS, metavar="CHAPTER")
    wanted = parser.parse_args().only
    stored = epath.Path(NUMBERS)
    for chapter in wanted:
        started = time.perf_counter()
        numbers = make(chapter)
        known = read_json(stored) if stored.exists() else {}  # kept chapter by chapter: a run may be interrupted
        write_json(stored, known | {chapter: numbers})
        print(f"{chapter}: {time.perf_counter() - started:.0f} s", flush=True)
    numbers = read_json(stored)
    missing = [chapter for chapter in CHAPTERS if chapter not in numbers]
    if missing:
        print(f"no page yet: --only {' '.join(missing)} makes what it lacks")
        return 0
    PAGE.write_text(render(numbers), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
