"""What a saved inversion holds: round trips at its precision, its size, and everything that is refused."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity, NoiseMap, StageTokens
from faceprivacy_core.errors import InputError, InversionFormatError, InversionModelError
from faceprivacy_core.inversions import contents
from faceprivacy_core.inversions.checks import check_channels
from faceprivacy_core.inversions.contents import SEALED, UNPROTECTED, from_bytes, to_bytes
from faceprivacy_core.inversions.sealed import seal_inversion
from faceprivacy_core.inversions.stored import StoredInversion, as_stored, conditions_of_tokens, stored_part
from faceprivacy_core.keyed.keys import PrivacyKey
from tests.support.inversions import SPOILS, inversion, one_crop, small_inversion, spoil

DIGEST = "d" * 64
LIMIT = 64 * 1024


def packed(given: FaceInversion, protection: str = UNPROTECTED) -> bytes:
    return to_bytes(stored_part(given, picture_digest=DIGEST), protection)


def details_of(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str], dict[str, Any]]:
    """Take a file apart without the code under test."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    return load(data), metadata, json.loads(metadata["details"])


def test_everything_comes_back_as_it_is_stored():
    given_ = small_inversion()
    back = from_bytes(packed(given_), UNPROTECTED)
    assert (back.model, back.picture_digest) == (given_.model, DIGEST)
    assert back.noise.sigmas == given_.noise.sigmas
    assert back.noise.residual == given_.noise.residual
    assert torch.equal(back.noise.latent, given_.noise.latent.half().float())
    assert set(back.tokens) == {"l", "g"}
    for name, tokens in given_.tokens.items():
        assert torch.equal(back.tokens[name].stacked(), as_stored(tokens).stacked())
        assert (back.tokens[name].base is None) == (tokens.base is None)
    assert (back.crops.size, len(back.crops)) == (64, 3)
    assert (back.crops.faces.num_images, back.crops.faces.height, back.crops.faces.width) == (2, 200, 300)
    for ours, theirs in zip(back.crops.items, given_.crops.items, strict=True):
        assert ours.face.image_index == theirs.face.image_index
        assert ours.face.bbox_xyxy == theirs.face.bbox_xyxy
        assert ours.face.confidence == theirs.face.confidence
        np.testing.assert_array_equal(ours.crop_to_image, theirs.crop_to_image)
        np.testing.assert_array_equal(ours.face.landmarks5, theirs.face.landmarks5)
        np.testing.assert_array_equal(ours.landmarks5, theirs.landmarks5)


def test_a_second_round_trip_changes_nothing():
    first = from_bytes(packed(small_inversion()), UNPROTECTED)
    second = from_bytes(to_bytes(first, UNPROTECTED), UNPROTECTED)
    assert torch.equal(first.noise.latent, second.noise.latent)
    assert all(torch.equal(first.tokens[name].stacked(), second.tokens[name].stacked()) for name in first.tokens)


@pytest.mark.parametrize("tokens_per_stage", [1, 2])
def test_a_512_pixel_face_of_stable_diffusion_takes_at_most_64_kib(tokens_per_stage: int):
    tokens = {"l": StageTokens(0.1 * torch.randn(10, 1, tokens_per_stage, 768))}
    sealed = seal_inversion(
        packed(inversion(one_crop(512), tokens, steps=50), SEALED), PrivacyKey.from_passphrase("long enough")
    )
    assert len(sealed) <= LIMIT


def test_a_face_of_the_built_in_model_with_ten_stages_takes_at_most_64_kib():
    tokens = {"unet": StageTokens(0.1 * torch.randn(10, 1, 1, 768), torch.randn(1, 21, 768))}
    assert len(packed(inversion(one_crop(128), tokens, steps=50))) <= LIMIT


def test_conditions_are_not_stored_but_made_from_the_tokens():
    base, offsets = torch.randn(3, 2, 8), torch.randn(5, 3, 1, 8)
    given_ = inversion(small_inversion().crops, {"unet": StageTokens(offsets, base)})
    data = packed(given_)
    assert {name.split(".")[0] for name in load(data)} == {"noise", "placement", "sigmas", "tokens"}
    back = from_bytes(data, UNPROTECTED)
    made = back.with_conditions(conditions_of_tokens(torch.ones(1, 2, 8)))
    assert torch.equal(made.stages, as_stored(given_.tokens["unet"]).stacked())
    assert torch.equal(made.empty, torch.ones(1, 2, 8))
    with pytest.raises(InputError, match=r"tokens for l, g\. This inversion needs the text encoder"):
        from_bytes(packed(small_inversion()), UNPROTECTED).with_conditions(conditions_of_tokens(torch.ones(1, 2, 8)))


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"tokens": {}}, "tokens"),
        ({"noise": None}, "a noise map"),
        ({"crops": None}, "the placement"),
        ({"model": ModelIdentity("x", "a" * 32)}, "fingerprints"),
    ],
)
def test_what_could_not_bring_faces_back_is_not_saved(changes: dict[str, Any], missing: str):
    with pytest.raises(InputError, match=f"without {missing}"):
        stored_part(replace(small_inversion(), **changes))


