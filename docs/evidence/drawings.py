"""The figures of docs/evidence.md, but for that of the forecast, which docs/evidence/forecast.py draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from docs.evidence import verdicts
from docs.evidence.summaries import BY_CHANCE, by_name, power_rows
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, RED, panels, save

_KINDS = (("train", RED, "training photos"), ("heldout", BLUE, "held-out photos"))


def draw(numbers: Mapping[str, Any], folder: Path) -> None:
    """All of them, from the numbers that the page has."""
    _recall(numbers["recall"], folder)
    _false_discoveries(numbers["recall"]["false_discoveries"], folder)
    _power(folder)
    _coverage(numbers["intervals"], folder)


def _recall(recall: Mapping[str, Any], folder: Path) -> None:
    figure, (shares, found) = panels(2, columns=2)
    for kind, colour, label in _KINDS:
        ends = np.array([[row[kind][name] for name in ("value", "low", "high")] for row in recall["by_images"]]) * 100
        value, low, high = ends.T
        counts = [row["images"] for row in recall["by_images"]]
        shares.errorbar(counts, value, (value - low, high - value), color=colour, marker="o", capsize=3, label=label)
    shares.set(xlabel="images per photo, λ = 4", ylabel="photos drawn out, %", xticks=counts, ylim=(0, 104))
    shares.legend(frameon=False)
    for way, marker in (("recall", "o"), ("SIDE, exact", "s"), ("Random", "^")):
        rows = [row for row in recall["found"] if row["way"] == way]
        for kind, colour, _ in _KINDS:
            filled = colour if kind == "train" else "none"
            points = [row["images"] for row in rows], [row[kind] for row in rows]
            found.plot(*points, marker=marker, color=colour, markerfacecolor=filled, linewidth=0.8)
        found.plot([], [], marker=marker, color=GRAY, linestyle="", label=way)
    found.set(xlabel="images in all", ylabel="different photos")
    found.set_xlim(left=0)
    found.set_ylim(0, 1.04 * recall["found"][0]["photos"])
    found.legend(frameon=False)
    save(figure, folder / "evidence_recall.svg")


def _false_discoveries(rows: list[dict[str, Any]], folder: Path) -> None:
    figure, (axis,) = panels(1, columns=1)
    nominal, true, error = (100 * np.array([row[name] for row in rows]) for name in ("nominal", "true", "error"))
    most = 1.1 * max(nominal.max(), true.max())
    axis.plot([0, most], [0, most], color=GRAY, linestyle=":", label="nominal")
    axis.errorbar(nominal, true, 2 * error, color=GREEN, marker="o", capsize=3, label="true")
    axis.set(xlabel="nominal false-discovery rate, %", ylabel="false finds, %", xlim=(0, most), ylim=(0, most))
    axis.legend(frameon=False)
    save(figure, folder / "evidence_at_risk.svg")


def _power(folder: Path) -> None:
    figure, (axis,) = panels(1, columns=1, width=5.5, height=3.6)
    rows = power_rows([int(n) for n in np.geomspace(100, 50_000, 12)])
    for i, colour in enumerate((GREEN, ORANGE, RED)):
        known = [(row["images"], 100 * row["shares"][i]) for row in rows if row["shares"][i] is not None]
        label = f"{BY_CHANCE[i]:.0%} of the images score by chance"
        axis.plot(*zip(*known, strict=True), color=colour, marker="o", markersize=4, label=label)
    axis.set(xscale="log", yscale="log", xlabel="unguided images", ylabel="detectable share of copies, %")
    axis.legend(frameon=False)
    save(figure, folder / "evidence_power.svg")


def _coverage(rows: list[dict[str, Any]], folder: Path) -> None:
    groups = by_name(rows)
    figure, (axis,) = panels(1, columns=1, width=7, height=7.5)
    axis.axvspan(*(100 * end for end in verdicts.COVERED), color=GRAY, alpha=0.25, linewidth=0)
    for place, found in enumerate(groups.values()):
        value, low, high = (100 * np.array([row[name] for row in found]) for name in ("coverage", "low", "high"))
        outside = (value < 100 * verdicts.COVERED[0]) | (value > 100 * verdicts.COVERED[1])
        for kind, colour in ((~outside, GREEN), (outside & (value > 95), BLUE), (outside & (value < 95), RED)):
            spread = (value - low)[kind], (high - value)[kind]
            axis.errorbar(
                value[kind], np.full(kind.sum(), place), xerr=spread, color=colour, fmt="o", markersize=3, lw=0.6
            )
    axis.set(xlabel="intervals that hold the truth, %", ylim=(len(groups) - 0.5, -0.5))
    axis.set_yticks(range(len(groups)), list(groups))
    save(figure, folder / "evidence_coverage.svg")
