"""Give a workflow the pictures that it names: samples of the repository, or a person's photo."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from devtools.paths import SAMPLE_PHOTO
from devtools.widgets import WorkflowError, input_specs
from devtools.workflow import ObjectInfo, Prompt

LOADER = "LoadImage"


class Uploader(Protocol):
    """What can hand a picture to the host."""

    def upload(self, photo: Path) -> str:
        """Upload a picture and return its name on the host."""
        ...


def named_pictures(prompt: Prompt, object_info: ObjectInfo) -> dict[tuple[str, str], str]:
    """Return the picture in every upload menu, by node and widget; the first loader comes first."""
    found: dict[tuple[str, str], str] = {}
    for key in sorted(prompt, key=lambda key: _rank(prompt, key)):
        inputs = prompt[key]["inputs"]
        for spec in input_specs(object_info[prompt[key]["class_type"]]):
            if spec.has_upload and isinstance(inputs.get(spec.name), str):
                found[key, spec.name] = inputs[spec.name]
    return found


def provide_pictures(
    client: Uploader,
    prompt: Prompt,
    object_info: ObjectInfo,
    *,
    photo: Path | None = None,
    samples: Path = SAMPLE_PHOTO.parent,
) -> Path:
    """Upload what the workflow shows and put it into its loaders.

    Args:
        client: uploads to the host.
        prompt: changed in place.
        object_info: the running host's `/object_info`.
        photo: picture for the first loader; `None` keeps the sample that it names.
        samples: folder of the pictures that workflows may name.

    Returns:
        The picture in the first loader.

    Raises:
        WorkflowError: there is no loader, or it names a picture that is not among the samples.
    """
    widgets = named_pictures(prompt, object_info)
    if not widgets:
        raise WorkflowError("The workflow has no LoadImage node, so there is no place for a photo.")
    used: list[Path] = []
    for (key, widget), name in widgets.items():
        path = photo if photo is not None and not used else samples / name
        if not path.is_file():
            raise WorkflowError(
                f"Node {key} names the picture {name!r}, which is not among the samples of the "
                "repository. Choose a sample in the workflow, or give a file with --photo."
            )
        prompt[key]["inputs"][widget] = client.upload(path)
        used.append(path)
    return used[0]


def _rank(prompt: Prompt, key: str) -> tuple[bool, bool, int]:
    """Return the place of a node: loaders first, then by number."""
    number = int(key) if key.isdecimal() else 0
    return prompt[key]["class_type"] != LOADER, not key.isdecimal(), number
