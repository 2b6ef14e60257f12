"""Whether intervals hold the truth as often as they say, and p values are as rare: every one in side_jax/evidence.

python -m docs.evidence.simulation               # ten minutes on one core; writes docs/evidence/simulation.json
python -m docs.evidence.simulation --only gains  # one module's scenarios anew; the others as they are
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from etils import epath

from docs.evidence import distances, gains, rankings, relabelled, shares, verdicts
from docs.evidence.cells import SEED, Scenario, measured
from side_jax.evidence.intervals import LEVEL
from side_jax.runtime.files import read_json, write_json

NUMBERS = Path(__file__).parent / "simulation.json"
MODULES = {
    "shares": shares.scenarios,
    "gains": gains.scenarios,
    "rankings": rankings.scenarios,
    "distances": distances.scenarios,
    "relabelled": relabelled.scenarios,
}


def simulated(scenarios: list[Scenario]) -> dict[str, list[dict[str, Any]]]:
    """The rows of several scenarios, sorted by name; numbers have four significant digits."""
    rows: dict[str, list[dict[str, Any]]] = {"intervals": [], "tests": []}
    for scenario in scenarios:
        for kind, new in measured(scenario).items():
            rows[kind] += [_rounded(row) for row in new]
    return {kind: sorted(found, key=lambda row: row["name"]) for kind, found in rows.items()}


def _rounded(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _rounded(one) for name, one in content.items()}
    return float(f"{content:.4g}") if isinstance(content, float) else content


def table_rows(numbers: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of both tables with their "verdict", from simulation.json: "intervals" and "tests".

    They are sorted by name and setting. A row of an interval has name, setting, repetitions, nominal, truth (its mean),
    coverage with its own Clopper-Pearson interval (low, high), and the shares with the truth below and above the
    interval. A row of a test has name, setting, repetitions, the Kolmogorov-Smirnov p of "uniform" and of "valid", and
    the shares at_05 and at_01 with their intervals.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind, verdict in (("intervals", verdicts.of_interval), ("tests", verdicts.of_test)):
        nominal = {"nominal": LEVEL} if kind == "intervals" else {}
        of_kind = [row | nominal | {"verdict": verdict(row)} for module in MODULES for row in numbers[module][kind]]
        rows[kind] = sorted(of_kind, key=lambda row: (row["name"], row["setting"]))
    return rows


def _print(rows: dict[str, list[dict[str, Any]]]) -> None:
    for row in rows["intervals"]:
        print(f"{row['name']} | {row['setting']} | {row['coverage']:.1%} | {row['verdict']}")
    for row in rows["tests"]:
        small = f"{row['at_05']['value']:.1%}, {row['at_01']['value']:.1%}"
        print(f"p of {row['name']} | {row['setting']} | KS {row['uniform']:.2g} | {small} | {row['verdict']}")


def main() -> int:
    """0, or 2 for an unknown module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODULES, nargs="+", default=list(MODULES), metavar="MODULE")
    stored = epath.Path(NUMBERS)
    for name in parser.parse_args().only:
        started = time.perf_counter()
        made = simulated(MODULES[name]())
        known = read_json(stored) if stored.exists() else {}
        write_json(stored, known | {"seed": SEED, name: made})
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    numbers = read_json(stored)
    if all(name in numbers for name in MODULES):
        _print(table_rows(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
