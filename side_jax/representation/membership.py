"""Was this photo trained on? White-box scores of membership from the denoiser alone; higher looks more trained on.

Every attack measures an error that training made small on its own images; the score is minus that error.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from side_jax.diffusion.objective import EpsFn
from side_jax.diffusion.schedule import add_noise


def loss_score(
    eps_fn: EpsFn,
    x0: Float[Array, "n h w c"],
    eps: Float[Array, "n h w c"],
    t: Int[Array, " n"],
    alpha_bar: Float[Array, " T"],
) -> Float[Array, " n"]:
    """−‖ε − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε, t)‖², mean over pixels: [N].

    The training loss of one image at one t (Matsumoto et al. 2023, "Membership inference attacks against diffusion
    models"; Carlini et al. 2023, "Extracting training data from diffusion models", section 5).

    Args:
      eps_fn: the target.
      x0: images in [−1, 1].
      eps: standard normal noise.
      t: timestep of each image.
      alpha_bar: ᾱ.
    """
    return -jnp.square(eps - eps_fn(add_noise(x0, eps, alpha_bar[t]), t)).mean((1, 2, 3))


def secmi_score(
    eps_fn: EpsFn, x0: Float[Array, "n h w c"], t: Int[Array, ""], alpha_bar: Float[Array, " T"], stride: int
) -> Float[Array, " n"]:
    """−‖ψ_θ(φ_θ(x̃_t, t), t) − x̃_t‖², sum over pixels: SecMI_stat's t-error (Duan et al. 2023, Definition 1). [N].

    φ_θ is a DDIM step that adds noise, ψ_θ one that takes it away again; x̃_t = Φ_θ(x₀, t) is x₀ after ⌈t / stride⌉
    steps of φ_θ from 0 to t. No noise is drawn and nothing is clipped.

    Args:
      eps_fn: the target.
      x0: images in [−1, 1].
      t: timestep, scalar, with t + stride at most T − 1.
      alpha_bar: ᾱ.
      stride: timesteps a step; the paper takes 10 of 1000.
    """
    steps = -(-t // stride)

    def step(x: jax.Array, now: jax.Array, then: jax.Array) -> jax.Array:
        eps_hat = eps_fn(x, jnp.full(len(x), now))
        x0_hat = (x - jnp.sqrt(1 - alpha_bar[now]) * eps_hat) / jnp.sqrt(alpha_bar[now])
        return jnp.sqrt(alpha_bar[then]) * x0_hat + jnp.sqrt(1 - alpha_bar[then]) * eps_hat  # φ; ψ if `then` is earlier

    x_t = jax.lax.fori_loop(0, steps, lambda i, x: step(x, i * t // steps, (i + 1) * t // steps), x0)
    there_and_back = step(step(x_t, t, t + stride), t + stride, t)
    return -jnp.square(there_and_back - x_t).sum((1, 2, 3))


def pia_score(
    eps_fn: EpsFn, x0: Float[Array, "n h w c"], t: Int[Array, " n"], alpha_bar: Float[Array, " T"]
) -> Float[Array, " n"]:
    """−‖ε_θ(x₀, 0) − ε_θ(√ᾱ_t x₀ + √(1−ᾱ_t) ε_θ(x₀, 0), t)‖₄: PIA's R_{t,p} with its p = 4 (Kong et al. 2024). [N].

    The noise is what the network sees in the clean image; none is drawn.

    Args:
      eps_fn: the target.
      x0: images in [−1, 1].
      t: timestep of each image.
      alpha_bar: ᾱ.
    """
    eps_0 = eps_fn(x0, jnp.zeros_like(t))
    difference = eps_0 - eps_fn(add_noise(x0, eps_0, alpha_bar[t]), t)
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
        """Does another draw of the noise give another score?"""
        return self.name == "loss"

    @property
    def last_timestep(self) -> int:
        """The highest t that it can be asked at."""
        return self.num_train_timesteps - 1 - (self._stride if self.name == "secmi" else 0)

    def calls(self, t: int) -> int:
        """Forward passes for one image, one draw and one t."""
        return {"loss": 1, "secmi": -(-t // self._stride) + 2, "pia": 2}[self.name]

    @property
    def _stride(self) -> int:
        return max(1, self.num_train_timesteps // 100)

    def __call__(
        self, eps_fn: EpsFn, x0: jax.Array, eps: jax.Array, t: jax.Array, alpha_bar: jax.Array
    ) -> dict[str, jax.Array]:
        """{"score": float32 [N]}; t is the same for all."""
        if self.name == "secmi":
            return {"score": secmi_score(eps_fn, x0, t[0], alpha_bar, self._stride)}
        if self.name == "pia":
            return {"score": pia_score(eps_fn, x0, t, alpha_bar)}
        return {"score": loss_score(eps_fn, x0, eps, t, alpha_bar)}
