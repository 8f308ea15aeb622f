"""A small picture with two faces, and how the tests encrypt it."""

from __future__ import annotations

import numpy as np

from faceprivacy_core.keyed.encrypt import EncryptResult, EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import claimed_pixels
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.types import Face, Faces
from tests.support.faces import synthetic_face
from tests.support.keyed import MixtureKeyedModel, raw_key

HEIGHT, WIDTH = 133, 211  # no multiple of 8
MODEL = MixtureKeyedModel(variance=0.05, temperature=1000.0)
KEY, OTHER = raw_key(), raw_key(1)
EXACT, LATENT, IMAGE, SIGNFLIP = (RecoveryMode(mode) for mode in ("exact", "latent", "image", "signflip"))
LEFT = synthetic_face(60, 66, 80)
RIGHT = synthetic_face(150, 60, 76, angle_deg=12)


def scene() -> np.ndarray:
    """Draw a picture with detail at every scale."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 3))
    smooth = np.stack([90 + 60 * np.sin(x / 23), 120 + 50 * np.cos(y / 19), 100 + 40 * np.sin((x + y) / 31)], -1)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def faces_of(*items: Face) -> Faces:
    return Faces(items, 1, HEIGHT, WIDTH)


def encrypt(*items: Face, key: PrivacyKey = KEY, onto: KeyedPicture | None = None, **settings: object) -> EncryptResult:
    """Encrypt faces of the scene, or of a picture that is keyed already, fast."""
    settings = {"mode": LATENT, "steps": 8} | settings
    faces = faces_of(*(items or (LEFT,)))
    mask = draw_masks(faces, MaskSettings())[:, None]
    return encrypt_faces(onto or KeyedPicture(scene()), faces, mask, key, MODEL, EncryptSettings(**settings))


def reloaded(picture: KeyedPicture) -> KeyedPicture:
    """Send a keyed picture through its bytes."""
    return KeyedPicture.from_container(picture.pixels.copy(), picture.container())


def owned(picture: KeyedPicture, *numbers: int) -> np.ndarray:
    claims = picture.claims
    chosen = [claims[number] for number in (numbers or range(len(claims)))]
    return claimed_pixels(chosen, HEIGHT, WIDTH)
