"""From face crops to what makes the model draw them again."""

from __future__ import annotations

from dataclasses import replace

import comfy.sample
import comfy.samplers
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..faceprivacy_core.builtin.model import FaceEncoder
from ..faceprivacy_core.diffusion.inversion import Inversion, invert_euler
from ..faceprivacy_core.diffusion.schedules import ddim_sigmas
from ..faceprivacy_core.embeddings.inversion import FaceInversion, NoiseMap
from ..faceprivacy_core.embeddings.schedule import recover_schedule
from ..faceprivacy_core.types import FaceCrops
from . import _host, _inversion_inputs
from ._host_learning import LearningRequest, Strategy
from ._host_levels import levels_of
from ._types import CropsType, EncoderType, InversionType
from .schedule import to_conditioning


class MsiInversion(io.ComfyNode):
    """Turn face crops into stage embeddings and, if asked for, a noise map.

    Core: `faceprivacy_core.embeddings.learning.TokenLearner` and `faceprivacy_core.diffusion.inversion.invert_euler`.
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
                io.Model.Input("model", tooltip="Model to invert: SD1.x, SD2.x, SDXL or the built-in face model."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                EncoderType.Input(
                    "face_encoder", optional=True, tooltip="From Load Built-in Face Model; only with that model."
                ),
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
                io.Clip.Input("clip", optional=True, tooltip="The checkpoint's CLIP. Not used with the built-in face model."),
                io.ClipVision.Input(
                    "clip_vision", optional=True,
                    tooltip="What strategy msi sees the picture with. Open: the encoder of the built-in face model.",
                ),
                CropsType.Input(
                    "crops", optional=True, tooltip="Placement of the crops, from Face Crop. Needed to save the inversion."
                ),
                InversionType.Input(
                    "resume", optional=True, tooltip="An inversion of the same faces and model to go on learning from."
                ),
                io.Combo.Input(
                    "strategy", options=Strategy, default=Strategy.ENCODER, optional=True,
                    tooltip="encoder: tokens of the built-in model's encoder, refined by learn_steps. stage tokens: learn "
                    "the tokens of every stage directly. msi: learn a module that reads the picture at five scales.",
                ),
                io.Int.Input(
                    "learn_steps", default=0, min=0, max=10000, optional=True,
                    tooltip="Learning updates at most; stops by itself when nothing improves. 0 learns nothing, which only "
                    "the built-in model allows. A checkpoint needs about 200.",
                ),
                io.Int.Input(
                    "tokens_per_stage", default=2, min=1, max=32, optional=True, advanced=True,
                    tooltip="Learned tokens at each of ten noise stages, for stage tokens and msi. More hold more of the "
                    "picture and make the saved inversion larger.",
                ),
                io.Float.Input(
                    "learning_rate", default=0.0, min=0.0, max=1.0, step=1e-5, round=False, optional=True, advanced=True,
                    tooltip="Step size of learning. 0 takes what suits: 0.05 for the built-in model, 0.005 for a text "
                    "encoder. Too high and the held-out loss does not fall.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=False, optional=True, advanced=True,
                    tooltip="Of the noise that is learned from. The same seed gives the same result.",
                ),
            ],
            outputs=[
                InversionType.Output("inversion", tooltip="Stage embeddings, for Embedding Schedule."),
                io.Latent.Output("noise", tooltip="Noise map as a latent; sample it with add_noise disabled."),
                io.Float.Output("residual", tooltip="Worst relative error of a step; below 0.05 returns to the picture."),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, face_encoder: FaceEncoder | None = None,
        image: io.Image.Type | None = None, noise_map: bool = False, steps: int = 20, iterations: int = 5,
        clip: io.Clip.Type | None = None, clip_vision: io.ClipVision.Type | None = None, crops: FaceCrops | None = None,
        resume: FaceInversion | None = None, strategy: str = Strategy.ENCODER.value, learn_steps: int = 0,
        tokens_per_stage: int = 2, learning_rate: float = 0.0, seed: int = 0,
    ) -> io.NodeOutput:  # fmt: skip
        faces = _inversion_inputs.checked_faces(image, crops)
        request = LearningRequest(Strategy(strategy), learn_steps, tokens_per_stage, learning_rate, seed)
        parts = _inversion_inputs.Parts(model, vae, face_encoder, clip, clip_vision)
        node_id = getattr(cls.hidden, "unique_id", None)
        inversion = replace(_inversion_inputs.embed(parts, faces, request, resume, node_id), crops=crops)
        if not noise_map:
            blocked = ExecutionBlocker("MSI Inversion computed no noise map: switch 'noise_map' on to use this output.")
            return io.NodeOutput(inversion, blocked, blocked)
        result, samples, noise = invert_in_host(model, vae.encode(faces), inversion, steps, iterations)
        return io.NodeOutput(replace(inversion, noise=noise), {"samples": samples}, result.residual)


def invert_in_host(
    model: io.Model.Type, latent: torch.Tensor, inversion: FaceInversion, steps: int, iterations: int
) -> tuple[Inversion, torch.Tensor, NoiseMap]:
    """Run the core's inversion as a sampler of the host, so that patches and hooks apply.

    Returns:
        The core's result, the noise map as a host latent (N, C, h, w), and as it is kept.
    """
    levels = levels_of(model)
    sigmas = ddim_sigmas(levels.schedule, steps)
    conditioning = to_conditioning(inversion, recover_schedule())
    results = []

    def sampler_function(model_k, x, _sigmas, extra_args, callback, disable):  # noqa: ANN001, ANN202 (host's signature)
        def denoise(x: torch.Tensor, sigma: float, _cond: object) -> torch.Tensor:
            return levels.denoise(model_k, x, sigma, extra_args)

        progress = _host.HostProgress(len(sigmas) - 1)
        results.append(invert_euler(denoise, x, sigmas, None, iterations=iterations, progress=progress))
        return levels.latent_of_host(results[0].noise, float(sigmas[0]))  # the host takes a flow's scale off again

    sampler = comfy.samplers.KSAMPLER(sampler_function)
    samples = comfy.sample.sample_custom(
        model, torch.zeros_like(latent), 1.0, sampler, levels.of_host(sigmas.flip(0)), conditioning, conditioning, latent
    )
    with torch.inference_mode(False):
        latent = results[0].noise.float().cpu().clone() / float(sigmas[0])
    noise = NoiseMap(latent, tuple(sigmas.float().tolist()), results[0].residual)
    return results[0], samples, noise
