"""Puts configs/ into the installed package, as side_jax/configs."""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the configs; a checkout, editable or not, reads them where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = pathlib.Path(self.build_lib) / "side_jax" / "configs"
            target.mkdir(parents=True, exist_ok=True)
            for path in pathlib.Path("configs").glob("*.py"):
                shutil.copy(path, target / path.name)


setup(cmdclass={"build_py": BuildWithConfigs})
