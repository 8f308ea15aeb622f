"""PSNR, SSIM and LPIPS inside and outside a mask."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from faceprivacy_core import weights
from faceprivacy_core.errors import InputError
from faceprivacy_core.metrics import fidelity, perceptual
from faceprivacy_core.metrics.perceptual import PerceptualDistance, load_perceptual


def smooth_picture(height: int = 96, width: int = 120, seed: int = 0) -> np.ndarray:
    """Waves of colour; (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 12.0
    phases = generator.uniform(0, 6, size=(3, 2))
    waves = [np.sin(x + a) * np.cos(0.7 * y + b) for a, b in phases]
    return (127.5 + 90 * np.stack(waves, axis=2)).astype(np.uint8)


def with_noise(picture: np.ndarray, region: np.ndarray, size: int = 40, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-size, size + 1, picture.shape)
    changed = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return np.where(region[..., None], changed, picture)


@pytest.fixture
def picture() -> np.ndarray:
    return smooth_picture()


@pytest.fixture
def region(picture: np.ndarray) -> np.ndarray:
    region = np.zeros(picture.shape[:2], dtype=np.bool_)
    region[30:60, 40:80] = True
    return region


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float | None]
METRICS = [fidelity.compute_psnr, fidelity.compute_ssim, fidelity.compute_max_difference]


def test_equal_pictures_have_infinite_psnr_and_perfect_ssim(picture: np.ndarray, region: np.ndarray):
    assert fidelity.compute_psnr(picture, picture, region) == math.inf
    assert fidelity.compute_ssim(picture, picture, region) == 1.0
    assert fidelity.compute_max_difference(picture, picture, region) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_an_empty_region_has_no_value(metric: Metric, picture: np.ndarray, region: np.ndarray):
    assert metric(picture, with_noise(picture, region), np.zeros_like(region)) is None


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_are_symmetric(metric: Metric, picture: np.ndarray, region: np.ndarray):
    changed = with_noise(picture, region)
    assert metric(picture, changed, region) == pytest.approx(metric(changed, picture, region), rel=1e-9)


def test_psnr_follows_from_the_mean_squared_error(picture: np.ndarray, region: np.ndarray):
    changed = picture.copy()
    changed[region] = np.where(changed[region] >= 128, changed[region] - 10, changed[region] + 10)
    assert fidelity.compute_psnr(picture, changed, region) == pytest.approx(20 * math.log10(255 / 10))
    assert fidelity.compute_max_difference(picture, changed, region) == 10


