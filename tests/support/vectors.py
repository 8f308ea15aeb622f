"""Frozen files of the keyed formats: how they were made, and what must come out of them.

`python -m tests.support.vectors FOLDER` writes those of the present versions. A folder in
`tests/vectors/` is never written again: its files stand for pictures that people have.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceprivacy_core.inversions.files import write_inversion_file
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.files import sidecar_path, write_png, write_sidecar
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.types import Face, Faces
from tests.support.faces import synthetic_face
from tests.support.inversions import small_inversion
from tests.support.keyed import MixtureKeyedModel, raw_key

HEIGHT, WIDTH = 60, 100
PASSPHRASE = "correct horse battery"
KEY, OTHER = raw_key(), raw_key(1)
LEFT, RIGHT = synthetic_face(30, 30, 34), synthetic_face(72, 28, 30, angle_deg=12)


def original() -> NDArray[np.uint8]:
    """Draw the picture of all vectors, with whole numbers alone: alike on every machine."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.abs((3 * x + y + 40 * colour) % 160 - 80) + 2 * y + 10 * colour for colour in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def alpha() -> NDArray[np.uint8]:
    """Return how opaque the picture of the vector `alpha` is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (255 - (x + y) % 90).astype(np.uint8)


def model() -> MixtureKeyedModel:
    """Return the model of all vectors."""
    return MixtureKeyedModel(variance=0.05, temperature=1000.0)


def passphrase() -> PrivacyKey:
    """Return the handle on the passphrase of the vectors."""
    return PrivacyKey.from_passphrase(PASSPHRASE)


def write_vectors(folder: Path) -> None:
    """Write one file of every kind."""
    folder.mkdir(parents=True)

    def keyed(
        name: str, *faces: Face, key: PrivacyKey = KEY, onto: KeyedPicture | None = None, **chosen: object
    ) -> KeyedPicture:
        settings = EncryptSettings(**{"steps": 20, "iterations": 10, "verify": False} | chosen)
        placed = Faces(faces, 1, HEIGHT, WIDTH)
        mask = draw_masks(placed, MaskSettings())[:, None]
        picture = encrypt_faces(onto or KeyedPicture(original()), placed, mask, key, model(), settings).picture
        if name:
            write_png(folder / f"{name}.png", picture.stored, picture.container())
        return picture

    keyed("exact", LEFT, RIGHT, mode=RecoveryMode.EXACT)
    keyed("two_keys", RIGHT, key=OTHER, onto=keyed("", LEFT, mode=RecoveryMode.EXACT), mode=RecoveryMode.EXACT)
    keyed("passphrase", LEFT, key=passphrase(), mode=RecoveryMode.EXACT)
    keyed("alpha", LEFT, onto=KeyedPicture(original(), alpha=alpha()), mode=RecoveryMode.EXACT)
    keyed("latent", LEFT, mode=RecoveryMode.LATENT)
    keyed("image", LEFT, mode=RecoveryMode.IMAGE)
    keyed("decoy", LEFT, mode=RecoveryMode.IMAGE, decoy=True)
    keyed("signflip", LEFT, mode=RecoveryMode.SIGNFLIP)
    unbound = keyed("", LEFT, mode=RecoveryMode.LATENT, bind_pixels=False)
    write_png(folder / "unbound.png", unbound.pixels, None)
    write_sidecar(sidecar_path(folder / "unbound.png"), unbound.container())
    write_inversion_file(folder / "key.fpinv", small_inversion(), KEY)
    write_inversion_file(folder / "passphrase.fpinv", small_inversion(), passphrase())
    write_inversion_file(folder / "unprotected.fpinv", small_inversion(), None, unprotected=True)


if __name__ == "__main__":
    write_vectors(Path(sys.argv[1]))