def test_tokens_for_a_text_encoder_need_its_fingerprint():
    with pytest.raises(InputError, match="fingerprint of the text encoder"):
        stored_part(replace(small_inversion(), model=ModelIdentity("x", "a" * 32, "b" * 32)))


def test_values_that_cannot_be_stored_are_refused():
    good = stored_part(small_inversion())
    noise = good.noise
    for latent in (noise.latent * 1e6, noise.latent * float("nan")):
        with pytest.raises(InputError, match="Expected finite noise"):
            to_bytes(replace(good, noise=replace(noise, latent=latent)), UNPROTECTED)
    for sigmas in ((1.0, 2.0, 0.0), (3.0, 2.0, 1.0), (0.0,), (2.0, 2.0, 0.0)):
        with pytest.raises(InputError, match="falling noise levels that end in 0"):
            to_bytes(replace(good, noise=replace(noise, sigmas=sigmas)), UNPROTECTED)
    with pytest.raises(InputError, match=r"equally many faces.*counts \[2, 3\]"):
        replace(good, noise=NoiseMap(noise.latent[:2], noise.sigmas, 0.0))


# Refused files


def rebuilt(change: str, value: Any) -> bytes:
    """Write a file with one thing changed."""
    tensors, metadata, details = details_of(packed(small_inversion()))
    if change in tensors or change.startswith(("tokens.", "extra")):
        tensors[change] = value
        if value is None:
            del tensors[change]
    elif change in metadata:
        metadata[change] = value
    else:
        details[change] = value
        if value is None:
            del details[change]
        metadata["details"] = json.dumps(details)
    return save(tensors, metadata)


def _placement(column: int, value: float) -> torch.Tensor:
    rows = load(packed(small_inversion()))["placement"].clone()
    rows[1, column] = value
    return rows


CHANGES: list[tuple[str, Any]] = [
    ("format", "faceprivacy-face-model"), ("version", "2"), ("protection", "sealed"), ("protection", ""), ("details", "[]"),
    ("details", "{"), ("unet", "A" * 32), ("unet", ""), ("vae", ""), ("vae", "b" * 31), ("text_encoder", "c"),
    ("text_encoder", ""), ("picture", "d"),
    ("model", 3), ("model", "m" * 201), ("residual", -1.0), ("residual", 1), ("residual", float("nan")), ("crop_size", 60),
    ("crop_size", 65), ("crop_size", 2**40), ("crop_size", 64.0), ("width", 0), ("height", 70000), ("num_images", 1),
    ("num_images", True), ("images", [0, 1]), ("images", [1, 1, 0]), ("images", [0, 1, 2]), ("images", "abc"), ("unknown", 1),
    ("residual", None), ("noise", None), ("sigmas", None), ("placement", None), ("extra", torch.zeros(1).half()),
    ("noise", torch.zeros(3, 4, 8, 8)), ("noise", torch.zeros(3, 4, 8, 9).half()), ("noise", torch.zeros(2, 4, 8, 8).half()),
    ("noise", torch.full((3, 4, 8, 8), torch.inf).half()), ("noise", torch.zeros(0, 4, 8, 8).half()),
    ("noise", torch.zeros(3).half()),
    ("sigmas", torch.tensor([3.0, 1.0, 0.0])), ("sigmas", torch.tensor([1.0, 3.0, 0.0]).double()),
    ("sigmas", torch.tensor([[1.0, 0.0]]).double()), ("sigmas", torch.tensor([0.0]).double()),
    ("sigmas", torch.arange(1002).flip(0).double()), ("sigmas", torch.tensor([float("nan"), 0.0]).double()),
    ("placement", torch.zeros(3, 20).double()), ("placement", torch.zeros(3, 21).double()),
    ("tokens.l.offsets", None), ("tokens.l.offsets", torch.zeros(5, 2, 1, 8).half()),
    ("tokens.l.base", torch.zeros(3, 2, 9).half()), ("tokens.x.offsets", torch.zeros(5, 3, 1, 8).half()),
    ("tokens.g.offsets", torch.zeros(5, 3, 1).half()), ("tokens.h.base", torch.zeros(3, 2, 8).half()),
]  # fmt: skip


