import pytest

from side_jax.audit.cost.accelerators import ACCELERATORS


def test_hours_are_operations_over_speed():
    a100 = next(one for one in ACCELERATORS if one.name == "A100 80 GB")
    assert a100.hours(156e12 * 3600, "default", 1.0) == pytest.approx(1)
    assert a100.hours(312e12 * 3600, "bfloat16", 0.5) == pytest.approx(2)
    assert a100.hours(19.5e12 * 3600, "float32", 1.0) == pytest.approx(1)


def test_faster_arithmetic_is_faster_and_no_accelerator_offers_all_its_memory():
    for one in ACCELERATORS:
        assert one.float32 < one.default <= one.bfloat16
    assert {one.name.split(" ")[0] for one in ACCELERATORS} == {"A100", "H100", "TPU"}
    v5e = next(one for one in ACCELERATORS if one.name == "TPU v5e")
    assert v5e.memory < 16e9
