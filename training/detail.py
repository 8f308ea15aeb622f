"""Trains the detail head: crops at half the side, and what the finished decoder knows of them, to crops at the whole side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from faceprivacy_core.builtin.detail import DetailConfig, DetailHead, twice

from .averaging import WeightAverage, learning_rate_factor, set_learning_rate
from .features import BLOCK
from .generator import Generator
from .half import HalfTwin
from .losses import PatchCritic, critic_loss, load_perceptual_loss
from .pictures import FacePool, resize, step_generator
from .plots import save_curves, save_grid
from .settings import Settings

SHOWN = 6
CRITIC_AHEAD = 100
KEPT_PX = 4
"""Squares of a crop whose mean colours are held; finer than that the decoder leaves a lattice, which shall go."""


class DetailStage:
    """One step: halve, encode, enlarge, compare; then the critic's turn.

    Half of the crops are enlarged as they are, half after a round trip through the autoencoder: drawn faces are of its making.

    Args:
        settings: All settings.
        pool: Pictures of twice the autoencoder's side.
        autoencoder: Finished; stays as it is.
        generator: Whose next blocks the head begins with; None for toys.
    """

    name = "detail"

    def __init__(
        self, settings: Settings, pool: FacePool, autoencoder: FaceAutoencoder, generator: Generator | None = None
    ) -> None:
        options = settings.detail
        self.settings, self.options, self.pool = settings, options, pool
        self.steps, self.batch = options.steps, options.batch
        self.device = settings.run.torch_device()
        torch.manual_seed(settings.run.seed)
        self.config = config_for(autoencoder, options.widths, options.hidden)
        model = DetailHead(self.config)
        if generator is not None:
            take_blocks(model, generator, len(autoencoder.dec.blocks))
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.half = HalfTwin(self.model, settings.run.precision == "bf16")
        fixed = autoencoder.requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.fixed = HalfTwin(fixed, settings.run.precision == "bf16")
        self.average = WeightAverage(self.model, options.ema)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.perceptual = load_perceptual_loss(self.device) if options.perceptual else None
        self.critic = PatchCritic(options.critic_channels).to(self.device, memory_format=torch.channels_last)
        self.critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), options.critic_learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step."""
        options, random = self.options, step_generator(self.settings.run.seed, step)
        set_learning_rate(self.optimizer, options.learning_rate * learning_rate_factor(step, self.steps, options.warm_up))
        self.half.refresh()
        wanted = self.pool.draw(random, self.batch, 2 * self.config.side, self.device).images
        wanted = wanted.contiguous(memory_format=torch.channels_last)
        small = self._crops(wanted, random)
        enlarged = self._enlarge(small).float()
        figures = {"l1": (enlarged - wanted).abs().mean()}
        figures["kept"] = (F.avg_pool2d(enlarged, 2 * KEPT_PX) - F.avg_pool2d(small, KEPT_PX)).abs().mean()
        loss = options.l1 * figures["l1"] + options.kept * figures["kept"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.run.precision == "bf16"):
            if self.perceptual is not None:
                left, top = step % 4, step // 4 % 4
                figures["lpips"] = self.perceptual(enlarged[..., top:, left:], wanted[..., top:, left:]).mean()
                loss = loss + options.perceptual * figures["lpips"]
            if options.adversarial and step >= options.adversarial_from - CRITIC_AHEAD:
                figures["critic"] = self._train_critic(step, wanted, enlarged.detach())
            if options.adversarial and step >= options.adversarial_from:
                self.critic.requires_grad_(False)
                figures["adversarial"] = -self.critic(enlarged).float().mean()
                self.critic.requires_grad_(True)
                loss = loss + options.adversarial * figures["adversarial"]
        loss.backward()
        self.half.hand_over_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(step)
        return {name: value.detach() for name, value in figures.items()}

    @torch.no_grad()
    def _crops(self, wanted: Tensor, random: torch.Generator) -> Tensor:
        """Halve; let every second crop go through the autoencoder."""
        small, net, dtype = resize(wanted, self.config.side), self.fixed.net, self.fixed.dtype
        raw = net.enc(small[::2].to(dtype))
        levels = torch.rand(len(raw), 1, 1, 1, generator=random) * self.options.latent_noise
        small[::2] = net.dec(raw + (levels * torch.randn(raw.shape, generator=random)).to(raw)).to(small).clamp(-1, 1)
        return small

    def _enlarge(self, small: Tensor) -> Tensor:
        net, dtype = self.fixed.net, self.fixed.dtype
        with torch.no_grad():
            features, style = net.dec.features(net.enc(small.to(dtype)))
        return self.half.net(small.to(dtype), features, style)

    def _train_critic(self, step: int, wanted: Tensor, enlarged: Tensor) -> Tensor:
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.critic_optimizer, self.options.critic_learning_rate * factor)
        loss = critic_loss(self.critic(wanted).float(), self.critic(enlarged).float())
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return loss

    def state(self) -> dict[str, Any]:
        """See `loop.Stage`."""
        return {
            "config": dataclasses.asdict(self.config),
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `loop.Stage`."""
        for part in ("model", "average", "optimizer", "critic", "critic_optimizer"):
            target = getattr(self, part)
            (target.load_state if part == "average" else target.load_state_dict)(state[part])

    @torch.no_grad()
    def show(self, folder: Path) -> dict[str, float]:
        """Measure the averaged weights on the pictures held out; write what they make of some of them, and curves."""
        index = torch.arange(min(SHOWN, self.pool.settings.held_out))
        wanted = self.pool.whole(index, 2 * self.config.side, self.device).images
        small = self._crops(wanted, step_generator(self.settings.run.seed, 0, purpose=1))
        self.average.swap()
        self.half.refresh()
        try:
            enlarged = torch.cat([self._enlarge(part[None]).float() for part in small]).clamp(-1, 1)
        finally:
            self.average.swap()
        save_grid(folder / "detail.png", [wanted, twice(small).clamp(-1, 1), enlarged])
        save_curves(folder / "detail.jsonl", folder / "detail_curves.png")
        figures = {"psnr": float((-10 * torch.log10((enlarged - wanted).pow(2).mean((1, 2, 3)) / 4)).mean())}
        if self.perceptual is not None:
            for name, have in (("lpips", enlarged), ("lpips_resampled", twice(small))):
                pairs = zip(have.split(1), wanted.split(1), strict=True)
                figures[name] = float(torch.cat([self.perceptual(one, other) for one, other in pairs]).mean())
        return figures


def config_for(autoencoder: FaceAutoencoder, widths: tuple[int, int], hidden: int) -> DetailConfig:
    """Return the shape of a head for an autoencoder."""
    return DetailConfig(autoencoder.config.decoder_channels[-1], autoencoder.config.side, widths, hidden)


@torch.no_grad()
def take_blocks(model: DetailHead, generator: Generator, taken: int) -> None:
    """Give the head the blocks of the generator that follow those which the decoder has."""
    first = BLOCK + 1 + taken
    for block, source in zip(model.blocks, generator.blocks[first : first + 2], strict=True):
        block.load_state_dict(source.state_dict())
