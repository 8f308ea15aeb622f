"""python -m training STAGE --config FILE [--set section.name=value ...] [--minutes M]"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from faceprivacy_core.builtin.model import build_autoencoder, read_face_model_file

from .autoencoder import AutoencoderStage, load_trained
from .data import draw_file, load_pictures
from .detail import DetailStage
from .diffusion import DiffusionStage
from .export import export
from .extra import export_extra
from .faces import SYNTHETIC
from .features import FeatureBasis, find_basis
from .generator import Generator, load_generator, pack_generator
from .latents import Sources, load_latents, make_latents, save_latents
from .loop import load_checkpoint, run_stage
from .pictures import FacePool
from .settings import Settings, load_settings
from .speed import matrix_peak, measure_speed

STAGES = ("pack", "data", "autoencoder", "diffusion", "export", "detail", "extra", "speed")
DEFAULT_CONFIG = Path(__file__).parent / "face256.toml"


def run(stage: str, settings: Settings, minutes: float | None = None) -> None:
    """Run one stage of the recipe.

    Args:
        stage: One of STAGES but "pack".
        minutes: Time limit of a training stage; the next call continues.
    """
    if settings.run.torch_device().type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if stage == "data":
        if settings.data.in_memory:
            raise SystemExit("With data.in_memory every command draws its faces itself; there is no data stage.")
        draw_file(settings)
        return
    pool = FacePool(load_pictures(settings), settings.data)
    options = settings.run
    if stage == "autoencoder":
        trained = AutoencoderStage(settings, pool, *load_known(settings))
        run_stage(trained, settings.folder, minutes, options.save_every_s, options.log_every)
    elif stage == "diffusion":
        trained = make_diffusion(settings, pool)
        run_stage(trained, settings.folder, minutes, options.save_every_s, options.log_every)
    elif stage == "detail":
        trained = make_detail(settings, pool)
        run_stage(trained, settings.folder, minutes, options.save_every_s, options.log_every)
    elif stage == "extra":
        export_extra(settings, pool, load_blocks(settings))
    elif stage == "speed":
        report_speed(settings, pool)
    elif stage == "export":
        export(settings, pool.held_out(settings.autoencoder.side, torch.device("cpu")).images)


def report_speed(settings: Settings, pool: FacePool) -> None:
    """Print how fast both networks train here; nothing is kept."""
    device = settings.run.torch_device()
    is_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if settings.run.precision == "bf16" else torch.float32
    peak = matrix_peak(device, dtype, side=8192 if is_gpu else 1024)
    print(f"speed: a matrix product reaches {peak:.3g} TFLOP/s")
    makers = {"autoencoder": lambda *given: AutoencoderStage(*given, *load_known(settings)), "diffusion": make_diffusion}
    for name, make in makers.items():
        if name == "diffusion" and not (settings.folder / "autoencoder.pt").is_file():
            continue
        figures = measure_speed(make(settings, pool), 30 if is_gpu else 3, peak)
        print(f"speed: {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))


def make_diffusion(settings: Settings, pool: FacePool) -> DiffusionStage:
    """Make the latents, or read them, and make the stage."""
    device, folder = settings.run.torch_device(), settings.folder
    _, autoencoder, ae_steps = load_trained(settings)
    sources = Sources(pool, autoencoder.to(device), *load_known(settings))
    options = settings.diffusion
    needs = () if options.source == "features" else (ae_steps, len(pool.pictures), options.views)
    mark = f"{options.source} {options.known_faces} {needs} {settings.data}"
    path = folder / "latents.safetensors"
    latents = load_latents(path, mark, device)
    if latents is None:
        latents = make_latents(settings, sources, known_scale(settings))
        save_latents(path, mark, latents)
    autoencoder.latent_mean.copy_(latents.mean)
    autoencoder.latent_std.copy_(latents.std)
    return DiffusionStage(settings, latents, autoencoder)


def make_detail(settings: Settings, pool: FacePool) -> DetailStage:
    """Make the stage of the detail head for a finished model file."""
    file = read_face_model_file(Path(settings.detail.model))
    return DetailStage(settings, pool, build_autoencoder(file), load_blocks(settings))


def load_blocks(settings: Settings) -> Generator | None:
    """Load the generator; ovals have none."""
    return None if settings.data.generator == SYNTHETIC else load_generator(Path(settings.data.generator))


def known_scale(settings: Settings) -> tuple[Tensor, Tensor] | None:
    """Return mean and deviation of the latents that a UNet was trained on before, if there is one."""
    checkpoint = settings.folder / "diffusion.pt"
    if checkpoint.is_file():
        scale = load_checkpoint(checkpoint)["state"]["scale"]
        return scale["mean"], scale["std"]
    if settings.diffusion.start_from:
        weights = read_face_model_file(Path(settings.diffusion.start_from)).autoencoder
        return weights["latent_mean"], weights["latent_std"]
    return None


def load_known(settings: Settings) -> tuple[Generator | None, FeatureBasis | None]:
    """Load the generator and the basis of its features; ovals have neither."""
    options = settings.data
    if options.generator == SYNTHETIC:
        return None, None
    generator = load_generator(Path(options.generator)).to(settings.run.torch_device())
    return generator, find_basis(generator, settings.autoencoder.latent_channels, options.first_seed, options.truncation)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--minutes", type=float, help="stop after this time; the next call continues")
    parser.add_argument("--generator", type=Path, help="pack: folder with the generator's OpenVINO files")
    options = parser.parse_args()
    settings = load_settings(options.config, options.set)
    if options.stage == "pack":
        if options.generator is None:
            parser.error("pack needs --generator FOLDER")
        pack_generator(options.generator, Path(settings.data.generator))
        return
    run(options.stage, settings, options.minutes)


if __name__ == "__main__":
    main()
