"""A photo with a face and the built-in model, as nodes in the host hand them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs

if TYPE_CHECKING:
    from torch import Tensor

Core = Callable[[str], ModuleType]
"""Imports a module of the pack under the name by which the host loaded it."""
PORTRAIT = SAMPLE_PHOTO.parent / "portrait.jpg"


@dataclass(frozen=True, eq=False)
class Scene:
    """Outputs of the nodes around one face.

    Attributes:
        model, vae, encoder: The built-in face model.
        photo: (1, H, W, 3), with one chosen face.
        photo_mask: (1, H, W).
        image: (1, S, S, 3) crop of the face.
        mask: (1, S, S).
        crops: Where the crop lies.
        recognizers, inversion: None unless a test sets some.
    """

    model: Any
    vae: Any
    encoder: Any
    photo: Tensor
    photo_mask: Tensor
    faces: Any
    image: Tensor
    mask: Tensor
    crops: Any
    recognizers: tuple[Any, ...] = ()
    inversion: Any = None


def open_photo(pack_nodes: dict[str, Any], path: Path, **settings: Any) -> tuple[Tensor, Any, Tensor]:
    """Open a photo and run Face Mask on it; return photo, faces and mask."""
    import torch

    photo = torch.from_numpy(graphs.sample(path))[None].float() / 255.0
    node = pack_nodes["FacePrivacy_FaceMask"]
    _, mask, faces, _ = node.execute(image=photo, **(graphs.widget_defaults(node) | settings)).args
    return photo, faces, mask


def builtin_scene(pack_nodes: dict[str, Any]) -> Scene:
    """Cut the face of the portrait out for the built-in model."""
    model, vae, encoder, size, _ = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
    photo, faces, photo_mask = open_photo(pack_nodes, PORTRAIT, which="largest")
    image, mask, crops = pack_nodes["FacePrivacy_FaceCrop"].execute(photo, faces, photo_mask, size).args
    return Scene(model, vae, encoder, photo, photo_mask, faces, image, mask, crops)
