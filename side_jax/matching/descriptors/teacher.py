"""A classifier's features as a descriptor, such as those of the audit's teacher."""

import functools
import hashlib
from typing import Any

import jax
import numpy as np
from flax.typing import VariableDict

from side_jax.diffusion.sample import to_float
from side_jax.matching.descriptor import Apply, Descriptor, DescriptorFacts, unit_rows
from side_jax.surrogate.resnet import ResNet


@functools.cache
def feature_apply(net: ResNet) -> Apply:
    """A classifier's pooled features, before its last layer, at norm 1."""

    def apply(variables: VariableDict, images: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):
            features: Any = net.apply(variables, to_float(images), features=True)
        return unit_rows(features)

    return apply


def feature_descriptor(net: ResNet, variables: VariableDict) -> Descriptor:
    """`feature_apply` of a trained classifier.

    Args:
      net: without time modules.
      variables: {"params": …, "batch_stats": …}.
    """
    if net.time_conditioned:
        raise ValueError("feature_descriptor needs a classifier of clean images, got a time-conditioned one")
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(variables)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    facts = DescriptorFacts("teacher", sha256=digest.hexdigest())
    return Descriptor(jax.device_put(variables), feature_apply(net), facts)
