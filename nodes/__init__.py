"""ComfyUI nodes: convert in, call the core once, convert out."""

from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from ._host import register_models_folder
from ._samples import provide_samples
from .adversarial import AdversarialLatent
from .anonymize_faces import AnonymizeFaces
from .blur_faces import BlurFaces
from .boxes import FacesFromBoxes
from .builtin import LoadBuiltinFaceModel
from .cloak_faces import ChangeLooks, CloakFaces
from .crops import FaceCrop, FacePaste
from .donors import DonorFace
from .evaluate import PrivacyReport
from .faces import FaceMask, LoadFaceRecognizers
from .guidance import EnergyGuidance
from .inversion import MsiInversion
from .inversion_files import LoadInversion, SaveInversion
from .keyed import KeyedDecrypt, KeyedEncrypt, LoadPrivacyKey
from .keyed_files import LoadKeyedImage, SaveKeyedImage
from .people import LoadPerson, SavePerson
from .saving import SaveCleanImage
from .schedule import EmbeddingSchedule
from .tracks import FaceTracks

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
    AnonymizeFaces,
    BlurFaces,
    CloakFaces,
    ChangeLooks,
    SaveCleanImage,
    DonorFace,
    FaceTracks,
    FacesFromBoxes,
    SavePerson,
    LoadPerson,
]


class FacePrivacyExtension(ComfyExtension):
    """All nodes of the pack."""

    @override
    async def on_load(self) -> None:
        register_models_folder()
        provide_samples(Path(folder_paths.get_input_directory()))

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
