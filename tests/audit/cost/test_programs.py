import math

import jax
import jax.numpy as jnp
import pytest

from side_jax.audit.cost import programs
from side_jax.audit.cost.programs import Lowered, abstract, tree_size
from side_jax.diffusion.schedule import Schedule
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets.target import abstract_target
from side_jax.targets.unet import UNet

C, SIZE = 32, 16
UNET = UNet(
    sample_size=SIZE,
    in_channels=1,
    out_channels=1,
    block_out_channels=(C,),
    down_block_types=("DownBlock2D",),
    up_block_types=("UpBlock2D",),
    layers_per_block=1,
    norm_num_groups=4,
    add_attention=False,
)
SHAPE = (SIZE, SIZE, 1)
TARGET = abstract_target(UNET, Schedule())


def matrix_flops():
    """Of the convolutions and matrix products of UNET, by hand: conv_in, 1 + 2 + 2 ResNet blocks, conv_out."""
    taps = (3 * SIZE - 2) ** 2  # of a 3x3 kernel, over all pixels, but for those in the padding
    three_by_three = C + 2 * C * C + 4 * C * C + 2 * (2 * C * C + C * C) + C
    shortcuts = 2 * SIZE**2 * (2 * C * C)
    dense = C * 4 * C + 4 * C * 4 * C + 5 * (4 * C * C)
    return 2 * (taps * three_by_three + shortcuts + dense)


def test_parameters_of_a_unet_are_those_counted_by_hand():
    kernels = 9 * (C + 12 * C * C + C) + 2 * (2 * C * C)
    biases = C + 2 * C + 4 * C + 4 * C + 1 + 2 * C
    dense = C * 4 * C + 4 * C + 16 * C * C + 4 * C + 5 * (4 * C * C + C)
    norms = 2 * (2 * C + 4 * C + 2 * (2 * C + C) + C)
    assert tree_size({"params": TARGET.params}) == kernels + biases + dense + norms


@pytest.mark.parametrize("batch", [1, 6])
def test_operations_per_image_are_those_counted_by_hand_and_little_more(batch):
    program = programs.sampling_step(TARGET, batch).count()
    assert program.compiled_count  # on a CPU no convolution hides in a custom call
    assert matrix_flops() < program.flops < 1.1 * matrix_flops()  # normalisation and activations are the rest


def test_guide_adds_its_forward_pass_and_its_input_gradient():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5, time_conditioned=True)
    alone = programs.classification(ResNet(ARCHITECTURES["resnet10_tiny"], 5), SHAPE, 2).count().flops
    guides = (None, programs.network_guide(net, SHAPE))
    step, guided = (programs.sampling_step(TARGET, 2, guide).count().flops for guide in guides)
    assert 1.7 * alone < guided - step < 3 * alone


def test_operations_are_counted_before_compilation_where_the_compiler_hides_them():
    """Here it leaves some out because they are the same; a custom call would look alike."""

    def twice(x):
        return x @ x, jnp.matmul(x, x)

    program = Lowered(jax.jit(twice).lower(abstract((16, 16))), 1, 0).count()
    assert not program.compiled_count
    assert program.flops == 2 * 2 * 16**3


def test_memory_is_arguments_outputs_and_temporaries():
    x = abstract((128, 128))
    program = Lowered(jax.jit(lambda x, y: (x @ y).sum()).lower(x, x), 1, 0).count()
    assert program.bytes >= 2 * 128 * 128 * 4 + 4
    assert program.bytes < 4 * 128 * 128 * 4


def test_memory_of_another_batch_follows_from_one():
    few, many = (programs.sampling_step(TARGET, batch).count() for batch in (16, 64))
    assert few.bytes_at(16) == few.bytes
    assert few.bytes_at(64) == pytest.approx(many.bytes, rel=0.1)


def test_exact_guide_adds_two_products_with_its_set():
    """x·x_i for the weights and their mean of x_i: 2 x 2·M·P operations an image, and little beside them."""
    guide, pixels = programs.exact_guide(2_000, 5, False, 8_192, SHAPE), math.prod(SHAPE)
    step, guided = (programs.sampling_step(TARGET, 32, one).flops() for one in (None, guide))
    assert guided - step >= 4 * 2_000 * pixels
    assert guided - step <= 1.2 * 4 * 2_000 * pixels
