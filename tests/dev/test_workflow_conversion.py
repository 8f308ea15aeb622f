"""Saved graphs become API prompts, as the frontend itself would make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devtools.pictures import provide_pictures
from devtools.widgets import WorkflowError
from devtools.workflow import set_values, to_prompt, type_problems

OBJECT_INFO: dict[str, Any] = {
    "LoadImage": {
        "input": {"required": {"image": [["a.png"], {"image_upload": True}]}},
        "input_order": {"required": ["image"]},
        "output": ["IMAGE", "MASK"],
        "display_name": "Load Image",
    },
    "Sample": {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "seed": ["INT", {"default": 0}],
                "steps": ["INT", {"default": 20}],
                "method": [["euler", "heun"], {}],
                "text": ["STRING", {"forceInput": True}],
            },
            "optional": {"mask": ["MASK", {}], "strength": ["FLOAT", {"default": 1.0}]},
            "hidden": {"prompt": "PROMPT"},
        },
        "input_order": {
            "required": ["image", "seed", "steps", "method", "text"],
            "optional": ["mask", "strength"],
        },
        "output": ["IMAGE"],
        "display_name": "Sample",
    },
    "Blur": {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "how": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "box", "inputs": {"required": {"radius": ["INT", {}]}}},
                            {"key": "none", "inputs": {"required": {}}},
                        ]
                    },
                ],
                "sigmas": ["FLOAT", {}],
            }
        },
        "input_order": {"required": ["image", "how", "sigmas"]},
        "output": ["IMAGE"],
        "display_name": "Blur",
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {}]}},
        "input_order": {"required": ["images", "filename_prefix"]},
        "output": [],
        "display_name": "Save Image",
    },
}


def _node(number: int, kind: str, **rest: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "mode": 0, "inputs": [], "outputs": []} | rest


def _in(name: str, kind: str, link: int | None, *, is_widget: bool = False) -> dict[str, Any]:
    widget = {"widget": {"name": name}} if is_widget else {}
    return {"name": name, "type": kind, "link": link} | widget


LOADER = _node(1, "LoadImage", widgets_values=["a.png", "image"])


def _sample(image: int | None = 1, **rest: Any) -> dict[str, Any]:
    inputs = [_in("image", "IMAGE", image), _in("mask", "MASK", None)]
    values = [7, "randomize", 30, "heun", 0.5]
    outputs = [{"name": "IMAGE", "type": "IMAGE"}]
    return _node(2, "Sample", inputs=inputs, outputs=outputs, widgets_values=values) | rest


def _saver(link: int) -> dict[str, Any]:
    inputs = [_in("images", "IMAGE", link)]
    return _node(3, "SaveImage", inputs=inputs, widgets_values=["anonymized"])


def _graph(*nodes: dict[str, Any], links: list[Any]) -> dict[str, Any]:
    return {"nodes": list(nodes), "links": links}


PLAIN = _graph(LOADER, _sample(), _saver(2), links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])


def test_values_follow_the_order_of_the_definition_and_skip_companions() -> None:
    prompt = to_prompt(PLAIN, OBJECT_INFO)
    assert prompt["1"]["inputs"] == {"image": "a.png"}
    assert prompt["2"]["inputs"] == {
        "image": ["1", 0],
        "seed": 7,
        "steps": 30,
        "method": "heun",
        "strength": 0.5,
    }
    assert prompt["3"]["inputs"] == {"images": ["2", 0], "filename_prefix": "anonymized"}
    assert prompt["3"]["_meta"] == {"title": "Save Image"}


def test_link_into_a_widget_takes_the_place_of_its_value() -> None:
    sample = _sample()
    sample["inputs"].append(_in("steps", "INT", 9, is_widget=True))
    primitive = _node(9, "PrimitiveNode", widgets_values=[12, "fixed"])
    links = [*PLAIN["links"], [9, 9, 0, 2, 2, "INT"]]
    prompt = to_prompt(_graph(LOADER, sample, _saver(2), primitive, links=links), OBJECT_INFO)
    assert prompt["2"]["inputs"]["steps"] == 12
    assert "9" not in prompt


def test_notes_vanish_and_reroutes_are_followed() -> None:
    reroute = _node(4, "Reroute", inputs=[_in("", "*", 2)], outputs=[{"name": "", "type": "IMAGE"}])
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 4, 0, "*"], [3, 4, 0, 3, 0, "IMAGE"]]
    note = _node(5, "MarkdownNote", widgets_values=["Hello."])
    prompt = to_prompt(_graph(LOADER, _sample(), _saver(3), reroute, note, links=links), OBJECT_INFO)
    assert set(prompt) == {"1", "2", "3"}
    assert prompt["3"]["inputs"]["images"] == ["2", 0]


def test_bypassed_node_passes_on_the_input_of_equal_type() -> None:
    prompt = to_prompt(PLAIN | {"nodes": [LOADER, _sample(mode=4), _saver(2)]}, OBJECT_INFO)
    assert "2" not in prompt
    assert prompt["3"]["inputs"]["images"] == ["1", 0]


def test_muted_node_leaves_its_readers_without_input() -> None:
    prompt = to_prompt(PLAIN | {"nodes": [LOADER, _sample(mode=2), _saver(2)]}, OBJECT_INFO)
    assert "2" not in prompt
    assert "images" not in prompt["3"]["inputs"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["box", 4, 1.5], {"how": "box", "how.radius": 4, "sigmas": 1.5}),
        (["none", 1.5], {"how": "none", "sigmas": 1.5}),
    ],
)
def test_dynamic_menu_brings_the_widgets_of_its_choice(values: list[Any], expected: dict[str, Any]) -> None:
    node = _node(1, "Blur", widgets_values=values, inputs=[_in("image", "IMAGE", None)])
    assert to_prompt(_graph(node, links=[]), OBJECT_INFO)["1"]["inputs"] == expected


def test_links_may_be_objects() -> None:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) for link in PLAIN["links"]]
    assert to_prompt(PLAIN | {"links": links}, OBJECT_INFO) == to_prompt(PLAIN, OBJECT_INFO)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (_node(8, "Nobody"), r"Node 8 \(Nobody\).*knows no node 'Nobody'"),
        (_sample(widgets_values=[7, "fixed", 30]), r"Node 2 .*none is left for 'method'"),
        (_sample(widgets_values=[7, "fixed", 30, "heun", 1.0, 5]), r"Node 2 .*1 saved .*too many"),
        (_sample(inputs=[_in("colour", "INT", None)]), r"Node 2 .*'colour' that the node does not"),
        (_node(4, "Blur", widgets_values=["swirl", 1.0]), r"'how' is 'swirl'.*offers box, none"),
        (_node(3, "SaveImage", widgets_values={"prefix": "x"}), r"unknown widgets: prefix"),
    ],
)
def test_what_the_host_does_not_have_is_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        to_prompt(_graph(LOADER, node, links=PLAIN["links"]), OBJECT_INFO)


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        ({"1": {"class_type": "LoadImage"}}, "no `nodes` and `links`"),
        (PLAIN | {"definitions": {"subgraphs": [{"id": "x"}]}}, "contains subgraphs"),
        (_graph(_saver(2), links=[[2, 2, 0, 3, 0, "IMAGE"]]), "starts at node 2"),
    ],
)
def test_graph_that_cannot_be_read_says_why(workflow: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        to_prompt(workflow, OBJECT_INFO)


def test_links_of_equal_type_are_no_problem() -> None:
    assert type_problems(PLAIN, OBJECT_INFO) == []


def test_link_between_unequal_types_is_a_problem() -> None:
    links = [[1, 1, 1, 2, 0, "IMAGE"], PLAIN["links"][1]]
    (problem,) = type_problems(PLAIN | {"links": links}, OBJECT_INFO)
    assert "brings MASK from Node 1 (LoadImage) to 'image'" in problem


def test_settings_find_nodes_by_number_type_and_title() -> None:
    prompt = to_prompt(PLAIN, OBJECT_INFO)
    set_values(prompt, ["2.seed=5", "Sample.method=euler", "Save Image.filename_prefix=x.y=z"])
    assert prompt["2"]["inputs"]["seed"] == 5
    assert prompt["2"]["inputs"]["method"] == "euler"
    assert prompt["3"]["inputs"]["filename_prefix"] == "x.y=z"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "Expected NODE.WIDGET=VALUE"),
        ("Nobody.seed=1", "no node of the workflow"),
        ("2.colour=1", "no widget 'colour'"),
    ],
)
def test_settings_that_fit_nothing_are_errors(setting: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        set_values(to_prompt(PLAIN, OBJECT_INFO), [setting])


class _Uploader:
    def upload(self, photo: Path) -> str:
        return f"uploaded {photo.name}"


def _with_two_loaders(tmp_path: Path) -> dict[str, Any]:
    for name in ("a.png", "b.png", "mine.png"):
        (tmp_path / name).write_bytes(b"")
    second = _node(10, "LoadImage", widgets_values=["b.png", "image"])
    return to_prompt(_graph(second, LOADER, links=[]), OBJECT_INFO)


def test_loaders_get_the_samples_that_they_name(tmp_path: Path) -> None:
    prompt = _with_two_loaders(tmp_path)
    first = provide_pictures(_Uploader(), prompt, OBJECT_INFO, samples=tmp_path)
    assert first == tmp_path / "a.png"
    assert prompt["1"]["inputs"]["image"] == "uploaded a.png"
    assert prompt["10"]["inputs"]["image"] == "uploaded b.png"


def test_photo_goes_to_the_first_loader_by_number(tmp_path: Path) -> None:
    prompt, photo = _with_two_loaders(tmp_path), tmp_path / "mine.png"
    first = provide_pictures(_Uploader(), prompt, OBJECT_INFO, photo=photo, samples=tmp_path)
    assert first == photo
    assert prompt["1"]["inputs"]["image"] == "uploaded mine.png"
    assert prompt["10"]["inputs"]["image"] == "uploaded b.png"


def test_picture_that_is_no_sample_is_named(tmp_path: Path) -> None:
    prompt = to_prompt(_graph(LOADER, links=[]), OBJECT_INFO)
    with pytest.raises(WorkflowError, match=r"Node 1 names the picture 'a\.png'"):
        provide_pictures(_Uploader(), prompt, OBJECT_INFO, samples=tmp_path)
