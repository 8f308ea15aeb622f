"""Trains the UNet on the latents, together with the image tokens."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from faceprivacy_core.builtin.model import read_face_model_file
from faceprivacy_core.builtin.tokens import TokenConfig
from faceprivacy_core.diffusion.backends.diffusers import DiffusersDenoiser
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas, scaled_linear_alphas_cumprod
from faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity
from faceprivacy_core.embeddings.schedule import TRAIN_STEPS, recover_schedule
from faceprivacy_core.embeddings.scheduled import ScheduledDenoiser
from faceprivacy_core.rng import seeded_noise

from .averaging import WeightAverage, learning_rate_factor, set_learning_rate
from .latents import LatentPool
from .pictures import step_generator
from .plots import save_curves, save_grid
from .settings import DiffusionSettings, Settings
from .tokens import StagedTokenHead, stages_of

SHOWN = 8


class Denoising(nn.Module):
    """UNet and token head, trained as one."""

    def __init__(self, unet: UNet2DConditionModel, tokens: StagedTokenHead) -> None:
        super().__init__()
        self.unet, self.tokens = unet, tokens

    def forward(self, noisy: Tensor, timesteps: Tensor, pooled: Tensor, dropped: Tensor) -> Tensor:
        """Predict the noise; where `dropped` (B,) the condition is the empty one."""
        tokens = self.tokens.from_pooled(pooled, stages_of(timesteps, self.tokens.stages))
        cond = torch.where(dropped[:, None, None], self.tokens.null.to(tokens.dtype), tokens)
        return self.unet(noisy, timesteps, cond, return_dict=False)[0]


class DiffusionStage:
    """One step: noise some latents, predict the noise, compare.

    Args:
        settings: All settings.
        pool: Encoded views.
        autoencoder: Decodes samples to look at; its buffers normalise as the pool does.
    """

    name = "diffusion"

    def __init__(self, settings: Settings, pool: LatentPool, autoencoder: FaceAutoencoder) -> None:
        options = settings.diffusion
        self.settings, self.options, self.pool, self.autoencoder = settings, options, pool, autoencoder
        self.steps, self.batch = options.steps, options.batch
        self.device = settings.run.torch_device()
        torch.manual_seed(settings.run.seed)
        self.unet_config = unet_config(options, pool.latents.shape[1], pool.latents.shape[-1])
        self.token_config = TokenConfig(pool.pooled.shape[-1], options.token_grids, options.token_width)
        self.model = make_denoising(options, self.unet_config, self.token_config, pool).to(self.device)
        if self.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        else:
            self.model.unet.set_attn_processor(AttnProcessor())  # with its gradient a third faster than the fused one
        self.average = WeightAverage(self.model, options.ema)
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), options.learning_rate, weight_decay=0.01, fused=fused)
        alphas_cumprod = scaled_linear_alphas_cumprod().float()
        self._timestep_odds = timestep_odds(alphas_cumprod, options.structure)
        self._alphas_cumprod = alphas_cumprod.to(self.device)
        self._predict = torch.compile(self.model) if settings.run.compiled else self.model

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step."""
        generator = step_generator(self.settings.run.seed, step)
        count = len(self.pool) - self.pool.held_out
        index = (self.pool.held_out + torch.randint(count, (self.batch,), generator=generator)).to(self.device)
        timesteps = self._timestep_odds.multinomial(self.batch, replacement=True, generator=generator).to(self.device)
        dropped = (torch.rand(self.batch, generator=generator) < self.options.drop_condition).to(self.device)
        noise = torch.randn((self.batch, *self.pool.latents.shape[1:]), generator=generator).to(self.device)
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.optimizer, self.options.learning_rate * factor)
        error = self._error(self._predict, index, timesteps, noise, dropped)
        loss = error.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(step)
        return {"eps": loss.detach()}

    def _error(self, predict: nn.Module, index: Tensor, timesteps: Tensor, noise: Tensor, dropped: Tensor) -> Tensor:
        alpha = self._alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * self.pool.latents[index] + (1 - alpha).sqrt() * noise
        with self._autocast():
            predicted = predict(noisy, timesteps, self.pool.pooled[index], dropped)
        return (predicted.float() - noise).pow(2).mean((1, 2, 3))

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.settings.run.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def state(self) -> dict[str, Any]:
        """See `loop.Stage`."""
        scale = {name: getattr(self.pool, name) for name in ("mean", "std")}
        return {
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "scale": scale,
            "unet_config": self.unet_config,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `loop.Stage`."""
        if not torch.allclose(state["scale"]["std"].to(self.device), self.pool.std, rtol=1e-3):
            raise SystemExit("The checkpoint was trained on other latents. Delete it, or bring the old autoencoder back.")
        self.model.load_state_dict(state["model"])
        self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def show(self, folder: Path) -> dict[str, float]:
        """Measure the averaged weights on views held out; write samples and curves."""
        self.average.swap()
        try:
            figures = self._held_out_error()
            save_grid(folder / "diffusion.png", self._samples())
        finally:
            self.average.swap()
        save_curves(folder / "diffusion.jsonl", folder / "diffusion_curves.png")
        return figures

    def _held_out_error(self) -> dict[str, float]:
        count = self.pool.held_out
        index = torch.arange(count, device=self.device)
        timesteps = torch.linspace(0, TRAIN_STEPS - 1, count, device=self.device).long()
        noise = seeded_noise(range(count), tuple(self.pool.latents.shape[1:])).to(self.device)
        figures = {}
        for name, empty in (("held_out_conditional", False), ("held_out_empty", True)):
            dropped = torch.full((count,), empty, device=self.device)
            pieces = zip(*(item.split(32) for item in (index, timesteps, noise, dropped)), strict=True)
            figures[name] = float(torch.cat([self._error(self.model, *piece) for piece in pieces]).mean())
        return figures

    def _samples(self) -> list[Tensor]:
        """Rows: unconditional, decoded pictures, drawn from noise with those pictures' tokens."""
        shown = min(SHOWN, self.pool.held_out)
        schedule = NoiseSchedule.scaled_linear()
        denoiser = DiffusersDenoiser(self.model.unet, schedule)
        sigmas = ddim_sigmas(schedule, self.options.sampling_steps).float()
        start = float(sigmas[0]) * seeded_noise(range(shown), tuple(self.pool.latents.shape[1:])).to(self.device)
        empty = self.model.tokens.null[None]
        stages = self.model.tokens.all_stages(self.pool.pooled[:shown])
        guided = ScheduledDenoiser(denoiser, schedule, FaceInversion(stages, empty, ModelIdentity("")), recover_schedule())
        with self._autocast():
            free = sample_euler(denoiser, start, sigmas, empty)
            told = sample_euler(guided, start, sigmas, None)
        return [self.autoencoder.decode(latents.float()) for latents in (free, self.pool.latents[:shown], told)]


def timestep_odds(alphas_cumprod: Tensor, structure: float) -> Tensor:
    """Return with which probability (T,) a sample is trained at every timestep.

    Args:
        alphas_cumprod: (T,) share of the picture in the variance.
        structure: See `DiffusionSettings`.

    Source: the weights of Choi et al. 2022 (arXiv 2204.00227) with k = 1 and gamma = 1, drawn by instead
        of multiplied with.
    """
    noise_share = 1.0 - alphas_cumprod
    even = torch.full_like(noise_share, 1.0 / len(noise_share))
    return (1.0 - structure) * even + structure * noise_share / noise_share.sum()


def unet_config(options: DiffusionSettings, latent_channels: int, latent_side: int) -> dict[str, Any]:
    """Return the UNet's configuration in diffusers' words."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in options.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(options.attention))
    return {
        "sample_size": latent_side,
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "block_out_channels": options.channels,
        "layers_per_block": options.layers,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": options.token_width,
        "attention_head_dim": options.head_dim,
        "norm_num_groups": options.norm_groups,
    }


def make_denoising(
    options: DiffusionSettings, config: dict[str, Any], token_config: TokenConfig, pool: LatentPool
) -> Denoising:
    """Make the networks: fresh, or with the weights of a model file of the same shape."""
    model = Denoising(UNet2DConditionModel(**config), StagedTokenHead(token_config, options.stages))
    model.tokens.feature_mean.copy_(pool.feature_mean)
    model.tokens.feature_std.copy_(pool.feature_std)
    if options.start_from:
        file = read_face_model_file(Path(options.start_from))
        model.unet.load_state_dict(file.unet)
        missing = model.tokens.load_state_dict(file.tokens, strict=False).missing_keys
        if any(name.split(".")[0] not in ("down", "stage", "up") for name in missing):
            raise ValueError(f"Expected the token head of {options.start_from} to fit, but it lacks {missing}.")
    return model
