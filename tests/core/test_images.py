"""Cropping, pasting back and masks: what is outside must not move by a bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from faceprivacy_core.align import estimate_similarity, invert_affine, transform_points, warp
from faceprivacy_core.errors import InputError, NoFaceError
from faceprivacy_core.images import crop_faces, crop_landmarks, paste_faces, paste_residual, share_mask
from faceprivacy_core.masks import MaskSettings, Region, draw_masks
from faceprivacy_core.pixels import as_bytes, to_pixels, to_tensor
from faceprivacy_core.types import Faces
from tests.support.faces import one_face, synthetic_face


def smooth_picture(height: int, width: int, batch: int = 1) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    channels = [0.5 + 0.4 * torch.sin(6 * x + c) * torch.cos(5 * y - c) for c in range(3)]
    return torch.stack(channels).expand(batch, 3, height, width).clone()


def test_similarity_recovers_a_known_transform():
    points = np.random.default_rng(0).normal(size=(5, 2)) * 40
    known = np.array([[0.8, -0.6, 3.0], [0.6, 0.8, -7.0]]) * np.array([[1.7]])
    np.testing.assert_allclose(estimate_similarity(points, transform_points(known, points)), known, atol=1e-9)
    np.testing.assert_allclose(transform_points(invert_affine(known), transform_points(known, points)), points)


def test_similarity_refuses_one_repeated_point():
    with pytest.raises(InputError, match="repeated"):
        estimate_similarity(np.ones((5, 2)), np.ones((5, 2)))


def test_identity_warp_is_exact():
    image = torch.rand(1, 3, 32, 40, dtype=torch.float64)
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    torch.testing.assert_close(warp(image, identity, (32, 40)), image, rtol=0, atol=1e-9)


def test_shrinking_warp_sends_gradient_to_every_pixel():
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    warp(image, np.array([[4.0, 0, 1.5], [0, 4.0, 1.5]]), (16, 16)).sum().backward()
    assert float((image.grad != 0).float().mean()) >= 0.99


@pytest.mark.parametrize("angle", [0.0, 25.0, -90.0])
def test_crop_lands_on_the_template_and_is_not_squashed(angle: float):
    faces = one_face(angle_deg=angle)
    _, crops = crop_faces(smooth_picture(200, 300), faces, 128)
    linear = crops.items[0].crop_to_image[:, :2]
    np.testing.assert_allclose(linear.T @ linear, np.eye(2) * np.linalg.det(linear), atol=1e-9)
    from faceprivacy_core.align import FFHQ_TEMPLATE

    np.testing.assert_allclose(crop_landmarks(crops)[0], FFHQ_TEMPLATE * 128 - 0.5, atol=1e-3)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_pasting_unchanged_crops_returns_the_picture(size: int):
    picture, faces = smooth_picture(200, 300), one_face(angle_deg=10.0)
    crops_of, crops = crop_faces(picture, faces, size)
    mask = draw_masks(faces, MaskSettings())[:, None]
    result = paste_faces(picture, crops_of, crops, mask)
    assert float((result - picture).abs().max()) < 0.02


@pytest.mark.parametrize("result_size", [64, 128, 192])
def test_outside_the_mask_every_byte_is_the_input(result_size: int):
    picture, faces = torch.rand(1, 3, 200, 300), one_face(angle_deg=-15.0)
    _, crops = crop_faces(picture, faces, 128)
    mask = draw_masks(faces, MaskSettings())[:, None]
    result = paste_faces(picture, torch.rand(1, 3, result_size, result_size), crops, mask)
    outside = (mask == 0).expand_as(picture)
    assert bool(outside.any())
    assert torch.equal(result[outside], picture[outside])
    inside = (mask > 0.9).expand_as(picture)
    assert float((result[inside] - picture[inside]).abs().mean()) > 0.1


@pytest.mark.parametrize("sharpen", [False, True])
def test_bytes_become_what_values_become_when_they_are_rounded(sharpen: bool):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    faces = Faces((synthetic_face(80, 100, 90, angle_deg=20), synthetic_face(220, 100, 100)), 1, 200, 300)
    mask, made = draw_masks(faces, MaskSettings())[:, None], []
    for images in (as_bytes(pixels), to_tensor(pixels)):
        before = images.clone()
        originals, crops = crop_faces(images, faces, 64)
        made.append((originals, paste_faces(images, 1.0 - originals, crops, mask, sharpen=sharpen)))
        assert torch.equal(images, before)
    assert torch.equal(made[0][0], made[1][0])
    assert made[0][1].dtype == torch.uint8
    assert np.array_equal(to_pixels(made[0][1]), to_pixels(made[1][1]))


def test_an_empty_mask_is_the_identity():
    picture, faces = torch.rand(1, 3, 200, 300), one_face()
    _, crops = crop_faces(picture, faces, 128)
    result = paste_faces(picture, torch.rand(1, 3, 128, 128), crops, torch.zeros(1, 1, 200, 300))
    assert torch.equal(result, picture)


def test_inputs_are_not_modified():
    picture, faces = torch.rand(1, 3, 200, 300), one_face()
    before = picture.clone()
    changed, crops = crop_faces(picture, faces, 128)
    paste_faces(picture, changed * 0, crops, draw_masks(faces, MaskSettings())[:, None])
    assert torch.equal(picture, before)


def test_a_batch_equals_its_pictures_alone():
    pictures = torch.rand(3, 3, 200, 300)
    items = tuple(synthetic_face(80 + 60 * i, 100, 110, image_index=i) for i in range(3))
    faces = Faces(items, 3, 200, 300)
    crops_of, crops = crop_faces(pictures, faces, 64)
    mask = draw_masks(faces, MaskSettings())[:, None]
    batch = paste_faces(pictures, 1 - crops_of, crops, mask)
    for i in range(3):
        alone = Faces((synthetic_face(80 + 60 * i, 100, 110),), 1, 200, 300)
        crop, place = crop_faces(pictures[i : i + 1], alone, 64)
        expected = paste_faces(pictures[i : i + 1], 1 - crop, place, draw_masks(alone, MaskSettings())[:, None])
        assert torch.equal(batch[i : i + 1], expected)


def test_variants_come_out_variant_by_variant():
    pictures, faces = torch.rand(1, 3, 200, 300), one_face()
    _, crops = crop_faces(pictures, faces, 64)
    mask = draw_masks(faces, MaskSettings())[:, None]
    a, b = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    both = paste_faces(pictures, torch.cat([a, b]), crops, mask)
    assert torch.equal(both[:1], paste_faces(pictures, a, crops, mask))
    assert torch.equal(both[1:], paste_faces(pictures, b, crops, mask))


def test_overlapping_faces_share_pixels_without_repainting_each_other():
    picture = torch.full((1, 3, 200, 300), 0.5)
    faces = Faces((synthetic_face(120, 100, 120), synthetic_face(165, 100, 120)), 1, 200, 300)
    _, crops = crop_faces(picture, faces, 64)
    colours = torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])
    result = paste_faces(picture, colours, crops, draw_masks(faces, MaskSettings(feather=0.0))[:, None])
    assert float(result[0, 0, 104, 115]) == 0.0
    assert float(result[0, 0, 104, 170]) == pytest.approx(1.0, abs=1e-6)


def test_a_face_at_the_border_is_cropped_and_pasted():
    picture = torch.rand(1, 3, 200, 300)
    faces = Faces((synthetic_face(12, 30, 120),), 1, 200, 300)
    crop, crops = crop_faces(picture, faces, 64)
    assert bool(torch.isfinite(crop).all())
    mask = draw_masks(faces, MaskSettings())[:, None]
    result = paste_faces(picture, 1 - crop, crops, mask)
    assert not torch.equal(result, picture)


def test_a_mask_beyond_every_crop_is_refused():
    picture, faces = torch.rand(1, 3, 200, 300), one_face()
    crop, crops = crop_faces(picture, faces, 64)
    with pytest.raises(InputError, match="unprotected"):
        paste_faces(picture, crop, crops, torch.ones(1, 1, 200, 300))


def test_no_face_to_crop_raises():
    with pytest.raises(NoFaceError, match="at least one face"):
        crop_faces(torch.rand(1, 3, 50, 50), Faces((), 1, 50, 50), 64)


def test_a_face_of_too_few_pixels_is_refused_by_place():
    faces = Faces((synthetic_face(50, 50, 14),), 1, 100, 100)
    with pytest.raises(InputError, match="pixels between eyes and mouth"):
        crop_faces(torch.rand(1, 3, 100, 100), faces, 64)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(InputError, match="same pictures"):
        crop_faces(torch.rand(1, 3, 100, 100), one_face(), 64)


@pytest.mark.parametrize("size", [32, 100])
def test_impossible_crop_sizes_are_refused(size: int):
    with pytest.raises(InputError, match="crop size"):
        crop_faces(torch.rand(1, 3, 200, 300), one_face(), size)


def test_crops_that_are_not_finite_are_refused():
    picture, faces = torch.rand(1, 3, 200, 300), one_face()
    crop, crops = crop_faces(picture, faces, 64)
    with pytest.raises(InputError, match="finite"):
        paste_faces(picture, crop * float("nan"), crops, draw_masks(faces, MaskSettings())[:, None])


def test_a_missing_crop_is_refused():
    picture = torch.rand(1, 3, 200, 300)
    faces = Faces((synthetic_face(90, 100, 100), synthetic_face(200, 100, 100)), 1, 200, 300)
    crop, crops = crop_faces(picture, faces, 64)
    with pytest.raises(InputError, match="multiple of 2"):
        paste_faces(picture, crop[:1], crops, draw_masks(faces, MaskSettings())[:, None])


def test_regions_grow_from_inner_face_to_head():
    faces = one_face()
    areas = [float(draw_masks(faces, MaskSettings(region=region)).sum()) for region in Region]
    assert 0 < areas[0] < areas[1] < areas[2]


def test_grow_widens_and_feather_only_softens_inside():
    faces = one_face()
    plain = draw_masks(faces, MaskSettings(feather=0.0))
    assert float(draw_masks(faces, MaskSettings(grow=5.0, feather=0.0)).sum()) > float(plain.sum())
    soft = draw_masks(faces, MaskSettings(feather=8.0))
    assert bool((soft[plain == 0] == 0).all())
    assert int(((soft > 0) & (soft < 1)).sum()) > 0


def test_a_picture_without_faces_has_an_empty_mask():
    assert float(draw_masks(Faces((), 2, 40, 50), MaskSettings()).sum()) == 0.0


@pytest.mark.parametrize(("name", "value"), [("grow", 50.0), ("feather", -1.0)])
def test_impossible_mask_settings_are_refused(name: str, value: float):
    with pytest.raises(InputError, match=name):
        MaskSettings(**{name: value})


@pytest.mark.parametrize("paste", [paste_faces, paste_residual])
def test_a_picture_without_colour_stays_without_and_one_with_colour_gets_it(paste: object):
    grey = torch.rand(1, 1, 200, 300).expand(-1, 3, -1, -1).clone()
    coloured = torch.rand(1, 3, 200, 300)
    faces = Faces((*one_face().items, synthetic_face(150, 100, 120, image_index=1)), 2, 200, 300)
    images = torch.cat([grey, coloured])
    crops = crop_faces(images, faces, 64)[1]
    mask = draw_masks(faces, MaskSettings())[:, None]
    pasted = paste(images, torch.rand(2, 3, 64, 64) - 0.2, crops, mask)
    assert not torch.equal(pasted[0], images[0])
    assert torch.equal(pasted[0, 0], pasted[0, 1])
    assert torch.equal(pasted[0, 1], pasted[0, 2])
    assert not torch.equal(pasted[1, 0], pasted[1, 1])


@pytest.mark.parametrize("angle_deg", [0, 30, 90, 200])
def test_a_mask_is_the_same_in_its_rectangle_and_in_the_whole_picture(angle_deg: float):
    """A picture far larger than the face holds the same mask at its place."""
    for settings in (MaskSettings(), MaskSettings(grow=10.0), MaskSettings(grow=-10.0, feather=0.0)):
        small = draw_masks(one_face(angle_deg=angle_deg), settings)[0]
        moved = synthetic_face(150 + 700, 100 + 500, 120, angle_deg=angle_deg)
        large = draw_masks(Faces((moved,), 1, 1200, 1800), settings)[0]
        torch.testing.assert_close(large[500:700, 700:1000], small, rtol=0, atol=1e-6)
        assert float(large.sum()) == pytest.approx(float(small.sum()), rel=1e-5)


def test_shares_of_many_faces_take_the_memory_of_their_rectangles():
    faces = Faces(tuple(synthetic_face(60 + 100 * (i % 10), 60 + 100 * (i // 10), 80) for i in range(60)), 1, 700, 1100)
    mask = draw_masks(faces, MaskSettings(Region.INNER_FACE))[:, None]  # which ends before the rims of the crops
    shares = share_mask(crop_faces(torch.rand(1, 3, 700, 1100), faces, 64)[1], mask)
    assert len(shares) == 60
    assert sum(share.weights.numel() for share in shares) < 0.8 * mask.numel()
    torch.testing.assert_close(sum(share.whole(700, 1100) for share in shares), mask[0])


CROWD = """
import sys, time, resource
import numpy as np, torch
from faceprivacy_core.images import crop_faces, paste_faces
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_max_difference, compute_psnr
from faceprivacy_core.pixels import as_bytes, to_pixels
from faceprivacy_core.types import Faces
from tests.support.faces import synthetic_face

