"""What keyed faces refuse in the real host: each case by its own error, and never with a file left behind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO
from devtools.server import ComfyServer
from devtools.workflow import Prompt
from tests.support import graphs, host_runs
from tests.support.graphs import DECRYPT, ENCRYPT, SAVE_KEYED
from tests.support.host_scenes import Core
from tests.support.keys import ensure_key

pytestmark = pytest.mark.weights

MASK = "FacePrivacy_FaceMask"
KEY = "FacePrivacy_PrivacyKey"
LOAD = "FacePrivacy_LoadKeyedImage"
Pixels = NDArray[np.uint8]
Refused = Callable[[Prompt], host_runs.Failure]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refused")


@pytest.fixture(scope="module")
def two_name(server: ComfyServer, client: ComfyClient, folder: Path) -> str:
    for name in ("default", "other"):
        ensure_key(server.base, name)
    return graphs.upload(client, folder, "refused_two", graphs.sample(SAMPLE_PHOTO))


@pytest.fixture
def refused(server: ComfyServer, client: ComfyClient) -> Refused:
    return lambda prompt: host_runs.failure(client, server.base, prompt)


@pytest.fixture(scope="module")
def sealed(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> bytes:
    """A PNG with two faces in mode latent."""
    prompt = graphs.encrypt_prompt(object_info, two_name, steps=10)
    (png,) = host_runs.saved(graphs.run(client, prompt).outcome, prompt, client.fetch)
    return png


@pytest.fixture
def opened(client: ComfyClient, folder: Path, object_info: dict[str, Any]) -> Callable[..., Prompt]:
    """Make a decrypting prompt for the bytes of a file."""

    def make(content: bytes, name: str, **settings: Any) -> Prompt:
        (folder / name).write_bytes(content)
        return graphs.decrypt_prompt(object_info, client.upload(folder / name), **settings)

    return make


@pytest.fixture(scope="module")
def texts(core: Core) -> Callable[[str], str]:
    """Return the fixed text of an error class."""
    return lambda name: getattr(core("faceprivacy_core.errors"), name).text


def _again(png: bytes, *, change: Callable[[Pixels], None] | None = None, keep: bool = True) -> bytes:
    """Write a PNG again, pixels changed, with or without its private chunk."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture).copy()
    if change is not None:
        change(pixels)
    info = PngInfo()
    if keep:
        ((_, container),) = [chunk for chunk in host_runs.chunks(png) if chunk[0] == b"fpRv"]
        info.add(b"fpRv", container)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def _one_level(pixels: Pixels) -> None:
    pixels[5, 7, 1] ^= 1


# Decrypting


def test_untouched_copy_opens_so_the_refusals_below_mean_something(
    client: ComfyClient, opened: Callable[..., Prompt], sealed: bytes
) -> None:
    graphs.run(client, opened(_again(sealed), "untouched.png"))


def test_wrong_key_is_refused(
    refused: Refused, opened: Callable[..., Prompt], sealed: bytes, texts: Callable[[str], str]
) -> None:
    error = refused(opened(sealed, "wrong_key.png", key="other"))
    text = f"{texts('WrongKeyError')} The key tried was 'other'."
    assert (error.node, error.kind, error.message) == (DECRYPT, "WrongKeyError", text)


def test_one_changed_pixel_is_refused(
    refused: Refused, opened: Callable[..., Prompt], sealed: bytes, texts: Callable[[str], str]
) -> None:
    error = refused(opened(_again(sealed, change=_one_level), "tampered.png"))
    assert (error.node, error.kind, error.message) == (DECRYPT, "TamperedError", texts("TamperedError"))


@pytest.mark.parametrize("case", ["stripped", "plain", "photo"])
def test_picture_without_sealed_faces_is_refused(
    refused: Refused, opened: Callable[..., Prompt], sealed: bytes, texts: Callable[[str], str], case: str
) -> None:
    plain = io.BytesIO()
    Image.fromarray(graphs.gradient()).save(plain, "PNG")
    content = {"stripped": _again(sealed, keep=False), "plain": plain.getvalue(), "photo": SAMPLE_PHOTO.read_bytes()}[case]
    error = refused(opened(content, f"{case}.{'jpg' if case == 'photo' else 'png'}"))
    assert (error.node, error.kind, error.message) == (LOAD, "FormatError", texts("FormatError"))


