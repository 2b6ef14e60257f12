import dataclasses

import jax
import numpy as np
import pytest

from side_jax.matching.search import repeats_above
from side_jax.runtime.training import init_variables
from side_jax.surrogate.labels import Labels, classifier_labels, cluster_labels, repeat_labels, unique_labels
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def blobs():
    """Two tight clusters of 20 and a loose cloud of 10, far from both."""
    rng = np.random.default_rng(0)
    a, b = np.eye(8)[0], np.eye(8)[1]
    loose = rng.normal(size=(10, 8)) * [0, 0, 1, 1, 1, 1, 1, 1]
    return unit(np.concatenate([a + 0.05 * rng.normal(size=(20, 8)), b + 0.05 * rng.normal(size=(20, 8)), loose]))


def test_clusters_are_found_and_loose_ones_dropped(blobs):
    labels = cluster_labels(blobs, 3, 0.7, seed=0)
    assert labels.kept.sum() == 2
    assert labels.probs.shape == (50, 2)
    np.testing.assert_allclose(labels.probs.sum(1), 1, rtol=1e-6)
    first, second = labels.labels[:20], labels.labels[20:40]
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]
    assert (labels.cohesion[labels.kept] > 0.9).all()
    assert (labels.cohesion[~labels.kept] < 0.7).all()


def test_soft_cluster_labels_by_hand(blobs):
    """Two points at cosines 1 and 0 to two centres: softmax((1, 0) / τ) = 1 / (1 + e^(−1/τ))."""
    points = np.eye(2, dtype=np.float32)
    labels = cluster_labels(points, 2, 0.5, seed=0, temperature=0.5)
    np.testing.assert_allclose(labels.probs.max(1), 1 / (1 + np.exp(-2)), rtol=1e-6)
    np.testing.assert_allclose(labels.cohesion, 1, rtol=1e-6)


def test_images_of_a_dropped_cluster_go_to_the_nearest_that_survives(blobs):
    """The loose cloud's images end in one of the two tight clusters, whichever centre is nearer."""
    labels = cluster_labels(blobs, 3, 0.7, seed=0)
    tight = [blobs[:20].mean(0), blobs[20:40].mean(0)]
    nearest = np.argmax(blobs[40:] @ unit(np.stack(tight)).T, axis=1)
    expected = np.array([labels.labels[0], labels.labels[20]])[nearest]
    np.testing.assert_array_equal(labels.labels[40:], expected)


def test_random_labels_are_one_class_for_each_image():
    labels = unique_labels(5)
    assert labels.num_classes == 5
    np.testing.assert_array_equal(labels.targets, [0, 1, 2, 3, 4])


def test_targets_are_probabilities_or_else_the_most_probable_class():
    labels = Labels.soft(np.array([[0.2, 0.8], [0.6, 0.4]], np.float32))
    assert labels.targets.dtype == np.float32
    np.testing.assert_array_equal(dataclasses.replace(labels, probs=None).targets, [1, 0])


def test_cohesion_minus_one_keeps_every_cluster(blobs):
    assert cluster_labels(blobs, 4, -1.0, seed=0).probs.shape[1] == 4


def test_more_clusters_than_images_are_refused(blobs):
    with pytest.raises(ValueError, match="num_clusters 51 is more than the 50 synthetic images"):
        cluster_labels(blobs, 51, 0.5, seed=0)


def test_cohesion_that_drops_everything_is_refused(blobs):
    with pytest.raises(ValueError, match="cohesion 1.0 leaves 0 of 3 clusters; the highest mean cosine is 0.9"):
        cluster_labels(blobs, 3, 1.0, seed=0)


def test_teacher_labels_are_probabilities(image_set):
    images = image_set(5, size=8).images
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 4)
    x = images.astype(np.float32) / 127.5 - 1
    variables = init_variables(net, jax.random.key(0), (jax.ShapeDtypeStruct(x.shape, x.dtype),))
    labels = classifier_labels(net, variables, images)
    logits = np.asarray(net.apply(variables, x))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(labels.probs, expected, rtol=1e-4)


def test_repeats_are_classes_and_everything_else_is_of_none():
    """Rows 0, 2 and 4 form a chain: 0 and 4 are alike only through 2. Rows 1 and 5 are a pair, row 3 is alone."""
    rows = unit(np.array([[1, 0, 0], [0, 0, 1], [1, 0.2, 0], [-1, 0, 0], [1, 0.4, 0], [0, 0.01, 1]]))
    made = repeat_labels(repeats_above(rows, 0.975), 0.975)
    np.testing.assert_array_equal(made.labels, [0, 1, 0, -1, 0, 1])
    assert made.num_classes == 2
    assert made.probs is None


def test_too_few_repeats_are_refused_with_the_field():
    with pytest.raises(ValueError, match="labels.repeat 0.9 leaves 1 groups of repeated images among 3"):
        repeat_labels(repeats_above(unit(np.array([[1, 0], [1, 0], [0, 1]])), 0.9), 0.9)
