"""Flags of guided-diffusion and improved-diffusion, as their training scripts take them, and what they describe."""

import dataclasses
import json
from typing import Any

from etils import epath

from side_jax.diffusion.schedule import Schedule
from side_jax.targets.unet import UNet

EXAMPLE = (
    '{"image_size": 256, "num_channels": 256, "num_res_blocks": 2, "num_head_channels": 64, "attention_resolutions":'
    ' "32,16,8", "resblock_updown": true, "learn_sigma": true, "noise_schedule": "linear"}'
)
# Flags that change neither the network's output nor the steps that are taken here.
_WITHOUT_EFFECT = (
    "dropout",
    "rescale_learned_sigmas",
    "timestep_respacing",
    "use_checkpoint",
    "use_fp16",
    "use_kl",
)
# By image_size; 32 is improved-diffusion's.
_CHANNEL_MULT = {32: "1,2,2,2", 64: "1,2,3,4", 128: "1,1,2,3,4", 256: "1,1,2,2,4,4", 512: "0.5,1,1,2,2,4,4"}
_IMPROVED = "sigma_small"  # a flag of improved-diffusion alone
_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_GROUPS = 32  # of every normalisation
CLASSES = 1000  # of a class_cond model, where the weights are not at hand


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags that matter; names and defaults are those of guided-diffusion's `model_and_diffusion_defaults`."""

    image_size: int = 64
    num_channels: int = 128
    num_res_blocks: int = 2
    num_heads: int = 4
    num_heads_upsample: int = -1
    num_head_channels: int = -1
    attention_resolutions: str = "16,8"
    channel_mult: str = ""
    class_cond: bool = False
    use_scale_shift_norm: bool = True
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    learn_sigma: bool = False
    diffusion_steps: int = 1000
    noise_schedule: str = "linear"
    predict_xstart: bool = False
    rescale_timesteps: bool = False
    sigma_small: bool = False

    @classmethod
    def read(cls, file: epath.Path) -> "Flags":
        """Reads a JSON object of flags; a value may be a string, as on the command line.

        Raises:
          ValueError: if the file is missing or no JSON object, or a flag is unknown, ill-typed or not supported.
        """
        if not file.exists():
            if (file.parent / "config.json").exists():
                raise ValueError(
                    f"{file.parent} is the model, with its config.json: name this folder, not a file in it"
                )
            raise ValueError(f"{file} is missing: write the model's guided-diffusion flags there, such as {EXAMPLE}")
        try:
            content = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is not readable as JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} must hold an object of guided-diffusion flags, such as {EXAMPLE}")
        kinds = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        unknown = sorted(content.keys() - kinds.keys() - set(_WITHOUT_EFFECT))
        if unknown:
            raise ValueError(f"{file}: unknown flag {unknown[0]!r}; known: {', '.join([*kinds, *_WITHOUT_EFFECT])}")
        given = {name: value for name, value in content.items() if name in kinds}
        if "rescale_timesteps" not in given and str(given.get("diffusion_steps", 1000)) != "1000":
            if _IMPROVED not in given:
                raise ValueError(
                    f"{file}: diffusion_steps is {given['diffusion_steps']}; write rescale_timesteps too, true as"
                    " improved-diffusion has it by default, or false as guided-diffusion has it: the network gets other"
                    " timesteps"
                )
            given["rescale_timesteps"] = True
        try:
            flags = cls(**{name: _parse(name, value, kinds[name]) for name, value in given.items()})
            flags.check()
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return flags

    def check(self) -> None:
        """Raises `ValueError`, naming the flag, for a value that is not supported."""
        if self.num_head_channels == -1 and self.num_heads_upsample not in (-1, self.num_heads):
            raise ValueError(
                f"num_heads_upsample {self.num_heads_upsample} beside num_heads {self.num_heads} is not supported"
            )
        if self.noise_schedule not in ("linear", "cosine"):
            raise ValueError(f"noise_schedule {self.noise_schedule!r} is not supported; known: linear, cosine")
        for name in ("image_size", "num_channels", "num_res_blocks", "num_heads", "diffusion_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.channel_mult and self.image_size not in _CHANNEL_MULT:
            raise ValueError(
                f"image_size {self.image_size} needs a channel_mult; only {', '.join(map(str, _CHANNEL_MULT))} have"
                " a default"
            )

    def unet(self, channels: int = 3, classes: int = CLASSES) -> UNet:
        """The network that these flags describe; they say neither the channels nor the number of classes."""
        multipliers = _numbers("channel_mult", self.channel_mult or _CHANNEL_MULT[self.image_size], float)
        widths = tuple(int(m * self.num_channels) for m in multipliers)
        rates = [self.image_size // r for r in _numbers("attention_resolutions", self.attention_resolutions, int)]
        attends = [2**level in rates for level in range(len(widths))]
        attending = {widths[-1], *(width for width, attention in zip(widths, attends, strict=True) if attention)}
        per_head = self.num_head_channels
        if per_head == -1 and len(attending) == 1:  # a width that diffusers can express
            per_head = widths[-1] // self.num_heads
        elif per_head != -1 and (per_head < 1 or any(width % per_head for width in attending)):
            raise ValueError(f"num_head_channels {per_head} does not divide attention layers of {sorted(attending)}")
        down, up = (
            ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
            if self.resblock_updown
            else ("DownBlock2D", "UpBlock2D")
        )
        return UNet(
            sample_size=self.image_size,
            in_channels=channels,
            out_channels=2 * channels if self.learn_sigma else channels,
            time_embedding_dim=4 * self.num_channels,
            down_block_types=tuple("AttnDownBlock2D" if attention else down for attention in attends),
            up_block_types=tuple("AttnUpBlock2D" if attention else up for attention in attends[::-1]),
            block_out_channels=widths,
            layers_per_block=self.num_res_blocks,
            downsample_type="resnet" if self.resblock_updown else "conv",
            upsample_type="resnet" if self.resblock_updown else "conv",
            attention_head_dim=None if per_head == -1 else per_head,
            num_attention_heads=self.num_heads if per_head == -1 else None,
            norm_num_groups=_GROUPS,
            attn_norm_num_groups=_GROUPS,
            resnet_time_scale_shift="scale_shift" if self.use_scale_shift_norm else "default",
            num_class_embeds=classes if self.class_cond else None,
            time_proj_dim=None if widths[0] == self.num_channels else self.num_channels,
            time_scale=1000 / self.diffusion_steps if self.rescale_timesteps else 1.0,
        )

    def notes(self) -> tuple[str, ...]:
        """What the weights do not show: with another value the same file is another model."""
        heads = "num_heads" if self.num_head_channels == -1 else "num_head_channels"
        unseen = (heads, "use_new_attention_order", "noise_schedule", "diffusion_steps", "predict_xstart")
        values = ", ".join(f"{name}={getattr(self, name)}" for name in unseen)
        notes = [f"the flags or their defaults alone say, and the weights do not show: {values}"]
        if self.diffusion_steps != 1000:
            seen = f"t · 1000 / {self.diffusion_steps}" if self.rescale_timesteps else "t as it is"
            notes.append(f"the network gets {seen} (rescale_timesteps={self.rescale_timesteps})")
        return tuple(notes)

    def schedule(self) -> Schedule:
        """The noise schedule."""
        steps, prediction = self.diffusion_steps, "sample" if self.predict_xstart else "epsilon"
        if self.noise_schedule == "cosine":
            return Schedule(steps, beta_schedule="squaredcos_cap_v2", prediction_type=prediction)
        scale = 1000 / steps  # about the same ᾱ_T for any number of steps
        return Schedule(steps, scale * 1e-4, scale * 0.02, prediction_type=prediction)


def _parse(name: str, value: Any, kind: type) -> Any:
    """A flag's value, from its own type or from a command line's string."""
    if kind is str:
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = str(value).strip().lower()
    if kind is bool and text in _TRUE + _FALSE:
        return text in _TRUE
    if kind is int and text.removeprefix("-").isdecimal():
        return int(text)
    raise ValueError(f"{name} must be {'true or false' if kind is bool else 'a whole number'}, got {value!r}")


def _numbers(name: str, text: str, kind: type) -> list[Any]:
    try:
        numbers = [kind(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(number > 0 for number in numbers):
        raise ValueError(f"{name} must be numbers above 0 with commas between, such as '4,8', got {text!r}")
    return numbers
