"""The programs that an audit's stages spend their time in, lowered for abstract arguments: compiled, never run.

XLA counts the body of a loop once, so a sampler's program here is one of its steps.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import PyTree

from side_jax.diffusion.guide import Guide
from side_jax.diffusion.prediction import Denoise, Prediction
from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.transforms import guide as guided
from side_jax.matching.descriptor import Descriptor
from side_jax.runtime.batch_size import compile_if_it_fits, program_bytes
from side_jax.runtime.training import Loss, LossFn, TrainOptions, _train_step, init_state
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.resnet import ResNet
from side_jax.targets.target import Target

Shape = tuple[int, int, int]  # (H, W, C)
Key = TypeVar("Key")
_HIDDEN = 0.95  # a compiled count below this share of the lowered one misses operations in custom calls
_T = 1000  # timesteps; no count depends on it


@dataclasses.dataclass(frozen=True)
class Program:
    """Counts of a compiled program.

    Attributes:
      batch: images per call, on one device.
      flops: operations per image; a multiplication and an addition are two.
      bytes: arguments, outputs and temporaries of the whole batch; infinite if the compiler refuses it.
      fixed: the part of `bytes` that does not grow with the batch: parameters and, in training, optimizer state.
      compiled_count: True if `flops` comes from the compiled program, False if from the lowered one.
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
        """Operations per image of the lowered program; compiled only if XLA cannot count the lowered one."""
        return _flops(self.lowered) / self.batch or self.count().flops

    def count(self) -> Program:
        """Compiles the program and counts it."""
        flops, compiled_count = _flops(self.lowered), False
        compiled = compile_if_it_fits(self.lowered)
        if compiled is not None and _flops(compiled) >= _HIDDEN * flops:
            flops, compiled_count = _flops(compiled), True
        return Program(self.batch, flops / self.batch, program_bytes(compiled), self.fixed, compiled_count)


def _flops(program: jax.stages.Lowered | jax.stages.Compiled) -> float:
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def count_all(programs: Mapping[Key, Lowered]) -> dict[Key, Program]:
    """Compiles them side by side."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(programs, pool.map(Lowered.count, programs.values()), strict=True))


def tree_bytes(tree: PyTree) -> int:
    """Bytes of abstract or real arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def tree_size(variables: PyTree) -> int:
    """Number of parameters in a network's variables, without batch statistics."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) if variables else 0


def abstract(shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
    """An abstract array: shape and dtype."""
    return jax.ShapeDtypeStruct(shape, dtype)


def resnet_variables(net: ResNet, shape: Shape) -> PyTree:
    """Abstract parameters and batch statistics."""
    t = abstract((1,), jnp.int32) if net.time_conditioned else None
    return jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), abstract((1, *shape)), t))


def abstract_process() -> Process:
    """An abstract process: no count depends on α and σ."""
    return Process(abstract((_T,)))  # type: ignore[arg-type]


def network_guide(net: ResNet, shape: Shape) -> Classifier:
    """A classifier with abstract parameters."""
    return Classifier(net, resnet_variables(net, shape))


def exact_guide(num_images: int, num_classes: int, soft: bool, block: int, shape: Shape) -> ExactGuide:
    """An abstract exact guide over `num_images` images."""
    block = min(block, num_images)
    rows = block * -(-num_images // block)
    labels = abstract((rows, num_classes)) if soft else abstract((rows,), jnp.int32)
    images, pixels = abstract((rows, math.prod(shape)), jnp.uint8), abstract((math.prod(shape),))
    norms, process = abstract((rows,)), abstract_process()
    return ExactGuide(images, pixels, norms, labels, process, num_classes, block)  # type: ignore[arg-type]


def name_of(guide: Guide | None) -> str:
    """The structure and shapes of a guide, as a key of the programs that take it."""
    return f"{jax.tree.structure(guide)} {[leaf.shape for leaf in jax.tree.leaves(guide)]}"


def log_prob(guide: Guide, shape: Shape, batch: int) -> Lowered:
    """p^t(y | x_t) for a batch of images."""
    x_t, t = abstract((batch, *shape)), abstract((batch,), jnp.int32)
    lowered = jax.jit(lambda guide, x_t, t: guide.log_prob(x_t, t)).lower(guide, x_t, t)
    return Lowered(lowered, batch, tree_bytes(guide))


def sampling_step(target: Target, batch: int, guide: Guide | None = None, dtype: DTypeLike = jnp.float32) -> Lowered:
    """One step of the sampler: one call of the network, whose blocks run in `dtype`, and a guide's gradient."""

    def step(
        target: Target, guide: Guide | None, x_t: jax.Array, t: jax.Array, labels: jax.Array, lam: jax.Array
    ) -> Prediction:
        classes = None if target.net.num_classes is None else labels
        denoise: Denoise = functools.partial(target.denoise, classes=classes, dtype=dtype)
        if guide is not None:
            gradient = functools.partial(guide.gradient, labels=labels)
            denoise = guided(denoise, gradient, target.schedule.process(), lam)
        return denoise(x_t, t)

    numbers = abstract((batch,), jnp.int32)
    lowered = jax.jit(step).lower(target, guide, abstract((batch, *target.image_shape)), numbers, numbers, abstract(()))
    return Lowered(lowered, batch, tree_bytes((target, guide)))


def descriptor(embed: Descriptor, shape: Shape, batch: int) -> Lowered:
    """Descriptors of a batch of images."""
    lowered = jax.jit(embed.apply).lower(embed.variables, abstract((batch, *shape), jnp.uint8))
    return Lowered(lowered, batch, tree_bytes(embed))


def classification(net: ResNet, shape: Shape, batch: int) -> Lowered:
    """p(y | x) for a batch of images."""
    variables = resnet_variables(net, shape)
    lowered = jax.jit(lambda v, images: net.apply(v, to_float(images))).lower(
        variables, abstract((batch, *shape), jnp.uint8)
    )
    return Lowered(lowered, batch, tree_bytes(variables))


def training_step(
    variables: PyTree, loss_fn: LossFn, options: TrainOptions, batch: PyTree, frozen: PyTree = None
) -> Lowered:
    """One training step (loss, gradient, optimizer, average) on a batch of abstract arrays; `frozen` as in `Loss`."""
    state = jax.eval_shape(lambda v: init_state(v, options), variables)
    key = jax.eval_shape(lambda: jax.random.key(0))
    asked = abstract((1,), jnp.int32)
    lowered = _train_step.lower(state, Loss(loss_fn, key, frozen), batch, asked, options)
    size = next(iter(batch.values())).shape[0]
    fixed = tree_bytes(state) + tree_bytes(variables["params"]) + tree_bytes(frozen)  # the gradient too
    return Lowered(lowered, size, fixed)
