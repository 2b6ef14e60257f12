"""What every stage makes of almost nothing, in a few numbers: a change of results without a new version shows.

configs/smoke.py goes through all stages, but has too few memorized images to steer; `steered_config` has them.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pyarrow.types
import pytest
from safetensors.numpy import load_file

import side_jax
from configs import smoke
from side_jax.audit.provenance import software
from side_jax.audit.stages import STAGES
from side_jax.runtime.arrays import load_array
from tests.targets.test_steering import small_target

FILE = Path(__file__).with_suffix(".json")
INDICES = np.arange(28)
TRAINED = INDICES[INDICES % 4 < 2]  # half of the even and half of the odd ones
_X_T = np.random.default_rng(0).standard_normal((2, 16, 16, 1), np.float32)
_T = np.array([100, 700], np.int32)


def steered_config(root):
    """A model whose training photos are half of what it generates: those images are memorized, and no others."""
    target = small_target()
    side_jax.save_target(target, root / "model")
    images = side_jax.sample(target, len(INDICES), num_steps=3, batch_size=8)
    unseen = side_jax.sample(target, len(TRAINED), seed=1, num_steps=3, batch_size=8)
    np.savez(root / "train.npz", images=images[TRAINED])
    np.savez(root / "heldout.npz", images=unseen)
    config = smoke.get_config()
    config.dataset.update({"name": "npz", "path": str(root / "train.npz"), "heldout_path": str(root / "heldout.npz")})
    config.dataset.update({"image_size": 8, "heldout_fraction": 0.0})
    config.target.update({"source": "load", "path": str(root / "model")})
    config.methods = ("random",)
    config.extract.update({"scales": (0.0, 1.0), "num_images": len(INDICES), "top_k": 3, "save_images": "none"})
    config.steer.update({"weights": (-20.0, 20.0), "num_images": 10})
    return config


def _extract(workdir):
    table = pq.read_table(workdir / "matches.parquet")
    return {name: table[name].to_pylist() for name in ("label", "scores", "heldout_scores")}


def _sanity(workdir):
    facts = json.loads((workdir / "sanity" / "manifest.json").read_text())["facts"]
    return {"loss": list(facts["loss"].values()), "variation": facts["variation"], "kid": list(facts["kid"].values())}


def _detect(workdir):
    return _floats(workdir / "detect" / "scores.parquet") | _floats(workdir / "detect" / "membership.parquet")


def _recall(workdir):
    parts = sorted(workdir.glob("recall/scale=*/part-*.parquet"))
    return {"score": np.concatenate([pq.read_table(part)["score"].to_numpy() for part in parts])}


def _steer(workdir):
    return _floats(workdir / "steer" / "matches.parquet") | load_file(workdir / "steer" / "vectors.safetensors")


def _report(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text())
    return {row["scale"]: list(row["train"]["top_percent"].values()) for row in metrics["scales"]}


def _floats(file):
    table = pq.read_table(file)
    return {field.name: table[field.name].to_numpy() for field in table.schema if pyarrow.types.is_floating(field.type)}


_NUMBERS = {
    "target": lambda workdir: {"eps": jax.jit(side_jax.load_target(workdir).eps)(_X_T, _T)},
    "synthesize": lambda workdir: {"pixels": load_array(workdir / "synthetic" / "images.zarr")},
    "sanity": _sanity,
    "label": lambda workdir: {"probs": np.load(workdir / "labels" / "labels.npz")["probs"]},
    "distill": lambda workdir: {"log_prob": jax.jit(side_jax.load_classifier(workdir).log_prob)(_X_T, _T)},
    "extract": _extract,
    "recall": _recall,
    "detect": _detect,
    "steer": _steer,
    "report": _report,
}
_ATOL = {"synthesize": 1.1}  # a pixel may be rounded either way
SMOKE = tuple(stage.name for stage in STAGES if stage.name != "steer")


def numbers(workdir, stage):
    """Name -> first values, mean and standard deviation of what a stage of a finished run made."""
    return {str(name): _summary(values) for name, values in _NUMBERS[stage](workdir).items()}


def _summary(values):
    flat = np.asarray(values, np.float64).ravel()
    return [float(f"{value:.6g}") for value in (*flat[:4], flat.mean(), flat.std())]


def assert_as_recorded(workdir, stage):
    """The version is that of the record, and the results are, but for rounding.

    Other minor versions of jax and flax may have others; a workdir of one is refused by the other.
    """
    recorded = json.loads(FILE.read_text())
    version = next(one.version for one in STAGES if one.name == stage)
    expected = recorded["stages"][stage]
    assert version == expected["version"], f"{stage} has a new version: run python -m tests.golden.make_smoke_run"
    if software() != recorded["software"]:
        pytest.skip(f"recorded with {recorded['software']}")
    found = numbers(workdir, stage)
    assert found.keys() == expected["numbers"].keys()
    for name, values in expected["numbers"].items():
        message = f"{stage}: results of {name} changed; raise the stage's version, or mend what changed them"
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=_ATOL.get(stage, 2e-4), err_msg=message)


def record(smoke_run, steered_run):
    """All of it, with versions, as it is kept."""
    made = {stage: numbers(smoke_run if stage in SMOKE else steered_run, stage) for stage in _NUMBERS}
    stages = {stage.name: {"version": stage.version, "numbers": made[stage.name]} for stage in STAGES}
    return {"software": software(), "stages": stages}
