"""Trains the autoencoder, or only its decoder when the latents must stay as they are."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder, ResidualBlock
from faceprivacy_core.builtin.model import read_face_model_file

from .averaging import WeightAverage, learning_rate_factor, set_learning_rate
from .loop import load_checkpoint
from .losses import PatchCritic, critic_loss, load_identity_loss, load_perceptual_loss
from .pictures import FacePool, step_generator
from .plots import save_curves, save_grid
from .settings import Settings

SHOWN = 8
PERIOD = 4


class AutoencoderStage:
    """One step: encode, disturb some latents, decode, compare; then the critic's turn.

    Args:
        settings: All settings.
        pool: Pictures.
    """

    name = "autoencoder"

    def __init__(self, settings: Settings, pool: FacePool) -> None:
        options = settings.autoencoder
        self.settings, self.options, self.pool = settings, options, pool
        self.steps, self.batch = options.steps, options.batch
        self.device = settings.run.torch_device()
        torch.manual_seed(settings.run.seed)
        self.config, model = make_autoencoder(settings)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        if options.trainable == "decoder":
            self.model.enc.requires_grad_(False)
        self.average = WeightAverage(self.model, options.ema)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.perceptual = load_perceptual_loss(self.device) if options.perceptual else None
        self.identity = load_identity_loss(self.device) if options.identity else None
        self.critic = PatchCritic(options.critic_channels).to(self.device) if options.adversarial else None
        if self.critic is not None:
            rate = options.critic_learning_rate
            self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), rate, betas=(0.5, 0.99), weight_decay=0.0)
        self._round_trip = torch.compile(self._forward) if settings.run.compiled else self._forward

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Do one step."""
        generator = step_generator(self.settings.run.seed, step)
        views = self.pool.draw(generator, self.batch, self.options.resolution, self.device)
        images = views.images.contiguous(memory_format=torch.channels_last)
        side = self.options.resolution // self.config.downscale
        shape = (self.batch, self.config.latent_channels, side, side)
        levels = torch.rand(self.batch, 1, 1, 1, generator=generator) * self.options.latent_noise
        levels = levels * (torch.rand(self.batch, 1, 1, 1, generator=generator) < 0.5)
        noise = (levels * torch.randn(shape, generator=generator)).to(self.device)
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.optimizer, self.options.learning_rate * factor)
        with self._autocast():
            decoded = self._round_trip(images, noise)
        figures = self._update(step, images, decoded.float(), views.landmarks5)
        self.average.update(step)
        return figures

    def _forward(self, images: Tensor, noise: Tensor) -> Tensor:
        if self.options.trainable == "decoder":
            with torch.no_grad():
                latents = self.model.encode(images)
        else:
            latents = self.model.encode(images)
        return self.model.decode(latents + noise)

    def _update(self, step: int, images: Tensor, decoded: Tensor, landmarks5: Tensor) -> dict[str, Tensor]:
        options = self.options
        figures = {"l1": (decoded - images).abs().mean()}
        loss = options.l1 * figures["l1"]
        with self._autocast():
            if self.perceptual is not None:
                figures["lpips"] = self.perceptual(*_views(step, options.perceptual_scales, decoded, images)).mean()
                loss = loss + options.perceptual * figures["lpips"]
            if self.identity is not None:
                figures["identity"] = self.identity(decoded, images, landmarks5).mean()
                loss = loss + options.identity * figures["identity"]
            if self.critic is not None:
                figures["critic"] = self._train_critic(step, images, decoded.detach())
                if step >= options.adversarial_from:
                    self.critic.requires_grad_(False)
                    figures["adversarial"] = -self.critic(decoded).mean()
                    self.critic.requires_grad_(True)
                    loss = loss + options.adversarial * figures["adversarial"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        figures["psnr"] = -10 * torch.log10((decoded.detach() - images).pow(2).mean() / 4)
        return {name: value.detach() for name, value in figures.items()}

    def _train_critic(self, step: int, images: Tensor, decoded: Tensor) -> Tensor:
        factor = learning_rate_factor(step, self.steps, self.options.warm_up)
        set_learning_rate(self.critic_optimizer, self.options.critic_learning_rate * factor)
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
        views = self.pool.held_out(self.options.resolution, self.device)
        self.average.swap()
        try:
            parts = [self.model.decode(self.model.encode(part)) for part in views.images.split(16)]
        finally:
            self.average.swap()
        decoded = torch.cat(parts).clamp(-1, 1)
        figures = {"psnr": float((-10 * torch.log10((decoded - views.images).pow(2).mean((1, 2, 3)) / 4)).mean())}
        if self.perceptual is not None:
            pairs = zip(decoded.split(16), views.images.split(16), strict=True)
            figures["lpips"] = float(torch.cat([self.perceptual(a, b) for a, b in pairs]).mean())
        save_grid(folder / "autoencoder.png", [views.images[:SHOWN], decoded[:SHOWN]])
        save_curves(folder / "autoencoder.jsonl", folder / "autoencoder_curves.png")
        return figures


def _views(step: int, scales: tuple[int, ...], *images: Tensor) -> list[Tensor]:
    """Cut up to three pixels off the left and the top and enlarge, differently in every step.

    The loss network looks at every fourth place and the decoder writes tiles of four pixels:
    without the shift, a pattern that repeats every four pixels would cost next to nothing. Its
    first kernels cover eleven pixels, a whole eye of a small face: enlarged, it sees finer texture.
    """
    turn, scale = step // len(scales), scales[step % len(scales)]
    left, top = turn % PERIOD, turn // PERIOD % PERIOD
    cut = [image[..., top:, left:] for image in images]
    if scale == 1:
        return cut
    return [F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False) for image in cut]


