"""The translations of the nodes: every language has all of them, and nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.paths import ROOT

LANGUAGES = ("de", "es", "fr", "ja", "zh")
LOCALES = ROOT / "locales"
SETTINGS = ROOT / "web" / "settings.js"
SUFFIX = " (Face Privacy)"
MESSAGE_SYNTAX = frozenset("{}|@")  # the frontend's translation library reads these itself


def _definitions(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def _settings(language: str) -> dict[str, dict[str, str]]:
    return json.loads((LOCALES / language / "settings.json").read_text(encoding="utf-8"))


def _i18n_key(name: str) -> str:
    """Write a name as the frontend looks it up."""
    return name.replace(".", "_")


def _keys(pack_nodes: dict[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
    """Keys of the inputs and outputs of every node, as a language must have them."""
    keys = {}
    for name, node in pack_nodes.items():
        schema = node.define_schema()
        inputs = [_i18n_key(entry.id) for entry in schema.inputs]
        keys[_i18n_key(name)] = inputs, [str(index) for index in range(len(schema.outputs))]
    return keys


def _pairs(pack_nodes: dict[str, Any], language: str) -> Iterator[tuple[str, str, str]]:
    """Give the place, the English text and the translation of every description and tooltip."""
    translations = _definitions(language)
    for name, node in pack_nodes.items():
        schema, translated = node.define_schema(), translations[_i18n_key(name)]
        yield f"{name}.description", schema.description, translated["description"]
        for entry in schema.inputs:
            yield f"{name}.{entry.id}", entry.tooltip, translated["inputs"][_i18n_key(entry.id)]["tooltip"]
        for index, entry in enumerate(schema.outputs):
            yield f"{name}.outputs.{index}", entry.tooltip, translated["outputs"][str(index)]["tooltip"]


def _texts(entry: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(entry, dict):
        for key, value in entry.items():
            yield from _texts(value, f"{place}.{key}")
    else:
        yield place, entry


def test_folders_are_the_languages() -> None:
    assert sorted(folder.name for folder in LOCALES.iterdir()) == sorted(LANGUAGES)


def test_host_finds_every_language(pack_nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths
    from app.custom_node_manager import CustomNodeManager

    folder = Path(folder_paths.get_input_directory()).parent / "custom_nodes"
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda name: [str(folder)])
    found = CustomNodeManager().build_translations()
    assert found == {language: {"nodeDefs": _definitions(language), "settings": _settings(language)} for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_settings_are_those_of_the_frontend(language: str) -> None:
    ids = re.findall(r'\bid: "([\w.]+)"', SETTINGS.read_text(encoding="utf-8"))
    assert ids
    assert sorted(_settings(language)) == sorted(map(_i18n_key, ids))
    for entry in _settings(language).values():
        assert set(entry) == {"name", "tooltip"}
        assert all(text.strip() and not MESSAGE_SYNTAX & set(text) for text in entry.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_inputs_and_outputs_are_those_of_the_schemas(pack_nodes: dict[str, Any], language: str) -> None:
    found = {name: (list(node["inputs"]), list(node["outputs"])) for name, node in _definitions(language).items()}
    assert found == _keys(pack_nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_all_its_texts(language: str) -> None:
    for name, node in _definitions(language).items():
        assert set(node) == {"display_name", "description", "inputs", "outputs"}, name
        for key, entry in (*node["inputs"].items(), *node["outputs"].items()):
            assert set(entry) == {"name", "tooltip"}, f"{name}.{key}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_holds_what_the_frontend_would_read_itself(language: str) -> None:
    for place, text in _texts(_definitions(language)):
        assert isinstance(text, str), place
        assert text.strip(), place
        assert not MESSAGE_SYNTAX & set(text), place


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_title_is_another_and_names_the_pack(pack_nodes: dict[str, Any], language: str) -> None:
    titles = {name: node["display_name"] for name, node in _definitions(language).items()}
    assert [name for name, title in titles.items() if not title.endswith(SUFFIX)] == []
    assert len(set(titles.values())) == len(titles)
    assert [name for name, node in pack_nodes.items() if titles[name] == node.define_schema().display_name] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_description_or_tooltip_is_left_in_english(pack_nodes: dict[str, Any], language: str) -> None:
    assert [place for place, english, translated in _pairs(pack_nodes, language) if translated == english] == []
