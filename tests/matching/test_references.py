import numpy as np
import pytest

from side_jax.matching import references, search
from side_jax.matching.references import Photos, compare_photos, place_references
from side_jax.runtime.sharding import local_mesh


def placed(images, descriptors, chosen):
    photos = Photos(descriptors.__getitem__, images.reshape(len(images), -1).__getitem__)
    return place_references(photos, chosen, local_mesh(), False)


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 6, 6, 3), np.uint8)
    return images, rng.normal(size=(120, 16)).astype(np.float32)


def test_comparison_equals_a_plain_search(photos):
    images, descriptors = photos
    chosen = np.flatnonzero(np.arange(120) % 3 > 0)
    queries, theirs = images[:7].copy(), descriptors[:7]
    queries[:, 0] += 1
    found = compare_photos(queries, theirs, placed(images, descriptors, chosen), 10, 2.0)
    scores = theirs.astype(np.float64) @ descriptors[chosen].T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : found.indices.shape[1]]
    np.testing.assert_array_equal(found.indices, chosen[order])
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.above, (scores >= 2.0).sum(1))
    x, y = (a.reshape(len(a), -1).astype(np.float64) / 255 for a in (queries, images[chosen]))
    distances = np.linalg.norm(x[:, None] - y[None], axis=-1)
    np.testing.assert_array_equal(found.nearest, chosen[distances.argmin(1)])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :50], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65])
def test_padding_never_shows(photos, count, monkeypatch):
    """Blocks of 16 rows, filled up with rows of zeros, which would beat every negative score."""
    monkeypatch.setattr(search, "_MAX_BLOCK", 16)
    references._compare_block.clear_cache()
    images, descriptors = photos
    real = placed(images, np.abs(descriptors), np.arange(count))
    found = compare_photos(images[:2], -np.abs(descriptors[:2]), real, 5, -100.0)
    assert found.scores.shape[1] == count if count < 64 else found.scores.shape[1] >= 64
    assert np.isfinite(found.scores).all()
    assert (found.scores < 0).all()
    assert found.indices.max() == count - 1
    np.testing.assert_array_equal(found.above, [count, count])
    references._compare_block.clear_cache()