torch.set_num_threads(1)
size = height, width = 4000, 6000
pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
images = as_bytes(pixels)
before, took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for columns, rows in ((3, 2), (10, 6)):
    items = [synthetic_face(300 + 590 * i, 300 + 620 * j, 320) for i in range(columns) for j in range(rows)]
    faces, started = Faces(tuple(items), 1, height, width), time.process_time()
    originals, crops = crop_faces(images, faces, 64)
    mask = draw_masks(faces, MaskSettings())[:, None]
    pasted = paste_faces(images, 1.0 - originals, crops, mask)
    took.append(time.process_time() - started)
    changed = to_pixels(pasted)
    del pasted
inside = mask[0, 0].numpy() > 0
assert compute_psnr(pixels, changed, inside) < 30 and compute_max_difference(pixels, changed, ~inside) == 0
scale = 2**20 if sys.platform == "darwin" else 2**10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / scale, took[0], took[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
def test_a_crowd_in_a_large_picture_takes_the_memory_of_a_few_pictures_and_time_by_the_face():
    """60 faces at 24 megapixels in bytes: two masks of 96 MB, a picture of 72, and the faces' boxes; values alone take 288."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=True, env=environment)
    megabytes, few, many = map(float, done.stdout.split())
    assert megabytes < 2 * 96 + 72 + 120
    assert many < 15 * few + 2.0
