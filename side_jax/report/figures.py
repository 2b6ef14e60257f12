"""Drawings of the report, as SVG text or PNG data that the page embeds."""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, HELDOUT, REAL = "#b2182b", "#2166ac", "#888888"


def png_data(image: np.ndarray) -> str:
    """uint8 [H, W, C] as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG, and closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _pyplot().close(figure)
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """A figure as SVG text, and closed."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    _pyplot().close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches."""
    return _pyplot().figure(figsize=(width, height), layout="constrained")


def new_axes(count: int, columns: int, width: float = 4.2, height: float = 3.2) -> "tuple[Figure, list[Axes]]":
    """`count` panels, at most `columns` side by side."""
    plt = _pyplot()
    columns = min(count, columns)
    rows = -(-count // columns)
    size = width * columns, height * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "side_jax"})
    import matplotlib.pyplot as plt

    return plt
