"""People of a clip: faces of consecutive frames that belong together."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.people import People
from ..faceprivacy_core.faces.preview import draw_numbers
from ..faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES
from ..faceprivacy_core.faces.select import Which
from ..faceprivacy_core.masks import MaskSettings, draw_masks
from ..faceprivacy_core.tracks import TrackSettings, choose_people, follow_faces
from ..faceprivacy_core.types import Face, Faces, Picture
from . import _convert, _host
from ._one_step import load_recognizers, person_input, photos_of
from ._types import FacesType

EVERYBODY = (Which.ALL, Which.ONLY_REFERENCE, Which.EXCEPT_REFERENCE)
VIEWS = 6
"""Views of a person that are compared with the reference."""


class FaceTracks(io.ComfyNode):
    """Link the faces of frames into people.

    Core: `faceprivacy_core.tracks.follow_faces`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_FaceTracks",
            display_name="Face Tracks (Face Privacy)",
            category="face privacy/faces",
            description="Links the faces of consecutive frames into people, across scene cuts. A face that is lost for some "
            "frames is filled in, and places are smoothed. Connect the result to 'tracks' of Anonymize Faces, and everybody "
            "has one new face through the clip.",
            search_aliases=["video", "track", "follow", "clip", "consistent faces"],
            inputs=[
                io.Image.Input("image", tooltip="Consecutive frames of a clip."),
                FacesType.Input("faces", tooltip="Faces of these frames, from Face Mask."),
                io.Int.Input(
                    "max_gap", default=25, min=0, max=1000,
                    tooltip="Frames for which a face may be lost and is filled in; after more, it has left.",
                ),
                io.Combo.Input(
                    "people", options=[which.value for which in EVERYBODY], default=Which.ALL.value,
                    tooltip="Who is kept, chosen once for the whole clip.",
                ),
                io.Image.Input("reference", optional=True, tooltip="Photos of the people the reference rules mean."),
                person_input(),
            ],
            outputs=[
                FacesType.Output("faces", tooltip="The faces with the number of their person, gaps filled in."),
                io.Image.Output("preview", tooltip="The frames with the numbers of the people."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, faces: Faces, max_gap: int, people: str, reference: io.Image.Type | None = None,
        person: tuple[People, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        images = _convert.image_to_core(image)
        recognizers = load_recognizers(DEFAULT_SURROGATES)
        pictures = (_convert.image_to_uint8(one) for one in images)
        with torch.inference_mode(False):
            followed = follow_faces(pictures, faces, recognizers[-1], TrackSettings(max_gap=max_gap))
            if people != Which.ALL:
                looks = {number: _views(images, followed.faces, number) for number in range(followed.people)}
                detector = load_detector(_host.model_dirs())
                chosen = choose_people(looks, Which(people), recognizers, photos_of(reference), detector, person)
                followed = followed.only(chosen)
        shown = []
        for index, one in enumerate(images):
            here = Faces(tuple(_in_first(face) for face in followed.faces.of_image(index)), 1, faces.height, faces.width)
            mask = draw_masks(here, MaskSettings())[0].numpy()
            shown.append(_convert.uint8_to_image(draw_numbers(_convert.image_to_uint8(one), here.items, mask)))
        preview = _convert.core_to_image(torch.stack(shown))
        return io.NodeOutput(followed.faces, preview, ui=ui.PreviewImage(preview[:1]))


def _views(images: torch.Tensor, faces: Faces, person: int) -> list[tuple[Picture, Face]]:
    """Return some of the surest views of a person."""
    seen = sorted(
        (face for face in faces.items if face.track == person and face.confidence > 0), key=lambda face: -face.confidence
    )
    return [(_convert.image_to_uint8(images[face.image_index]), face) for face in seen[:VIEWS]]


def _in_first(face: Face) -> Face:
    """Return a face as one of a single picture."""
    return Face(0, face.bbox_xyxy, face.landmarks5, face.confidence, face.track)
