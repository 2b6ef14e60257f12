"""A noise schedule: betas, alpha_bar, and the timesteps that a sampler visits (DESIGN §7)."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from side_jax.diffusion.process import Level, Process, Steps

_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A discrete noise schedule and how DDIM walks it; fields are the keys of diffusers' scheduler config.

    Attributes:
      num_train_timesteps: T.
      beta_start: β of the first timestep.
      beta_end: β of the last.
      beta_schedule: "linear"; "scaled_linear": √β evenly spaced; "squaredcos_cap_v2": ᾱ a squared cosine (Nichol &
        Dhariwal 2021, Eq. 17), β at most 0.999, whatever `beta_start` and `beta_end` say.
      trained_betas: the T betas themselves; overrides the three above.
      rescale_betas_zero_snr: shifts and scales √ᾱ so that the last is 0 (Lin et al. 2023, Algorithm 1).
      timestep_spacing: "leading" | "trailing" | "linspace" (Lin et al. 2023, Table 2).
      steps_offset: added to every DDIM timestep of the leading spacing.
      set_alpha_to_one: ᾱ after the last DDIM step is 1; otherwise ᾱ_0.
      prediction_type: what the network predicts: "epsilon" | "v_prediction" | "sample" (x₀).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise ValueError(f"schedule.{name} {getattr(self, name)!r} is not supported; known: {known}")
        _require_integer("num_train_timesteps", self.num_train_timesteps, 1)
        _require_integer("steps_offset", self.steps_offset, 0)
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"schedule needs 0 < beta_start <= beta_end < 1, got {self.beta_start} and {self.beta_end}"
            )
        if self.trained_betas is not None:
            if len(self.trained_betas) != self.num_train_timesteps:
                raise ValueError(
                    f"schedule.trained_betas has {len(self.trained_betas)} entries, num_train_timesteps is"
                    f" {self.num_train_timesteps}; they must agree"
                )
            outside = [beta for beta in self.trained_betas if not 0 < beta < 1]
            if outside:
                raise ValueError(f"schedule.trained_betas must be above 0 and below 1, got {outside[0]}")
        if self.rescale_betas_zero_snr and (self.prediction_type == "epsilon" or self.num_train_timesteps < 2):
            raise ValueError(
                f"schedule.rescale_betas_zero_snr with prediction_type {self.prediction_type!r} and"
                f" {self.num_train_timesteps} timesteps is not supported: with ᾱ_T = 0 the noise says nothing of x₀;"
                " use v_prediction or sample, and 2 timesteps or more"
            )

    def alpha_bar(self) -> Float[np.ndarray, " T"]:
        """ᾱ_t = Π_{s <= t} (1 − β_s), computed in float64: float32 [T]."""
        alpha_bar = np.cumprod(1 - self._betas())
        if self.rescale_betas_zero_snr:
            root = np.sqrt(alpha_bar)
            alpha_bar = np.square((root - root[-1]) * root[0] / (root[0] - root[-1]))  # Lin et al. 2023, Algorithm 1
            alpha_bar[-1] = 0  # against rounding
        return alpha_bar.astype(np.float32)

    def _betas(self) -> Float[np.ndarray, " T"]:
        count = self.num_train_timesteps
        if self.trained_betas is not None:
            return np.array(self.trained_betas, np.float64)
        if self.beta_schedule == "linear":
            return np.linspace(self.beta_start, self.beta_end, count)
        if self.beta_schedule == "scaled_linear":  # Rombach et al. 2022's code
            return np.square(np.linspace(math.sqrt(self.beta_start), math.sqrt(self.beta_end), count))
        f = np.square(np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2))
        return np.minimum(1 - f[1:] / f[:-1], 0.999)  # Nichol & Dhariwal 2021, Eq. 17

    def ddim_timesteps(self, num_steps: int) -> Int[np.ndarray, " S"]:
        """The timesteps of diffusers' `DDIMScheduler.set_timesteps`, noisiest first: int32 [num_steps].

        50 of 1000: leading 980, 960, …, 0; trailing 999, 979, …, 19; linspace 999, 979, …, 20, 0.

        Raises:
          ValueError: if `num_steps` is not in 1 … T, or leads to timesteps outside 0 … T − 1.
        """
        last = self.num_train_timesteps
        if not 1 <= num_steps <= last:
            raise ValueError(f"num_steps must be 1 to {last}, got {num_steps}")
        if self.timestep_spacing == "linspace":
            spaced: np.ndarray = np.linspace(0, last - 1, num_steps).round()[::-1]
        elif self.timestep_spacing == "trailing":
            spaced = np.arange(last, 0, -last / num_steps).round() - 1
        else:
            spaced = np.arange(num_steps)[::-1] * (last // num_steps) + self.steps_offset
        steps = spaced.astype(np.int32)
        outside = [int(t) for t in steps if not 0 <= t < last]
        if outside:
            # steps_offset, or the rounding of T / num_steps: diffusers would index ᾱ past its end, or from behind.
            raise ValueError(
                f"num_steps {num_steps} with {self.timestep_spacing} spacing and steps_offset {self.steps_offset}"
                f" visits timestep {outside[0]}, outside 0 … {last - 1}; use another number of steps"
            )
        return steps

    def process(self) -> Process:
        """α and σ of every timestep, from ᾱ."""
        return Process(self.alpha_bar())

    def steps(self, num_steps: int) -> Steps:
        """`ddim_timesteps` with the levels before and after each step, as diffusers' `DDIMScheduler.step` takes them.

        The timestep after t is t − T // num_steps, which for linspace and trailing need not be the next of the list;
        after the last comes t = −1, where ᾱ is 1 or, without `set_alpha_to_one`, ᾱ_0.
        """
        t, alpha_bar = self.ddim_timesteps(num_steps), self.alpha_bar()
        after = np.maximum(t - self.num_train_timesteps // num_steps, -1)
        final = np.float32(1) if self.set_alpha_to_one else alpha_bar[0]
        return Steps(Level(t, alpha_bar[t]), Level(after, np.where(after >= 0, alpha_bar[after], final)))


def _require_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"schedule.{name} must be an integer, {least} or more, got {value!r}")
