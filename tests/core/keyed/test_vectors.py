"""Files of every version of the formats still open, and bring back what was sealed in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faceprivacy_core.errors import InversionKeyError, TamperedError, WrongKeyError
from faceprivacy_core.inversions.files import read_inversion_file
from faceprivacy_core.keyed.decrypt import DecryptResult, decrypt_faces
from faceprivacy_core.keyed.files import read_keyed
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import claimed_pixels
from faceprivacy_core.metrics.fidelity import compute_psnr
from tests.support.independent_reader import open_inversion, tensors_of
from tests.support.inversions import small_inversion
from tests.support.vectors import HEIGHT, KEY, OTHER, PASSPHRASE, WIDTH, model, original, passphrase

VECTORS = Path(__file__).parents[2] / "vectors"
VERSIONS = sorted(path.name for path in VECTORS.iterdir() if path.is_dir())

each_version = pytest.mark.parametrize("version", VERSIONS)


def load(version: str, name: str) -> KeyedPicture:
    return KeyedPicture.from_container(*read_keyed(VECTORS / version / f"{name}.png"))


def open_vector(version: str, name: str, key: PrivacyKey = KEY) -> DecryptResult:
    return decrypt_faces(load(version, name), key, model())


def owned(picture: KeyedPicture) -> NDArray[np.bool_]:
    return claimed_pixels(picture.claims, HEIGHT, WIDTH)


def test_there_are_vectors():
    assert VERSIONS == ["v1", "v2", "v3"]


@each_version
def test_exact_faces_come_back_to_the_byte(version: str):
    opened = open_vector(version, "exact")
    assert opened.opened == (0, 1)
    assert np.array_equal(opened.pixels, original())
    assert not np.array_equal(load(version, "exact").pixels, original())


@each_version
def test_each_key_opens_its_own_face(version: str):
    first = open_vector(version, "two_keys")
    assert first.opened == (0,)
    both = decrypt_faces(load(version, "two_keys"), OTHER, onto=first.pixels)
    assert both.opened == (1,)
    assert np.array_equal(both.pixels, original())


@each_version
def test_a_passphrase_opens_its_picture(version: str):
    assert np.array_equal(open_vector(version, "passphrase", passphrase()).pixels, original())
    with pytest.raises(WrongKeyError):
        open_vector(version, "passphrase")


@each_version
@pytest.mark.parametrize(("name", "decibels"), [("latent", 35.0), ("unbound", 35.0), ("image", 30.0), ("decoy", 30.0)])
def test_faces_in_latents_and_pixels_come_back(version: str, name: str, decibels: float):
    picture = load(version, name)
    inside = owned(picture)
    assert compute_psnr(original(), picture.pixels, inside) < 25.0
    assert compute_psnr(original(), open_vector(version, name).pixels, inside) > decibels


@each_version
def test_the_published_rule_changes_the_face_again(version: str):
    picture = load(version, "signflip")
    opened = open_vector(version, "signflip")
    assert opened.opened == (0,)
    assert not np.array_equal(opened.pixels[owned(picture)], picture.pixels[owned(picture)])


@each_version
@pytest.mark.parametrize("name", ["exact", "two_keys", "latent"])
def test_a_changed_pixel_is_noticed(version: str, name: str):
    picture = load(version, name)
    changed = picture.pixels.copy()
    changed[0, 0, 0] ^= 1
    with pytest.raises(TamperedError):
        decrypt_faces(KeyedPicture(changed, picture.faces), KEY, model())


@each_version
def test_saved_inversions_open(version: str):
    wanted = small_inversion()
    sealed = {"key": KEY, "passphrase": passphrase(), "unprotected": None}
    for name, key in sealed.items():
        found = read_inversion_file(VECTORS / version / f"{name}.fpinv", key)
        assert torch.equal(found.noise.latent, wanted.noise.latent.half().float())
        assert torch.equal(found.tokens["l"].offsets, wanted.tokens["l"].offsets.half().float())
        assert found.model == wanted.model
    with pytest.raises(InversionKeyError):
        read_inversion_file(VECTORS / version / "key.fpinv", OTHER)


@each_version
def test_a_program_written_from_the_document_reads_saved_inversions(version: str):
    wanted, files = small_inversion(), {path.stem: path.read_bytes() for path in (VECTORS / version).glob("*.fpinv")}
    plain = {"unprotected": files["unprotected"], "key": open_inversion(files["key"], bytes(range(32)))}
    plain["passphrase"] = open_inversion(files["passphrase"], PASSPHRASE)
    for name, content in plain.items():
        metadata, tensors = tensors_of(content)
        assert metadata["protection"] == ("none" if name == "unprotected" else "sealed")
        assert np.array_equal(tensors["noise"], wanted.noise.latent.half().numpy())
        assert np.array_equal(tensors["tokens.l.offsets"], wanted.tokens["l"].offsets.half().numpy())
        assert tensors["placement"].shape == (3, 21)
        assert tensors["sigmas"][-1] == 0.0
        assert json.loads(metadata["details"])["unet"] == wanted.model.unet
