"""The built-in face model as ordinary MODEL and VAE."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy_api.latest import io

from ..faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from ..faceprivacy_core.builtin.model import FaceModelFile, build_autoencoder, build_encoder, check_draws, read_face_model_file
from ._host_crop_size import CropSizeWarning
from ._types import EncoderType


class LoadBuiltinFaceModel(io.ComfyNode):
    """Load the face model that ships with the pack.

    Core: `faceprivacy_core.builtin.model.read_face_model_file`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_LoadBuiltinFaceModel",
            display_name="Load Built-in Face Model (Face Privacy)",
            category="face privacy/loaders",
            description="Loads the small face diffusion model that ships with the pack. It was trained on faces of "
            "people who do not exist. MODEL and VAE work with every stock node.",
            search_aliases=["face model", "checkpoint", "face privacy model"],
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="Latent diffusion model for aligned face crops."),
                io.Vae.Output("vae", tooltip="Its autoencoder."),
                EncoderType.Output("face_encoder", tooltip="Turns face crops into image tokens, for MSI Inversion."),
                io.Int.Output("size", tooltip="Side in pixels of the crops the model works on, for Face Crop."),
                io.Conditioning.Output("empty", tooltip="The empty condition, for Keyed Encrypt and Keyed Decrypt."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        file = read_face_model_file()
        encoder = build_encoder(file)
        check_draws(file)
        empty = [[encoder.empty_tokens().clone(), {}]]
        return io.NodeOutput(host_model(file), host_vae(file), encoder, encoder.resolution, empty)


class _FaceModelConfig(comfy.supported_models.SD15):
    """The built-in UNet in the host's words: of the SD1.x kind, but it predicts v and has more latent channels."""

    def model_type(self, state_dict: dict[str, torch.Tensor], prefix: str = "") -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        """The host takes more than four channels for an inpainting model's."""
        return False


def host_model(file: FaceModelFile) -> comfy.model_patcher.ModelPatcher:
    """Build the host's MODEL from a built-in model file."""
    config = _FaceModelConfig(host_unet_config(file.config["unet"]))
    config.unet_config.update(num_heads=file.config["unet"]["attention_head_dim"], num_head_channels=-1)
    config.latent_format = face_latent_format(file)
    config.sampling_settings = {
        "beta_schedule": "linear",
        "linear_start": file.config["schedule"]["beta_start"],
        "linear_end": file.config["schedule"]["beta_end"],
        "timesteps": file.config["schedule"]["num_steps"],
    }
    keys = comfy.utils.unet_to_diffusers(config.unet_config)
    state = {keys[name]: weight for name, weight in file.unet.items()}
    load_device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state), supported_dtypes=[torch.float32]
    )
    config.set_inference_dtype(dtype, None, device=load_device)
    model = config.get_model(state, "")
    offload_device = comfy.model_management.unet_offload_device()
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=load_device, offload_device=offload_device)
    model.load_model_weights(state, "")
    warning = CropSizeWarning(file.config["unet"]["sample_size"], file.config["resolution"])
    model.diffusion_model.register_forward_pre_hook(warning)
    return patcher


def host_unet_config(unet: dict[str, object]) -> dict[str, object]:
    """Translate a diffusers UNet configuration into the host's."""
    channels, layers = unet["block_out_channels"], unet["layers_per_block"]
    depths = [int(kind.startswith("CrossAttn")) for kind in unet["down_block_types"]]
    return {
        "use_checkpoint": False, "image_size": 32, "use_spatial_transformer": True, "legacy": False,
        "num_classes": None, "adm_in_channels": None, "use_linear_in_transformer": False,
        "use_temporal_attention": False, "use_temporal_resblock": False,
        "in_channels": unet["in_channels"], "out_channels": unet["out_channels"],
        "model_channels": channels[0], "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": [layers] * len(channels), "context_dim": unet["cross_attention_dim"],
        "transformer_depth": [depth for depth in depths for _ in range(layers)],
        "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
    }  # fmt: skip


def face_latent_format(file: FaceModelFile) -> comfy.latent_formats.LatentFormat:
    """Describe the built-in latents: unit variance already, with factors for previews."""
    latent_format = comfy.latent_formats.LatentFormat()
    latent_format.scale_factor = 1.0
    latent_format.latent_channels = file.config["autoencoder"]["latent_channels"]
    latent_format.spacial_downscale_ratio = file.autoencoder_config.downscale
    latent_format.latent_rgb_factors = file.config["preview"]["factors"]
    latent_format.latent_rgb_factors_bias = file.config["preview"]["bias"]
    return latent_format


def host_vae(file: FaceModelFile) -> comfy.sd.VAE:
    """Build the host's VAE around the built-in autoencoder."""
    autoencoder = build_autoencoder(file)
    autoencoder.crop_advice = "Cut them with Face Crop at the size that the model's loader gives"
    return _BuiltinVae(autoencoder)


class _BuiltinVae(comfy.sd.VAE):
    """A host VAE with a network of ours: the host only knows published architectures.

    The constructor of the base class picks a network from the keys of a state dictionary.
    It is given the smallest one it knows, whose network is then replaced, so that every
    attribute the stock nodes read has the host's own default.
    """

    def __init__(self, autoencoder: FaceAutoencoder) -> None:
        stand_in = comfy.sd.comfy.taesd.taesd.TAESD(latent_channels=autoencoder.latent_mean.shape[0])
        super().__init__(sd=dict(stand_in.state_dict()), dtype=torch.float32)
        self.first_stage_model = autoencoder
        self.downscale_ratio = self.upscale_ratio = autoencoder.config.downscale
        self.patcher = comfy.model_patcher.ModelPatcher(
            autoencoder, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )
        self.size = None
        self.model_size()
