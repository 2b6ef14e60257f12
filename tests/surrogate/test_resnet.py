import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.runtime.training import init_variables
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, start_at_teacher


@pytest.mark.parametrize("arch", ["resnet10_tiny", "resnet18"])
def test_student_starts_at_its_teacher_at_every_t(arch):
    size = 64 if ARCHITECTURES[arch].stem_pool else 16
    x = jax.random.normal(jax.random.key(0), (2, size, size, 1))
    teacher = ResNet(ARCHITECTURES[arch], 5)
    student = ResNet(ARCHITECTURES[arch], 5, time_conditioned=True)
    taught = init_variables(teacher, jax.random.key(1), (jax.ShapeDtypeStruct(x.shape, x.dtype),))
    shapes = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((2,), jnp.int32)
    variables = start_at_teacher(init_variables(student, jax.random.key(2), shapes), taught)
    expected, apply = jax.jit(teacher.apply)(taught, x), jax.jit(student.apply)
    for t in (0, 999):
        np.testing.assert_allclose(apply(variables, x, jnp.full((2,), t)), expected, atol=1e-5)


def test_time_module_makes_the_answer_depend_on_t():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5, time_conditioned=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = net.init(jax.random.key(1), x, jnp.zeros((2,), jnp.int32))
    block = variables["params"]["layer1_0"]["time"]["proj"]
    block["kernel"] = jnp.ones_like(block["kernel"])
    early, late = (net.apply(variables, x, jnp.full((2,), t)) for t in (0, 900))
    assert float(abs(early - late).max()) > 1e-3


def test_every_basic_block_has_one_time_module():
    net = ResNet(ARCHITECTURES["resnet34"], 5, time_conditioned=True)
    shapes = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), *shapes)["params"]
    blocks = [name for name in params if name.startswith("layer")]
    assert len(blocks) == 16
    assert all("time" in params[name] for name in blocks)


def test_resnet34_has_torchvisions_parameter_count():
    """21,797,672 with 1,000 classes."""
    net = ResNet(ARCHITECTURES["resnet34"], 1000)
    params = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 21_797_672


def test_batch_statistics_are_frozen_outside_training():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    variables = net.init(jax.random.key(1), x)
    alone = net.apply(variables, x[:1])
    np.testing.assert_allclose(net.apply(variables, x)[:1], alone, atol=1e-5)
    _, updated = net.apply(variables, x, train=True, mutable=["batch_stats"])
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), variables["batch_stats"], updated["batch_stats"])
    assert all(jax.tree.leaves(changed))
