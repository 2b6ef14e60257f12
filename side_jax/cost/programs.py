"""The programs that an audit's stages spend their time in, lowered for abstract arguments: compiled, never run.

XLA counts the body of a loop once, so a sampler's program here is one of its steps.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from side_jax.batch_size import compile_if_it_fits, program_bytes
from side_jax.diffusion.prediction import Prediction
from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.transforms import guide as guided
from side_jax.extraction.descriptors import pixel_descriptor
from side_jax.extraction.preprocessing import PREPROCESSING, sscd_input
from side_jax.models.resnet import ResNet
from side_jax.models.sscd import SSCD
from side_jax.models.unet import UNet
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.guide import Guide
from side_jax.target import predict
from side_jax.training import LossFn, TrainOptions, _train_step, init_state

Shape = tuple[int, int, int]  # (H, W, C)
Key = TypeVar("Key")
_HIDDEN = 0.95  # a compiled count below this share of the one before has operations hidden in custom calls
_T = 1000  # timesteps; no count depends on it


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiler counts.

    Attributes:
      batch: images that it computes at once, on one device.
      flops: operations per image; a multiplication and an addition are two.
      bytes: arguments, outputs and temporaries of the whole batch; infinite if the compiler refuses it.
      fixed: the part of `bytes` that every batch needs: parameters, and what training keeps beside them.
      compiled_count: whether `flops` is of the compiled program, or of the one given to the compiler.
    """

    batch: int
    flops: float
    bytes: float
    fixed: int
    compiled_count: bool

    def bytes_at(self, batch: int) -> float:
        """Estimated bytes for another batch."""
        return self.fixed + (self.bytes - self.fixed) / self.batch * batch


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program to be compiled and counted."""

    lowered: jax.stages.Lowered
    batch: int
    fixed: int

    def flops(self) -> float:
        """Operations per image as given to the compiler; it is compiled only where that cannot be counted."""
        return _flops(self.lowered) / self.batch or self.count().flops

    def count(self) -> Program:
        """Compiles it."""
        flops, compiled_count = _flops(self.lowered), False
        compiled = compile_if_it_fits(self.lowered)
        if compiled is not None and _flops(compiled) >= _HIDDEN * flops:
            flops, compiled_count = _flops(compiled), True
        size = program_bytes(compiled) if compiled else math.inf
        return Program(self.batch, flops / self.batch, size, self.fixed, compiled_count)


def _flops(program: jax.stages.Lowered | jax.stages.Compiled) -> float:
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def count_all(programs: Mapping[Key, Lowered]) -> dict[Key, Program]:
    """Compiles them side by side."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(programs, pool.map(Lowered.count, programs.values()), strict=True))


def tree_bytes(tree: Any) -> int:
    """Bytes of abstract or real arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def tree_size(variables: Any) -> int:
    """Numbers in the parameters of a network's variables, batch statistics left out."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) if variables else 0


