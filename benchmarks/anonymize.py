"""Privacy and cost of anonymising, with the energy on and off, on 32 faces of nobody.

    python -m benchmarks.anonymize --out output/benchmark [--count 32] [--pairs FOLDER] [--publish]

Half of the faces are from the package `openpeople`, half from a generator (`calibrate_recognizers generate`), or, with
`--pairs FOLDER`, all are people of that folder, each compared with another photograph, too.
Writes a table (Markdown), every figure (JSON, with model, settings and sources) and a grid of pictures to look at;
`--publish` puts the table into the repository.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openpeople
import torch
from PIL import Image

from benchmarks.gallery import describe, look_beside
from benchmarks.origin import Origin
from benchmarks.pairs import find_pairs
from benchmarks.pictures import GENERATED, ROOT, first_pictures
from benchmarks.results import publish
from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_where_possible
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import crop_faces
from faceprivacy_core.metrics.report import PrivacyReport, compute_report
from faceprivacy_core.pixels import to_pixels, to_tensor

CURATED = Path(openpeople.__file__).parent / "data" / "curated"
SIDE = 640
TILE = 192


def pictures(count: int) -> list[Path]:
    """Choose the pictures: half from openpeople, half generated."""
    people = [
        *sorted(CURATED.glob("P*/assets/studio_portrait.jpg")),
        *sorted(CURATED.glob("P*/assets/amateur_selfie.jpg")),
        *sorted(CURATED.glob("P*/assets/amateur_posture.jpg")),
        *sorted(CURATED.glob("P*/assets/studio_posture.jpg")),
    ]
    generated = first_pictures(GENERATED, count // 2)
    chosen = people[: count - len(generated)] + generated
    if len(chosen) < count:
        raise SystemExit(f"Expected {count} pictures, found {len(chosen)}: openpeople has no more. Lower --count.")
    return chosen


@dataclass(frozen=True, eq=False)
class Measured:
    """What one way of anonymising did to all pictures.

    Attributes:
        reports: One for each picture.
        beside: What recognisers see in each, and in another photograph of the person; see `gallery.look_beside`.
        tiles: Crops before and after, one above the other, for each.
        refused: How many pictures got no new face; they are in no other figure.
        seconds: For each face, on average.
        origin: What it was measured with.
    """

    reports: list[PrivacyReport]
    beside: list[dict[str, Any]]
    tiles: list[np.ndarray]
    refused: int
    seconds: float
    origin: Origin


def measure(paths: list[tuple[Path, Path | None]], settings: AnonymizeSettings) -> Measured:
    """Anonymise every picture's largest face.

    Args:
        paths: Pictures, each with another photograph of the person where there is one.
        settings: How.
    """
    detector, model = load_detector(), load_face_model()
    seen, held_out = load_ensemble(DEFAULT_SURROGATES), load_ensemble(DEFAULT_HELD_OUT)
    reports, rows, tiles, seconds = [], [], [], 0.0
    for path, other in paths:
        with Image.open(path) as opened:
            opened.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            original = np.asarray(opened.convert("RGB"))
        faces = detect_faces([original], detector, Selection(Which.LARGEST))
        images = to_tensor(original)
        started = time.perf_counter()
        result, missed = anonymize_where_possible(images, faces, model, seen, settings, detector=detector)
        seconds += time.perf_counter() - started
        if result is None or missed:
            continue
        protected = to_pixels(result.images)
        reports.append(
            compute_report(
                original, protected, detector, (*seen, *held_out), seen=DEFAULT_SURROGATES,
                mask=result.mask[0, 0].numpy(), perceptual=None, faces=faces.items,
                other=None if other is None else read_rgb(other),
            )
        )  # fmt: skip
        pictures = {"original": original, "anonymised": protected}
        rows.append(look_beside(other, pictures, faces.items[0].landmarks5, detector, (*seen, *held_out)))
        pair = [crop_faces(picture, faces, TILE)[0][0] for picture in (images, result.images)]
        tiles.append((torch.cat(pair, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    return Measured(reports, rows, tiles, len(paths) - len(reports), seconds / len(paths), Origin.now(settings))


def read_rgb(path: Path) -> np.ndarray:
    """Read a picture (H, W, 3)."""
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


def figures(measured: Measured) -> dict[str, str]:
    """Return the figures of one way by their titles."""
    faces = [report.to_json_dict()["faces"][0] for report in measured.reports]
    cells = {}
    for i, recognizer in enumerate(faces[0]["recognizers"]):
        similarity = np.mean([face["recognizers"][i]["similarity"] for face in faces])
        verified = sum(face["recognizers"][i]["verified_fmr_1e-3"] for face in faces)
        title = f"{recognizer['name']} ({recognizer['role']}): mean similarity, recognised at FMR 1e-3"
        cells[title] = f"{similarity:.2f}, {verified} of {len(faces)}"
    cells["no new face passed, so the face would be blurred"] = f"{measured.refused} of {measured.refused + len(faces)}"
    cells["face detected afterwards"] = f"{sum(face['detected_after'] for face in faces)} of {len(faces)}"
    held_out = load_ensemble(DEFAULT_HELD_OUT) if any(measured.beside) else ()
    for side in ("original", "anonymised"):
        found = describe(measured.beside, side, held_out)
        cells |= {f"{side}, {title}": cell for title, cell in found.items()}
    return cells | {"seconds a face": f"{measured.seconds:.1f}"}


def table(columns: dict[str, dict[str, str]]) -> str:
    """Lay the figures out in Markdown."""
    titles = dict.fromkeys(title for cells in columns.values() for title in cells)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {title} | " + " | ".join(cells.get(title, "-") for cells in columns.values()) + " |" for title in titles]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "benchmark")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--pairs", type=Path, help="folder of PERSON_NUMBER.jpg; the second half of the people is measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", action="store_true", help="put the table into benchmarks/results")
    parser.add_argument("--donors-only", action="store_true", help="leave out the published way, with and without energy")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    alone = options.pairs is None
    paths = [(path, None) for path in pictures(options.count)] if alone else find_pairs(options.pairs, options.count)
    table_name = "anonymize" if alone else "anonymize_people"
    columns, everything, rows = {}, {}, []
    ways = {"donors": AnonymizeSettings(seed=options.seed)}
    if not options.donors_only:
        ways["published"] = AnonymizeSettings.published(seed=options.seed)
        ways["published, energy off"] = AnonymizeSettings.published(seed=options.seed, strength=0.0)
    for name, settings in ways.items():
        measured = measure(paths, settings)
        columns[name] = figures(measured)
        rows.append(np.concatenate(measured.tiles, axis=1))
        reports = [report.to_json_dict() for report in measured.reports]
        everything[name] = {**vars(measured.origin), "seconds_per_face": measured.seconds, "reports": reports}
        if options.publish:
            publish(table_name, name, columns[name], len(measured.reports), measured.origin)
    text = table(columns)
    (options.out / "anonymize.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "anonymize.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    for name, row in zip(columns, rows, strict=True):
        blocks = np.split(row, range(8 * TILE, row.shape[1], 8 * TILE), axis=1)
        whole = [block for block in blocks if block.shape == blocks[0].shape]
        Image.fromarray(np.concatenate(whole)).save(options.out / f"{table_name} {name}.png")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
