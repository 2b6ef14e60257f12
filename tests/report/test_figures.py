import io

import numpy as np
import pytest
from PIL import Image

from side_jax.report.figures import TRAIN, new_axes, picture_data, svg, with_tips


def test_marks_of_a_drawing_have_their_numbers_as_tooltips():
    figure, (axis,) = new_axes(1, columns=1)
    (line,) = axis.plot([0, 1, 2], [3.0, 4.0, 5.0], marker="o")
    with_tips(line, ["λ = 0: 3 < 4", "λ = 1: 4", "λ = 2: 5"])
    text = svg(figure)
    assert text.count("<title>") == 3
    assert "<title>λ = 0: 3 &lt; 4</title>" in text
    assert "tip:" not in text


def test_drawings_take_their_colours_from_the_page_and_have_no_ids_in_common():
    figure, (axis,) = new_axes(1, columns=1)
    axis.plot([0, 1], [0, 1], color=TRAIN, label="a")
    axis.legend()
    text = svg(figure)
    assert "var(--train)" in text
    assert "currentColor" in text
    assert TRAIN not in text
    assert "#ffffff" not in text
    assert 'id="figure_1"' not in text


@pytest.mark.parametrize(("size", "kind"), [(32, "PNG"), (96, "PNG"), (128, "JPEG")])
def test_small_pictures_are_exact_and_large_ones_are_small_files(size, kind):
    import base64

    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    head, data = picture_data(image).split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (picture.format, picture.size) == (kind, (size, size))
    assert head == f"data:image/{kind.lower()};base64"
    assert kind == "JPEG" or (np.asarray(picture) == image).all()