def abstract(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array without values."""
    return jax.ShapeDtypeStruct(shape, dtype)


def unet_variables(unet: UNet, shape: Shape) -> Any:
    """Abstract parameters."""
    one = abstract((1,), jnp.int32)
    classes = None if unet.num_class_embeds is None else one
    return jax.eval_shape(lambda: unet.lazy_init(jax.random.key(0), abstract((1, *shape)), one, classes))


def resnet_variables(net: ResNet, shape: Shape) -> Any:
    """Abstract parameters and batch statistics."""
    t = abstract((1,), jnp.int32) if net.time_conditioned else None
    return jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), abstract((1, *shape)), t))


def sscd_variables(net: SSCD) -> Any:
    """Abstract parameters and batch statistics."""
    return jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), abstract((1, 32, 32, 3))))


def abstract_process() -> Process:
    """α and σ; no count depends on them."""
    return Process(abstract((_T,)))  # type: ignore[arg-type]


def network_guide(net: ResNet, shape: Shape) -> Classifier:
    """A classifier without numbers."""
    return Classifier(net, resnet_variables(net, shape))


def exact_guide(num_images: int, num_classes: int, soft: bool, block: int, shape: Shape) -> ExactGuide:
    """An exact guide without numbers, over a set of so many images."""
    block = min(block, num_images)
    rows = block * -(-num_images // block)
    labels = abstract((rows, num_classes)) if soft else abstract((rows,), jnp.int32)
    images, pixels = abstract((rows, math.prod(shape)), jnp.uint8), abstract((math.prod(shape),))
    return ExactGuide(images, pixels, abstract((rows,)), labels, abstract_process(), num_classes, block)


def name_of(guide: Guide | None) -> str:
    """What a program with this guide depends on."""
    return f"{jax.tree.structure(guide)} {[leaf.shape for leaf in jax.tree.leaves(guide)]}"


def log_prob(guide: Guide, shape: Shape, batch: int) -> Lowered:
    """p^t(y | x_t) of a batch of images."""
    x_t, t = abstract((batch, *shape)), abstract((batch,), jnp.int32)
    lowered = jax.jit(lambda guide, x_t, t: guide.log_prob(x_t, t)).lower(guide, x_t, t)
    return Lowered(lowered, batch, tree_bytes(guide))


def sampling_step(unet: UNet, shape: Shape, batch: int, guide: Guide | None = None) -> Lowered:
    """One step of the sampler: one call of the UNet and, with a guide, its gradient."""
    params = unet_variables(unet, shape)["params"]

    def step(params: Any, guide: Any, process: Process, x_t: Any, t: Any, labels: Any, lam: Any) -> Prediction:
        classes = None if unet.num_class_embeds is None else labels
        denoise: Any = functools.partial(predict, unet, params, process, "epsilon", classes=classes)
        if guide is not None:
            denoise = guided(denoise, functools.partial(guide.gradient, labels=labels), process, lam)
        return denoise(x_t, t)

    numbers = abstract((batch,), jnp.int32)
    lowered = jax.jit(step).lower(
        params, guide, abstract_process(), abstract((batch, *shape)), numbers, numbers, abstract(())
    )
    return Lowered(lowered, batch, tree_bytes((params, guide)))


def descriptor(name: str, preprocessing: str, shape: Shape, batch: int, teacher: ResNet | None = None) -> Lowered:
    """A descriptor by its name in a config, or a teacher's features."""
    sscd = SSCD()
    variables: Any = None
    if name == "sscd":
        variables = sscd_variables(sscd)
    elif teacher is not None:
        variables = resnet_variables(teacher, shape)

    def apply(variables: Any, images: jax.Array) -> Any:
        if name == "sscd":
            return sscd.apply(variables, sscd_input(images, preprocessing or PREPROCESSING[0]))
        if teacher is not None:
            return teacher.apply(variables, to_float(images), features=True)
        return pixel_descriptor(images)

    lowered = jax.jit(apply).lower(variables, abstract((batch, *shape), jnp.uint8))
    return Lowered(lowered, batch, tree_bytes(variables))


def classification(net: ResNet, shape: Shape, batch: int) -> Lowered:
    """p(y | x) of a batch of images."""
    variables = resnet_variables(net, shape)
    lowered = jax.jit(lambda v, images: net.apply(v, to_float(images))).lower(
        variables, abstract((batch, *shape), jnp.uint8)
    )
    return Lowered(lowered, batch, tree_bytes(variables))


def training_step(
    variables: Any, loss_fn: LossFn, options: TrainOptions, batch: dict[str, Any], frozen: Any = None
) -> Lowered:
    """Loss, gradient, optimizer and average for a batch of abstract arrays; `frozen` as of `fit`."""
    state = jax.eval_shape(lambda v: init_state(v, options), variables)
    key = jax.eval_shape(lambda: jax.random.key(0))
    asked = abstract((1,), jnp.int32)
    lowered = _train_step.lower(state, key, batch, frozen, asked, loss_fn=loss_fn, options=options)
    size = next(iter(batch.values())).shape[0]
    fixed = tree_bytes(state) + tree_bytes(variables["params"]) + tree_bytes(frozen)  # the gradient too
    return Lowered(lowered, size, fixed)
