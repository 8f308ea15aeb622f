"""A person saved by one node and loaded by another is found in other pictures, as from the photo."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs
from tests.support.host_scenes import PORTRAIT, open_photo

SAVE, LOAD, MASK, ANONYMIZE = (f"FacePrivacy_{name}" for name in ("SavePerson", "LoadPerson", "FaceMask", "AnonymizeFaces"))
ONLY, EXCEPT = "only the people in the reference", "all but the people in the reference"

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]


@pytest.fixture(scope="module")
def saved(pack_nodes: dict[str, Any]) -> tuple[str, Any]:
    """Save the person of the portrait; return the name that Load Person takes, and what Save Person hands on."""
    photo, _, _ = open_photo(pack_nodes, PORTRAIT)
    with torch.inference_mode():
        done = pack_nodes[SAVE].execute(photo, "somebody/person")
    (people,) = done.args
    said = json.dumps(done.ui.as_dict())
    assert "somebody/person_00001_.fpperson: 1 face(s). Whoever has this file finds them" in said
    return "somebody/person_00001_.fpperson [output]", people


def _run(node: Any, **given: Any) -> Any:
    return node.PREPARE_CLASS_CLONE(None).execute(**graphs.widget_defaults(node) | given).args


def test_a_saved_person_is_chosen_or_spared(pack_nodes: dict[str, Any], saved: tuple[str, Any]) -> None:
    name, people = saved
    photo, everybody, _ = open_photo(pack_nodes, SAMPLE_PHOTO)
    (person,) = pack_nodes[LOAD].execute(name).args
    assert [{key: rows.tolist() for key, rows in one.vectors.items()} for one in person] == [
        {key: rows.tolist() for key, rows in one.vectors.items()} for one in people
    ]
    _, _, only, _ = _run(pack_nodes[MASK], image=photo, which=ONLY, person=person)
    assert [face.bbox_xyxy for face in only.items] == [everybody.items[1].bbox_xyxy]
    given = {"image": photo, "which": EXCEPT, "person": person, "method": "solid", "measure": False}
    _, _, rest, _, _ = _run(pack_nodes[ANONYMIZE], **given)
    assert [face.bbox_xyxy for face in rest.items] == [everybody.items[0].bbox_xyxy]


def test_the_file_is_offered_is_its_owners_alone_and_never_shown(pack_nodes: dict[str, Any], saved: tuple[str, Any]) -> None:
    import folder_paths

    name, people = saved
    offered = {entry.id: entry for entry in pack_nodes[LOAD].define_schema().inputs}["file"].options
    assert name in offered
    assert pack_nodes[LOAD].validate_inputs(name) is True
    assert "found no 'gone.fpperson'" in pack_nodes[LOAD].validate_inputs("gone.fpperson")
    path = Path(folder_paths.get_output_directory()) / name.removesuffix(" [output]")
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0
    assert str(people) == "(People(),)"


def test_a_file_of_something_else_is_refused(pack_nodes: dict[str, Any], core: Any) -> None:
    import folder_paths

    (Path(folder_paths.get_input_directory()) / "other.fpperson").write_bytes(b"not a person")
    with pytest.raises(core("faceprivacy_core.errors").InputError, match=r"a saved person, other\.fpperson is another file"):
        pack_nodes[LOAD].execute("other.fpperson")
