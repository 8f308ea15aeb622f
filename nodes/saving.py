"""Pictures on disk that tell nothing but what they show."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..faceprivacy_core.clean_files import FileKind, encode_clean
from ..faceprivacy_core.files import write_file
from . import _convert
from ._outputs import output_place


class SaveCleanImage(io.ComfyNode):
    """Save pictures without metadata.

    Core: `faceprivacy_core.clean_files.encode_clean`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_SaveCleanImage",
            display_name="Save Clean Image (Face Privacy)",
            category="face privacy/save",
            description="Saves pictures with their pixels only. The stock Save Image writes the whole workflow and the name of "
            "your photo into the file; this node writes no workflow, no prompt, no name, no place and no date.",
            search_aliases=["save image", "export", "without metadata", "strip exif", "privacy"],
            inputs=[
                io.Image.Input("image", tooltip="Pictures to save."),
                io.String.Input(
                    "filename_prefix", default="protected",
                    tooltip="Beginning of the file's name in the output folder. A file's name is seen too: use none that names "
                    "a person or the original.",
                ),
                io.Combo.Input(
                    "format", options=FileKind, default=FileKind.PNG,
                    tooltip="PNG keeps every pixel. JPEG and WebP are smaller.",
                ),
                io.Int.Input(
                    "quality", default=95, min=1, max=100,
                    tooltip="Of JPEG and WebP. WebP keeps every pixel at 100. PNG does not use it.",
                ),
                io.Boolean.Input(
                    "colour_profile", default=True, advanced=True,
                    tooltip="Say in the file that its colours are sRGB. What is written is the same for every picture.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: io.Image.Type, filename_prefix: str, format: str, quality: int, colour_profile: bool
    ) -> io.NodeOutput:
        pictures = [_convert.image_to_uint8(one) for one in _convert.image_to_core(image)]
        height, width = pictures[0].shape[:2]
        place = output_place(filename_prefix, width, height)
        kind, saved = FileKind(format), []
        for index, picture in enumerate(pictures):
            file = place.free_stem(index, [kind.suffix]) + kind.suffix
            content = encode_clean(picture, kind, quality=quality, is_tagged=colour_profile)
            write_file(place.folder / file, content, replace=False)
            saved.append(ui.SavedResult(file, place.subfolder, io.FolderType.output))
        return io.NodeOutput(ui=ui.SavedImages(saved))
