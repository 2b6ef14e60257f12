"""One look for all figures."""

from pathlib import Path
from typing import Any

from side_jax.report.figures import new_axes

RED, BLUE, GRAY, GREEN, ORANGE = "#b2182b", "#2166ac", "#888888", "#1b7837", "#e08214"


def panels(count: int, columns: int = 3, width: float = 4.2, height: float = 3.2) -> tuple[Any, list[Any]]:
    """A figure with `count` axes, at most `columns` side by side; sizes in inches, of one panel."""
    return new_axes(count, columns, width, height)


def save(figure: Any, path: Path) -> None:
    """As SVG, the same bytes for the same figure."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)
