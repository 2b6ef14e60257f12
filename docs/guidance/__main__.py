"""Makes docs/guidance.md and its figures.

python -m docs.guidance                      # all parts: two hours on 2 cores, 35 minutes of them a second target
python -m docs.guidance --only push          # one part anew; the others as they are
python -m docs.guidance --only many --target PATH   # with a target of 360 photos that is there already
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from etils import epath

from docs.guidance import direction, draws, push, regimes, student
from side_jax.report.wording import interval, p_value, percent, times
from side_jax.runtime.files import plain, read_json, write_json

HERE = Path(__file__).parent
PAGE, FIGURES, NUMBERS = HERE.parent / "guidance.md", HERE.parent / "figures", HERE / "numbers.json"
PARTS = ("push", "student", "draws", "direction", *regimes.REGIMES)


def parts(arguments: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> what makes it."""
    regime = functools.partial(regimes.make, FIGURES, num_images=arguments.num_images)
    return {
        "push": functools.partial(push.make, FIGURES),
        "student": functools.partial(student.make, FIGURES),
        "draws": draws.make,
        "direction": direction.make,
        **{name: functools.partial(regime, name) for name in regimes.REGIMES},
        "many": functools.partial(regime, "many", target=arguments.target),
    }


def render(numbers: dict[str, Any]) -> str:
    """The page, from the numbers of the parts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"interval": interval, "p_value": p_value, "percent": percent, "times": times}
    return environment.get_template("page.md.j2").render(n=numbers).strip() + "\n"


def main() -> int:
    """0, or 2 for an unknown part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, metavar="PART")
    parser.add_argument("--num_images", type=int, default=960)
    parser.add_argument("--target", default="")
    arguments = parser.parse_args()
    stored = epath.Path(NUMBERS)
    for name, make in parts(arguments).items():
        if name not in arguments.only:
            continue
        started = time.perf_counter()
        made = plain(make())
        known = read_json(stored) if stored.exists() else {}
        write_json(stored, known | {name: made})
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    numbers = read_json(stored)
    if missing := [name for name in PARTS if name not in numbers]:
        print(f"--only {' '.join(missing)} makes what the page still lacks")
    PAGE.write_text(render(numbers), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
