"""Energy guidance as a model patch that stock samplers run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..faceprivacy_core.diffusion.checkpointing import checkpointed_decode
from ..faceprivacy_core.faces.landmarks import load_landmarker
from ..faceprivacy_core.guidance import guided
from ..faceprivacy_core.guidance.appearance import LOOK_TARGET
from ..faceprivacy_core.guidance.build import CombinedEnergy, EnergyWeights, build_energy
from ..faceprivacy_core.guidance.gradient import Decode
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.protocols import FaceRecognizer
from ..faceprivacy_core.types import FaceCrops
from . import _convert, _host
from ._host_levels import HostLevels, levels_of
from ._host_memory import MEMORY, chosen_memory
from ._types import CropsType, RecognizersType


class EnergyGuidance(io.ComfyNode):
    """Steer sampling by what recognisers and people see in the faces.

    Core: `faceprivacy_core.guidance.guided.EnergyGuidance`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_EnergyGuidance",
            display_name="Energy Guidance (Face Privacy)",
            category="face privacy/guidance",
            description="Energy guidance of Diff-Privacy: in every step the decoded estimate is shown to face "
            "recognisers, and the latent moves so that they see another person (or, with keep_identity, the same). "
            "Patches the MODEL; sample with euler, for which the step is exactly the paper's, and cfg 1. Chain two with "
            "percents that meet to guide differently early and late.",
            search_aliases=["identity guidance", "anonymise", "anonymize", "face recogniser", "keep identity"],
            inputs=[
                io.Model.Input("model", tooltip="Model to steer: SD1.x, SD2.x, SDXL, SD3, Flux or the built-in face model."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Image.Input("image", tooltip="The original aligned crops from Face Crop."),
                CropsType.Input("crops", tooltip="Placement of the crops, from Face Crop."),
                RecognizersType.Input(
                    "recognizers", tooltip="Recognisers to escape from or to keep. Two or more transfer better."
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=20.0, step=0.05,
                    tooltip="How hard the weighted energies push. 0 does nothing. Independent of the number of steps.",
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
                # Workflows store values by position, and API prompts name them: new ones come last and may be missing.
                _weight("push_away", 1.0, "Weight of another identity than the original's."),
                _weight(
                    "keep_identity", 0.0,
                    "Weight of the original's identity, so that recognisers still know the person. Set push_away and "
                    "diversity to 0 with it.",
                ),
                _weight(
                    "look_different", 0.0,
                    "Weight of other looks than the original's (LPIPS up to 0.5), for people. Needs the model file "
                    "lpips-alexnet.",
                ),
                _weight("keep_landmarks", 0.0, "Weight of eyes, nose and mouth staying where they were: pose and size."),
                io.Combo.Input(
                    "memory", options=list(MEMORY), default="normal", optional=True, advanced=True,
                    tooltip="low: one result at a time, and the VAE's blocks are computed again for the gradient. About "
                    "three times the decoding work; the same result up to rounding. auto: low where too little is free.",
                ),
                io.Float.Input(
                    "ceiling", default=1.0, min=-1.0, max=1.0, step=0.01, optional=True, advanced=True,
                    tooltip="Similarity to the original above which keep_identity pulls no more. 0.7 leaves room for looks.",
                ),
                io.Float.Input(
                    "look_target", default=LOOK_TARGET, min=0.01, max=2.0, step=0.01, optional=True, advanced=True,
                    tooltip="LPIPS above which look_different pushes no more.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Where look_different looks, from Face Crop. Open: the whole crop."
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The steered model, for KSampler or SamplerCustom.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, image: io.Image.Type, crops: FaceCrops,
        recognizers: tuple[FaceRecognizer, ...], strength: float, diversity: float, floor: float,
        start_percent: float, end_percent: float, normalize: bool, push_away: float = 1.0, keep_identity: float = 0.0,
        look_different: float = 0.0, keep_landmarks: float = 0.0, memory: str = "normal", ceiling: float = 1.0,
        look_target: float = LOOK_TARGET, mask: io.Mask.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        weights = EnergyWeights(push_away, diversity, keep_identity, look_different, keep_landmarks)
        bounds = {"floor": floor, "ceiling": ceiling, "look_target": look_target}
        energy = crop_energy(image, crops, recognizers, weights, bounds, mask)
        memory = chosen_memory(memory, vae, image.shape[1], len(image))
        decode, levels = decoder(model, vae, memory), levels_of(model)
        guidance = guided.EnergyGuidance(
            energy, decode, levels.schedule, strength, normalize,
            guided.GuidanceRange(1.0 - start_percent, 1.0 - end_percent), 1 if memory == "low" else None,
        )  # fmt: skip
        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(post_cfg_function(guidance, levels))
        return io.NodeOutput(patched)


def _weight(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=10.0, step=0.05, optional=True, advanced=True, tooltip=tooltip)


def crop_energy(
    image: Tensor,
    crops: FaceCrops,
    recognizers: tuple[FaceRecognizer, ...],
    weights: EnergyWeights,
    bounds: Mapping[str, float],
    mask: Tensor | None = None,
) -> CombinedEnergy:
    """Build the energy of host crops (N, S, S, 3) and an optional mask (N, S, S); `bounds` are those of `build_energy`."""
    return build_energy(
        _convert.image_to_core(image), crops, recognizers, weights, **bounds,
        perceptual=lambda: load_perceptual(_host.model_dirs(), _host.compute_device()),
        landmarker=lambda: load_landmarker(_host.model_dirs(), _host.compute_device()),
        mask=None if mask is None else _convert.mask_to_core(mask, len(image)),
    )  # fmt: skip


def decoder(model: io.Model.Type, vae: io.Vae.Type, memory: str) -> Decode:
    """Build the differentiable decoder, with `low` memory a checkpointed one."""
    exact = _host.ExactVae(model, vae)
    return checkpointed_decode(exact.decode, exact.network) if memory == "low" else exact.decode


def post_cfg_function(guidance: guided.EnergyGuidance, levels: HostLevels) -> Callable[[dict[str, Any]], Tensor]:
    """Wrap guidance as the host's post-cfg hook."""

    def edit(args: dict[str, Any]) -> Tensor:
        _host.check_interrupted()
        level = float(args["sigma"].flatten()[0])
        lower = _host.next_sigma(args["model_options"], level)
        return guidance(args["denoised"], levels.of_core(level), levels.of_core(lower))

    return edit
