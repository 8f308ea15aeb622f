"""Trains the UNet on the latents, together with the image tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from faceprivacy_core.builtin.model import read_face_model_file
from faceprivacy_core.builtin.tokens import TokenConfig, TokenHead
from faceprivacy_core.diffusion.backends.diffusers import DiffusersDenoiser
from faceprivacy_core.diffusion.samplers import sample_euler
from faceprivacy_core.diffusion.schedules import NoiseSchedule, ddim_sigmas, scaled_linear_alphas_cumprod
from faceprivacy_core.rng import seeded_noise

from .averaging import WeightAverage, learning_rate_factor, set_learning_rate
from .half import HalfTwin
from .latents import LatentPool
from .pictures import step_generator
from .plots import save_curves, save_grid
from .settings import DiffusionSettings, Settings

PREDICTION = "v_prediction"
SHOWN = 8
CHUNK = 32
TRAIN_STEPS = 1000


class Denoising(nn.Module):
    """UNet and token head, trained as one."""

    def __init__(self, unet: UNet2DConditionModel, tokens: TokenHead) -> None:
        super().__init__()
        self.unet, self.tokens = unet, tokens

    def forward(self, noisy: Tensor, timesteps: Tensor, latents: Tensor, dropped: Tensor) -> Tensor:
        """Predict v of noisy latents, told the clean ones' tokens; where `dropped` (B,) the empty condition."""
        tokens = self.tokens(latents)
        cond = torch.where(dropped[:, None, None], self.tokens.null.to(tokens.dtype), tokens)
        return self.unet(noisy, timesteps, cond, return_dict=False)[0]


class DiffusionStage:
    """One step: noise some latents, predict v = sqrt(a) noise - sqrt(1 - a) latent, compare.

    Args:
        settings: All settings.
        pool: Latents.
        autoencoder: Decodes samples to look at; its buffers normalise as the pool does.

    Source: Salimans and Ho (2022), Progressive distillation, arXiv 2202.00512, appendix D.
    """

    name = "diffusion"

    def __init__(self, settings: Settings, pool: LatentPool, autoencoder: FaceAutoencoder) -> None:
        options = settings.diffusion
        self.settings, self.options, self.pool, self.autoencoder = settings, options, pool, autoencoder
        self.steps, self.batch = options.steps, options.batch
        self.device = settings.run.torch_device()
        torch.manual_seed(settings.run.seed)
        channels, side = pool.latents.shape[1], pool.latents.shape[-1]
        self.unet_config = unet_config(options, channels, side)
        self.token_config = TokenConfig(channels, options.token_channels, options.token_grids, options.token_width)
        self.model = make_denoising(options, self.unet_config, self.token_config).to(self.device)
        if self.device.type == "cuda":
            self.model = self.model.to(memory_format=torch.channels_last)
        else:
            self.model.unet.set_attn_processor(AttnProcessor())  # with its gradient a third faster than the fused one
        self.half = HalfTwin(self.model, settings.run.precision == "bf16")
        self.average = WeightAverage(self.model, options.ema)
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=fused
        )
        self._alphas_cumprod = scaled_linear_alphas_cumprod().float().to(self.device)

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step."""
        random = step_generator(self.settings.run.seed, step)
        count = len(self.pool) - self.pool.held_out
        index = (self.pool.held_out + torch.randint(count, (self.batch,), generator=random)).to(self.device)
        timesteps = torch.randint(TRAIN_STEPS, (self.batch,), generator=random).to(self.device)
        dropped = (torch.rand(self.batch, generator=random) < self.options.drop_condition).to(self.device)
        noise = torch.randn((self.batch, *self.pool.latents.shape[1:]), generator=random).to(self.device)
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.optimizer, self.options.learning_rate * factor)
        self.half.refresh()
        loss = self._error(index, timesteps, noise, dropped).mean()
        loss.backward()
        self.half.hand_over_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(step)
        return {"v": loss.detach()}

    def _error(self, index: Tensor, timesteps: Tensor, noise: Tensor, dropped: Tensor) -> Tensor:
        alpha = self._alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        clean = self.pool.latents[index].float()
        noisy, velocity = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        predicted = self.half.net(noisy.to(self.half.dtype), timesteps, clean.to(self.half.dtype), dropped)
        return (predicted.float() - velocity).pow(2).mean((1, 2, 3))

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
        self.model.load_state_dict(state["model"])
        self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def show(self, folder: Path) -> dict[str, float]:
        """Measure the averaged weights on latents held out; write samples and curves."""
        self.average.swap()
        self.half.refresh()
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
            pieces = zip(*(item.split(CHUNK) for item in (index, timesteps, noise, dropped)), strict=True)
            figures[name] = float(torch.cat([self._error(*piece) for piece in pieces]).mean())
        return figures

    def _samples(self) -> list[Tensor]:
        """Rows: unconditional, decoded pictures, drawn from noise with those pictures' tokens."""
        shown = min(SHOWN, self.pool.held_out)
        latents = self.pool.latents[:shown].float()
        schedule = NoiseSchedule.scaled_linear()
        denoiser = DiffusersDenoiser(self.model.unet, schedule, PREDICTION)
        sigmas = ddim_sigmas(schedule, self.options.sampling_steps).float()
        start = float(sigmas[0]) * seeded_noise(range(shown), tuple(latents.shape[1:])).to(self.device)
        empty = self.model.tokens.null[None]
        free = sample_euler(denoiser, start, sigmas, empty)
        told = sample_euler(denoiser, start, sigmas, self.model.tokens(latents))
        return [self.autoencoder.decode(drawn) for drawn in (free, latents, told)]


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


def make_denoising(options: DiffusionSettings, config: dict[str, Any], token_config: TokenConfig) -> Denoising:
    """Make the networks: fresh, or with the weights of a model file of the same shape."""
    model = Denoising(UNet2DConditionModel(**config), TokenHead(token_config))
    if options.start_from:
        file = read_face_model_file(Path(options.start_from))
        model.unet.load_state_dict(file.unet)
        model.tokens.load_state_dict(file.tokens)
    return model
