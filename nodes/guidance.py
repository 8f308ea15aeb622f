"""Energy guidance as a model patch that stock samplers run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.guidance import guided
from ..faceprivacy_core.guidance.energies import anonymization_energy
from ..faceprivacy_core.protocols import FaceRecognizer
from ..faceprivacy_core.types import FaceCrops
from . import _convert, _host
from ._types import CropsType, RecognizersType


class EnergyGuidance(io.ComfyNode):
    """Steer sampling away from the identity of the original faces.

    Core: `faceprivacy_core.guidance.guided.EnergyGuidance`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_EnergyGuidance",
            display_name="Energy Guidance (Face Privacy)",
            category="face privacy/guidance",
            description="Energy guidance of Diff-Privacy: in every step the decoded estimate is shown to face "
            "recognisers, and the latent moves so that they see another person. Patches the MODEL; sample with euler, "
            "for which the step is exactly the paper's, and cfg 1.",
            search_aliases=["identity guidance", "anonymise", "anonymize", "face recogniser"],
            inputs=[
                io.Model.Input("model", tooltip="Model to steer: SD1.x, SD2.x, SDXL or the built-in face model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Image.Input("image", tooltip="The original aligned crops from Face Crop."),
                CropsType.Input("crops", tooltip="Placement of the crops, from Face Crop."),
                RecognizersType.Input("recognizers", tooltip="Recognisers to escape from. Two or more transfer better."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=20.0, step=0.05,
                    tooltip="How hard identity is pushed away. 0 does nothing. Independent of the number of steps.",
                ),
                io.Float.Input(
                    "diversity", default=1.0, min=0.0, max=10.0, step=0.05,
                    tooltip="Weight of the push between several results of one face (repeat the latent batch to get "
                    "several). No effect with one result.",
                ),
                io.Float.Input(
                    "floor", default=0.0, min=-1.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Similarity to the original below which nothing more is pushed.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Part of the noise schedule after which guidance begins; 0 is pure noise.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                    tooltip="Part of the noise schedule at which guidance ends; 1 is the clean picture.",
                ),
                io.Boolean.Input(
                    "normalize", default=True, advanced=True,
                    tooltip="Scale every gradient to unit size, so that one strength suits every model. Off: the raw "
                    "gradient of the paper.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The steered model, for KSampler or SamplerCustom.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, image: io.Image.Type, crops: FaceCrops,
        recognizers: tuple[FaceRecognizer, ...], strength: float, diversity: float, floor: float,
        start_percent: float, end_percent: float, normalize: bool,
    ) -> io.NodeOutput:  # fmt: skip
        originals = _convert.image_to_core(image)
        energy = anonymization_energy(originals, crops, recognizers, floor=floor, diversity=diversity)
        guidance = guided.EnergyGuidance(
            energy, _host.differentiable_decoder(model, vae), _host.noise_schedule(model), strength, normalize,
            guided.GuidanceRange(1.0 - start_percent, 1.0 - end_percent),
        )  # fmt: skip
        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(post_cfg_function(guidance))
        return io.NodeOutput(patched)


def post_cfg_function(guidance: guided.EnergyGuidance) -> Callable[[dict[str, Any]], Tensor]:
    """Wrap guidance as the host's post-cfg hook."""

    def edit(args: dict[str, Any]) -> Tensor:
        _host.check_interrupted()
        sigma = float(args["sigma"].flatten()[0])
        return guidance(args["denoised"], sigma, _host.next_sigma(args["model_options"], sigma))

    return edit