def test_missing_model_is_named(refused: Refused, opened: Callable[..., Prompt], sealed: bytes) -> None:
    prompt = opened(sealed, "no_model.png")
    del graphs.inputs(prompt, DECRYPT)["model"]
    assert "Expected MODEL and VAE together" in refused(prompt).message
    del graphs.inputs(prompt, DECRYPT)["vae"]
    error = refused(prompt)
    assert (error.node, error.kind) == (DECRYPT, "InputError")
    assert "Expected a model with its VAE for a face in mode latent" in error.message


def test_key_that_does_not_exist_is_named_by_its_place(refused: Refused, opened: Callable[..., Prompt], sealed: bytes) -> None:
    error = refused(opened(sealed, "no_key.png", key="nobody"))
    assert (error.node, error.kind) == (KEY, "KeyNotFoundError")
    assert "faceprivacy key new NAME" in error.message


def test_key_that_its_owner_keeps_from_the_server_only_encrypts(
    server: ComfyServer,
    client: ComfyClient,
    refused: Refused,
    opened: Callable[..., Prompt],
    object_info: dict[str, Any],
    two_name: str,
    texts: Callable[[str], str],
) -> None:
    """Whoever reaches the server or shares a workflow can name a key; that must not be enough."""
    ensure_key(server.base, "kept", decrypts="no")
    prompt = graphs.invert_prompt(object_info, two_name, key="kept")
    (png,) = host_runs.saved(graphs.run(client, prompt).outcome, prompt, client.fetch)
    error = refused(opened(png, "kept.png", key="kept"))
    assert (error.node, error.kind, error.message) == (DECRYPT, "KeyUseError", texts("KeyUseError").format(name="kept"))
    assert b"kept" not in png


@pytest.mark.parametrize("name", ["correct horse battery", "../keys/default", "a" * 64 + "ff", "", "dir"])
def test_what_is_no_name_of_a_key_is_refused_before_anything_runs(
    client: ComfyClient, opened: Callable[..., Prompt], sealed: bytes, name: str
) -> None:
    known = set(client.history())
    with pytest.raises(ExecutionError, match="Expected the name of a key"):
        client.run(opened(sealed, "bad_name.png", key=name))
    assert set(client.history()) == known


@pytest.mark.parametrize("name", ["missing.png", "../../keys/default.key", "/etc/passwd", "..", "x.png [nowhere]", ""])
@pytest.mark.parametrize("socket", ["image", "sidecar"])
def test_files_outside_the_input_folder_are_refused_before_anything_runs(
    client: ComfyClient, opened: Callable[..., Prompt], sealed: bytes, name: str, socket: str
) -> None:
    if socket == "sidecar" and not name:
        pytest.skip("An empty sidecar means none.")
    prompt = opened(sealed, "traversal.png")
    graphs.inputs(prompt, LOAD)[socket] = name
    with pytest.raises(ExecutionError, match="Expected the name of a file in the input folder"):
        client.run(prompt)


def test_picture_made_again_under_the_same_name_is_read_again(
    client: ComfyClient, refused: Refused, opened: Callable[..., Prompt], sealed: bytes
) -> None:
    graphs.run(client, opened(sealed, "twice.png"))
    assert refused(opened(_again(sealed, change=_one_level), "twice.png")).kind == "TamperedError"


# Encrypting


