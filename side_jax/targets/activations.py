"""Activations of a UNet by layer name, read or changed while it runs: no copy of the model, and nothing in the model.

Layers have diffusers' names. Of special interest is the hidden layer of a ResNet block, after its second norm and SiLU:
`….resnets.N.dropout`, where dropout would come (and, when a model only infers, does nothing).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from side_jax.diffusion.prediction import Denoise, Prediction
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import Network, Target, abstract_target
from side_jax.targets.unet import module_name

Change = Callable[[jax.Array, jax.Array], jax.Array]  # (h [N, H, W, C], t [N]) -> h, of the same dtype
TappedFn = Callable[[jax.Array, jax.Array], tuple[Prediction, dict[str, jax.Array]]]


def tap(denoise: Denoise, layers: Sequence[str] | None = None) -> TappedFn:
    """denoise that also returns the outputs of the named layers, from the same forward pass. Jittable.

    Args:
      denoise: of the unguided target; every module that it calls is seen.
      layers: names; None for all. A name that does not exist gives nothing (`check_layers` says so beforehand).

    Returns:
      (x_t, t) -> (prediction, name -> [N, H, W, C]).
    """

    def tapped(x_t: jax.Array, t: jax.Array) -> tuple[Prediction, dict[str, jax.Array]]:
        found: dict[str, jax.Array] = {}

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            name = module_name(context.module.path)
            if _is_map(context, output) and (layers is None or name in layers):
                found[name] = output
            return output

        with nn.intercept_methods(record):
            prediction = denoise(x_t, t)
        return prediction, found

    return tapped


def intervene(denoise: Denoise, changes: Mapping[str, Change]) -> Denoise:
    """denoise with the output h of each named layer replaced by change(h, t). Jittable.

    Args:
      denoise: as for `tap`; guidance, if any, is applied to the result.
      changes: layer name -> what it becomes.
    """

    def changed(x_t: jax.Array, t: jax.Array) -> Prediction:
        def replace(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            change = changes.get(module_name(context.module.path))
            return change(output, t) if change is not None and _is_map(context, output) else output

        with nn.intercept_methods(replace):
            return denoise(x_t, t)

    return changed


def _is_map(context: Any, output: Any) -> bool:
    """True for the output [N, H, W, C] of a submodule."""
    return context.method_name == "__call__" and bool(context.module.path) and getattr(output, "ndim", 0) == 4


def layer_shapes(target: Target) -> dict[str, tuple[int, int, int]]:
    """(H, W, C) of every layer that can be read or changed, by name, in the order in which they run.

    Nothing is run: of `target.params` only shapes matter, so abstract ones do.
    """
    return dict(_layer_shapes(target.net, target.schedule))


@functools.cache  # a large network takes seconds to trace
def _layer_shapes(net: Network, schedule: Schedule) -> dict[str, tuple[int, int, int]]:
    order: list[str] = []
    target = abstract_target(net, schedule)

    def run(params: Any, x_t: jax.Array, t: jax.Array, classes: jax.Array | None) -> dict[str, jax.Array]:
        model = dataclasses.replace(target, params=params)
        _, found = tap(lambda x_t, t: model.denoise(x_t, t, classes))(x_t, t)
        order.extend(found)  # a pytree of arrays would come back sorted
        return found

    one = jax.ShapeDtypeStruct((1,), np.int32)
    classes = None if net.num_classes is None else one
    x_t = jax.ShapeDtypeStruct((1, *target.image_shape), jnp.float32)
    shapes = jax.eval_shape(run, target.params, x_t, one, classes)
    return {name: shapes[name].shape[1:] for name in order}


def decoder_layers(target: Target) -> tuple[str, ...]:
    """The hidden layers of the decoder's ResNet blocks, after the second norm and SiLU: as in seed 003."""
    names = layer_shapes(target)
    return tuple(name for name in names if name.startswith("up_blocks.") and name.endswith(".dropout"))


def check_layers(target: Target, layers: Sequence[str]) -> None:
    """Raises `ValueError`, listing the names that exist, if the target lacks one of `layers`."""
    known = layer_shapes(target)
    unknown = [name for name in layers if name not in known]
    if unknown:
        raise ValueError(f"layer {unknown[0]!r} does not exist in this target; it has {', '.join(known)}")
