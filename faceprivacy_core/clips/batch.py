"""Protect the followed faces of a batch of frames that are all in memory, as a host has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from ..pixels import to_pixels, to_tensor
from ..protect import DrawingTools, Method, ProtectResult, ProtectSettings
from ..protocols import Progress
from ..types import Faces
from .dressing import Dresser
from .looks import NewLook, draw_look
from .views import Views


def protect_followed(
    images: Tensor,
    faces: Faces,
    settings: ProtectSettings,
    load_tools: Callable[[], DrawingTools],
    *,
    progress: Progress | None = None,
) -> ProtectResult:
    """Give everybody of a clip one new face, or hide them.

    Args:
        images: (B, 3, H, W) in [0, 1] on the CPU, consecutive frames. Not modified.
        faces: Of these frames, each with the track of its person; see `tracks.follow_faces`.
        settings: Method, fallback, drawing.
        load_tools: Called only when a face is drawn.
        progress: Called after every denoising step.

    Returns:
        Frames in 8-bit steps in which every given face is replaced; memory beyond the result is that of a frame.

    Raises:
        InputError: A face has no track.
        NumericalError: There is no new face for somebody and the fallback is an error.
    """
    if any(face.track is None for face in faces.items):
        raise InputError(
            "Expected faces that were followed, got some without a track. Give the faces as following them gave them."
        )
    frames: list[Tensor] = []
    masks, methods = torch.zeros_like(images[:, :1]), []
    looks: dict[int, NewLook] = {}
    tools = load_tools() if settings.method is Method.NEW_FACE and faces.items else None
    if tools is not None:
        views = Views(tools.model.resolution)
        for index in range(faces.num_images):
            seen = [face for face in faces.of_image(index) if face.confidence > 0]
            picture = to_pixels(images[index : index + 1]) if seen else None
            for face in seen:
                views.add(int(face.track or 0), picture, face)
        for person in sorted({int(face.track or 0) for face in faces.items}):
            look = draw_look(
                views.of([person]), person, tools, settings.drawing, samples=views.samples_of([person]), progress=progress
            )
            if look is not None:
                looks[person] = look
    dresser = Dresser(looks, () if tools is None else tools.recognizers, settings)
    for index in range(faces.num_images):
        here = faces.of_image(index)
        if not here:
            frames.append(images[index : index + 1])
            continue
        dressed = dresser.dress(to_pixels(images[index : index + 1]), here)
        frames.append(to_tensor(dressed.picture))
        masks[index, 0] = torch.from_numpy(dressed.mask)
        methods += dressed.methods
    kept = torch.cat(frames)
    return ProtectResult(torch.where(masks > 0, kept, images), masks, tuple(methods))
