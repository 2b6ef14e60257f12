"""One look for all figures."""

from pathlib import Path
from typing import Any

RED, BLUE, GRAY, GREEN, ORANGE = "#b2182b", "#2166ac", "#888888", "#1b7837", "#e08214"


def panels(count: int, columns: int = 3, width: float = 4.2, height: float = 3.2) -> tuple[Any, list[Any]]:
    """A figure with `count` axes, at most `columns` side by side; sizes in inches, of one panel."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "side_jax"})
    import matplotlib.pyplot as plt

    columns = min(count, columns)
    rows = -(-count // columns)
    size = width * columns, height * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def save(figure: Any, path: Path) -> None:
    """As SVG, the same bytes for the same figure."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)
