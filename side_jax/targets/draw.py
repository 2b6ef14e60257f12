"""Draws the class that each image is guided to, from the stage's key and the image's index alone."""

import jax
import numpy as np

# Folded into an image's key for its label and its class; noise folds in the step number, far below.
LABEL_DRAW = 2**31 - 1
CLASS_DRAW = 2**31 - 2


def draw_labels(keys: jax.Array, num_classes: int, draw: int = LABEL_DRAW) -> jax.Array:
    """One class per image, uniform, from the image's own key: int32 [N]. Another `draw` is independent of the first."""
    return jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, draw), (), 0, num_classes))(keys)


def draw_balanced(key: jax.Array, indices: np.ndarray, num_classes: int) -> np.ndarray:
    """Every class once in each round of K images, in an order of the round's own: int32 [N].

    Image n is in round n // K, so its class depends on the key and n alone. So few images as there are classes, or
    fewer, never share a class.

    Args:
      key: the stage's.
      indices: of the images.
      num_classes: K.
    """
    rounds, places = np.divmod(np.asarray(indices, np.int64), num_classes)
    labels = np.empty(len(rounds), np.int32)
    for one in np.unique(rounds):
        order_key = jax.random.fold_in(jax.random.fold_in(key, LABEL_DRAW), int(one))
        here = rounds == one
        labels[here] = np.asarray(jax.random.permutation(order_key, num_classes))[places[here]]
    return labels
