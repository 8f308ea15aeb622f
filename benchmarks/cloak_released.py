"""The released cloaking algorithm beside ours: one process each, so that time and memory can be told apart.

    python -m benchmarks.cloak_released released|ours PICTURE ... --target PICTURE --out FILE.pt [--iterations N]

`cloak.py` runs this and judges what comes out. Both get the aligned crop at the model's own size as
their picture, as in the paper. Written from the published formulas, not from the released code.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cloak_scenes import Scene, crop_scene, open_scene
from faceprivacy_core.adversarial.levels import Levels, invert_to_levels
from faceprivacy_core.adversarial.reverse import RELEASED as SHIFTED
from faceprivacy_core.adversarial.reverse import reverse_step
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.cloak import CloakSettings, cloak_faces
from faceprivacy_core.diffusion.attention import record_self_attention
from faceprivacy_core.diffusion.schedules import ve_to_vp, vp_to_ve
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.metrics.perceptual import PerceptualDistance, load_perceptual
from faceprivacy_core.protocols import FaceRecognizer

GRID = range(1, 1000, 50)
"""Timesteps of the released inversion; of its 20 latents it uses the first four."""

K = 3
LEARNING_STEPS, LEARNING_RATE = 20, 0.1
ITERATIONS, RATE = 30, 0.01
ATTACK_WEIGHT = 0.003


@dataclass(frozen=True, eq=False)
class Released:
    """What the released algorithm makes of a crop.

    Attributes:
        decoded: (1, 3, S, S) about [0, 1]; the published picture, cut off to 8 bits.
        reference: The same without an attack.
        losses: Attack loss at every iteration.
    """

    decoded: Tensor
    reference: Tensor
    losses: list[float]

    @property
    def published(self) -> Tensor:
        """(1, 3, S, S) in [0, 1], 8 bits; the released code cuts decimals off and does not round."""
        return (self.decoded.clamp(0.0, 1.0) * 255.0).floor() / 255.0


def cloak_as_released(
    crop: Tensor,
    landmarks5: Tensor,
    model: FaceModel,
    recognizers: Sequence[FaceRecognizer],
    target: Sequence[Tensor],
    *,
    iterations: int = ITERATIONS,
    learning_steps: int = LEARNING_STEPS,
) -> Released:
    """Dodge as the released code does, waste included.

    Four rows a UNet call (reference, attacked, and both again), the reference run in every iteration
    and inside the graph, both rows decoded, all 19 steps of inversion, gradients of the recognisers'
    weights added up, the schedule declared one level too clean, the last iterate kept.

    Args:
        crop: (1, 3, S, S) in [0, 1], S the model's size.
        landmarks5: (1, 5, 2) in it.
        model: The built-in model.
        recognizers: Surrogates.
        target: One (1, D) vector for each of them: a generated person to go toward.
        iterations: Updates of the latent.
        learning_steps: Updates of the empty condition at every level.

    Source: Enhancing Facial Privacy Protection via Weakening Diffusion Purification (2025, arXiv
        2503.10350); the number of rows and the shift are those of its code.
    Deviations: recognisers get their own alignment, and values in [0, 1] only; no posterior to sample from.
        Left out, to its favour: a store of attention nobody reads, and CLIP, loaded and not used.
    """
    levels = released_levels(model)
    latent = model.autoencoder.encode(crop * 2.0 - 1.0).detach()
    trajectory = invert_to_levels(model.denoiser, latent, levels, model.empty_tokens())
    conditions = _learn(model, trajectory, levels, learning_steps)
    with torch.no_grad():
        sources = [recognizer.embed(crop, landmarks5) for recognizer in recognizers]
    for recognizer in recognizers:
        if isinstance(recognizer, nn.Module):
            recognizer.requires_grad_(True)
    reference = ve_to_vp(trajectory[K], levels[K])
    attacked = reference.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([attacked], RATE)
    losses = []
    with record_self_attention(model.denoiser.unet) as recording:

        def run() -> tuple[Tensor, Tensor]:
            rows, structure = vp_to_ve(torch.cat([reference, attacked]), levels[K]), torch.zeros(())
            for k in range(K, 0, -1):
                recording.clear()
                rows = reverse_step(_twice(model), rows, levels, k, conditions[k], shift=SHIFTED)
                structure = structure + sum((maps[3] - maps[2]).pow(2).mean() for maps in recording.take())
            return (model.autoencoder.decode(rows) + 1.0) / 2.0, structure

        for _ in range(iterations):
            decoded, structure = run()
            seen = [recognizer.embed(decoded[1:].clamp(0.0, 1.0), landmarks5) for recognizer in recognizers]
            away = sum((found * source).sum() for found, source in zip(seen, sources, strict=True))
            toward = sum((found * other).sum() for found, other in zip(seen, target, strict=True))
            optimizer.zero_grad()
            (ATTACK_WEIGHT * (away - toward) + structure).backward()
            optimizer.step()
            losses.append(float((away - toward).detach()))
        with torch.no_grad():
            decoded, _ = run()
    return Released(decoded[1:], decoded[:1], losses)


def released_levels(model: FaceModel) -> Levels:
    """Return the 20 levels of the released inversion."""
    sigmas = model.denoiser.schedule.sigmas
    return Levels(tuple(sigmas[list(GRID)].tolist()), float(sigmas[0]))


def _learn(model: FaceModel, trajectory: Tensor, levels: Levels, steps: int) -> dict[int, Tensor]:
    """Learn the empty condition level by level; one tensor, one optimiser, the last iterate."""
    tokens = model.empty_tokens().detach().clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([tokens], LEARNING_RATE)
    x, found = trajectory[K], {}
    for k in range(K, 0, -1):
        wanted = ve_to_vp(trajectory[k - 1], levels[k - 1])
        for _ in range(steps):
            landed = reverse_step(model.denoiser, x, levels, k, tokens, shift=SHIFTED)
            optimizer.zero_grad()
            (ve_to_vp(landed, levels[k - 1]) - wanted).pow(2).mean().backward()
            optimizer.step()
        found[k] = tokens.detach().clone()
        with torch.no_grad():
            x = reverse_step(model.denoiser, x, levels, k, found[k], shift=SHIFTED)
    return found


def _twice(model: FaceModel) -> Callable[[Tensor, float, Tensor], Tensor]:
    """Run every row twice and use the first half, as is left over from guidance."""
    return lambda x, sigma, cond: model.denoiser(torch.cat([x, x]), sigma, cond)[: len(x)]


def cloak_as_ours(
    scene: Scene, model: FaceModel, recognizers: Sequence[FaceRecognizer], perceptual: PerceptualDistance, few: int | None
) -> Tensor:
    """Cloak with the defaults."""
    settings = our_settings(few)
    return cloak_faces(scene.image, scene.faces, model, recognizers, settings, perceptual=perceptual).images


def our_settings(iterations: int | None = None, settings: CloakSettings | None = None) -> CloakSettings:
    """Return settings that give every face back, protected or not; fewer iterations are for trying things out."""
    settings = replace(settings or CloakSettings(), require_protection=False)
    return settings if iterations is None else replace(settings, attack=replace(settings.attack, iterations=iterations))


def forget_peak() -> None:
    """Let the largest resident set be counted from now on; Linux only, elsewhere loading stays counted in."""
    counter = Path("/proc/self/clear_refs")
    if counter.exists():
        counter.write_text("5", encoding="ascii")


def peak_mib() -> float:
    """Return the largest resident set of this process since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def resident_mib() -> float:
    """Return the resident set now; where the system does not say, the largest so far."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return peak_mib()
    return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Cloak some pictures in one way; write pictures, seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("released", "ours"))
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int)
    options = parser.parse_args(arguments)
    imports = resident_mib()
    detector, model, recognizers = load_detector(), load_face_model(), load_ensemble(DEFAULT_SURROGATES)
    perceptual = load_perceptual()
    scenes = [crop_scene(open_scene(path, detector), model.resolution) for path in options.pictures]
    other = crop_scene(open_scene(options.target, detector), model.resolution)
    with torch.no_grad():
        target = [recognizer.embed(other.image, other.landmarks5) for recognizer in recognizers]
    memory = {"imports_mib": imports, "loaded_mib": resident_mib(), "loading_peak_mib": peak_mib()}
    rows: list[dict[str, Any]] = []
    forget_peak()
    for scene in scenes:
        wall, processor = time.perf_counter(), time.process_time()
        if options.way == "released":
            few = ITERATIONS if options.iterations is None else options.iterations
            done = cloak_as_released(
                scene.image, scene.landmarks5, model, recognizers, target, iterations=few,
                learning_steps=min(few, LEARNING_STEPS),
            )  # fmt: skip
            images = {"image": done.published, "decoded": done.decoded, "reference": done.reference}
        else:
            images = {"image": cloak_as_ours(scene, model, recognizers, perceptual, options.iterations)}
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
        rows.append({**images, **seconds, **memory, "peak_mib": peak_mib(), "threads": torch.get_num_threads()})
    torch.save(rows, options.out)


if __name__ == "__main__":
    main()
