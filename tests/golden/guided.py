"""Guided DDIM in torch: the trained target by diffusers, two guides by autograd, and the three orders of clipping.

`tests/golden/make_guided.py` writes golden values with it, `make parity` compares live. Images are NCHW here. An order
says where x̂₀ is clipped to [−1, 1] (DESIGN §3):

  after_guide   diffusers: a guided ε̂ goes to `DDIMScheduler.step`, which clips the x̂₀ that follows from it;
  consistent    OpenAI's guided-diffusion: ε̂ follows from the clipped x̂₀ and is guided, x̂₀ follows from it, unclipped;
  before_guide  x̂₀ is clipped, then x̂₀ and ε̂ are guided together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional

from tests.golden import student
from tests.golden.diffusers_models import NUM_STEPS, TRAINED, load_trained
from tests.golden.weights import away_from_kinks

LAMBDAS = (0.5, 2.0, 9.0)
KEPT = (10, 25, 50)  # the states after so many steps; the last is x_0
IMAGES, SET = 2, 12  # trajectories; images of the exact guide's set
# Of `away_from_kinks`. At λ = 2 the student changes x_0 by more than 0.1, and float32 changes no state by 1e-4.
MARGIN, GAIN = 4.0, 1500.0

Guide = Callable[[Tensor, Tensor], Tensor]  # (x_t [N, 1, H, W], t [N]) -> log p^t(y | x_t) [N, K]


def inputs(seed: int) -> dict[str, np.ndarray]:
    """What both sides get, NHWC: noise and labels of the trajectories, and what the guides are made of.

    The exact guide's set is uint8 images of the target's own at half their contrast, with soft labels: the guide passes
    smoothly from one to the next. `fc_bias` centres the student's logits.
    """
    rng = np.random.RandomState(seed)
    x = rng.standard_normal((IMAGES, 32, 32, 1)).astype(np.float32)
    labels = rng.permutation(student.CLASSES)[:IMAGES].astype(np.int32)
    noise = torch.from_numpy(rng.standard_normal((SET, 1, 32, 32)).astype(np.float32))
    images = Sampler().sample(noise)[-1].clamp(-1, 1)
    images = (images + images.mean(0, keepdim=True)) / 2
    with torch.no_grad():
        logits = student_net(seed)(torch.zeros(1, 1, 32, 32), torch.tensor([500]))[0]
    return {
        "seed": np.array(seed),
        "margin": np.array(MARGIN, np.float32),
        "gain": np.array(GAIN, np.float32),
        "x": x,
        "labels": labels,
        "set_images": ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(),
        "set_labels": rng.dirichlet(np.full(student.CLASSES, 2.0), SET).astype(np.float32),
        "fc_bias": -logits.numpy(),
    }


def student_net(seed: int, fc_bias: np.ndarray | None = None) -> nn.Module:
    """The student of one channel with the weights of that seed, away from its kinks."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        away_from_kinks(tensors, MARGIN, GAIN, 0 if fc_bias is None else fc_bias)

    return student.build(seed, 1, change)


