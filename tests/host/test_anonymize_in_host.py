"""The anonymise workflow, run by a real host: same seed, same picture; outside the mask nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devtools.client import ComfyClient
from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs

pytestmark = pytest.mark.weights

PORTRAIT = SAMPLE_PHOTO.parent / "portrait.jpg"
MASK = "FacePrivacy_FaceMask"
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def two_people() -> Pixels:
    return graphs.sample(SAMPLE_PHOTO)


@pytest.fixture(scope="module")
def two_name(client: ComfyClient, folder: Path, two_people: Pixels) -> str:
    return graphs.upload(client, folder, "two", two_people)


@pytest.fixture(scope="module")
def portrait_name(client: ComfyClient, folder: Path) -> str:
    return graphs.upload(client, folder, "portrait", graphs.sample(PORTRAIT))


@pytest.fixture(scope="module")
def baseline(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> graphs.Run:
    """The workflow on two people: the result, then its touched pixels in white."""
    return graphs.run(client, graphs.save_touched(graphs.anonymize_prompt(object_info, two_name)))


def _largest_change(result: Pixels, original: Pixels, where: NDArray[np.bool_]) -> int:
    assert where.any(), "There is nothing to compare."
    return int(np.abs(result.astype(int) - original.astype(int))[where].max())


def test_same_seed_gives_the_same_picture_when_everything_is_computed_again(
    client: ComfyClient, object_info: dict[str, Any], two_name: str, baseline: graphs.Run
) -> None:
    other = graphs.run(client, graphs.anonymize_prompt(object_info, two_name, seed=8))
    graphs.forget(client)
    again = graphs.anonymize_prompt(object_info, two_name, seed=7)
    graphs.inputs(again, graphs.SAVE_CLEAN).update(filename_prefix="again")
    repeated = graphs.run(client, again)
    assert {"KSampler", MASK, "VAEDecode"} <= set(repeated.executed), "The cache answered, nothing was tested."
    np.testing.assert_array_equal(repeated.pictures[0], baseline.pictures[0])
    assert (other.pictures[0] != baseline.pictures[0]).any()


def test_pixels_outside_the_mask_are_exactly_those_of_the_input(two_people: Pixels, baseline: graphs.Run) -> None:
    result, touched = baseline.pictures
    assert _largest_change(result, two_people, touched[..., 0] == 0) == 0
    # A replaced face differs by far more than one level of rounding.
    assert _largest_change(result, two_people, touched[..., 0] > 0) > 30


def test_both_faces_are_replaced(two_people: Pixels, baseline: graphs.Run) -> None:
    changed = (baseline.pictures[0] != two_people).any(axis=-1)
    half = two_people.shape[1] // 2
    assert changed[:, :half].sum() > 1000
    assert changed[:, half:].sum() > 1000


def test_batch_of_two_pictures_gives_two_results(
    client: ComfyClient, object_info: dict[str, Any], folder: Path, two_people: Pixels, two_name: str
) -> None:
    mirrored = np.ascontiguousarray(two_people[:, ::-1])
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, two_name))
    first = graphs.node_id(prompt, "LoadImage")
    second = graphs.add(prompt, "LoadImage", image=graphs.upload(client, folder, "mirrored", mirrored))
    batch = graphs.add(prompt, "ImageBatch", image1=[first, 0], image2=[second, 0])
    graphs.inputs(prompt, MASK).update(image=[batch, 0], which="largest")
    pictures = graphs.run(client, prompt).pictures
    assert len(pictures) == 4
    for result, touched, original in zip(pictures[:2], pictures[2:], (two_people, mirrored), strict=True):
        assert _largest_change(result, original, touched[..., 0] == 0) == 0
        assert _largest_change(result, original, touched[..., 0] > 0) > 30


def test_repeated_latents_give_different_results_of_one_face(
    client: ComfyClient, object_info: dict[str, Any], portrait_name: str
) -> None:
    prompt = graphs.save_touched(graphs.anonymize_prompt(object_info, portrait_name))
    sampler = graphs.inputs(prompt, "KSampler")
    repeat = graphs.add(prompt, "RepeatLatentBatch", samples=sampler["latent_image"], amount=2)
    sampler["latent_image"] = [repeat, 0]
    first, second, touched = graphs.run(client, prompt).pictures
    original = graphs.sample(PORTRAIT)
    for result in (first, second):
        assert _largest_change(result, original, touched[..., 0] == 0) == 0
        assert _largest_change(result, original, touched[..., 0] > 0) > 30
    assert _largest_change(first, second, touched[..., 0] > 0) > 10


def test_stock_custom_sampler_gives_the_same_picture_as_the_simple_one(
    client: ComfyClient, object_info: dict[str, Any], two_name: str, baseline: graphs.Run
) -> None:
    prompt = graphs.anonymize_prompt(object_info, two_name)
    simple_id = graphs.node_id(prompt, "KSampler")
    simple = prompt.pop(simple_id)["inputs"]
    sigmas = graphs.add(
        prompt, "BasicScheduler", model=simple["model"], scheduler=simple["scheduler"], steps=simple["steps"],
        denoise=simple["denoise"],
    )  # fmt: skip
    chosen = graphs.add(prompt, "KSamplerSelect", sampler_name="euler")
    custom = graphs.add(
        prompt, "SamplerCustom", model=simple["model"], add_noise=True, noise_seed=simple["seed"], cfg=simple["cfg"],
        positive=simple["positive"], negative=simple["negative"], sampler=[chosen, 0], sigmas=[sigmas, 0],
        latent_image=simple["latent_image"],
    )  # fmt: skip
    graphs.inputs(prompt, "VAEDecode").update(samples=[custom, 0])
    (picture,) = graphs.run(client, prompt).pictures
    np.testing.assert_array_equal(picture, baseline.pictures[0])


def test_mask_cut_by_stock_nodes_limits_the_change(
    client: ComfyClient, object_info: dict[str, Any], two_people: Pixels, two_name: str
) -> None:
    height, width = two_people.shape[:2]
    prompt = graphs.anonymize_prompt(object_info, two_name)
    nothing = graphs.add(prompt, "SolidMask", value=0.0, width=width, height=height)
    half = graphs.add(prompt, "SolidMask", value=1.0, width=width // 2, height=height)
    face_mask = [graphs.node_id(prompt, MASK), 1]
    at_origin = {"x": 0, "y": 0}
    left = graphs.add(
        prompt, "MaskComposite", destination=[nothing, 0], source=[half, 0], operation="add", **at_origin
    )  # fmt: skip
    both = graphs.add(
        prompt, "MaskComposite", destination=face_mask, source=[left, 0], operation="multiply", **at_origin
    )  # fmt: skip
    for kind in ("FacePrivacy_FaceCrop", "FacePrivacy_FacePaste"):
        graphs.inputs(prompt, kind).update(mask=[both, 0])
    (result,) = graphs.run(client, prompt).pictures
    assert (result[:, width // 2 :] == two_people[:, width // 2 :]).all()
    assert (result[:, : width // 2] != two_people[:, : width // 2]).sum() > 1000


def test_picture_without_a_face_passes_unchanged_and_unsampled_when_asked_to(
    client: ComfyClient, object_info: dict[str, Any], folder: Path
) -> None:
    faceless = graphs.gradient()
    prompt = graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "faceless", faceless))
    graphs.inputs(prompt, MASK).update(on_no_face="pass")
    done = graphs.run(client, prompt)
    (picture,) = done.pictures
    np.testing.assert_array_equal(picture, faceless)
    assert MASK in done.executed
    assert {"KSampler", "VAEDecode"}.isdisjoint(done.executed)


def test_picture_without_a_face_is_blurred_when_asked_to(
    client: ComfyClient, object_info: dict[str, Any], folder: Path
) -> None:
    checks = np.kron(np.indices((20, 24)).sum(axis=0) % 2, np.ones((10, 10))).astype(np.uint8) * 255
    board = np.stack([checks] * 3, axis=-1)
    prompt = graphs.anonymize_prompt(object_info, graphs.upload(client, folder, "board", board))
    graphs.inputs(prompt, MASK).update(on_no_face="blur")
    (picture,) = graphs.run(client, prompt).pictures
    assert picture.shape == board.shape
    # Squares of 10 pixels under a blur of 10 pixels leave less than 1/20 of the contrast.
    assert picture.std() < board.std() / 20


def test_face_chosen_by_number_is_replaced_and_the_other_keeps_its_pixels(
    client: ComfyClient, object_info: dict[str, Any], two_people: Pixels, two_name: str
) -> None:
    half = two_people.shape[1] // 2
    left, right = np.s_[:, :half], np.s_[:, half:]
    for number, changed, kept in (("0", left, right), ("1", right, left)):
        prompt = graphs.anonymize_prompt(object_info, two_name)
        graphs.inputs(prompt, MASK).update(which="by number", numbers=number, order="left to right")
        (result,) = graphs.run(client, prompt).pictures
        np.testing.assert_array_equal(result[kept], two_people[kept])
        assert (result[changed] != two_people[changed]).sum() > 1000


def _masks(client: ComfyClient, object_info: dict[str, Any], name: str, **options: Any) -> NDArray[np.bool_]:
    prompt = graphs.keep_only(graphs.anonymize_prompt(object_info, name), "LoadImage", MASK)
    graphs.inputs(prompt, MASK).update({"region": "inner face", "feather": 0.0} | options)
    graphs.save_mask(prompt, [graphs.node_id(prompt, MASK), 1])
    (picture,) = graphs.run(client, prompt).pictures
    return picture[..., 0] > 0


def test_regions_lie_inside_each_other(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> None:
    inner, face, head = (
        _masks(client, object_info, two_name, region=region)
        for region in ("inner face", "face with neck and ears", "whole head")
    )
    assert 0 < inner.sum() < face.sum() < head.sum()
    assert not (inner & ~face).any()
    assert not (face & ~head).any()


def test_numbers_follow_the_order_that_was_chosen(client: ComfyClient, object_info: dict[str, Any], two_name: str) -> None:
    everyone = _masks(client, object_info, two_name)
    one, other = (_masks(client, object_info, two_name, which="by number", numbers=number) for number in ("0", "1"))
    assert one.any()
    assert other.any()
    np.testing.assert_array_equal(one | other, everyone)
    assert np.nonzero(one.any(axis=0))[0].mean() < np.nonzero(other.any(axis=0))[0].mean()
    largest = _masks(client, object_info, two_name, which="largest")
    by_size = _masks(client, object_info, two_name, which="by number", numbers="0", order="largest first")
    np.testing.assert_array_equal(largest, by_size)
    assert largest.sum() == max(one.sum(), other.sum())