@pytest.mark.parametrize(("change", "value"), CHANGES, ids=lambda part: part if isinstance(part, str) else "")
def test_a_file_with_one_thing_wrong_is_refused(change: str, value: Any):
    with pytest.raises(InversionFormatError):
        from_bytes(rebuilt(change, value), UNPROTECTED)


SIZES = [
    {"height": 65536, "width": 65536}, {"height": 65536, "width": 65536, "num_images": 65535}, {"num_images": 65535},
    {"height": 4000, "width": 4000}, {"crop_size": 4096}, {"crop_size": 72}, {"crop_size": 256},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes_that_the_length_of_the_file_does_not_bear_out_are_refused(sizes: dict[str, int]):
    tensors, metadata, details = details_of(packed(small_inversion()))
    metadata["details"] = json.dumps(details | sizes)
    data = save(tensors, metadata)
    with pytest.raises(InversionFormatError):
        from_bytes(data, UNPROTECTED)
    with pytest.raises(InversionFormatError):
        from_bytes(save(tensors, metadata | {"protection": SEALED}), SEALED)


def test_a_large_picture_with_one_face_is_saved():
    tokens = {"l": StageTokens(0.1 * torch.randn(10, 1, 1, 768))}
    crops = one_crop(512)
    large = replace(crops, faces=replace(crops.faces, height=6000, width=8000))
    assert from_bytes(packed(inversion(large, tokens)), UNPROTECTED).crops.faces.width == 8000


@pytest.mark.parametrize("factor", [8, 16])
def test_latents_of_other_factors_and_channels_are_saved(factor: int):
    tokens = {"unet": StageTokens(0.1 * torch.randn(10, 1, 1, 768))}
    given_ = inversion(one_crop(256), tokens)
    noise = replace(given_.noise, latent=torch.randn(1, 32, 256 // factor, 256 // factor))
    back = from_bytes(packed(replace(given_, noise=noise)), UNPROTECTED)
    assert back.noise.latent.shape == noise.latent.shape
    with pytest.raises(InversionModelError, match="denoiser"):
        check_channels(back.noise, 4)
    check_channels(back.noise, 32)


@pytest.mark.parametrize(("column", "value"), [(0, 1e9), (5, float("inf")), (14, 1.5), (14, -0.1), (20, float("nan"))])
def test_a_placement_out_of_range_is_refused(column: int, value: float):
    with pytest.raises(InversionFormatError):
        from_bytes(rebuilt("placement", _placement(column, value)), UNPROTECTED)


def test_a_placement_that_squashes_the_crop_to_a_line_is_refused():
    rows = _placement(0, 1.0)
    rows[0, 15:21] = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    with pytest.raises(InversionFormatError):
        from_bytes(rebuilt("placement", rows), UNPROTECTED)


def test_pickles_archives_and_checkpoints_are_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("data.pkl", pickle.dumps({"noise": [0.0]}))
    checkpoint = io.BytesIO()
    torch.save({"noise": torch.zeros(1, 4, 8, 8)}, checkpoint)
    old = io.BytesIO()
    torch.save({"noise": torch.zeros(1, 4, 8, 8)}, old, _use_new_zipfile_serialization=False)
    plain = save({"noise": torch.zeros(1, 4, 8, 8)})
    for data in (
        archive.getvalue(),
        checkpoint.getvalue(),
        old.getvalue(),
        pickle.dumps([1]),
        plain,
        b"",
        bytes(8),
        b"{}" * 40,
    ):
        with pytest.raises(InversionFormatError):
            from_bytes(data, UNPROTECTED)
    assert b"pickle" not in packed(small_inversion())


def test_lengths_that_lie_are_refused(monkeypatch: pytest.MonkeyPatch):
    data = packed(small_inversion())
    length = int.from_bytes(data[:8], "little")
    for lying in (0, length - 1, length + 1, len(data), 2**40, 2**64 - 1):
        with pytest.raises(InversionFormatError):
            from_bytes(lying.to_bytes(8, "little") + data[8:], UNPROTECTED)
    for name in ("MAX_BYTES", "MAX_HEADER_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(contents, name, 100)
            with pytest.raises(InversionFormatError):
                from_bytes(data, UNPROTECTED)


SMALL = packed(small_inversion())


@given(kind=st.sampled_from(SPOILS), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=500)
def test_a_spoiled_file_gives_our_error_or_a_whole_inversion(kind: str, seed: int):
    spoiled = spoil(SMALL, kind, random.Random(seed))
    try:
        found = from_bytes(spoiled, UNPROTECTED)
    except InversionFormatError:
        return
    assert isinstance(found, StoredInversion)  # a changed number: an unprotected file is not authenticated
    assert len(spoiled) == len(SMALL)
    assert bool(torch.isfinite(found.noise.latent).all())
