import numpy as np

from side_jax.report.blocks import Pair, Sheet
from side_jax.report.redact import blurred, redacted
from side_jax.report.section import FoundPhoto, Page
from tests.report.test_page import FACTS, metrics


def test_every_picture_of_the_page_is_blurred_and_nothing_else_changes():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    photo = (noise, "a.png", 0.9)
    sheets = [Sheet("best", [Pair(1, 1, 0.0, "λ = 0", noise, photo, photo, "class", "high", 3)])]
    steered = np.stack([noise] * 4).reshape(2, 2, 32, 32, 3)
    page = Page(metrics(10), FACTS, sheets, {}, None, steered, noise[None], [FoundPhoto(noise, [noise])])
    again = redacted(page)
    (pair,) = again.sheets[0].pairs
    pictures = [pair.generated, pair.train[0], pair.heldout[0], again.at_risk[0].photo, *again.at_risk[0].images]
    pictures += [*again.preview, *again.steered.reshape(-1, 32, 32, 3)]
    assert len(pictures) == 10
    for picture in pictures:
        np.testing.assert_array_equal(picture, blurred(noise))
    assert (pair.train[1:], pair.label, pair.band, pair.more) == (("a.png", 0.9), "class", "high", 3)
    assert again.metrics is page.metrics


def test_detail_is_gone_and_colour_stays():
    image = np.zeros((40, 40, 1), np.uint8)
    image[::2] = 200  # stripes
    left = blurred(image)
    assert left.shape == image.shape
    assert np.ptp(left) <= 1
    assert abs(int(left.mean()) - 100) <= 1
