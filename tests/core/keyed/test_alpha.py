"""Transparency is bound: who opens a face knows that nobody hid, showed or faded a part of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceprivacy_core.errors import InputError, TamperedError
from faceprivacy_core.keyed.decrypt import decrypt_faces, face_key_of
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.files import read_keyed
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.types import Faces
from tests.support.vectors import HEIGHT, KEY, LEFT, WIDTH, alpha, model, original

VECTORS = Path(__file__).parents[2] / "vectors"
OPAQUE = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
FADED = OPAQUE.copy()
FADED[3, 4] = 254


def sealed(mode: RecoveryMode, opacity: np.ndarray | None, **chosen: object) -> tuple[np.ndarray, bytes]:
    """Encrypt the picture of the vectors; return its pixels as they are stored, and the container."""
    faces = Faces((LEFT,), 1, HEIGHT, WIDTH)
    settings = EncryptSettings(mode, **{"steps": 20, "iterations": 10, "verify": False} | chosen)
    mask = draw_masks(faces, MaskSettings())[:, None]
    picture = encrypt_faces(KeyedPicture(original(), alpha=opacity), faces, mask, KEY, model(), settings).picture
    return picture.stored, picture.container()


def with_alpha(stored: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return np.dstack([stored[..., :3], opacity])


@pytest.mark.parametrize("mode", [RecoveryMode.EXACT, RecoveryMode.LATENT, RecoveryMode.IMAGE])
@pytest.mark.parametrize("opacity", [None, alpha()], ids=["opaque", "with transparency"])
def test_a_change_of_transparency_is_noticed(mode: RecoveryMode, opacity: np.ndarray | None):
    stored, container = sealed(mode, opacity)
    assert decrypt_faces(KeyedPicture.from_container(stored, container), KEY, model()).opened == (0,)
    was = OPAQUE if opacity is None else opacity[..., None]
    for change in (255 - was, was ^ (OPAQUE ^ FADED), FADED):  # all of it, one step in one pixel, another picture's
        changed = KeyedPicture.from_container(with_alpha(stored, change), container)
        with pytest.raises(TamperedError):
            decrypt_faces(changed, KEY, model())
        with pytest.raises(TamperedError):
            face_key_of(changed, 0, KEY)


def test_what_is_opaque_everywhere_has_no_alpha():
    stored, container = sealed(RecoveryMode.EXACT, OPAQUE[..., 0])
    assert stored.shape == (HEIGHT, WIDTH, 3)
    opened = decrypt_faces(KeyedPicture.from_container(with_alpha(stored, OPAQUE), container), KEY)
    assert np.array_equal(opened.pixels, original())
    assert opened.free_alpha == ()


@pytest.mark.parametrize("name", ["exact", "latent"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_files_that_do_not_bind_it_open_and_it_is_said(version: str, name: str):
    stored, container = read_keyed(VECTORS / version / f"{name}.png")
    opened = decrypt_faces(KeyedPicture.from_container(with_alpha(stored, FADED), container), KEY, model())
    assert opened.free_alpha == opened.opened
    assert "transparency" in opened.describe(len(opened.opened))
    assert "transparency" not in decrypt_faces(KeyedPicture.from_container(stored, container), KEY, model()).describe(1)


def test_a_face_that_is_bound_to_nothing_opens_whatever_is_transparent():
    stored, container = sealed(RecoveryMode.LATENT, None, bind_pixels=False)
    opened = decrypt_faces(KeyedPicture.from_container(with_alpha(stored, FADED), container), KEY, model())
    assert opened.unbound == (0,)


def test_the_file_of_version_3_opens_with_its_transparency():
    stored, container = read_keyed(VECTORS / "v3" / "alpha.png")
    assert np.array_equal(stored[..., 3], alpha())
    assert np.array_equal(decrypt_faces(KeyedPicture.from_container(stored, container), KEY).pixels, original())


def test_alpha_of_another_kind_is_refused():
    for wrong in (alpha()[1:], alpha().astype(float), OPAQUE):
        with pytest.raises(InputError, match="alpha"):
            KeyedPicture(original(), alpha=wrong)