def make_guide(name: str, given: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> Guide:
    """One of `GUIDES`, of these inputs."""
    if name == "exact":
        return exact_guide(np.moveaxis(given["set_images"], -1, 1), given["set_labels"], dtype)
    net = student_net(int(given["seed"]), given["fc_bias"]).to(dtype)
    return lambda x_t, t: net(x_t, t).log_softmax(-1)


def exact_guide(images: np.ndarray, labels: np.ndarray, dtype: torch.dtype = torch.float32) -> Guide:
    """p^t(y | x_t) = Σ_i w_i p(y | x_i), w_i ∝ N(x_t; α_t x_i, σ_t² I): DESIGN §4, written out pair by pair."""
    x, log_p = torch.from_numpy(images).to(dtype) / 127.5 - 1, torch.from_numpy(labels).to(dtype).log()
    alphas_cumprod = scheduler(dtype).alphas_cumprod

    def log_prob(x_t: Tensor, t: Tensor) -> Tensor:
        a = alphas_cumprod[t][:, None]
        distances = (x_t[:, None] - a[:, :, None, None, None].sqrt() * x[None]).square().sum((2, 3, 4))
        log_w = (-distances / (2 * (1 - a))).log_softmax(-1)
        return (log_w[:, :, None] + log_p[None]).logsumexp(1)

    return log_prob


def scheduler(dtype: torch.dtype = torch.float32) -> Any:
    """The target's DDIMScheduler, set to `NUM_STEPS` steps."""
    ddim = DDIMScheduler.from_pretrained(TRAINED / "scheduler")
    if dtype == torch.float64:
        betas = torch.linspace(ddim.config.beta_start, ddim.config.beta_end, len(ddim.betas), dtype=dtype)
        ddim.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    ddim.set_timesteps(NUM_STEPS)
    return ddim


class Sampler:
    """The trained target and its scheduler; float64 tells what float32's rounding alone does to a trajectory."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.unet, self.ddim, self.dtype = load_trained().to(dtype), scheduler(dtype), dtype

    def alpha_bars(self, t: int) -> tuple[Tensor, Tensor]:
        """ᾱ before and after the step from t."""
        after = t - self.ddim.config.num_train_timesteps // NUM_STEPS
        last = torch.ones((), dtype=self.dtype)
        return self.ddim.alphas_cumprod[t], self.ddim.alphas_cumprod[after] if after >= 0 else last

    def after_guide(self, x_t: Tensor, t: int, eps: Tensor, lam: float, g: Tensor) -> Tensor:
        a_t, _ = self.alpha_bars(t)
        return self.ddim.step(eps - lam * (1 - a_t).sqrt() * g, t, x_t).prev_sample

    def consistent(self, x_t: Tensor, t: int, eps: Tensor, lam: float, g: Tensor) -> Tensor:
        """guided-diffusion's `ddim_sample`: `p_mean_variance` with clip_denoised, `condition_score`, the step.

        Its own `SpacedDiffusion` (commit 22e0df8) gives the states of the golden file to 1.5e-5.
        """
        a_t, a_prev = self.alpha_bars(t)
        pred_xstart = ((x_t - (1 - a_t).sqrt() * eps) / a_t.sqrt()).clamp(-1, 1)
        eps = (x_t / a_t.sqrt() - pred_xstart) / (1 / a_t - 1).sqrt()  # _predict_eps_from_xstart
        eps = eps - (1 - a_t).sqrt() * lam * g  # condition_score
        pred_xstart = x_t / a_t.sqrt() - (1 / a_t - 1).sqrt() * eps  # _predict_xstart_from_eps
        eps = (x_t / a_t.sqrt() - pred_xstart) / (1 / a_t - 1).sqrt()  # ddim_sample derives it once more
        return a_prev.sqrt() * pred_xstart + (1 - a_prev).sqrt() * eps

    def before_guide(self, x_t: Tensor, t: int, eps: Tensor, lam: float, g: Tensor) -> Tensor:
        a_t, a_prev = self.alpha_bars(t)
        sigma = (1 - a_t).sqrt()
        x0 = ((x_t - sigma * eps) / a_t.sqrt()).clamp(-1, 1) + lam * sigma**2 / a_t.sqrt() * g
        return a_prev.sqrt() * x0 + (1 - a_prev).sqrt() * (eps - lam * sigma * g)

    def sample(
        self,
        x: Tensor,
        guide: Guide | None = None,
        labels: Tensor | None = None,
        order: str = "after_guide",
        lam: float = 0.0,
    ) -> Tensor:
        """Every state of the trajectory from x, unguided without a guide: [S, N, 1, H, W]."""
        x_t, states = x.to(self.dtype), []
        for t in self.ddim.timesteps.tolist():
            at = torch.full((len(x),), t)
            with torch.no_grad():
                eps = self.unet(x_t, at).sample
            g = torch.zeros_like(x_t) if guide is None or labels is None else gradient(guide, x_t, at, labels)
            x_t = ORDERS[order](self, x_t, t, eps, lam, g)
            states.append(x_t)
        return torch.stack(states)


GUIDES = ("student", "exact")
ORDERS = {"after_guide": Sampler.after_guide, "consistent": Sampler.consistent, "before_guide": Sampler.before_guide}


def gradient(guide: Guide, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """g = ∇_{x_t} log p^t(y = c | x_t), by autograd."""
    x_t = x_t.detach().requires_grad_()
    (g,) = torch.autograd.grad(-functional.nll_loss(guide(x_t, t), labels.long(), reduction="sum"), x_t)
    return g


def trajectory(sampler: Sampler, name: str, given: dict[str, np.ndarray], order: str, lam: float) -> np.ndarray:
    """Every state of the guided trajectory: [S, N, H, W, 1]."""
    guide = make_guide(name, given, sampler.dtype)
    x, labels = torch.from_numpy(given["x"]).permute(0, 3, 1, 2), torch.from_numpy(given["labels"])
    return sampler.sample(x, guide, labels, order, lam).permute(0, 1, 3, 4, 2).numpy()
