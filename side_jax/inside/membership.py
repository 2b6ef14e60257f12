"""White-box membership scores of photos, from the denoiser alone; a higher score looks more trained on.

Every attack measures an error that training made small on its own images; the score is minus that error. Arguments:
`denoise` is the target, `x0` images in [−1, 1], `eps` standard normal noise, `t` a timestep, `process` α and σ.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process


def loss_score(
    denoise: Denoise,
    x0: Float[Array, "n h w c"],
    eps: Float[Array, "n h w c"],
    t: Int[Array, " n"],
    process: Process,
) -> Float[Array, " n"]:
    """−‖ε − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε, t)‖², mean over pixels: [N].

    The training loss of one image at one t (Matsumoto et al. 2023, "Membership inference attacks against diffusion
    models"; Carlini et al. 2023, "Extracting training data from diffusion models", section 5).
    """
    return -jnp.square(eps - denoise(process.add_noise(x0, eps, t), t).eps).mean((1, 2, 3))


def secmi_score(
    denoise: Denoise, x0: Float[Array, "n h w c"], t: Int[Array, ""], process: Process, stride: int
) -> Float[Array, " n"]:
    """−‖ψ_θ(φ_θ(x̃_t, t), t) − x̃_t‖², sum over pixels: SecMI_stat's t-error (Duan et al. 2023, Definition 1). [N].

    φ_θ is a DDIM step that adds noise, ψ_θ one that takes it away again; x̃_t = Φ_θ(x₀, t) is x₀ after ⌈t / stride⌉
    steps of φ_θ from 0 to t, and t + stride at most T − 1. The paper's stride is 10 timesteps of 1000. No noise is
    drawn and nothing is clipped.
    """
    steps = -(-t // stride)

    def step(x: jax.Array, now: jax.Array, then: jax.Array) -> jax.Array:
        prediction, times = denoise(x, jnp.full(len(x), now)), jnp.full(len(x), then)
        return process.add_noise(*prediction, times)  # α x̂₀ + σ ε̂ at `then`: φ, or ψ if it is earlier

    x_t = jax.lax.fori_loop(0, steps, lambda i, x: step(x, i * t // steps, (i + 1) * t // steps), x0)
    returned = step(step(x_t, t, t + stride), t + stride, t)
    return -jnp.square(returned - x_t).sum((1, 2, 3))


def pia_score(
    denoise: Denoise, x0: Float[Array, "n h w c"], t: Int[Array, " n"], process: Process
) -> Float[Array, " n"]:
    """−‖ε_θ(x₀, 0) − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε_θ(x₀, 0), t)‖₄: PIA's R_{t,p} with its p = 4 (Kong et al. 2024). [N].

    The noise is the network's prediction for the clean image; none is drawn.
    """
    eps_0 = denoise(x0, jnp.zeros_like(t)).eps
    difference = eps_0 - denoise(process.add_noise(x0, eps_0, t), t).eps
    return -jnp.linalg.norm(difference.reshape(len(x0), -1), ord=4, axis=1)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A score by its name in a config: a `Measure` for `Probe`.

    Attributes:
      name: "loss" | "secmi" | "pia".
      num_train_timesteps: T; SecMI's stride is a hundredth of it.
    """

    name: str
    num_train_timesteps: int

    @property
    def draws_noise(self) -> bool:
        """True if another draw of the noise gives another score."""
        return self.name == "loss"

    @property
    def last_timestep(self) -> int:
        """The highest t that the attack can measure at."""
        return self.num_train_timesteps - 1 - (self._stride if self.name == "secmi" else 0)

    def calls(self, t: int) -> int:
        """Forward passes for one image, one draw and one t."""
        return {"loss": 1, "secmi": -(-t // self._stride) + 2, "pia": 2}[self.name]

    @property
    def _stride(self) -> int:
        return max(1, self.num_train_timesteps // 100)

    def __call__(
        self, denoise: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process
    ) -> dict[str, jax.Array]:
        """{"score": float32 [N]}; t is the same for all."""
        if self.name == "secmi":
            return {"score": secmi_score(denoise, x0, t[0], process, self._stride)}
        if self.name == "pia":
            return {"score": pia_score(denoise, x0, t, process)}
        return {"score": loss_score(denoise, x0, eps, t, process)}