def make_autoencoder(settings: Settings) -> tuple[AutoencoderConfig, FaceAutoencoder]:
    """Make the network to train: fresh, or from a file with a deeper decoder if asked for."""
    options = settings.autoencoder
    names = [entry.name for entry in dataclasses.fields(AutoencoderConfig)]
    config = AutoencoderConfig(**{name: getattr(options, name) for name in names})
    if not options.start_from:
        return config, FaceAutoencoder(config)
    file = read_face_model_file(Path(options.start_from))
    shape = {name: tuple(value) if isinstance(value, list) else value for name, value in file.config["autoencoder"].items()}
    stored = AutoencoderConfig(**shape)
    grown = dataclasses.replace(stored, decoder_blocks=options.decoder_blocks)
    model = FaceAutoencoder(grown)
    model.load_state_dict(_with_new_blocks(model, file.autoencoder, stored.decoder_blocks, grown.decoder_blocks))
    return grown, model


def _with_new_blocks(
    model: FaceAutoencoder, state: dict[str, Tensor], old: tuple[int, int], new: tuple[int, int]
) -> dict[str, Tensor]:
    """Fit a state to a deeper decoder: every added block adds nothing at first."""
    if new[0] < old[0] or new[1] < old[1]:
        raise ValueError(f"Expected at least the {old} decoder blocks of the file to start from, got {new}.")
    place = {i: i if i <= old[0] else i + new[0] - old[0] for i in range(old[0] + old[1] + 3)}
    last = old[0] + old[1] + 2
    place |= {last + i: new[0] + new[1] + 2 + i for i in range(1, 5)}
    fitted = {name: value.clone() for name, value in model.state_dict().items()}
    for module_name, module in model.dec.named_children():
        if isinstance(module, ResidualBlock):
            fitted[f"dec.{module_name}.b.5.weight"].zero_()
            fitted[f"dec.{module_name}.b.5.bias"].zero_()
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "dec":
            index, _, rest = rest.partition(".")
            name = f"dec.{place[int(index)]}.{rest}"
        fitted[name] = value
    return fitted


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
