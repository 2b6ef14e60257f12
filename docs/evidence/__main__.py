"""Makes docs/evidence.md and its figures from the numbers that are there: simulation.json, forecast.json, recall.json.

python -m docs.evidence                              # seconds
python -m docs.evidence.simulation                   # the numbers: ten minutes on one core
python -m docs.evidence.forecast                     # 20 minutes on two, and its figure
python -m docs.evidence.recall --workdir=FOLDER      # 25 minutes on two
"""

import sys
from pathlib import Path
from typing import Any

import jinja2
from etils import epath

from configs import samples_only
from docs.evidence import drawings, simulation, summaries, verdicts
from docs.evidence.recall import VARIANTS
from side_jax.audit.options import AuditOptions
from side_jax.audit.provenance import left_out
from side_jax.evidence.at_risk import SURE
from side_jax.evidence.power import POWER
from side_jax.report.wording import count_interval, decimals, interval, p_value, percent
from side_jax.runtime.files import read_json

HERE = Path(__file__).parent
PAGE, FIGURES = HERE.parent / "evidence.md", HERE.parent / "figures"
FILES = {name: epath.Path(HERE) / f"{name}.json" for name in ("simulation", "forecast", "recall")}


def gathered(files: dict[str, epath.Path]) -> dict[str, Any]:
    """What the page is made of: the stored numbers, and those that are computed at once."""
    stored = {name: read_json(path) for name, path in files.items()}
    return {
        "recall": stored["recall"],
        "variants": list(VARIANTS),
        "forecast": stored["forecast"],
        **simulation.table_rows(stored["simulation"]),
        "covered": verdicts.COVERED,
        "doubtful": verdicts.DOUBTFUL,
        "sure": SURE,
        "power": {
            "rows": summaries.power_rows(),
            "by_chance": summaries.BY_CHANCE,
            "photos": summaries.PHOTOS,
            "alpha": summaries.ALPHA,
            "power": POWER,
        },
        "left_out": _left_out(),
    }


def _left_out() -> list[str]:
    config = samples_only.get_config()
    config.samples.paths, config.extract.descriptor = (("samples", "SAMPLES"),), "pixel"
    return left_out(AuditOptions.from_config(config))


def render(numbers: dict[str, Any]) -> str:
    """The page, from `gathered`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    wording = (count_interval, decimals, interval, p_value, percent)
    own = (summaries.by_name, summaries.by_reason, summaries.side_of, summaries.holds)
    environment.filters |= {function.__name__: function for function in (*wording, *own)}
    environment.globals["what"] = summaries.WHAT
    return environment.get_template("page.md.j2").render(n=numbers).strip() + "\n"


def main() -> int:
    """0, or 2 if numbers are missing."""
    if missing := [name for name, path in FILES.items() if not path.exists()]:
        print(f"missing: {', '.join(f'docs/evidence/{name}.json' for name in missing)}\n\n{__doc__}", file=sys.stderr)
        return 2
    numbers = gathered(FILES)
    drawings.draw(numbers, FIGURES)
    PAGE.write_text(render(numbers), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
