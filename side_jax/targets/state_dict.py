"""State dicts of the torch world: tensors by name, read safely and matched strictly against a Flax module.

Safetensors are read with nothing but this package. Torch's own files are pickles: they are only ever opened by
`torch.load(weights_only=True)`, or `torch.jit.load` for TorchScript, in the optional extra `side_jax[torch]`.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_safetensors

from side_jax.runtime.files import is_local

Path = tuple[str, ...]  # of a variable in a Flax tree
_SHOWN = 10  # problems listed in an error
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
CONVERT = (
    """python -c "import torch, safetensors.torch as s; s.save_file(torch.load('{source}', weights_only=True),"""
    """ '{stem}.safetensors')\""""
)


class _SafetensorsFile(Mapping[str, np.ndarray]):
    """Tensors of a local file, each read on access, so that the file is never in memory twice."""

    def __init__(self, file: epath.Path) -> None:
        self._file = safe_open(str(file), framework="numpy")
        self._names = tuple(self._file.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_state_dict(path: epath.PathLike) -> Mapping[str, np.ndarray]:
    """Tensors by name, of a `.safetensors` or a torch file (`.bin`, `.pt`, `.pth`; TorchScript too).

    Raises:
      ValueError: if the file is missing, truncated, or anything but a plain state dict; or if it needs torch and torch
        is not installed.
    """
    file = epath.Path(path)
    if not file.exists():
        raise ValueError(f"{file} does not exist")
    if file.suffix != ".safetensors":
        return _read_torch(file)
    try:
        return _unwrapped(_SafetensorsFile(file) if is_local(file) else load_safetensors(file.read_bytes()))
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{file} is not a readable safetensors file: {error}") from error


def _read_torch(file: epath.Path) -> Mapping[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{file} is a torch file; reading it needs torch: pip install 'side_jax[torch]', or convert it once"
            f" elsewhere: {CONVERT.format(source=file.name, stem=file.stem)}"
        ) from error
    try:
        if _is_torchscript(file):
            content: dict[str, torch.Tensor] = torch.jit.load(str(file), map_location="cpu").state_dict()
        else:
            content = torch.load(str(file), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{file} is refused: not a readable state dict of plain tensors ({reason[0]})") from error
    if not isinstance(content, Mapping) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        states = [name for name, value in content.items() if _is_state(value, torch.Tensor)] if _named(content) else []
        if states:
            take = next((name for name in states if "ema" in name.lower()), states[0])
            raise ValueError(
                f"{file} is refused: it holds {', '.join(content)}. Take one, such as {take!r}: python -c"
                f" \"import torch; torch.save(torch.load('{file.name}', weights_only=True)['{take}'], '{take}.pt')\""
            )
        raise ValueError(f"{file} is refused: it holds {_held(content)}, not a state dict of plain tensors")
    # NumPy has no bfloat16; whatever is read here ends up as float32 (`from_torch`).
    return _unwrapped(
        {
            str(name): (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in content.items()
        }
    )


def _named(content: Any) -> bool:
    return isinstance(content, Mapping) and all(isinstance(name, str) for name in content)


def _is_state(value: Any, tensor: type) -> bool:
    """True for a state dict inside another; an optimizer's holds more than tensors."""
    return _named(value) and len(value) > 0 and all(isinstance(one, tensor) for one in value.values())


def _held(content: Any) -> str:
    """What a file holds that is no state dict, in words."""
    return ", ".join(content) if _named(content) and content else type(content).__name__


class _Renamed(Mapping[str, np.ndarray]):
    """Tensors without a prefix of their names, each read on access."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _unwrapped(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The tensors under their own names, without the prefixes that wrappers of a module give all of them."""
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _unwrapped(_Renamed(tensors, prefix))
    return tensors


def _is_torchscript(file: epath.Path) -> bool:
    """TorchScript archives carry their program in a folder `code`."""
    if not zipfile.is_zipfile(str(file)):
        return False
    with zipfile.ZipFile(str(file)) as archive:
        return any("/code/" in name for name in archive.namelist())


def to_torch(path: Path, value: np.ndarray) -> np.ndarray:
    """A Flax variable in torch's layout: HWIO -> OIHW, IO -> OI."""
    if path[-1] == "kernel":
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return np.ascontiguousarray(value)


def from_torch(path: Path, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A torch tensor in Flax's layout, float32. A linear layer stored as a 1x1 convolution becomes a matrix."""
    if path[-1] == "kernel":
        while value.ndim > max(len(shape), 2) and value.shape[-1] == 1:
            value = value[..., 0]
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return np.ascontiguousarray(value, np.float32)


def match_variables(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[Path, tuple[int, ...]],
    name_of: Callable[[Path], str],
    source: str,
) -> dict[str, PyTree]:
    """The variables of a Flax module from a state dict that must fit it exactly.

    Args:
      tensors: the state dict, under the names that `name_of` gives.
      shapes: path -> shape of every variable.
      name_of: path -> name in the state dict.
      source: what to call the state dict in an error.

    Raises:
      ValueError: listing missing, extra and misshapen keys, the first ten and how many.
    """
    wanted = {name_of(path): path for path in shapes}
    problems = [f"missing {name}" for name in sorted(wanted.keys() - tensors.keys())]
    problems += [f"extra {name}" for name in sorted(tensors.keys() - wanted.keys())]
    variables = {}
    for name in sorted(wanted.keys() & tensors.keys()):
        path, tensor = wanted[name], tensors[name]
        value = from_torch(path, tensor, shapes[path])
        if value.shape == shapes[path]:
            variables[path] = value
        else:
            expected = to_torch(path, np.broadcast_to(np.float32(0), shapes[path])).shape
            problems.append(f"misshapen {name}: {tensor.shape}, not {expected}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        kinds = [problem.split()[0] for problem in problems]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        listed = "; ".join(problems[:_SHOWN])
        raise ValueError(f"{source} does not fit its architecture in {len(problems)} keys ({counts}): {listed}{more}")
    return traverse_util.unflatten_dict(variables)
