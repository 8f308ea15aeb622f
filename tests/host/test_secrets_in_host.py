"""A planted passphrase and a planted key occur nowhere after runs that succeed and runs that fail."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO, WORKFLOWS
from devtools.server import ComfyServer
from devtools.workflow import Prompt, load_workflow
from tests.support import graphs, host_runs
from tests.support.graphs import DECRYPT, ENCRYPT, SAVE_KEYED
from tests.support.host_scenes import open_photo
from tests.support.keys import FOLDER, PASSPHRASE, PASSPHRASE_NAME, ensure_key

pytestmark = pytest.mark.weights

FILE_KEY = "plantedfile"
TYPED = "typed-SECRET in the wrong field"
"""Not a key: what a user types into the name field by mistake."""


def _spellings(text: str) -> list[bytes]:
    """Return how a text may stand in a file: plain, escaped, in base64, as UTF-16, as hexadecimal digits."""
    raw = text.encode()
    return [raw, json.dumps(text)[1:-1].encode(), base64.b64encode(raw)[:-4], text.encode("utf-16-le"), raw.hex().encode()]


def _needles(key: str) -> list[bytes]:
    """Return all spellings of the planted secrets; also the part of the passphrase that names it in the spec."""
    raw = bytes.fromhex(key)
    spellings = [needle for text in (PASSPHRASE, "hunter2-SECRET", key, key.upper(), TYPED) for needle in _spellings(text)]
    return [*spellings, raw, base64.b64encode(raw)[:-4], repr(raw)[2:-1].encode()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def key(server: ComfyServer) -> str:
    ensure_key(server.base, "other")
    return ensure_key(server.base, FILE_KEY)


@pytest.fixture(scope="module")
def two_name(client: ComfyClient, folder: Path, key: str) -> str:
    return graphs.upload(client, folder, "secrets_two", graphs.sample(SAMPLE_PHOTO))


def _extended(prompt: Prompt) -> Prompt:
    """Save everything that can be saved: sidecar, workflow, and the published image by the stock node."""
    graphs.inputs(prompt, SAVE_KEYED).update(sidecar=True, include_workflow=True, filename_prefix="secrets/keyed")
    graphs.add(prompt, "SaveImage", images=[graphs.node_id(prompt, ENCRYPT), 1], filename_prefix="secrets/stock")
    return prompt


@pytest.fixture(scope="module")
def good_runs(client: ComfyClient, object_info: dict[str, Any], two_name: str, folder: Path) -> list[bytes]:
    """Encrypt, with the workflow in the file, and decrypt with both kinds of key; return the saved keyed files."""
    files = []
    for number, name in enumerate((PASSPHRASE_NAME, FILE_KEY)):
        make = graphs.encrypt_prompt if number == 0 else graphs.invert_prompt
        prompt = _extended(make(object_info, two_name, key=name))
        outputs = host_runs.run_as_browser(client, prompt, load_workflow(WORKFLOWS / "Encrypt Faces.json"))
        (image,) = outputs[graphs.node_id(prompt, SAVE_KEYED)]["images"]
        files.append(png := client.fetch(image))
        (folder / f"{name}.png").write_bytes(png)
        graphs.run(client, graphs.decrypt_prompt(object_info, client.upload(folder / f"{name}.png"), key=name))
    return files


@pytest.fixture(scope="module")
def failures(
    server: ComfyServer, client: ComfyClient, object_info: dict[str, Any], two_name: str, folder: Path, good_runs: list[bytes]
) -> list[host_runs.Failure]:
    """Fail on purpose with every handle in reach of the error report."""
    sealed = [client.upload(folder / f"{name}.png") for name in (PASSPHRASE_NAME, FILE_KEY)]
    faceless = graphs.upload(client, folder, "secrets_faceless", graphs.gradient())
    prompts = [
        graphs.decrypt_prompt(object_info, sealed[number], key=name) for number, name in ((1, PASSPHRASE_NAME), (0, FILE_KEY))
    ]
    prompts += [graphs.decrypt_prompt(object_info, name, key="other") for name in sealed]
    prompts += [graphs.decrypt_prompt(object_info, faceless, key=FILE_KEY)]
    prompts += [graphs.encrypt_prompt(object_info, faceless, key=name) for name in (PASSPHRASE_NAME, FILE_KEY)]
    for name in (PASSPHRASE_NAME, FILE_KEY):
        bad_size = graphs.encrypt_prompt(object_info, two_name, key=name, size=100)
        no_model = graphs.encrypt_prompt(object_info, two_name, key=name)
        for socket in ("model", "vae"):
            del graphs.inputs(no_model, ENCRYPT)[socket]
        numbers = graphs.decrypt_prompt(object_info, sealed[0], key=name, numbers="7")
        onto = graphs.decrypt_prompt(object_info, sealed[1], key=FILE_KEY)
        graphs.inputs(onto, DECRYPT)["onto"] = [graphs.add(onto, "LoadImage", image=faceless), 0]
        prompts += [bad_size, no_model, numbers, onto]
    return [host_runs.failure(client, server.base, prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def haystack(
    server: ComfyServer, client: ComfyClient, good_runs: list[bytes], failures: list[host_runs.Failure],
    object_info: dict[str, Any], two_name: str,
) -> dict[str, bytes]:  # fmt: skip
    """Everything the host wrote or tells, by place."""
    with pytest.raises(ExecutionError) as refusal:
        client.run(graphs.invert_prompt(object_info, two_name, key=TYPED))
    told = {
        "history": json.dumps(client.history()).encode(),
        "queue": host_runs.get(client, "/queue"),
        "jobs": host_runs.get(client, "/api/jobs"),
        "object_info": json.dumps(client.object_info()).encode(),
        "system": host_runs.get(client, "/system_stats"),
        "log": server.log_path.read_bytes(),
        "logs": host_runs.get(client, "/internal/logs"),
        "refusal": str(refusal.value).encode(),
        "failures": str(failures).encode(),
    }
    keys = server.base / FOLDER
    files = [
        path for path in server.base.rglob("*") if path.is_file() and keys not in path.parents and not _is_ours(server, path)
    ]
    return told | {str(path.relative_to(server.base)): path.read_bytes() for path in files}


def _is_ours(server: ComfyServer, path: Path) -> bool:
    """Say whether a file belongs to the repository, which is linked into the base folder."""
    return "custom_nodes" in path.relative_to(server.base).parts


def test_search_finds_what_is_there(server: ComfyServer, key: str, haystack: dict[str, bytes]) -> None:
    """Without this, an empty haystack would pass."""
    assert key.encode() in (server.base / FOLDER / f"{FILE_KEY}.key").read_bytes()
    assert PASSPHRASE_NAME.encode() in haystack["history"]
    assert FILE_KEY.encode() in haystack["failures"]
    names = " ".join(haystack)
    assert re.search(r"output/secrets/keyed_00001_\.png", names)
    assert re.search(r"output/secrets/keyed_00001_\.fprv", names)
    assert re.search(r"output/secrets/stock_00001_\.png", names)
    assert "temp/" in names
    assert b"Expected the name of a key" in haystack["refusal"]
    assert b"WrongKeyError" in haystack["log"]
    assert b"Exception during processing" in haystack["logs"]


def test_secrets_occur_nowhere(key: str, haystack: dict[str, bytes]) -> None:
    found = [(place, needle) for place, content in haystack.items() for needle in _needles(key) if needle in content]
    assert found == []


def test_failed_runs_failed_where_they_should_and_show_handles_only(failures: list[host_runs.Failure]) -> None:
    kinds = [failure.kind for failure in failures]
    assert kinds[:5] == ["WrongKeyError"] * 4 + ["FormatError"]
    assert kinds[5:7] == ["NoFaceError"] * 2
    assert set(kinds[7:]) == {"InputError"}
    shown = [failure.shown for failure in failures if failure.node in (ENCRYPT, DECRYPT)]
    assert shown
    for text in shown:
        assert re.search(r"PrivacyKey\(name='(planted|plantedfile|other)', id=([0-9a-f]{8}|passphrase)\)", text), text


def test_workflow_in_the_file_names_the_key_only(good_runs: list[bytes]) -> None:
    for png, name in zip(good_runs, (PASSPHRASE_NAME, FILE_KEY), strict=True):
        texts = [content for kind, content in host_runs.chunks(png) if kind in (b"tEXt", b"iTXt", b"zTXt")]
        written = {keyword.decode(): json.loads(text) for keyword, text in (entry.split(b"\0", 1) for entry in texts)}
        assert written.keys() == {"prompt", "workflow"}
        key_inputs = {"name": name, "create": False, "server_may_decrypt": True}
        assert graphs.inputs(written["prompt"], "FacePrivacy_PrivacyKey") == key_inputs
        assert written["workflow"] == load_workflow(WORKFLOWS / "Encrypt Faces.json")


def test_file_holds_no_metadata_unless_asked_for(
    client: ComfyClient, object_info: dict[str, Any], two_name: str, key: str
) -> None:
    prompt = graphs.invert_prompt(object_info, two_name, key=FILE_KEY)
    (png,) = host_runs.saved(graphs.run(client, prompt).outcome, prompt, client.fetch)
    assert sorted({kind for kind, _ in host_runs.chunks(png)}) == [b"IDAT", b"IEND", b"IHDR", b"fpRv"]
    assert FILE_KEY.encode() not in png


# Objects on the sockets


@pytest.fixture
def on_sockets(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], tuple[Any, Any, str]]]:
    """Return handle, keyed pictures and raw key, made by the nodes in this process."""
    import torch

    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / FOLDER))
    raw = ensure_key(tmp_path, FILE_KEY)
    with torch.inference_mode():
        photo, faces, mask = open_photo(pack_nodes, SAMPLE_PHOTO)
        (handle,) = pack_nodes["FacePrivacy_PrivacyKey"].execute(FILE_KEY).args
        encrypt = pack_nodes[ENCRYPT]
        settings = graphs.widget_defaults(encrypt) | {"mode": "exact"}
        keyed, _, _ = encrypt.execute(photo, faces, mask, handle, cover=1.0 - photo, **settings).args
        yield lambda: (handle, keyed, raw)


def test_outputs_show_no_secret_and_cannot_be_pickled(on_sockets: Callable[[], tuple[Any, Any, str]]) -> None:
    handle, keyed, raw = on_sockets()
    for value in (handle, keyed, keyed[0], keyed[0].faces[0], keyed[0].faces[0].key):
        for text in (repr(value), str(value), f"{value}", f"{value!r}"):
            assert raw not in text.lower()
            assert repr(bytes.fromhex(raw))[2:-1] not in text
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(value)
    with pytest.raises(TypeError):
        json.dumps(handle)
    assert copy.deepcopy(handle) is handle


def test_every_evaluation_of_a_key_counts_as_new(pack_nodes: dict[str, Any]) -> None:
    node = pack_nodes["FacePrivacy_PrivacyKey"]
    first, second = node.fingerprint_inputs(FILE_KEY), node.fingerprint_inputs(FILE_KEY)
    # The host compares inside containers, where one and the same NaN object would count as equal.
    assert [first] != [second]
