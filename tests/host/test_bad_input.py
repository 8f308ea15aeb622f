"""Bad input stops with one clear error, writes no picture, and leaves the host usable."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO
from devtools.server import ComfyServer
from devtools.workflow import Prompt
from tests.support import graphs

pytestmark = pytest.mark.weights

MASK = "FacePrivacy_FaceMask"
GUIDANCE = "FacePrivacy_EnergyGuidance"
Pixels = NDArray[np.uint8]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def two_people() -> Pixels:
    return graphs.sample(SAMPLE_PHOTO)


@pytest.fixture(scope="module")
def two_name(client: ComfyClient, folder: Path, two_people: Pixels) -> str:
    return graphs.upload(client, folder, "bad_two", two_people)


@pytest.fixture
def refused(server: ComfyServer, client: ComfyClient, folder: Path) -> Refused:
    """Run a prompt that must fail in a node; return the message, having checked what is left behind."""

    def run(prompt: Prompt, node: str) -> str:
        before = _written(server)
        with pytest.raises(ExecutionError) as caught:
            graphs.run(client, prompt)
        assert node in str(caught.value)
        assert _written(server) == before, "A failed run wrote a picture."
        _check_usable(client, folder)
        return str(caught.value)

    return run


def _written(server: ComfyServer) -> set[Path]:
    return {path for path in (server.base / "output").rglob("*") if path.is_file()}


def _check_usable(client: ComfyClient, folder: Path) -> None:
    small = np.random.default_rng().integers(0, 256, (32, 48, 3), dtype=np.uint8)  # never seen, so never cached
    done = graphs.run(client, graphs.plain_prompt(graphs.upload(client, folder, "small", small)))
    (inverted,) = done.pictures
    assert "ImageInvert" in done.executed
    # Saving cuts decimals off, so rounding in float32 may cost one level.
    assert np.abs(inverted.astype(int) - (255 - small.astype(int))).max() <= 1


def _touched(prompt: Prompt) -> Prompt:
    touched = graphs.add(prompt, "ThresholdMask", mask=[graphs.node_id(prompt, MASK), 1], value=0.0)
    graphs.save_mask(prompt, [touched, 0])
    return prompt


def _check_replaced(result: Pixels, touched: Pixels, original: Pixels, *, outside: int = 0) -> None:
    """The mask is not empty, something inside changed a lot, and nothing outside did."""
    inside = touched[..., 0] > 0
    change = np.abs(result.astype(int) - original.astype(int)).max(axis=-1)
    assert inside.any()
    assert change[inside].max() > 30
    assert change[~inside].max() <= outside


# Pictures


def test_picture_without_a_face_is_refused(
    refused: Refused, client: ComfyClient, object_info: dict[str, Any], folder: Path
) -> None:
    name = graphs.upload(client, folder, "faceless", graphs.gradient())
    message = refused(graphs.anonymize_prompt(object_info, name), MASK)
    assert "NoFaceError" in message
    assert "Expected a face in every picture, found none in picture 0" in message
    assert "on_no_face" in message


def test_one_picture_without_a_face_stops_the_whole_batch(
    refused: Refused, client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels, two_name: str
) -> None:
    height, width = two_people.shape[:2]
    prompt = graphs.anonymize_prompt(object_info, two_name)
    loaded = graphs.node_id(prompt, "LoadImage")
    empty = graphs.add(
        prompt, "LoadImage", image=graphs.upload(client, folder, "large_faceless", graphs.gradient(height, width))
    )
    batch = graphs.add(prompt, "ImageBatch", image1=[loaded, 0], image2=[empty, 0])
    graphs.inputs(prompt, MASK).update(image=[batch, 0])
    assert "found none in picture 1" in refused(prompt, MASK)


def test_file_that_is_not_a_picture_is_refused(
    refused: Refused, client: ComfyClient, object_info: dict[str, Any], folder: Path
) -> None:
    path = folder / "text.png"
    path.write_text("This is not a picture.\n" * 20)
    refused(graphs.anonymize_prompt(object_info, client.upload(path)), "LoadImage")


def test_missing_file_is_refused_before_anything_runs(refused: Refused, object_info: dict[str, Any]) -> None:
    message = refused(graphs.anonymize_prompt(object_info, "no_such_file.png"), "LoadImage")
    assert "no_such_file.png" in message


def test_picture_with_alpha_is_handled_by_its_colours(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels
) -> None:
    alpha = np.full((*two_people.shape[:2], 1), 255, np.uint8)
    alpha[:40] = 90
    name = graphs.upload(client, folder, "alpha", np.concatenate([two_people, alpha], axis=-1))
    result, touched = graphs.run(client, _touched(graphs.anonymize_prompt(object_info, name))).pictures
    _check_replaced(result, touched, two_people)


def test_batch_with_an_alpha_channel_is_refused_by_name(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    loaded = graphs.node_id(prompt, "LoadImage")
    joined = graphs.add(prompt, "JoinImageWithAlpha", image=[loaded, 0], alpha=[loaded, 1])
    graphs.inputs(prompt, MASK).update(image=[joined, 0])
    message = refused(prompt, MASK)
    assert "alpha channel" in message
    assert "Convert it to RGB first" in message


@pytest.mark.parametrize("bits", [8, 16])
def test_grayscale_picture_is_handled(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels, bits: int
) -> None:
    gray = cv2.cvtColor(two_people, cv2.COLOR_RGB2GRAY)
    path = folder / f"gray{bits}.png"
    cv2.imwrite(str(path), gray if bits == 8 else gray.astype(np.uint16) * 257)
    prompt = _touched(graphs.anonymize_prompt(object_info, client.upload(path)))
    result, touched = graphs.run(client, prompt).pictures
    # The host converts gray to RGB by itself and cuts decimals off when saving: one level each.
    _check_replaced(result, touched, np.stack([gray] * 3, axis=-1), outside=2)


def test_colour_picture_of_16_bits_is_handled(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels
) -> None:
    path = folder / "deep.png"
    cv2.imwrite(str(path), two_people[..., ::-1].astype(np.uint16) * 257)
    prompt = _touched(graphs.anonymize_prompt(object_info, client.upload(path)))
    result, touched = graphs.run(client, prompt).pictures
    # The host cuts decimals off when it saves.
    _check_replaced(result, touched, two_people, outside=1)


@pytest.fixture(scope="module")
def face_columns(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> tuple[int, int]:
    """First and last column of the left face's inner region."""
    prompt = graphs.anonymize_prompt(object_info, two_name)
    graphs.keep_only(prompt, "LoadImage", MASK)
    graphs.inputs(prompt, MASK).update(which="by number", numbers="0", region="inner face")
    (touched,) = graphs.run(client, _touched(prompt)).pictures
    columns = np.nonzero(touched[..., 0].any(axis=0))[0]
    return int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("cut", ["third", "half"])
