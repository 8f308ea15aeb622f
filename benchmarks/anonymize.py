"""Privacy and cost of anonymising, with the energy on and off, on 32 faces of nobody.

    python -m benchmarks.anonymize --out output/benchmark [--count 32] [--noise 0.6] [--strength 1.0]

Sixteen faces from the package `openpeople`, sixteen from a generator (see `generated_faces.py`).
Writes a table (Markdown), every figure (JSON) and a grid of pictures to look at.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import openpeople
import torch
from PIL import Image

from benchmarks.pictures import GENERATED, ROOT
from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_faces
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
    generated = sorted(GENERATED.glob("*.jpg"))[: count // 2]
    chosen = people[: count - len(generated)] + generated
    if len(chosen) < count:
        raise SystemExit(f"Expected {count} pictures, found {len(chosen)}. Make more with calibrate_recognizers.py.")
    return chosen


def measure(paths: list[Path], settings: AnonymizeSettings) -> tuple[list[PrivacyReport], list[np.ndarray], float]:
    """Anonymise every picture's largest face; return reports, rows of crops and seconds a face."""
    detector, model = load_detector(), load_face_model()
    seen, held_out = load_ensemble(DEFAULT_SURROGATES), load_ensemble(DEFAULT_HELD_OUT)
    reports, tiles, seconds = [], [], 0.0
    for path in paths:
        with Image.open(path) as opened:
            opened.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            original = np.asarray(opened.convert("RGB"))
        faces = detect_faces([original], detector, Selection(Which.LARGEST))
        images = to_tensor(original)
        started = time.perf_counter()
        result = anonymize_faces(images, faces, model, seen, settings, detector=detector)
        seconds += time.perf_counter() - started
        protected = to_pixels(result.images)
        reports.append(
            compute_report(
                original, protected, detector, (*seen, *held_out), seen=DEFAULT_SURROGATES,
                mask=result.mask[0, 0].numpy(), perceptual=None, faces=faces.items,
            )
        )  # fmt: skip
        pair = [crop_faces(picture, faces, TILE)[0][0] for picture in (images, result.images)]
        tiles.append((torch.cat(pair, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    return reports, tiles, seconds / len(paths)


def table(results: dict[str, list[PrivacyReport]]) -> str:
    """Lay the figures out in Markdown."""
    lines = ["| recogniser | role | " + " | ".join(f"{name}: mean similarity, recognised at FMR 1e-3" for name in results)]
    lines[0] += " |"
    lines.append("|---" * (2 + len(results)) + "|")
    rows = {name: [report.to_json_dict()["faces"][0] for report in reports] for name, reports in results.items()}
    first = next(iter(rows.values()))[0]["recognizers"]
    for i, recognizer in enumerate(first):
        cells = []
        for faces in rows.values():
            similarity = np.mean([face["recognizers"][i]["similarity"] for face in faces])
            verified = np.mean([face["recognizers"][i]["verified_fmr_1e-3"] for face in faces])
            cells.append(f"{similarity:.2f}, {100 * verified:.0f} %")
        lines.append(f"| {recognizer['name']} | {recognizer['role']} | " + " | ".join(cells) + " |")
    detected = [f"{100 * np.mean([face['detected_after'] for face in faces]):.0f} %" for faces in rows.values()]
    lines.append("| face detected afterwards | | " + " | ".join(detected) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "benchmark")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--donors-only", action="store_true", help="leave out the published way, with and without energy")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    paths, results, figures, rows = pictures(options.count), {}, {}, []
    ways = {"donors": AnonymizeSettings(seed=options.seed)}
    if not options.donors_only:
        ways["published"] = AnonymizeSettings.published(seed=options.seed)
        ways["published, energy off"] = AnonymizeSettings.published(seed=options.seed, strength=0.0)
    for name, settings in ways.items():
        results[name], tiles, seconds = measure(paths, settings)
        rows.append(np.concatenate(tiles, axis=1))
        figures[name] = {
            "seconds_per_face": seconds,
            "reports": [report.to_json_dict() for report in results[name]],
        }
    text = table(results) + "\n\nSeconds a face: " + ", ".join(f"{k} {v['seconds_per_face']:.1f}" for k, v in figures.items())
    (options.out / "anonymize.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "anonymize.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    wide = np.concatenate(rows)
    blocks = np.split(wide, range(8 * TILE, wide.shape[1], 8 * TILE), axis=1)
    Image.fromarray(np.concatenate([b for b in blocks if b.shape == blocks[0].shape])).save(options.out / "anonymize.png")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
