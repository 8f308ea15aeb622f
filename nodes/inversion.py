"""From face crops to what makes the model draw them again."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..faceprivacy_core.builtin.model import FaceEncoder
from ..faceprivacy_core.diffusion.inversion import Inversion, invert_euler
from ..faceprivacy_core.diffusion.schedules import ddim_sigmas
from ..faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity, inversion_of_tokens
from ..faceprivacy_core.embeddings.schedule import recover_schedule
from ..faceprivacy_core.errors import InputError
from . import _convert, _host
from ._types import EncoderType, InversionType
from .schedule import to_conditioning


class MsiInversion(io.ComfyNode):
    """Turn face crops into stage embeddings and, if asked for, a noise map.

    Core: `faceprivacy_core.diffusion.inversion.invert_euler`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_MsiInversion",
            display_name="MSI Inversion (Face Privacy)",
            category="face privacy/inversion",
            description="Multi-scale image inversion of Diff-Privacy: finds the embeddings that make the model draw "
            "these faces again, and the noise map from which a deterministic sampler returns to them.",
            search_aliases=["invert", "ddim inversion", "unsample", "textual inversion"],
            inputs=[
                io.Model.Input("model", tooltip="Model to invert. For now the built-in face model."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                EncoderType.Input("face_encoder", tooltip="From Load Built-in Face Model."),
                io.Image.Input("image", tooltip="Aligned face crops from Face Crop."),
                io.Boolean.Input(
                    "noise_map",
                    default=False,
                    tooltip="Also compute the noise map. Recovery needs it; anonymising does not, and is faster without.",
                ),
                io.Int.Input(
                    "steps", default=20, min=2, max=200,
                    tooltip="Steps of the noise map. Sampling must use as many. More is more exact and slower.",
                ),
                io.Int.Input(
                    "iterations", default=5, min=0, max=30, advanced=True,
                    tooltip="Fixed-point iterations in each step. 0 is the plain inversion, about 100 times less exact.",
                ),
            ],
            outputs=[
                InversionType.Output("inversion", tooltip="Stage embeddings, for Embedding Schedule."),
                io.Latent.Output("noise", tooltip="Noise map as a latent; sample it with add_noise disabled."),
                io.Float.Output("residual", tooltip="Worst relative error of a step; below 0.05 returns to the picture."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, face_encoder: FaceEncoder, image: io.Image.Type,
        noise_map: bool, steps: int, iterations: int,
    ) -> io.NodeOutput:  # fmt: skip
        crops = _convert.image_to_core(image)
        if crops.shape[-1] != crops.shape[-2] or crops.shape[-1] % 8:
            raise InputError(f"Expected square crops with a side that is a multiple of 8, got {tuple(crops.shape[-2:])}.")
        with torch.inference_mode(False), torch.no_grad():
            tokens = face_encoder.encode_tokens(crops.clone())
        inversion = inversion_of_tokens(tokens, face_encoder.empty_tokens(), ModelIdentity(face_encoder.model_name))
        if not noise_map:
            blocked = ExecutionBlocker("MSI Inversion computed no noise map: switch 'noise_map' on to use this output.")
            return io.NodeOutput(inversion, blocked, blocked)
        result, samples = invert_in_host(model, vae.encode(image), inversion, steps, iterations)
        return io.NodeOutput(inversion, {"samples": samples}, result.residual)


def invert_in_host(
    model: io.Model.Type, latent: torch.Tensor, inversion: FaceInversion, steps: int, iterations: int
) -> tuple[Inversion, torch.Tensor]:
    """Run the core's inversion as a sampler of the host, so that patches and hooks apply.

    Returns:
        The core's result and the noise map as a host latent (N, C, h, w).
    """
    schedule = _host.noise_schedule(model)
    sigmas = ddim_sigmas(schedule, steps)
    conditioning = to_conditioning(inversion, recover_schedule())
    results = []

    def sampler_function(model_k, x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202 (host's signature)
        def denoise(x: torch.Tensor, sigma: float, _cond: object) -> torch.Tensor:
            _host.check_interrupted()
            return model_k(x, torch.full((x.shape[0],), sigma, device=x.device), **extra_args)

        progress = _host.HostProgress(len(sigmas) - 1)
        results.append(invert_euler(denoise, x, sigmas, None, iterations=iterations, progress=progress))
        return results[0].noise

    sampler = comfy.samplers.KSAMPLER(sampler_function)
    samples = comfy.sample.sample_custom(
        model, torch.zeros_like(latent), 1.0, sampler, sigmas.flip(0).float(), conditioning, conditioning, latent
    )
    return results[0], samples