def test_face_at_the_border_is_replaced_up_to_the_edge(
    client: ComfyClient,
    object_info: dict[str, Any],
    folder: Path,
    two_people: Pixels,
    face_columns: tuple[int, int],
    cut: str,
) -> None:
    first, last = face_columns
    start = first + (last - first) // (3 if cut == "third" else 2)
    picture = np.ascontiguousarray(two_people[:, start : start + 400])
    prompt = _touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, f"border_{cut}", picture)))
    # Half a face is a less sure detection than a whole one.
    graphs.inputs(prompt, MASK).update(which="by number", numbers="0", confidence=0.4)
    result, touched = graphs.run(client, prompt).pictures
    _check_replaced(result, touched, picture)
    edge = touched[:, 0, 0] > 0
    assert edge.any(), "The mask does not reach the edge, so another face was found."
    change = np.abs(result[:, :4].astype(int) - picture[:, :4].astype(int)).max(axis=(1, 2))
    assert change[edge].max() > 10, "The part of the face at the edge was left as it was."


def test_faces_of_20_pixels_are_replaced_or_refused_but_never_passed(
    server: ComfyServer,
    client: ComfyClient,
    object_info: dict[str, Any],
    folder: Path,
    two_people: Pixels,
    face_columns: tuple[int, int],
) -> None:
    scale = 20 / (face_columns[1] - face_columns[0])
    small = cv2.resize(two_people, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    prompt = _touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "tiny", small)))
    before = _written(server)
    try:
        result, touched = graphs.run(client, prompt).pictures
    except ExecutionError as error:  # both outcomes are right, so `pytest.raises` does not fit
        text = str(error)
        assert "NoFaceError" in text or "pixels between eyes and mouth" in text
        assert _written(server) == before
        return
    _check_replaced(result, touched, small)
    half = small.shape[1] // 2
    for side in (np.s_[:, :half], np.s_[:, half:]):
        assert (result[side] != small[side]).any(), "One of the two faces was passed silently."


def test_picture_whose_sides_are_no_multiple_of_8_keeps_its_size(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels
) -> None:
    odd = np.ascontiguousarray(two_people[: 640 - 3, : 1024 - 5])
    prompt = _touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "odd", odd)))
    result, touched = graphs.run(client, prompt).pictures
    assert result.shape == odd.shape
    _check_replaced(result, touched, odd)


# Settings


