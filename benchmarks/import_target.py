"""Reading a diffusers directory of 114 million parameters (the paper's UNet at 128x128): seconds and peak memory.

    python -m benchmarks.import_target

Makes the directory, of random weights, in a temporary folder and loads it in a fresh process; where the diffusers
package is installed, that loads it too, in a process of its own. The file was just written, so the disk is left out.
Linux only: the peak is that of /proc/self/status, pages of the mapped file included.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from flax import traverse_util

from configs import default
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.diffusers import WEIGHTS, save_target, unet_shapes
from side_jax.targets.target import Target

_LOAD = """
import sys, time
{imports}
def peak():  # not getrusage: its maximum is handed down from the process that started this one
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
imported = peak()
started = time.perf_counter()
{load}
print(time.perf_counter() - started, imported, peak())
"""
_PROGRAMS = {
    "side_jax": ("import side_jax", "side_jax.load_target(sys.argv[1])"),
    "diffusers": ("from diffusers import DDIMPipeline", "DDIMPipeline.from_pretrained(sys.argv[1])"),
}


def make_directory(directory: Path) -> None:
    """The target of configs/default.py, with random weights."""
    config = default.get_config()
    config.dataset.path = "photos"
    options = AuditOptions.from_config(config)
    unet = options.target.make_net(options.dataset.image_size, options.dataset.channels)
    draw = np.random.default_rng(0)
    flat = {path: draw.standard_normal(shape, np.float32) for path, shape in unet_shapes(unet).items()}
    params = traverse_util.unflatten_dict(flat)
    save_target(Target(unet, params, Schedule()), directory)


def measure(program: str, directory: Path) -> tuple[float, float, float]:
    """Seconds, and MB of resident memory after the imports and at the peak, in a fresh process."""
    imports, load = _PROGRAMS[program]
    script = _LOAD.format(imports=imports, load=load)
    done = subprocess.run([sys.executable, "-c", script, str(directory)], check=True, capture_output=True, text=True)
    seconds, imported, peak = (float(number) for number in done.stdout.split())
    return seconds, imported, peak


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "model"
        make_directory(directory)
        size = (directory / "unet" / WEIGHTS).stat().st_size / 1e6
        print(f"{size / 4:.0f} million parameters, file {size:.0f} MB\n")
        print(f"{'':10} {'seconds':>8} {'imports MB':>11} {'peak MB':>8} {'peak / file':>12} {'less imports':>13}")
        for program in _PROGRAMS:
            if importlib.util.find_spec(program) is None:
                print(f"{program:10} is not installed here")
                continue
            seconds, imported, peak = measure(program, directory)
            print(
                f"{program:10} {seconds:8.2f} {imported:11.0f} {peak:8.0f} {peak / size:12.2f}"
                f" {(peak - imported) / size:13.2f}"
            )


if __name__ == "__main__":
    main()
