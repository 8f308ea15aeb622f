"""The bank of donors: chosen faces of nobody as latents, with what is needed to choose among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faceprivacy_core.builtin.autoencoder import FaceAutoencoder
from faceprivacy_core.builtin.donors import VECTORS
from faceprivacy_core.donors import skin_colour
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import crop_faces, crop_landmarks
from faceprivacy_core.pixels import to_pixels, to_tensor
from faceprivacy_core.protocols import FaceDetector

from .data import load_pictures
from .faces import GeneratedFaces
from .generator import load_generator
from .pictures import FacePool
from .settings import Settings

LIST = Path(__file__).parent / "donors.txt"
TURNED = Path(__file__).parent / "donors_turned.txt"
AGES = {"adult": "a", "older": "o"}


@dataclass(frozen=True)
class Donor:
    """One line of the list: the generator's seed, apparent sex (w, m), apparent age (adult, older)."""

    seed: int
    sex: str
    age: str


def read_list(path: Path = LIST) -> list[Donor]:
    """Read the list of chosen faces; lines that begin with # are remarks.

    Raises:
        ValueError: A line does not say seed, sex and age, or a seed stands twice.
    """
    donors = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            words = line.split()
            if len(words) != 3 or not words[0].isdigit() or words[1] not in ("w", "m") or words[2] not in AGES:
                raise ValueError(f"Expected 'SEED w|m adult|older' in {path.name}, got {line!r}.")
            donors.append(Donor(int(words[0]), words[1], words[2]))
    if len({donor.seed for donor in donors}) != len(donors):
        raise ValueError(f"Expected every seed once in {path.name}.")
    return donors


def make_donors(
    settings: Settings, autoencoder: FaceAutoencoder, path: Path = LIST, *, mirrored: bool = False
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Cut the chosen faces as the pack cuts faces and encode them.

    Args:
        settings: Where pictures come from, and the side of crops.
        autoencoder: Encodes them.
        path: List of the faces.
        mirrored: Take every face a second time, mirrored.

    Returns:
        What the header says (`sex` and `age`, a letter for each donor) and the tensors of the part `donors`.

    Raises:
        ValueError: No face is found in a picture.
    """
    donors, detector, recognizers = read_list(path), load_detector(), load_ensemble(DEFAULT_SURROGATES)
    rows: list[dict[str, Tensor]] = []
    pictures: Iterable[NDArray[np.uint8]] = _pictures(settings, donors)
    if mirrored:
        donors = [donor for donor in donors for _ in range(2)]
        pictures = (seen for picture in pictures for seen in (picture, np.ascontiguousarray(picture[:, ::-1])))
    for donor, picture in zip(donors, pictures, strict=True):
        faces = detect_faces([picture], detector, Selection(Which.LARGEST))
        if not faces.items:
            raise ValueError(f"Expected a face in the picture of seed {donor.seed}, found none. Take it off {path.name}.")
        crop, placed = crop_faces(to_tensor(picture), faces, settings.autoencoder.side)
        points = crop_landmarks(placed)
        with torch.no_grad():
            vectors = {VECTORS + r.name: r.embed(crop, points) for r in recognizers}
            latents = autoencoder.encode(crop * 2.0 - 1.0)
            decoded = ((autoencoder.decode(latents) + 1.0) / 2.0).clamp(0.0, 1.0)
        landmarks = (_seen_again(decoded, points, detector) + 0.5) / settings.autoencoder.side
        rows.append({"latents": latents, "landmarks5": landmarks, "skin": skin_colour(crop, points)} | vectors)
    header = {"sex": "".join(donor.sex for donor in donors), "age": "".join(AGES[donor.age] for donor in donors)}
    return header, {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def _seen_again(crop: Tensor, points: Tensor, detector: FaceDetector) -> Tensor:
    """Return the landmarks (1, 5, 2) of the face nearest to those given in a crop (1, 3, S, S); without a face, those."""
    border = crop.shape[-1] // 4  # a face that fills its picture is seen less well
    found = detector.detect(to_pixels(F.pad(crop, (border,) * 4, mode="replicate")))
    places = [torch.from_numpy(face.landmarks5).to(points)[None] - border for face in found]
    return min(places, key=lambda place: float((place - points).norm()), default=points)


def _pictures(settings: Settings, donors: list[Donor]) -> Iterator[NDArray[np.uint8]]:
    """Take the donors' pictures out of the pool where they are in it, and draw the others."""
    pool = FacePool(load_pictures(settings), settings.data)
    place = {int(seed): index for index, seed in enumerate(pool.seeds)}
    source = None
    for donor in donors:
        if donor.seed in place:
            picture = pool.pictures[place[donor.seed]]
        else:
            source = source or GeneratedFaces(
                load_generator(Path(settings.data.generator)), settings.data.truncation, settings.data.side
            )
            picture = source.draw(donor.seed, 1)[0]
        yield np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
