"""Face Paste puts back what sampling changed in a start, and nothing that the autoencoder takes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host_scenes import Core, Scene, builtin_scene

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]


@pytest.fixture(scope="module")
def scene(pack_nodes: dict[str, Any]) -> Scene:
    return builtin_scene(pack_nodes)


def _paste(pack_nodes: dict[str, Any], scene: Scene, changed: Tensor, **options: Any) -> Tensor:
    node = pack_nodes["FacePrivacy_FacePaste"]
    return node.execute(scene.photo, scene.photo_mask, scene.crops, changed, **options).args[0]


def test_a_start_that_sampling_left_alone_comes_back_as_it_was(pack_nodes: dict[str, Any], scene: Scene) -> None:
    start = 1.0 - scene.image
    unchanged = scene.vae.decode(scene.vae.encode(start))
    kept = _paste(pack_nodes, scene, unchanged, start=start, face_encoder=scene.encoder)
    itself, without = (_paste(pack_nodes, scene, crops, face_encoder=scene.encoder) for crops in (start, unchanged))
    assert float((kept - itself).abs().max()) < 0.01 < float((without - itself).abs().max())


def test_several_results_of_one_start_each_keep_their_change(pack_nodes: dict[str, Any], scene: Scene) -> None:
    unchanged = scene.vae.decode(scene.vae.encode(scene.image))
    brighter = unchanged.repeat(2, 1, 1, 1)
    brighter[1] += 0.1
    first, second = _paste(pack_nodes, scene, brighter, start=scene.image, face_encoder=scene.encoder)
    inside = scene.photo_mask[0] == 1
    assert float((second - first)[inside].mean()) == pytest.approx(0.1, abs=0.02)


def test_a_start_that_cannot_be_used_is_refused(core: Core, pack_nodes: dict[str, Any], scene: Scene) -> None:
    expected = core("faceprivacy_core.errors").InputError
    with pytest.raises(expected, match="face_encoder with the start"):
        _paste(pack_nodes, scene, scene.image, start=scene.image)
    with pytest.raises(expected, match="start of all changed crops"):
        _paste(pack_nodes, scene, scene.image, start=scene.image.repeat(2, 1, 1, 1), face_encoder=scene.encoder)


def test_what_sampling_gives_is_asked_for_only_where_there_is_a_face(pack_nodes: dict[str, Any], scene: Scene) -> None:
    node = pack_nodes["FacePrivacy_FacePaste"]
    given = {"image": scene.photo, "mask": scene.photo_mask, "changed": None}
    assert node.check_lazy_status(crops=scene.crops, **given, start=None) == ["changed", "start"]
    assert node.check_lazy_status(crops=scene.crops, **given) == ["changed"]
    assert node.check_lazy_status(crops=(), **given, start=None) == []
