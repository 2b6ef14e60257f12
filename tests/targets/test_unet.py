import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.targets.layers import timestep_embedding
from side_jax.targets.unet import UNet, check_unet

SMALL = {
    "block_out_channels": (4, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}


def test_paper_unet_has_113_7_million_parameters():
    """diffusers' unconditional example at 128x128: 113,673,219 parameters."""
    unet = UNet(
        128,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    )
    x, t = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    params = jax.eval_shape(unet.init, jax.random.key(0), x, t)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 113_673_219


def test_timestep_embedding_by_hand():
    emb = timestep_embedding(jnp.array([0, 2]), 4)
    np.testing.assert_allclose(emb[0], [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(emb[1], [np.cos(2), np.cos(0.02), np.sin(2), np.sin(0.02)], atol=1e-6)
    shifted = timestep_embedding(jnp.array([2]), 4, flip_sin_to_cos=False, freq_shift=1)
    np.testing.assert_allclose(shifted[0], [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)], atol=1e-6)


def test_images_of_a_batch_do_not_interact():
    unet = UNet(8, 1, 1, **SMALL)
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    t = jnp.array([1, 500, 900])
    variables, apply = jax.jit(unet.init)(jax.random.key(1), x, t), jax.jit(unet.apply)
    together = apply(variables, x, t)
    for i in range(3):
        np.testing.assert_allclose(together[i : i + 1], apply(variables, x[i : i + 1], t[i : i + 1]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        ({}, 9, "image_size 9 is not divisible by the UNet's stride 2"),
        ({"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}, 8, "'CrossAttnDownBlock2D' is not supported"),
        ({"up_block_types": ("UpBlock2D",)}, 8, "unet.up_block_types has 1 entries"),
        ({"norm_num_groups": 3}, 8, "norm_num_groups 3 does not divide block_out_channels 4"),
        ({"downsample_padding": 2}, 8, "downsample_padding must be one of"),
        ({"resnet_time_scale_shift": "spatial"}, 8, "resnet_time_scale_shift must be one of"),
        ({"norm_num_groups": 0}, 8, "norm_num_groups 0 does not divide"),
        ({"attention_head_dim": 9}, 8, "attention_head_dim 9 does not fit an attention block of 8 channels"),
        ({"in_channels": 3}, 8, "maps 3 to 1 channels, the images have 1"),
    ],
)
def test_unfitting_options_are_named(change, size, message):
    unet = dataclasses.replace(UNet(8, 1, 1, **SMALL), **change)
    with pytest.raises(ValueError, match=message):
        check_unet(unet, size, 1)