def test_cover_that_shows_the_original_is_refused(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.invert_prompt(object_info, two_name)
    graphs.inputs(prompt, ENCRYPT).update(cover=graphs.inputs(prompt, ENCRYPT)["image"])
    error = refused(prompt)
    assert (error.node, error.kind) == (ENCRYPT, "InputError")
    assert "shows the original" in error.message


@pytest.mark.parametrize(("cover", "reason"), [("sharpened", "takes it for the original"), ("black", "no face is found in it")])
def test_cover_that_does_not_pass_the_check_is_never_published(
    refused: Refused, object_info: dict[str, Any], two_name: str, cover: str, reason: str
) -> None:
    prompt = graphs.invert_prompt(object_info, two_name)
    picture = graphs.inputs(prompt, ENCRYPT)["image"]
    sharp = {"image": picture, "sharpen_radius": 3, "sigma": 1.0, "alpha": 2.0}
    black = {"width": 1024, "height": 640, "batch_size": 1, "color": 0}
    made = graphs.add(prompt, "ImageSharpen", **sharp) if cover == "sharpened" else graphs.add(prompt, "EmptyImage", **black)
    recognizers = graphs.add(prompt, "FacePrivacy_LoadFaceRecognizers", recognizers="surrogates")
    graphs.inputs(prompt, ENCRYPT).update(cover=[made, 0], recognizers=[recognizers, 0])
    error = refused(prompt)
    assert (error.node, error.kind) == (ENCRYPT, "NumericalError")
    assert reason in error.message


def test_picture_between_two_encryptions_is_refused(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.invert_prompt(object_info, two_name)
    first = graphs.node_id(prompt, ENCRYPT)
    graphs.inputs(prompt, SAVE_KEYED)["keyed"] = [
        graphs.add(prompt, ENCRYPT, **prompt[first]["inputs"] | {"keyed": [first, 0]}), 0
    ]  # fmt: skip
    error = refused(prompt)
    assert (error.node, error.kind) == (ENCRYPT, "InputError")
    assert "from the same Keyed Encrypt" in error.message


def _without(*names: str) -> Callable[[Prompt], None]:
    def change(prompt: Prompt) -> None:
        for name in names:
            del graphs.inputs(prompt, ENCRYPT)[name]

    return change


def _set(**values: Any) -> Callable[[Prompt], None]:
    return lambda prompt: graphs.inputs(prompt, ENCRYPT).update(values)


CASES = {
    "no model": (_without("model", "vae"), "InputError", "Expected a model with its VAE for mode latent"),
    "vae alone": (_without("model"), "InputError", "MODEL and VAE together"),
    "no condition": (_without("positive"), "InputError", "Connect the output 'empty'"),
    "size": (_set(size=100), "InputError", "multiple of 8"),
    "decoy": (_set(decoy=True), "InputError", "Switch decoy off"),
    "cover in image mode": (_set(mode="image"), "InputError", "Expected no cover in mode image"),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_that_do_not_fit_are_refused(refused: Refused, object_info: dict[str, Any], two_name: str, case: str) -> None:
    change, kind, message = CASES[case]
    prompt = graphs.encrypt_prompt(object_info, two_name)
    if case == "cover in image mode":
        inverted = graphs.add(prompt, "ImageInvert", image=graphs.inputs(prompt, ENCRYPT)["image"])
        graphs.inputs(prompt, ENCRYPT).update(cover=[inverted, 0])
    change(prompt)
    error = refused(prompt)
    assert (error.node, error.kind) == (ENCRYPT, kind)
    assert message in error.message


def test_faces_of_another_picture_are_refused(
    client: ComfyClient, refused: Refused, object_info: dict[str, Any], folder: Path, two_name: str
) -> None:
    prompt = graphs.encrypt_prompt(object_info, two_name)
    other = graphs.add(prompt, "LoadImage", image=graphs.upload(client, folder, "other_size", graphs.gradient()))
    graphs.inputs(prompt, ENCRYPT).update(image=[other, 0])
    error = refused(prompt)
    assert (error.node, error.kind) == (ENCRYPT, "InputError")
    assert "Connect the same image to Face Mask" in error.message


def test_picture_without_a_face_stops_the_graph(
    client: ComfyClient, refused: Refused, object_info: dict[str, Any], folder: Path
) -> None:
    name = graphs.upload(client, folder, "faceless", graphs.gradient())
    assert refused(graphs.encrypt_prompt(object_info, name)).kind == "NoFaceError"


# Saving


@pytest.mark.parametrize("prefix", ["../escaped", "/tmp/escaped"])
def test_saving_outside_the_output_folder_is_refused(
    refused: Refused, object_info: dict[str, Any], two_name: str, prefix: str
) -> None:
    prompt = graphs.invert_prompt(object_info, two_name)
    graphs.inputs(prompt, SAVE_KEYED).update(filename_prefix=prefix)
    assert refused(prompt).node == SAVE_KEYED


def test_sidecar_opens_a_picture_whose_payload_was_stripped(
    server: ComfyServer, client: ComfyClient, object_info: dict[str, Any], folder: Path, two_name: str
) -> None:
    prompt = graphs.invert_prompt(object_info, two_name)
    graphs.inputs(prompt, SAVE_KEYED).update(sidecar=True, filename_prefix="with/sidecar")
    done = graphs.run(client, prompt)
    (entry,) = done.outcome.outputs[graphs.node_id(prompt, SAVE_KEYED)]["images"]
    png = server.base / "output" / entry["subfolder"] / entry["filename"]
    (folder / "bare.png").write_bytes(_again(png.read_bytes(), keep=False))
    (folder / "any name.fprv").write_bytes(png.with_suffix(".fprv").read_bytes())
    opening = graphs.decrypt_prompt(object_info, client.upload(folder / "bare.png"))
    graphs.inputs(opening, LOAD).update(sidecar=client.upload(folder / "any name.fprv"))
    (back,) = graphs.run(client, opening).pictures
    np.testing.assert_array_equal(back, graphs.sample(SAMPLE_PHOTO))