@pytest.mark.parametrize("which", ["inside", "outside", "everywhere"])
@pytest.mark.parametrize("corner", [(30, 40), (0, 0), (66, 80)])
@pytest.mark.parametrize("tile", [17, 512])
def test_ssim_around_differences_equals_the_whole_map(
    picture: np.ndarray, corner: tuple[int, int], which: str, tile: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fidelity, "TILE_PX", tile)
    changed_region = np.zeros(picture.shape[:2], dtype=np.bool_)
    changed_region[corner[0] : corner[0] + 30, corner[1] : corner[1] + 40] = True
    changed = with_noise(picture, changed_region)
    asked = {"inside": changed_region, "outside": ~changed_region, "everywhere": np.ones_like(changed_region)}[which]
    _, values = structural_similarity(
        picture, changed, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert fidelity.compute_ssim(picture, changed, asked) == pytest.approx(values[asked].mean(), abs=1e-5)


def test_a_large_picture_is_compared_in_the_memory_of_a_tile():
    """12 megapixels in 36 MB; a map of the similarity alone takes 48."""
    picture = np.zeros((3000, 4000, 3), np.uint8)
    changed, mask = picture.copy(), np.zeros((3000, 4000), np.float32)
    for top, left in ((10, 10), (1500, 2000), (2950, 3950)):
        changed[top : top + 40, left : left + 40] = 90
        mask[top : top + 40, left : left + 40] = 1.0
    tracemalloc.start()
    try:
        inside = fidelity.changed_region(picture, changed, None)
        assert np.array_equal(inside, fidelity.changed_region(picture, changed, mask))
        similar = fidelity.compute_ssim_in(picture, changed, [inside, ~inside])
        assert fidelity.compute_max_difference(picture, changed, ~inside) == 0
        assert fidelity.compute_psnr(picture, changed, inside) < 10
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert similar[0] < 0.5 < 0.999 < similar[1] < 1.0
    assert peak < 45e6


def test_more_noise_is_worse(picture: np.ndarray, region: np.ndarray):
    little, much = with_noise(picture, region, 10), with_noise(picture, region, 60)
    assert fidelity.compute_psnr(picture, much, region) < fidelity.compute_psnr(picture, little, region)
    assert fidelity.compute_ssim(picture, much, region) < fidelity.compute_ssim(picture, little, region)


def test_any_mask_value_above_zero_counts_as_inside(picture: np.ndarray):
    mask = np.zeros(picture.shape[:2], dtype=np.float32)
    mask[10:20, 10:20] = 1e-6
    assert np.array_equal(fidelity.changed_region(picture, picture, mask), mask > 0)


def test_without_a_mask_the_changed_pixels_are_the_region(picture: np.ndarray):
    changed = picture.copy()
    changed[5, 7, 2] ^= 1
    found = fidelity.changed_region(picture, changed, None)
    assert np.argwhere(found).tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 5)), "of the picture's size"),
        (np.full((96, 120), 2.0), "in \\[0, 1\\], got 2 to 2"),
        (np.full((96, 120), np.nan), "in \\[0, 1\\], got nan"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(picture: np.ndarray, mask: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        fidelity.changed_region(picture, picture, mask)


@pytest.mark.parametrize("metric", METRICS)
def test_pictures_that_do_not_belong_together_are_refused(metric: Metric, picture: np.ndarray, region: np.ndarray):
    with pytest.raises(InputError, match="120 x 96 and 120 x 90"):
        metric(picture, picture[:90], region)
    with pytest.raises(InputError, match="uint8"):
        metric(picture / 255.0, picture / 255.0, region)
    with pytest.raises(InputError, match="region"):
        metric(picture, picture, region.astype(np.float32))
    with pytest.raises(InputError, match="at least 11 pixels"):
        metric(picture[:10], picture[:10], region[:10])


@pytest.fixture(scope="session")
def distance() -> PerceptualDistance:
    return load_perceptual()


@pytest.mark.weights
class TestPerceptual:
    def test_equal_pictures_have_distance_zero(self, distance: PerceptualDistance, picture: np.ndarray, region: np.ndarray):
        assert distance.compute(picture, picture, region) == (0.0, 0.0)

    def test_the_distance_is_symmetric_and_grows_with_noise(
        self, distance: PerceptualDistance, picture: np.ndarray, region: np.ndarray
    ):
        little, much = with_noise(picture, region, 10), with_noise(picture, region, 80)
        forth, back = distance.compute(picture, much, region), distance.compute(much, picture, region)
        assert forth == pytest.approx(back, rel=1e-5)
        assert forth[0] > distance.compute(picture, little, region)[0] > 0
        assert forth[0] > forth[1] >= 0

    def test_regions_without_pixels_have_no_value(self, distance: PerceptualDistance, picture: np.ndarray, region: np.ndarray):
        changed = with_noise(picture, region)
        assert distance.compute(picture, changed, np.zeros_like(region))[0] is None
        assert distance.compute(picture, changed, np.ones_like(region))[1] is None

    @pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
    def test_the_heads_are_those_of_the_package_and_weights_were_loaded(self, distance: PerceptualDistance):
        package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        for ours, theirs in zip(distance._network.lins, package.lins, strict=True):
            assert torch.equal(ours.model[-1].weight, theirs.model[-1].weight)
        assert not torch.equal(distance._network.net.slice1[0].weight, package.net.slice1[0].weight)

    def test_loading_leaves_the_random_state_and_gradients_alone(self):
        before = torch.get_rng_state()
        loaded = load_perceptual()
        assert torch.equal(before, torch.get_rng_state())
        assert not any(parameter.requires_grad for parameter in loaded._network.parameters())

    def test_other_heads_are_refused(self, tmp_path: Path):
        from safetensors.torch import load_file, save_file

        state = load_file(str(weights.find("lpips-alexnet")))
        state["head2.weight"] += 1
        save_file(state, tmp_path / "other.safetensors")
        with pytest.raises(weights.ModelFileError, match="layer 2"):
            PerceptualDistance(tmp_path / "other.safetensors")

    def test_a_large_picture_is_measured_around_the_region(self, distance: PerceptualDistance, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(perceptual, "MAX_LONG_SIDE", 256)
        picture = smooth_picture(200, 400)
        region = np.zeros((200, 400), dtype=np.bool_)
        region[80:120, 100:150] = True
        changed = with_noise(picture, region)
        inside, outside = distance.compute(picture, changed, region)
        whole = float(distance.compute_map(picture, changed)[region].mean())
        assert inside == pytest.approx(whole, rel=0.15), "the cut shifts the strides of the network, no more"
        assert 0 <= outside < inside
        assert distance.compute(picture, picture, region) == (0.0, 0.0)

    def test_tiny_pictures_have_a_value(self, distance: PerceptualDistance):
        picture = smooth_picture(16, 20)
        everything = np.ones((16, 20), dtype=np.bool_)
        inside, outside = distance.compute(picture, with_noise(picture, everything), everything)
        assert inside > 0
        assert outside is None
