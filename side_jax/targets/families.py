"""The families of targets: file formats of models. A family is a module here and a line in `FAMILIES`."""

from collections.abc import Mapping
from typing import Protocol

from etils import epath

from side_jax.targets import diffusers, guided_diffusion
from side_jax.targets.target import Network, Target


class Family(Protocol):
    """The interface of a family's module; `path` is that of a model."""

    def recognises(self, path: epath.Path) -> bool:
        """True if the path names a model of this family; it need not exist."""

    def files(self, path: epath.Path) -> Mapping[str, epath.Path]:
        """The files that define the model, by name."""

    def read_architecture(self, path: epath.Path) -> Network | None:
        """The network without its weights, which may be missing; None without a model."""

    def load_target(self, path: epath.Path) -> Target:
        """The model. Raises `ValueError`, naming the file or option that is missing, unreadable or not supported."""


FAMILIES: dict[str, Family] = {"guided-diffusion": guided_diffusion, "diffusers": diffusers}


def family_of(path: epath.PathLike) -> Family:
    """The first family that recognises a path. The last, diffusers, takes any path and says what it lacks."""
    return next(family for family in FAMILIES.values() if family.recognises(epath.Path(path)))
