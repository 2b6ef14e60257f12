import jax
import numpy as np

from side_jax.inside.probe import photo_classes
from tests.targets.test_steering import small_target

KEY, INDICES = jax.random.key(0), np.arange(3)


def test_photos_have_their_labels_as_classes_only_if_the_target_knows_such():
    target = small_target(num_class_embeds=10)
    classes, source = photo_classes(target, np.array([0, 9, 3]), KEY, INDICES)
    assert source == "labels" and classes.tolist() == [0, 9, 3]
    for outside in ([0, 10, 3], [0, -1, 3]):
        classes, source = photo_classes(target, np.array(outside), KEY, INDICES)
        assert source == "drawn" and all(0 <= value < 10 for value in classes)
    assert photo_classes(small_target(), np.array([0, 1, 2]), KEY, INDICES) == (None, None)


def test_label_k_is_the_kth_of_the_chosen_classes():
    target = small_target(num_class_embeds=10).replace(classes=(7, 2))
    classes, source = photo_classes(target, np.array([1, 0, 1]), KEY, INDICES)
    assert source == "labels" and classes.tolist() == [2, 7, 2]
    classes, source = photo_classes(target, np.array([1, 2, 0]), KEY, INDICES)
    assert source == "drawn" and set(classes.tolist()) <= {2, 7}
