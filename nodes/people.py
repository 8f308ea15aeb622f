"""People on disk: whom the reference rules mean, without the photos."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..faceprivacy_core.faces.detect import load_detector
from ..faceprivacy_core.faces.people import People, learn_people
from ..faceprivacy_core.faces.people_files import SUFFIX, people_file, read_people
from ..faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES
from ..faceprivacy_core.files import write_together
from ..faceprivacy_core.protocols import FaceRecognizer
from . import _host
from ._one_step import load_recognizers, photos_of
from ._outputs import output_place
from ._types import PersonType, RecognizersType
from .keyed import problem_of

CATEGORY = "face privacy/faces"


class SavePerson(io.ComfyNode):
    """Write the identity vectors of a person's photos to a file.

    Core: `faceprivacy_core.faces.people.learn_people`, `faceprivacy_core.faces.people_files.people_file`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_SavePerson",
            display_name="Save Person (Face Privacy)",
            category=CATEGORY,
            description="Saves what recognisers see in photos of a person, to choose or spare the person later without the "
            "photos. The file holds no picture and no name, but it is BIOMETRIC DATA: whoever has it finds the person in other "
            "pictures. Ask the person, and delete it when it is no longer needed.",
            search_aliases=["save face model", "face model", "face embedding", "reference face", "identity"],
            inputs=[
                io.Image.Input("photos", tooltip="Photos of the person, best several. Every face in them counts."),
                io.String.Input(
                    "filename_prefix", default="person",
                    tooltip="Beginning of the file's name in the output folder. A file's name is seen too: use none that names "
                    "the person.",
                ),
                RecognizersType.Input(
                    "recognizers", optional=True,
                    tooltip="Who look at the photos. If open, the surrogates, with which Anonymize Faces chooses.",
                ),
            ],
            outputs=[PersonType.Output("person", tooltip="The same as Load Person gives.")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(
        cls, photos: io.Image.Type, filename_prefix: str, recognizers: tuple[FaceRecognizer, ...] = ()
    ) -> io.NodeOutput:
        people = learn_people(
            photos_of(photos), load_detector(_host.model_dirs()), recognizers or load_recognizers(DEFAULT_SURROGATES)
        )
        place = output_place(filename_prefix)
        name = place.free_stem(0, [SUFFIX]) + SUFFIX
        write_together([people_file(place.folder / name, people)], replace=False)
        said = f"{Path(place.subfolder, name).as_posix()}: {len(people)} face(s). Whoever has this file finds them elsewhere."
        return io.NodeOutput((people,), ui=ui.PreviewText(said))


class LoadPerson(io.ComfyNode):
    """Read a saved person.

    Core: `faceprivacy_core.faces.people_files.read_people`.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacePrivacy_LoadPerson",
            display_name="Load Person (Face Privacy)",
            category=CATEGORY,
            description="Loads a file of Save Person (or of 'faceprivacy person'), which takes the place of reference photos: "
            "in Face Mask and Anonymize Faces choose 'only the people in the reference' or 'all but the people in the "
            "reference'. The file is biometric data: keep it as safe as the photos.",
            search_aliases=["load face model", "face model", "face embedding", "reference face", "identity"],
            inputs=[
                io.Combo.Input(
                    "file", options=_host.named_files(SUFFIX),
                    tooltip="A .fpperson file in the input folder; a name that ends in ' [output]' lies in the output folder.",
                ),
                PersonType.Input("add_to", optional=True, tooltip="Further people, from another Load Person."),
            ],
            outputs=[PersonType.Output("person", tooltip="For Face Mask, Anonymize Faces, Cloak Faces and Face Tracks.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return True if file is None else problem_of(_host.input_file, file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> str | float:
        return _host.input_file_digest(file)

    @classmethod
    def execute(cls, file: str, add_to: tuple[People, ...] = ()) -> io.NodeOutput:
        return io.NodeOutput((*add_to, read_people(_host.input_file(file))))
