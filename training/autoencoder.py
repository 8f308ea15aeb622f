"""Trains the autoencoder, or only its decoder when the latents must stay as they are."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.builtin.model import read_face_model_file

from .averaging import WeightAverage, learning_rate_factor, set_learning_rate
from .features import BLOCK, FeatureBasis
from .generator import Generator
from .half import HalfTwin
from .loop import load_checkpoint
from .losses import PatchCritic, critic_loss, load_identity_loss, load_perceptual_loss
from .pictures import FacePool, Views, step_generator
from .plots import save_curves, save_grid
from .settings import Settings

SHOWN = 8
PERIOD = 4
CRITIC_AHEAD = 100
COARSE = (4, 8)
STYLE_WEIGHT = 0.1
IDENTITY_EVERY = 2
"""The identity costs a tenth of a step: every second one has it, with twice the weight."""
CHUNK = 8


class AutoencoderStage:
    """One step: encode, disturb some latents, decode, compare; then the critic's turn.

    Args:
        settings: All settings.
        pool: Pictures.
        generator: Draws their features anew, for the first steps and the distance to what is known; may be
            None where `prior_steps` and `known` are 0.
        basis: Between features and latents; with the generator.
    """

    name = "autoencoder"

    def __init__(
        self, settings: Settings, pool: FacePool, generator: Generator | None = None, basis: FeatureBasis | None = None
    ) -> None:
        options = settings.autoencoder
        self.settings, self.options, self.pool = settings, options, pool
        self.generator, self.basis = generator, basis
        self.steps, self.batch = options.steps, options.batch
        self.device = settings.run.torch_device()
        torch.manual_seed(settings.run.seed)
        self.config, model = make_autoencoder(settings)
        if generator is not None and not options.start_from:
            take_prior(model, generator, basis)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        if options.trainable == "decoder":
            self.model.enc.requires_grad_(False)
        self.half = HalfTwin(self.model, settings.run.precision == "bf16")
        self._decode = torch.compile(self.half.net.dec) if settings.run.compiled else self.half.net.dec
        self.average = WeightAverage(self.model, options.ema)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.perceptual = load_perceptual_loss(self.device) if options.perceptual else None
        self.identity = load_identity_loss(self.device) if options.identity else None
        self.critic = PatchCritic(options.critic_channels).to(self.device) if options.adversarial else None
        if self.critic is not None:
            rate = options.critic_learning_rate
            self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), rate, betas=(0.5, 0.99), weight_decay=0.0)

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step."""
        random = step_generator(self.settings.run.seed, step)
        set_learning_rate(
            self.optimizer, self.options.learning_rate * learning_rate_factor(step, self.steps, self.options.warm_up)
        )
        self.half.refresh()
        if step < self.options.prior_steps:
            loss, figures = self._learn_prior(random)
        else:
            loss, figures = self._learn_round_trip(step, random)
        loss.backward()
        self.half.hand_over_gradients()
        torch.nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(step)
        return {name: value.detach() for name, value in figures.items()}

    def _learn_prior(self, random: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Encoder and style reader against what is known, the head on the generator's own features."""
        images, known, styles = self._plain(self.batch, random)
        net, dtype = self.half.net, self.half.dtype
        with torch.no_grad():
            x = self._features.to(dtype)
            for block in net.dec.blocks:
                x = block(x, styles.to(dtype))
        drawn = net.dec.head(x, styles.to(dtype)).float()
        away = F.smooth_l1_loss(net.enc(images.to(dtype)).float(), known)
        spread = (styles - self.generator.mean_style).square().mean()
        style = (net.dec.style(known.to(dtype)).float() - styles).square().mean() / spread
        loss, figures = self._compare(0, images, drawn)
        return loss + away + STYLE_WEIGHT * style, figures | {"known": away, "style": style}

    def _learn_round_trip(self, step: int, random: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        options, dtype, net = self.options, self.half.dtype, self.half.net
        plain = round(options.plain * self.batch) if self.generator is not None else 0
        views = self.pool.draw(random, self.batch - plain, options.side, self.device)
        known = None
        if plain:
            images, known, _ = self._plain(plain, random)
            views = Views(torch.cat([images, views.images]), torch.cat([self._landmarks, views.landmarks5]))
        images = views.images.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(options.trainable != "decoder"):
            raw = net.enc(images.to(dtype))
        levels = torch.rand(self.batch, 1, 1, 1, generator=random) * options.latent_noise
        levels = levels * (torch.rand(self.batch, 1, 1, 1, generator=random) < 0.5)
        noise = (levels * torch.randn(raw.shape, generator=random)).to(raw)
        decoded = self._decode(raw + noise).float()
        loss, figures = self._compare(step, images, decoded, views.landmarks5)
        if known is not None and options.known:
            figures["known"] = F.smooth_l1_loss(raw[:plain].float(), known)
            loss = loss + options.known * figures["known"]
        if self.critic is not None and step >= options.adversarial_from - CRITIC_AHEAD:
            figures["critic"] = self._train_critic(step, images, decoded.detach())
            if step >= options.adversarial_from:
                self.critic.requires_grad_(False)
                with self._autocast():
                    figures["adversarial"] = -self.critic(decoded).float().mean()
                self.critic.requires_grad_(True)
                loss = loss + options.adversarial * figures["adversarial"]
        return loss, figures

    def _plain(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw pictures as they are: images, known latents, styles."""
        index = self.settings.data.held_out + torch.randint(self.pool.train_count, (count,), generator=random)
        views = self.pool.whole(index, self.options.side, self.device)
        self._landmarks = views.landmarks5
        with torch.no_grad():
            styles = self.generator.draw_styles(self.pool.seeds[index].tolist(), self.settings.data.truncation)
            self._features = self.generator.features(styles, BLOCK)
            known = self.basis.project(self._features)
        return views.images, known, styles

    def _compare(
        self, step: int, images: Tensor, decoded: Tensor, landmarks5: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        options = self.options
        figures = {"l1": (decoded - images).abs().mean()}
        loss = options.l1 * figures["l1"]
        if options.coarse:
            pairs = ((F.avg_pool2d(decoded, square), F.avg_pool2d(images, square)) for square in COARSE)
            loss = loss + options.coarse * sum((have - want).abs().mean() for have, want in pairs)
        with self._autocast():
            if self.perceptual is not None:
                figures["lpips"] = self.perceptual(*_shifted(step, decoded, images)).mean()
                loss = loss + options.perceptual * figures["lpips"]
        if self.identity is not None and landmarks5 is not None and step % IDENTITY_EVERY == 0:
            figures["identity"] = self.identity(decoded, images, landmarks5).mean()
            loss = loss + IDENTITY_EVERY * options.identity * figures["identity"]
        figures["psnr"] = -10 * torch.log10((decoded.detach() - images).pow(2).mean() / 4)
        return loss, figures

    def _train_critic(self, step: int, images: Tensor, decoded: Tensor) -> Tensor:
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.critic_optimizer, self.options.critic_learning_rate * factor)
        with self._autocast():
            loss = critic_loss(self.critic(images).float(), self.critic(decoded).float())
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return loss

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.settings.run.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def state(self) -> dict[str, Any]:
        """See `loop.Stage`."""
        state = {
            "config": dataclasses.asdict(self.config),
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.critic is not None:
            state |= {"critic": self.critic.state_dict(), "critic_optimizer": self.critic_optimizer.state_dict()}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """See `loop.Stage`."""
        self.model.load_state_dict(state["model"])
        self.average.load_state(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.critic is not None and "critic" in state:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    @torch.no_grad()
    def show(self, folder: Path) -> dict[str, float]:
        """Measure the averaged weights on the pictures held out; write round trips and curves."""
        views = self.pool.held_out(self.options.side, self.device)
        self.average.swap()
        try:
            parts = [self.model.decode(self.model.encode(part)) for part in views.images.split(CHUNK)]
        finally:
            self.average.swap()
        decoded = torch.cat(parts).clamp(-1, 1)
        figures = {"psnr": float((-10 * torch.log10((decoded - views.images).pow(2).mean((1, 2, 3)) / 4)).mean())}
        if self.perceptual is not None:
            pairs = zip(decoded.split(CHUNK), views.images.split(CHUNK), strict=True)
            figures["lpips"] = float(torch.cat([self.perceptual(a, b) for a, b in pairs]).mean())
        save_grid(folder / "autoencoder.png", [views.images[:SHOWN], decoded[:SHOWN]])
        save_curves(folder / "autoencoder.jsonl", folder / "autoencoder_curves.png")
        return figures


def _shifted(step: int, *images: Tensor) -> list[Tensor]:
    """Cut up to three pixels off the left and the top, differently in every step.

    The loss network looks at every fourth place: without the shift, a pattern that repeats every
    four pixels would cost next to nothing.
    """
    left, top = step % PERIOD, step // PERIOD % PERIOD
    return [image[..., top:, left:] for image in images]


def make_autoencoder(settings: Settings) -> tuple[AutoencoderConfig, FaceAutoencoder]:
    """Make the network to train: fresh, or from a file of the same shape."""
    options = settings.autoencoder
    config = AutoencoderConfig(**{entry.name: getattr(options, entry.name) for entry in dataclasses.fields(AutoencoderConfig)})
    model = FaceAutoencoder(config)
    if options.start_from:
        model.load_state_dict(read_face_model_file(Path(options.start_from)).autoencoder)
    return config, model


@torch.no_grad()
def take_prior(model: FaceAutoencoder, generator: Generator, basis: FeatureBasis) -> None:
    """Give the decoder the generator's blocks, and the basis as the map to their first features."""
    decoder = model.dec
    for block, source in zip(decoder.blocks, generator.blocks[BLOCK + 1 :], strict=False):
        block.load_state_dict(source.state_dict())
    decoder.lift.weight.zero_()
    decoder.lift.weight[:, :, 1, 1] = basis.components
    decoder.lift.bias.copy_(basis.mean)
    decoder.style[-1].bias.copy_(generator.mean_style)


def load_trained(settings: Settings) -> tuple[AutoencoderConfig, FaceAutoencoder, int]:
    """Load the averaged weights of the newest checkpoint, or the file training would start from.

    Returns:
        Shape, frozen network, and the steps it was trained (0 for the file).
    """
    path = settings.folder / "autoencoder.pt"
    if not path.is_file():
        if not settings.autoencoder.start_from:
            raise SystemExit(f"Expected a trained autoencoder at {path}, found none. Run: python -m training autoencoder")
        config, model = make_autoencoder(settings)
        return config, model.eval().requires_grad_(False), 0
    content = load_checkpoint(path)
    config = AutoencoderConfig(**content["state"]["config"])
    model = FaceAutoencoder(config)
    model.load_state_dict(content["state"]["model"] | content["state"]["average"])
    return config, model.eval().requires_grad_(False), content["step"]
