"""Pictures with sealed faces on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui

from ..faceprivacy_core.errors import InputError
from ..faceprivacy_core.files import NewFile, write_together
from ..faceprivacy_core.keyed import files
from ..faceprivacy_core.keyed.picture import KeyedPicture
from . import _host
from ._outputs import output_place
from ._types import KeyedType
from .keyed import CATEGORY, problem_of, to_image


class SaveKeyedImage(io.ComfyNode):
    """Write keyed pictures as PNG with their sealed faces inside.

    Core: `faceprivacy_core.keyed.files.keyed_png`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_SaveKeyedImage",
            display_name="Save Keyed Image (Face Privacy)",
            category=CATEGORY,
            description="Saves pictures as PNG, exact to the last bit, with the sealed faces inside. Neither workflow nor "
            "prompt is written unless you ask for it.",
            search_aliases=["save image", "export", "write png"],
            inputs=[
                KeyedType.Input("keyed", tooltip="From Keyed Encrypt."),
                io.String.Input(
                    "filename_prefix", default="encrypted",
                    tooltip="Beginning of the file's name in the output folder; the host's %date% and folders work.",
                ),
                io.Boolean.Input(
                    "sidecar", default=False,
                    tooltip="Also write the sealed faces to NAME.fprv beside the picture, for places that strip them from it.",
                ),
                io.Boolean.Input(
                    "include_workflow", default=False,
                    tooltip="Write prompt and workflow into the PNG. They hold the names of your files and keys, never a key.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, keyed: tuple[KeyedPicture, ...], filename_prefix: str, sidecar: bool, include_workflow: bool
    ) -> io.NodeOutput:
        text = workflow_text(cls.hidden) if include_workflow and not args.disable_metadata else None
        containers = [picture.container() if picture.faces else None for picture in keyed]
        height, width = keyed[0].pixels.shape[:2]
        place = output_place(filename_prefix, width, height)
        saved = []
        for index, (picture, container) in enumerate(zip(keyed, containers, strict=True)):
            path = place.folder / (place.free_stem(index, [".png", files.SIDECAR_SUFFIX]) + ".png")
            written = [NewFile(path, files.keyed_png(picture.stored, container, text=text))]
            if sidecar and container is not None:
                written.insert(0, files.sidecar_file(files.sidecar_path(path), container))
            write_together(written, replace=False)
            saved.append(ui.SavedResult(path.name, place.subfolder, io.FolderType.output))
        return io.NodeOutput(ui=ui.SavedImages(saved))


class LoadKeyedImage(io.ComfyNode):
    """Read a picture with its sealed faces.

    Core: `faceprivacy_core.keyed.files.read_keyed`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = Path(folder_paths.get_input_directory())
        names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        return io.Schema(
            node_id="FacePrivacy_LoadKeyedImage",
            display_name="Load Keyed Image (Face Privacy)",
            category=CATEGORY,
            description="Loads a PNG of Save Keyed Image with its sealed faces. The stock Load Image drops them.",
            search_aliases=["load image", "open image", "fprv"],
            inputs=[
                io.Combo.Input(
                    "image", options=sorted(folder_paths.filter_files_content_types(names, ["image"])),
                    upload=io.UploadType.image, tooltip="A picture that Save Keyed Image wrote, pixels untouched.",
                ),
                io.String.Input(
                    "sidecar", default="",
                    tooltip="Name of a .fprv file in the input folder, if the sealed faces lie there. Empty: inside the "
                    "picture, else in NAME.fprv beside it.",
                ),
            ],
            outputs=[
                KeyedType.Output("keyed", tooltip="For Keyed Decrypt."),
                io.Image.Output("image", tooltip="The picture as everybody sees it."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, image: str | None = None, sidecar: str | None = None) -> bool | str:
        names = [name for name in (image, sidecar or None) if name is not None]  # a linked one is not known yet
        problems = [problem_of(_host.input_file, name) for name in names]
        return next((problem for problem in problems if problem), True)

    @classmethod
    def fingerprint_inputs(cls, image: str | None = None, sidecar: str | None = None) -> str | float:
        if image is None or sidecar is None:  # linked, so not known yet
            return float("nan")
        path, named = _keyed_files(image, sidecar)
        contents = [there.read_bytes() for there in (path, named or files.sidecar_path(path)) if there.is_file()]
        return " ".join(hashlib.sha256(content).hexdigest() for content in contents)

    @classmethod
    def execute(cls, image: str, sidecar: str) -> io.NodeOutput:
        path, beside = _keyed_files(image, sidecar)
        pixels, container = files.read_keyed(path, beside)
        picture = KeyedPicture.from_container(pixels, container)
        return io.NodeOutput((picture,), to_image([picture.pixels]))


def workflow_text(hidden: Any) -> dict[str, str]:
    """Return what the stock Save Image writes into a PNG, keyword to text."""
    found = {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}
    return {keyword: json.dumps(value) for keyword, value in found.items() if value is not None}


def _keyed_files(image: str, sidecar: str) -> tuple[Path, Path | None]:
    """Return the picture, and the sidecar that is named."""
    path = _host.input_file(image)
    beside = files.sidecar_path(path)
    if beside.is_symlink() and not folder_paths.is_within_directory(str(path.parent), str(beside)):
        raise InputError(f"Expected a sidecar in the folder of its picture, {beside.name} is a link that leads out of it.")
    return path, _host.input_file(sidecar) if sidecar else None
