"""Bad input stops with one clear error, writes no picture, and leaves the host usable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from devtools.client import ComfyClient, ExecutionError
from devtools.paths import SAMPLE_PHOTO
from devtools.server import ComfyServer
from devtools.workflow import Prompt
from tests.support import graphs, host_runs

pytestmark = pytest.mark.weights

MASK = "FacePrivacy_FaceMask"
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
        before = host_runs.written(server.base)
        with pytest.raises(ExecutionError) as caught:
            graphs.run(client, prompt)
        assert node in str(caught.value)
        assert host_runs.written(server.base) == before, "A failed run wrote a picture."
        _check_usable(client, folder)
        return str(caught.value)

    return run


def _check_usable(client: ComfyClient, folder: Path) -> None:
    small = np.random.default_rng().integers(0, 256, (32, 48, 3), dtype=np.uint8)  # never seen, so never cached
    done = graphs.run(client, graphs.plain_prompt(graphs.upload(client, folder, "small", small)))
    (inverted,) = done.pictures
    assert "ImageInvert" in done.executed
    # Saving cuts decimals off, so rounding in float32 may cost one level.
    assert np.abs(inverted.astype(int) - (255 - small.astype(int))).max() <= 1


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
    result, touched = graphs.run(client, graphs.save_touched(graphs.anonymize_prompt(object_info, name))).pictures
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
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, client.upload(path)))
    result, touched = graphs.run(client, prompt).pictures
    # The host converts gray to RGB by itself and cuts decimals off when saving: one level each.
    _check_replaced(result, touched, np.stack([gray] * 3, axis=-1), outside=2)


def test_colour_picture_of_16_bits_is_handled(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels
) -> None:
    path = folder / "deep.png"
    cv2.imwrite(str(path), two_people[..., ::-1].astype(np.uint16) * 257)
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, client.upload(path)))
    result, touched = graphs.run(client, prompt).pictures
    # The host cuts decimals off when it saves.
    _check_replaced(result, touched, two_people, outside=1)


@pytest.fixture(scope="module")
def face_columns(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> tuple[int, int]:
    """First and last column of the left face's inner region."""
    prompt = graphs.anonymize_prompt(object_info, two_name)
    graphs.keep_only(prompt, "LoadImage", MASK)
    graphs.inputs(prompt, MASK).update(which="by number", numbers="0", region="inner face")
    (touched,) = graphs.run(client, graphs.save_touched(prompt)).pictures
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
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, f"border_{cut}", picture)))
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
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "tiny", small)))
    before = host_runs.written(server.base)
    try:
        result, touched = graphs.run(client, prompt).pictures
    except ExecutionError as error:  # both outcomes are right, so `pytest.raises` does not fit
        text = str(error)
        assert "NoFaceError" in text or "pixels between eyes and mouth" in text
        assert host_runs.written(server.base) == before
        return
    _check_replaced(result, touched, small)
    half = small.shape[1] // 2
    for side in (np.s_[:, :half], np.s_[:, half:]):
        assert (result[side] != small[side]).any(), "One of the two faces was passed silently."


def test_picture_whose_sides_are_no_multiple_of_8_keeps_its_size(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels
) -> None:
    odd = np.ascontiguousarray(two_people[: 640 - 3, : 1024 - 5])
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "odd", odd)))
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
    assert "Use the mask of the same faces" in message


def test_mask_of_another_size_is_refused(refused: Refused, object_info: dict[str, Any], two_name: str) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    other = graphs.add(prompt, "SolidMask", value=1.0, width=64, height=64)
    graphs.inputs(prompt, "FacePrivacy_FaceCrop").update(mask=[other, 0])
    message = refused(prompt, "FacePrivacy_FaceCrop")
    assert "Draw it on the picture, or take that of the faces" in message


def test_cancel_in_mid_run_leaves_no_picture_and_a_usable_host(
    server: ComfyServer, client: ComfyClient, object_info: dict[str, Any], folder: Path, two_name: str
) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name, steps=600)
    before, sampling, steps = host_runs.written(server.base), threading.Event(), []

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
    assert host_runs.written(server.base) == before
    _check_usable(client, folder)
    (picture,) = graphs.run(client, graphs.anonymize_prompt(object_info, two_name, steps=2)).pictures
    assert picture.shape[-1] == 3
