"""Keyed faces: can two covers of one face be linked, and what does a wrong key see behind a decoy?

    python -m benchmarks.keyed_links --out output/keyed_links [--count 64] [--part 0/1] [--pairs FOLDER] [--publish]

For every picture: two covers of its face under one key with two nonces, compared with each other; and
a decoy opened with a random key, compared with the original. What two covers share without the face
is their surroundings: as chance level, a cover of the face is compared with one of another person's
face, put at the same place of the same picture; beside it, covers of different pictures.
Goes on where it was stopped; several parts can run side by side. Prints a table; `--publish` puts it into the repository.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gallery import find_subjects
from benchmarks.keyed import STEPS, Bench
from benchmarks.matches import count_matches
from benchmarks.origin import Origin, RowLog
from benchmarks.pictures import ROOT, read_picture
from benchmarks.results import publish
from faceprivacy_core.errors import FacePrivacyError
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.similarity import cut_window

LATENT = EncryptSettings(steps=STEPS, verify=False)
DECOY = EncryptSettings(RecoveryMode.IMAGE, steps=STEPS, decoy=True, verify=False)


def measure(bench: Bench, path: Path, other: Path) -> dict[str, Any]:
    """Make two covers and a decoy of one picture, and one cover with the face of another; embed what is seen."""
    original = read_picture(path)
    faces = detect_faces([original], bench.detector, Selection(Which.LARGEST))
    if not faces.items:
        return {"skipped": "no face found"}
    mask = draw_masks(faces, MaskSettings(grow=2.0))[:, None]
    landmarks = faces.items[0].landmarks5
    start, exchanged = KeyedPicture(original), KeyedPicture(with_face_of(original, read_picture(other), mask))
    try:
        covers = [
            encrypt_faces(picture, faces, mask, bench.key, bench.model, settings, check=bench.check).picture
            for picture, settings in ((start, LATENT), (start, LATENT), (exchanged, LATENT), (start, DECOY))
        ]
    except FacePrivacyError as error:
        return {"refused": str(error)}
    wrong = decrypt_faces(covers[-1], PrivacyKey.from_bytes(secrets.token_bytes(32)), bench.model).pixels
    seen = [original, *(cover.pixels for cover in covers), wrong]
    found = bool(bench.detector.detect(wrong))
    return {"embeddings": [embeddings(bench, pixels, landmarks) for pixels in seen], "face_behind_decoy": found}


def with_face_of(pixels: np.ndarray, other: np.ndarray, mask: torch.Tensor) -> np.ndarray:
    """Put what another picture shows inside a mask (1, 1, H, W) at the same place."""
    height, width = pixels.shape[:2]
    fitted = np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.LANCZOS))
    return np.where(mask[0, 0, :, :, None].numpy() > 0.0, fitted, pixels)


def embeddings(bench: Bench, pixels: np.ndarray, landmarks: np.ndarray) -> dict[str, list[float]]:
    """Embed the face at the place of the original, by every held-out recogniser."""
    found = bench.detector.detect(pixels)
    centre = landmarks.mean(axis=0)
    near = sorted(found, key=lambda face: float(np.linalg.norm(face.landmarks5.mean(axis=0) - centre)))[:1]
    window = cut_window(pixels, near[0].landmarks5 if near else landmarks)
    with torch.no_grad():
        return {r.name: r.embed(window.images, window.landmarks5.float())[0].tolist() for r in bench.held_out}


TITLES = ("two covers of one face", "covers of two faces at one place", "of different pictures", "decoy, wrong key", "cover")


def summarise(rows: list[dict[str, Any]], bench: Bench, name: str, origin: Origin | None = None) -> str:
    """Count pairs that match, see `matches.count_matches`; with an origin, publish them under a name."""
    lines = ["| recogniser | " + " | ".join(TITLES) + " |", "|---" * 6 + "|"]
    for recognizer in bench.held_out:
        vectors = np.array([[face[recognizer.name] for face in row["embeddings"]] for row in rows])
        original, first, second, exchanged, image, wrong = vectors.transpose(1, 0, 2)
        pairs = np.array([a @ b for a, b in itertools.combinations(first, 2)])
        columns = [
            (first * second).sum(1),
            (first * exchanged).sum(1),
            pairs,
            (original * wrong).sum(1),
            (original * image).sum(1),
        ]
        cells = [count_matches(column, recognizer) for column in columns]
        lines.append(f"| {recognizer.name} | " + " | ".join(cells) + " |")
        if origin is not None:
            publish(name, recognizer.name, dict(zip(TITLES, cells, strict=True)), len(rows), origin, as_rows=True)
    behind = sum(row["face_behind_decoy"] for row in rows)
    return "\n".join([*lines, "", f"A wrong key finds a face behind the decoy in {behind} of {len(rows)} pictures."])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "keyed_links")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--part", default="0/1", help="which of several parts, for example 0/2 and 1/2")
    parser.add_argument("--pairs", type=Path, help="folder of PERSON_NUMBER.jpg; the second half of the people is measured")
    parser.add_argument("--publish", action="store_true", help="put the table into benchmarks/results")
    options = parser.parse_args(arguments)
    part, parts = (int(number) for number in options.part.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [path for path, _ in find_subjects(options.count, options.pairs)]
    name = "keyed_links" if options.pairs is None else "keyed_links_people"
    bench, origin = Bench(), Origin.now((LATENT, DECOY))
    log = RowLog(options.out / f"{name}{part}of{parts}.jsonl", origin, tuple(options.out.glob(f"{name}[0-9]*.jsonl")))
    for index in range(part, len(paths), parts):
        path = paths[index]
        if path.name not in log:
            log.add(path.name, measure(bench, path, paths[index - 1]))
    measured = [row for row in log.rows.values() if "embeddings" in row]
    print(summarise(measured, bench, name, log.origin_of_rows if options.publish else None))  # noqa: T201


if __name__ == "__main__":
    main()
