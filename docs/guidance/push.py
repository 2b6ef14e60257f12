"""Part: how many pixels are clipped at each t, and where a step pushes them in each order."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import side_jax
from docs.guidance.setting import training_photos
from docs.theory.plotting import BLUE, GRAY, GREEN, RED, panels, save
from side_jax.diffusion.process import Level, Steps
from side_jax.diffusion.sample import initial_noise, trajectory
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import clip, fold, guide
from side_jax.runtime.sharding import index_keys, stage_key

_TARGET = Path(__file__).parents[2] / "assets" / "orl_target"
_FEW = 1e-4  # share of clipped pixels below which their push is not given
_ORDERS = {"before_guide": RED, "consistent": BLUE, "after_guide": GRAY, "none": GREEN}


def make(figures: Path, num_images: int = 64, num_steps: int = 50, seed: int = 0, lam: float = 4.0) -> dict[str, Any]:
    """Measures on unguided trajectories of the demo's target, draws, and returns the numbers.

    Clipped pixels also on trajectories that are guided at λ = `lam`. The push of a step is Σ g Δx / Σ g² over pixels,
    Δx what guidance at λ = 1 adds to x_{t−1} and g the gradient of the exact guide over the demo's training photos:
    above 0 it is towards the class.
    """
    target = side_jax.load_target(_TARGET)
    photos = training_photos(target)
    exact = side_jax.exact_guide(target, photos.images, photos.labels)
    keys = index_keys(stage_key(seed, "extract"), np.arange(num_images))
    asked = jnp.asarray(np.random.default_rng(seed).integers(0, exact.num_classes, num_images, np.int32))
    steps, process = target.schedule.steps(num_steps), target.schedule.process()
    limit = target.clip_x0
    assert limit is not None
    unguided = clip(target.denoise, limit)
    path = jax.jit(lambda x, s: trajectory(unguided, DDIM(), x, s))(initial_noise(keys, target.image_shape), steps)

    @jax.jit
    def measure(x_t: jax.Array, step: Steps) -> dict[str, jax.Array]:
        t = jnp.full(len(x_t), step.t.t)
        g, clipped = exact.gradient(x_t, t, asked), jnp.abs(target.denoise(x_t, t).x0) > limit
        found = {"clipped": clipped.mean()}
        for order in _ORDERS:

            def moved(lam: float, order: str = order) -> jax.Array:
                guided = fold(
                    target.denoise,
                    order,
                    limit,
                    process,
                    lambda denoise: guide(denoise, lambda *_: g, process, jnp.float32(lam)),
                )
                return DDIM().step(None, x_t, guided(x_t, t), step.t, step.s, None)[0]

            push = g * (moved(1.0) - moved(0.0))
            for name, chosen in (("all", jnp.ones_like(clipped)), ("clipped", clipped), ("free", ~clipped)):
                weight = jnp.where(chosen, jnp.square(g), 0).sum()
                found[f"{order}/{name}"] = jnp.where(chosen, push, 0).sum() / jnp.maximum(weight, 1e-30)
        return found

    @functools.partial(jax.jit, static_argnames="order")
    def guided_path(x: jax.Array, s: Steps, order: str) -> jax.Array:
        gradient = functools.partial(exact.gradient, labels=asked)
        denoise = fold(
            target.denoise, order, limit, process, lambda one: guide(one, gradient, process, jnp.float32(lam))
        )
        return trajectory(denoise, DDIM(), x, s)

    guided = {order: guided_path(path[0], steps, order) for order in ("before_guide", "after_guide")}
    share = jax.jit(lambda x, t: (jnp.abs(target.denoise(x, jnp.full(len(x), t)).x0) > limit).mean())
    rows = []
    for i, t in enumerate(steps.t.t.tolist()):
        step = Steps(*(Level(level.t[i], level.alpha_bar[i]) for level in steps))
        row = {"t": t} | {name: float(value) for name, value in measure(path[i], step).items()}
        rows.append(row | {f"guided/{order}": float(share(there[i], t)) for order, there in guided.items()})
        if row["clipped"] < _FEW:
            rows[-1] |= {f"{order}/clipped": None for order in _ORDERS}
    _draw(figures, rows, lam)
    return {"num_images": num_images, "num_steps": num_steps, "scale": lam, "rows": rows}


def _draw(figures: Path, rows: list[dict[str, Any]], lam: float) -> None:
    figure, (share, push) = panels(2, 2, 4.8)
    t = [row["t"] for row in rows]
    share.plot(t, [100 * row["clipped"] for row in rows], color="black", linestyle=":", label="unguided")
    for order in ("before_guide", "after_guide"):
        name = f"λ = {lam:g}, {order.replace('_', ' ')}"
        share.plot(t, [100 * row[f"guided/{order}"] for row in rows], color=_ORDERS[order], label=name)
    share.set(xlabel="timestep t", ylabel="clipped pixels, %", ylim=(0, None))
    share.legend(fontsize=7)
    for order, color in _ORDERS.items():
        label = order.replace("_", " ")
        pushed = [row[f"{order}/clipped"] for row in rows]
        push.plot(t, [np.nan if one is None else one for one in pushed], color=color, label=f"{label}, clipped pixels")
    push.plot(
        t, [row["before_guide/free"] for row in rows], color="black", linestyle=":", label="any order, free pixels"
    )
    push.axhline(0, color="black", linewidth=0.6)
    push.set(xlabel="timestep t", ylabel="push of a step along g, per λ", title="Above 0: towards the class")
    push.legend(fontsize=7)
    save(figure, figures / "guidance_push.svg")
