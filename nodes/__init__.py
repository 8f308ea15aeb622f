"""ComfyUI nodes: convert in, call the core once, convert out."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from ._host import register_models_folder
from .adversarial import AdversarialLatent
from .builtin import LoadBuiltinFaceModel
from .crops import FaceCrop, FacePaste
from .donors import DonorFace
from .evaluate import PrivacyReport
from .faces import FaceMask, LoadFaceRecognizers
from .guidance import EnergyGuidance
from .inversion import MsiInversion
from .inversion_files import LoadInversion, SaveInversion
from .keyed import KeyedDecrypt, KeyedEncrypt, LoadPrivacyKey
from .keyed_files import LoadKeyedImage, SaveKeyedImage
from .schedule import EmbeddingSchedule

NODES: list[type[io.ComfyNode]] = [
    LoadBuiltinFaceModel,
    LoadFaceRecognizers,
    FaceMask,
    FaceCrop,
    FacePaste,
    MsiInversion,
    EmbeddingSchedule,
    EnergyGuidance,
    AdversarialLatent,
    PrivacyReport,
    LoadPrivacyKey,
    KeyedEncrypt,
    KeyedDecrypt,
    SaveKeyedImage,
    LoadKeyedImage,
    SaveInversion,
    LoadInversion,
    DonorFace,
]


class FacePrivacyExtension(ComfyExtension):
    """All nodes of the pack."""

    @override
    async def on_load(self) -> None:
        register_models_folder()

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
