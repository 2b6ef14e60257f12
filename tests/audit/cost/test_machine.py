import dataclasses

import pytest

from configs import smoke
from side_jax.audit.cost import machine as module
from side_jax.audit.cost.jobs import Setting
from side_jax.audit.cost.machine import Machine, machine_name, measure
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import abstract_target


@pytest.fixture(scope="module")
def setting():
    options = AuditOptions.from_config(smoke.get_config())
    return Setting(options, abstract_target(options.target.make_net(16, 1), Schedule()), 1, 100)


def test_the_targets_step_and_a_product_are_timed_with_and_without_a_model(setting):
    found = measure(setting)
    assert found.name == machine_name()
    assert found.speeds["default"] == found.speeds["bfloat16"]  # on a CPU all is float32
    assert 1e5 < found.speeds["default"] < 1e15 and 1e5 < found.speeds["float32"] < 1e15
    assert 1 <= found.batch <= setting.options.extract.batch_size
    assert measure(dataclasses.replace(setting, target=None)).speeds["float32"] > 0


def test_a_step_that_does_not_fit_is_not_run(setting, monkeypatch):
    monkeypatch.setattr(module, "device_memory", lambda: 1_000)
    assert measure(setting) is None


def test_hours_are_operations_by_the_speed_of_their_precision():
    machine = Machine("", {"default": 1e9, "bfloat16": 2e9, "float32": 4e9}, 1)
    assert machine.hours(3.6e12, "default") == 1
    assert machine.hours(3.6e12, "bfloat16") == 0.5
    assert machine.hours(3.6e12, "float32") == 0.25
