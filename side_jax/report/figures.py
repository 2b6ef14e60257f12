"""Drawings of the report, as SVG text or PNG data that the page embeds."""

import base64
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, HELDOUT, REAL = "#b2182b", "#2166ac", "#888888"
# Colours of a drawing -> those of the page, which has a light and a dark theme.
_THEME = {
    TRAIN: "var(--train)",
    HELDOUT: "var(--heldout)",
    REAL: "var(--real)",
    "#000000": "currentColor",
    "#ffffff": "var(--page)",
    "#cccccc": "var(--line)",
}
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_TIP, _BETWEEN = "tip:", "¦"  # begin the id of an artist whose marks have tooltips, and stand between those
_SMALL = 96  # pixels a side up to which a picture is kept exactly


def picture_data(image: np.ndarray) -> str:
    """uint8 [H, W, C] as a data URL: PNG, and JPEG above 96 pixels a side, for a page of 10 MB."""
    buffer, exact = io.BytesIO(), max(image.shape[:2]) <= _SMALL
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(buffer, "PNG" if exact else "JPEG", quality=88)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def with_tips(artist: "Artist", texts: Sequence[str]) -> None:
    """Gives every mark of an artist a tooltip: the markers of a line, or one patch.

    The texts travel in the artist's id, which `svg` turns into titles.
    """
    artist.set_gid(_TIP + _BETWEEN.join(texts))


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG, and closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _pyplot().close(figure)
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """A figure as SVG text in the colours of the page, with its tooltips; the figure is closed."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    _pyplot().close(figure)
    text = re.sub("|".join(_THEME), lambda colour: _THEME[colour[0]], buffer.getvalue())
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    root = ElementTree.fromstring(text)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        if element.get("id", "").startswith(_TIP):
            _add_titles(element, element.attrib.pop("id")[len(_TIP) :].split(_BETWEEN))
    _drop_ids(root, text)
    return ElementTree.tostring(root, "unicode")


def _add_titles(group: ElementTree.Element, texts: list[str]) -> None:
    marks = list(group.iter(f"{{{_SVG}}}use")) or list(group.iter(f"{{{_SVG}}}path"))
    for mark, text in zip(marks, texts, strict=False):  # a mark outside of the axes is not drawn
        ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = text


def _drop_ids(root: ElementTree.Element, text: str) -> None:
    """Ids that nothing refers to: every drawing of the page would have the same."""
    used = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)


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
