import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.runtime import batch_size, sharding
from side_jax.runtime.batch_size import check_batch_size, device_memory, largest_batch, program_bytes, resolve
from side_jax.targets.sampling import Sampler, Sampling
from tests.targets.test_sampling import GOLDEN, assert_equal_but_for_rounding


@pytest.mark.parametrize(
    ("limit", "ceiling", "expected"),
    [
        (110, 1024, 1),
        (119, 1024, 1),
        (120, 1024, 2),
        (179, 1024, 4),
        (180, 1024, 8),
        (259, 1024, 8),
        (260, 1024, 16),
        (100 + 10 * 1024, 10_000, 1024),
        (10**9, 64, 64),
        (10**9, 63, 32),
        (10**9, 1, 1),
    ],
)
def test_largest_batch_of_affine_memory(limit, ceiling, expected):
    assert largest_batch(lambda n: 100 + 10 * n, limit, ceiling) == expected


def test_three_programs_are_compiled_and_the_chosen_one_is_among_them():
    compiled = []
    chosen = largest_batch(lambda n: compiled.append(n) or 100 + 10 * n, 5000, 1024)
    assert compiled == [1, 8, chosen] == [1, 8, 256]


@pytest.mark.parametrize("limit", [1_000, 50_000, 10**6])
def test_a_batch_that_grew_faster_than_foreseen_is_halved_until_it_fits(limit):
    quadratic = lambda n: 100 + n * n
    chosen = largest_batch(quadratic, limit, 4096)
    assert quadratic(chosen) <= limit < quadratic(2 * chosen)


def test_a_program_that_the_compiler_refuses_does_not_fit():
    assert largest_batch(lambda n: 10 * n if n <= 4 else np.inf, 1000, 1024) == 4
    assert largest_batch(lambda n: 10 * n if n <= 32 else np.inf, 1000, 1024) == 32


def test_memory_for_less_than_one_image_is_refused_with_what_it_needs():
    with pytest.raises(ValueError, match=r"one image needs 3 GiB of memory on a device, which offers 2 GiB"):
        largest_batch(lambda n: 2**31 + n * 2**30, 2**31, 64)
    with pytest.raises(ValueError, match="one image needs more memory than the compiler finds on a device"):
        largest_batch(lambda n: np.inf, 2**31, 64)


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "large", ""])
def test_other_than_a_number_or_auto_is_named(value):
    with pytest.raises(ValueError, match=f"extract.batch_size must be at least 1, or 'auto', got {value!r}"):
        check_batch_size("extract.batch_size", value)


def test_program_bytes_are_those_of_its_arrays():
    x = jax.ShapeDtypeStruct((1024,), jnp.float32)
    assert program_bytes(jax.jit(lambda x: x + 1).lower(x).compile()) == 2 * 4096


def test_a_cpu_offers_a_share_of_the_machines_memory():
    assert 2**20 < device_memory() < 2**45


@pytest.fixture
def sampler():
    return Sampler(side_jax.load_target(GOLDEN), sharding.stage_key(0, "extract"), Sampling(3))


def choose(sampler, wanted, num_images, stage="extract"):
    return resolve(wanted, lambda n: sampler.lower(n, 0.0), sampler.signature(0.0), num_images, sampler.mesh, stage)


def test_automatic_batch_fits_is_logged_once_and_changes_no_image(sampler, monkeypatch, caplog):
    monkeypatch.setattr(batch_size, "_resolved", {})
    eight = program_bytes(sampler.lower(8, 0.0).compile())
    monkeypatch.setattr(batch_size, "device_memory", lambda: 2 * eight)
    with caplog.at_level(logging.INFO, "side_jax"):
        chosen = choose(sampler, "auto", 1000)
        assert choose(sampler, "auto", 1000) == chosen
    assert chosen >= 8
    assert program_bytes(sampler.lower(chosen, 0.0).compile()) <= 2 * eight
    (record,) = caplog.records
    assert record.getMessage().startswith(f"extract: batch of {chosen} images")
    sampler.batch_size = 5
    fixed = np.concatenate([images for _, images in sampler(np.arange(20), 0.0)])
    sampler.batch_size = chosen
    automatic = np.concatenate([images for _, images in sampler(np.arange(20), 0.0)])
    assert_equal_but_for_rounding(automatic, fixed)


def test_no_batch_is_larger_than_the_images_need(sampler, monkeypatch):
    monkeypatch.setattr(batch_size, "_resolved", {})
    assert choose(sampler, "auto", 3) == 4
    assert choose(sampler, 256, 3) == 3


def test_a_device_too_small_is_refused_by_the_field(sampler, monkeypatch):
    monkeypatch.setattr(batch_size, "_resolved", {})
    monkeypatch.setattr(batch_size, "device_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"synthesize.batch_size 'auto': one image needs .* GiB"):
        choose(sampler, "auto", 3, "synthesize")
