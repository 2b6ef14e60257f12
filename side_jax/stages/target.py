"""Stage 1, target: train the model under audit, or take note of the one that is loaded."""

from typing import Any

import jax
import jax.numpy as jnp

from side_jax.artifacts import absolute, file_hash, fingerprint, plain
from side_jax.distributed import once
from side_jax.interop import diffusers
from side_jax.sharding import stage_key
from side_jax.stages.audit import EXPORT, Audit, data_print, model_directory, model_files, train_spec
from side_jax.target import Target, target_loss
from side_jax.training import epoch_batches, fit, init_state


def target_spec(audit: Audit) -> dict[str, Any]:
    """A loaded target is its files; a trained one its architecture, training and data."""
    options = audit.options.target
    if options.source == "load":
        files = model_files(model_directory(options.path))
        return {"source": "load", "files": {name: file_hash(file) for name, file in files.items()}}
    return {
        "source": "train",
        "seed": audit.options.seed,
        "unet": dict(options.unet),
        "schedule": dict(options.schedule),
        "train": train_spec(options.train),
        "images": data_print(audit.split.train),
    }


def target_request(audit: Audit) -> dict[str, Any]:
    """A model that has moved is taken note of again."""
    return {"path": audit.options.target.path} if audit.options.target.source == "load" else {}


def target(audit: Audit) -> dict[str, Any]:
    """Trains the target, or takes note of the one that is loaded."""
    options = audit.options
    if options.target.source == "load":
        return {"source": "load", "path": str(absolute(model_directory(options.target.path)))}
    train, directory = options.target.train, audit.workdir / "target"
    unet = options.target.make_unet(options.dataset.image_size, options.dataset.channels)
    schedule = options.target.make_schedule()
    key = stage_key(options.seed, "target")
    shape = (1, options.dataset.image_size, options.dataset.image_size, options.dataset.channels)
    # Lazily: no forward pass is run, or compiled, to find the parameters.
    x, t = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = unet.lazy_init(key, x, t)
    state, seconds = fit(
        init_state(variables, train),
        target_loss(unet, schedule, train.flip),
        epoch_batches({"image": audit.split.train.images}, train.batch_size, options.seed),
        train,
        key,
        directory,
        "target",
    )
    facts = {
        "seed": options.seed,
        "steps": train.num_steps,
        "loss": float(state.loss),
        "config_hash": fingerprint(target_spec(audit)),
        "train": plain(train),
        "dataset": plain(options.dataset),
        "training_ids": list(audit.split.train.ids),
        "training_hashes": list(audit.split.train.hashes),
        "heldout_ids": list(audit.split.heldout.ids),
        "seconds": seconds,
    }
    weights = state.ema if train.ema_power > 0 else state.params
    trained = Target(unet, jax.device_get(weights), schedule, facts=facts)
    once("target", lambda: diffusers.save_target(trained, directory / EXPORT))
    return {"source": "train", **facts}