def test_number_of_a_face_that_does_not_exist_is_refused(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    graphs.inputs(prompt, MASK).update(which="by number", numbers="0, 5")
    message = refused(prompt, MASK)
    assert "Expected face numbers below 2" in message
    assert "got [5]" in message


@pytest.mark.parametrize("numbers", ["", "one", "-1"])
def test_face_numbers_that_are_none_are_refused(
    refused: Refused, object_info: dict[str, Any], two_name: str, numbers: str
) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    graphs.inputs(prompt, MASK).update(which="by number", numbers=numbers)
    assert "face number" in refused(prompt, MASK)


def test_mask_that_reaches_beyond_the_crops_is_refused(
    refused: Refused, object_info: dict[str, Any], two_people: Pixels, two_name: str
) -> None:
    height, width = two_people.shape[:2]
    prompt = graphs.anonymize_prompt(object_info, two_name, steps=1)
    everything = graphs.add(prompt, "SolidMask", value=1.0, width=width, height=height)
    for kind in ("FacePrivacy_FaceCrop", "FacePrivacy_FacePaste"):
        graphs.inputs(prompt, kind).update(mask=[everything, 0])
    message = refused(prompt, "FacePrivacy_FacePaste")
    assert "lies outside every face crop and would stay unprotected" in message
    assert "Use the mask of Face Mask" in message


def test_mask_of_another_size_is_refused(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    other = graphs.add(prompt, "SolidMask", value=1.0, width=64, height=64)
    graphs.inputs(prompt, "FacePrivacy_FaceCrop").update(mask=[other, 0])
    message = refused(prompt, "FacePrivacy_FaceCrop")
    assert "Expected the pictures the faces were found in" in message


def test_cancel_in_mid_run_leaves_no_picture_and_a_usable_host(
    server: ComfyServer, client: ComfyClient, object_info: dict[str, Any], folder: Path, two_name: str
) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name, steps=600)
    before, sampling, steps = _written(server), threading.Event(), []

    def follow(done: float, title: str) -> None:
        if title == "KSampler" or title == prompt[graphs.node_id(prompt, "KSampler")]["_meta"]["title"]:
            steps.append(done)
            if len(steps) == 3:
                sampling.set()

    stopper = threading.Thread(target=lambda: sampling.wait(120) and client.interrupt())
    stopper.start()
    with pytest.raises(ExecutionError, match="interrupted"):
        client.run(prompt, on_progress=follow, timeout_s=200)
    stopper.join()
    assert sampling.is_set()
    assert len(steps) < 100, "The run went on long after it was cancelled."
    assert _written(server) == before
    _check_usable(client, folder)
    (picture,) = graphs.run(client, graphs.anonymize_prompt(object_info, two_name, steps=2)).pictures
    assert picture.shape[-1] == 3


# Models and files, inside this process


@pytest.fixture(scope="module")
def parts(host_nodes: ModuleType, pack_nodes: dict[str, Any]) -> dict[str, Any]:
    """The built-in model, a crop of the portrait, and one recogniser."""
    import torch

    with torch.inference_mode():
        pixels = graphs.sample(SAMPLE_PHOTO.parent / "portrait.jpg")
        image = torch.from_numpy(pixels)[None].float() / 255.0
        model, vae, encoder, size, _ = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
        options = graphs.widget_defaults(pack_nodes[MASK]) | {"which": "largest"}
        _, mask, faces, _ = pack_nodes[MASK].execute(image=image, **options).args
        crop, _, crops = pack_nodes["FacePrivacy_FaceCrop"].execute(image, faces, mask, size).args
        (recognizers,) = pack_nodes["FacePrivacy_LoadFaceRecognizers"].execute("mobilefacenet-v1").args
    return {
        "model": model, "vae": vae, "face_encoder": encoder, "image": crop, "crops": crops, "recognizers": recognizers,
    }  # fmt: skip


@pytest.fixture(scope="module")
def errors(pack_nodes: dict[str, Any]) -> ModuleType:
    """The pack's error types, under the name by which the host loaded them."""
    package = pack_nodes[MASK].__module__.rsplit(".", 2)[0]
    return importlib.import_module(f"{package}.faceprivacy_core.errors")


def _guide(pack_nodes: dict[str, Any], parts: dict[str, Any], **changed: Any) -> Any:
    import torch

    names = ("model", "vae", "image", "crops", "recognizers")
    inputs = {name: parts[name] for name in names} | changed
    with torch.inference_mode():
        (model,) = pack_nodes[GUIDANCE].execute(**inputs, strength=1.0, diversity=1.0, floor=-1.0, start_percent=0.0,
                                                end_percent=1.0, normalize=True).args  # fmt: skip
    return model


@pytest.fixture
def flow_model(host_nodes: ModuleType, parts: dict[str, Any]) -> Any:
    """The built-in MODEL with the sampling of a flow model, made by the host's own node."""
    from comfy_extras.nodes_model_advanced import ModelSamplingFlux

    return ModelSamplingFlux().patch(parts["model"], 1.15, 0.5, 1024, 1024)[0]


def test_guidance_refuses_a_flow_model(
    pack_nodes: dict[str, Any], parts: dict[str, Any], errors: ModuleType, flow_model: Any
) -> None:
    with pytest.raises(errors.UnsupportedModelError, match=r"predicts noise or v.*Flux.*Connect a model"):
        _guide(pack_nodes, parts, model=flow_model)


def test_inversion_refuses_a_flow_model(
    pack_nodes: dict[str, Any], parts: dict[str, Any], errors: ModuleType, flow_model: Any
) -> None:
    import torch

    inversion = pack_nodes["FacePrivacy_MsiInversion"]
    with torch.inference_mode(), pytest.raises(errors.UnsupportedModelError, match="predicts noise or v"):
        inversion.execute(flow_model, parts["vae"], parts["face_encoder"], parts["image"], True, 20, 5)


@pytest.mark.parametrize("name", ["SD3", "Flux", "HunyuanVideo"])
def test_guidance_refuses_a_model_with_other_latents(
    pack_nodes: dict[str, Any], parts: dict[str, Any], errors: ModuleType, name: str
) -> None:
    import comfy.latent_formats

    other = parts["model"].clone()
    other.add_object_patch("latent_format", getattr(comfy.latent_formats, name)())
    with pytest.raises(errors.UnsupportedModelError, match=r"VAE with 16 latent channels.*got one with 4.*Connect"):
        _guide(pack_nodes, parts, model=other)


def test_guidance_refuses_a_vae_with_16_latent_channels(
    pack_nodes: dict[str, Any], parts: dict[str, Any], errors: ModuleType
) -> None:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    vae = comfy.sd.VAE(sd=TAESD(latent_channels=16).state_dict())
    assert vae.latent_channels == 16
    with pytest.raises(errors.UnsupportedModelError, match=r"VAE with 4 latent channels.*got one with 16.*Connect"):
        _guide(pack_nodes, parts, vae=vae)


def test_guidance_refuses_crops_of_another_count(pack_nodes: dict[str, Any], parts: dict[str, Any], errors: ModuleType) -> None:
    with pytest.raises(errors.InputError, match="Expected 1 original crops and at least one recogniser, got 2 and 1"):
        _guide(pack_nodes, parts, image=parts["image"].repeat(2, 1, 1, 1))


def test_running_out_of_memory_in_the_decoder_passes_through_untouched(
    host_nodes: ModuleType, pack_nodes: dict[str, Any], parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    full = torch.OutOfMemoryError("Allocation on device 0 failed.")

    def decode(self: object, latents: torch.Tensor) -> torch.Tensor:
        raise full

    model = _guide(pack_nodes, parts)
    monkeypatch.setattr(type(parts["vae"].first_stage_model), "decode", decode)
    tokens = parts["face_encoder"].empty_tokens()
    side = parts["image"].shape[1] // 8
    latent = {"samples": torch.zeros(1, 4, side, side)}
    with torch.inference_mode(), pytest.raises(torch.OutOfMemoryError) as caught:
        host_nodes.common_ksampler(
            model, 0, 2, 1.0, "euler", "ddim_uniform", [[tokens, {}]], [[tokens, {}]], latent
        )  # fmt: skip
    assert caught.value is full


@pytest.mark.parametrize("node", ["FacePrivacy_LoadFaceRecognizers", MASK])
def test_missing_model_file_names_the_command_that_fetches_it(
    pack_nodes: dict[str, Any],
    errors: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    node: str,
) -> None:
    import folder_paths
    import torch

    monkeypatch.setenv("FACEPRIVACY_MODELS", str(tmp_path))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "faceprivacy", ([str(tmp_path)], set()))
    given = graphs.widget_defaults(pack_nodes[node])
    if node == MASK:
        given["image"] = torch.from_numpy(graphs.gradient())[None].float() / 255.0
    with pytest.raises(errors.ModelFileError, match="faceprivacy models get"):
        pack_nodes[node].execute(**given)


def test_grayscale_tensor_of_another_pack_is_refused_by_name(pack_nodes: dict[str, Any], errors: ModuleType) -> None:
    import torch

    for channels, name in ((1, "grayscale"), (4, "alpha channel"), (6, "6 channels")):
        with pytest.raises(errors.InputError, match=rf"3 channels, got .*{name}"):
            pack_nodes[MASK].execute(image=torch.zeros(1, 64, 64, channels), **graphs.widget_defaults(pack_nodes[MASK]))


def test_picture_with_infinite_values_is_refused(pack_nodes: dict[str, Any], errors: ModuleType) -> None:
    import torch

    image = torch.full((1, 64, 64, 3), float("nan"))
    with pytest.raises(errors.InputError, match="NaN or infinity"):
        pack_nodes[MASK].execute(image=image, **graphs.widget_defaults(pack_nodes[MASK]))
