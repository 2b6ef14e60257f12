"""What only torch can write: its pickles and TorchScript, harmless and not."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from side_jax import load_target
from side_jax.targets.state_dict import read_state_dict
from tests.golden import adm, student
from tests.golden.ours import write_adm


class Touch:
    """A pickle of this makes a file when it is executed."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_torch_are_read(name, zipped, tmp_path, compare):
    state = student.build(1).state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    read = read_state_dict(tmp_path / name)
    assert read.keys() == state.keys()
    kind = Path(name).suffix + (" (zip)" if zipped else " (legacy)")
    for key, value in state.items():
        compare("torch files read by side_jax", kind, read[key], value.numpy(), 0.0)


def test_torchscript_is_read(tmp_path, compare):
    model = student.build(1)
    example = torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64)
    torch.jit.trace(model, example).save(str(tmp_path / "model.pt"))
    read = read_state_dict(tmp_path / "model.pt")
    for key, value in model.state_dict().items():
        compare("torch files read by side_jax", "TorchScript", read[key], value.numpy(), 0.0)


@pytest.mark.given(
    kind=7,
    input='`{"model": …, "ema": …}`',
    before="refused",
    now="\"it holds optimizer, model, ema, step. Take one, such as 'ema'\", with a command; what that writes is read",
)
def test_checkpoint_of_several_state_dicts_names_what_to_take_and_how(tmp_path):
    """The command of the message is run as it stands."""
    states = [load_file(write_adm(tmp_path, "legacy", seed=seed)) for seed in (0, 1)]
    model, ema = ({name: torch.from_numpy(value) for name, value in state.items()} for state in states)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(1)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"optimizer": optimizer, "model": model, "ema": ema, "step": 5}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"it holds optimizer, model, ema, step. Take one, such as 'ema'") as error:
        load_target(tmp_path / "model.pt")
    assert "\n" not in str(error.value)
    (command,) = re.findall(r'python (-c ".*")', str(error.value))
    subprocess.run([sys.executable, *shlex.split(command)], check=True, cwd=tmp_path)
    shutil.copy(tmp_path / "model.json", tmp_path / "ema.json")
    assert load_target(tmp_path / "ema.pt").image_shape == load_target(tmp_path / "model.safetensors").image_shape
    read, expected = read_state_dict(tmp_path / "ema.pt"), states[1]
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(read[name], value)


def test_optimizer_before_the_weights_is_not_what_to_take(tmp_path):
    content = {"optimizer": {"state": {}, "param_groups": []}, "state_dict": {"w": torch.zeros(1)}}
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"it holds optimizer, state_dict. Take one, such as 'state_dict'"):
        read_state_dict(tmp_path / "last.pt")
    torch.save({"optimizer": content["optimizer"], "step": 5}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"it holds optimizer, step, not a state dict of plain tensors"):
        read_state_dict(tmp_path / "last.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["model.bin", "model.pt"])
def test_malicious_pickles_are_refused_and_not_executed(name, zipped, tmp_path):
    content = {"out.2.bias": torch.zeros(3), "evil": Touch(tmp_path / "executed")}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=f"{name} is refused: not a readable state dict of plain tensors"):
        read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / name, weights_only=False)  # the trap does work
    assert (tmp_path / "executed").exists()


def test_a_malicious_pickle_dressed_as_torchscript_is_refused_and_not_executed(tmp_path):
    torch.save({"evil": Touch(tmp_path / "executed")}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "a") as archive:
        archive.writestr("model/code/__torch__.py", "")
    with pytest.raises(ValueError, match="is refused"):
        read_state_dict(tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


def test_a_malicious_target_is_refused_and_not_executed(tmp_path):
    torch.save({"evil": Touch(tmp_path / "executed")}, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS["legacy"]))
    with pytest.raises(ValueError, match=r"model.pt is refused"):
        load_target(tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)], {"a": np.zeros(1)}])
def test_what_is_no_plain_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="is refused"):
        read_state_dict(tmp_path / "model.pt")
