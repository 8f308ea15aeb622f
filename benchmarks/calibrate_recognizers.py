"""Measures the thresholds of the recognisers and writes faces/calibration.json.

    python -m benchmarks.calibrate_recognizers generate   (needs openvino)
    python -m benchmarks.calibrate_recognizers measure

Impostor pairs are faces drawn from a generator: any two show different people, and none
of them exists. Genuine pairs are different pictures of the synthetic people of `openpeople`.
Generator: package random-face==2021.7.21.1 (Apache-2.0, MobileStyleGAN trained on FFHQ, whose
licence is non-commercial); unpack its `data` folder and name it with --generator. Pictures
stay in .cache, never in git.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pictures import GENERATED, ROOT

GENERATOR_DIR = ROOT / ".cache" / "assets" / "x" / "random_face" / "random_face" / "data"
SEEDS = range(1000, 1400)
TRUNCATION = (0.6, 1.0)
PICTURES = (
    "amateur_selfie",
    "studio_portrait",
    "amateur_posture",
    "studio_posture",
    "emotions_sheet",
)
NUM_PEOPLE = 10

PUBLISHED = {
    "sface": (0.317, 0.378),
    "mobilefacenet-v1": (0.196, 0.261),
    "facenet-casia": (0.437, 0.533),
    "mobilefacenet-masked": (0.180, 0.251),
    "mobilefacenet-foamliu": (0.265, 0.348),
    "arcface-w600k-mbf": (0.178, 0.237),
}
"""Thresholds at FMR 1e-2 and 1e-3 measured apart from this script, on 19 800 impostor pairs of
100 people in photos, faces aligned with another detector. `faces.calibration.BASIS` says which
of both counts."""


def generate(generator: Path) -> None:
    """Draw one face of 1024 pixels for every seed."""
    import openvino

    core = openvino.Core()
    mapping, synthesis = (
        core.compile_model(core.read_model(generator / f"{name}Network.xml"), "CPU") for name in ("Mapping", "Synthesis")
    )
    noise = np.random.default_rng(0).standard_normal((4096, 512)).astype(np.float32)
    mean = np.mean([mapping([row[None]])[0][0] for row in noise], axis=0, keepdims=True)
    GENERATED.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        generator_noise = np.random.default_rng(seed)
        style = mapping([generator_noise.standard_normal((1, 512)).astype(np.float32)])[0]
        truncation = np.float32(generator_noise.uniform(*TRUNCATION))
        picture = synthesis([mean + truncation * (style - mean)])[0][0]
        pixels = ((picture.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(GENERATED / f"{seed}.jpg", quality=92)


def load_generated(detector: object) -> list[tuple[np.ndarray, np.ndarray]]:
    """Load the generated pictures that show one face, with its landmarks."""
    items = []
    for seed in SEEDS:
        pixels = np.asarray(Image.open(GENERATED / f"{seed}.jpg"))
        faces = detector.detect(pixels)
        if len(faces) == 1:
            items.append((pixels, faces[0].landmarks5))
    return items


def load_people(
    detector: object,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Load faces of the synthetic people: items, person and picture of each."""
    import openpeople

    root = Path(openpeople.__file__).parent / "data" / "curated"
    items, people, pictures = [], [], []
    for person in range(1, NUM_PEOPLE + 1):
        for number, name in enumerate(PICTURES):
            pixels = np.asarray(Image.open(root / f"P{person:03}" / "assets" / f"{name}.jpg").convert("RGB"))
            faces = detector.detect(pixels)
            chosen = faces if name == "emotions_sheet" else [max(faces, key=lambda face: face.area)]
            for face in chosen:
                items.append((pixels, face.landmarks5))
                people.append(person)
                pictures.append(number)
    return items, np.array(people), np.array(pictures)


def align(recognizer: object, items: list[tuple[np.ndarray, np.ndarray]]) -> object:
    """Cut the crops a recogniser looks at, (N, 3, S, S)."""
    import torch

    crops = []
    for pixels, landmarks in items:
        spread = 3 * np.ptp(landmarks, axis=0)
        left, top = np.maximum(landmarks.min(axis=0) - spread, 0).astype(int)
        right, bottom = (landmarks.max(axis=0) + spread).astype(int)
        cut = torch.from_numpy(pixels[top:bottom, left:right].copy()).permute(2, 0, 1)[None]
        points = torch.from_numpy(landmarks - (left, top))[None]
        crops.append(recognizer.align(cut.float() / 255, points))
    return torch.cat(crops)


def embed(recognizer: object, crops: object) -> np.ndarray:
    """Compute the identity vectors of aligned crops, (N, D)."""
    import torch

    with torch.no_grad():
        return torch.cat([recognizer.embed_aligned(part) for part in crops.split(16)]).numpy()


def threshold_at(impostors: np.ndarray, fmr: float) -> float:
    """Return the smallest similarity that at most a part `fmr` of the impostor pairs reaches."""
    ordered = np.sort(impostors)[::-1]
    return float(np.nextafter(ordered[int(np.floor(fmr * len(ordered)))], 2.0))


def measure(output: Path, insightface_dir: Path | None) -> None:
    """Measure every recogniser and write the calibration."""
    import torch

    from faceprivacy_core import weights
    from faceprivacy_core.faces.calibration import FMRS
    from faceprivacy_core.faces.detect import load_detector
    from faceprivacy_core.faces.recognizers import SPECS, TorchRecognizer, load_network

    detector = load_detector()
    generated = load_generated(detector)
    people_items, people, pictures = load_people(detector)
    upper = np.triu_indices(len(people), 1)
    is_same = (people[:, None] == people)[upper]
    is_other_picture = (pictures[:, None] != pictures)[upper]
    subjects = []
    for spec in SPECS:
        network = load_network(spec, weights.find(spec.name))
        subjects.append((TorchRecognizer(spec, network, "", {}), weights.entry(spec.name).sha256))
    if insightface_dir is not None:
        from faceprivacy_core.faces.insightface_models import ARCFACE_SPECS, build_arcface

        path = insightface_dir / "w600k_mbf.onnx"
        subjects.append((build_arcface(ARCFACE_SPECS[path.name], path, {}), weights.file_sha256(path)))
    records = []
    aligned: dict[int, tuple[object, object]] = {}
    for recognizer, sha256 in subjects:
        side = recognizer.spec.alignment.size
        if side not in aligned:
            aligned[side] = align(recognizer, generated), align(recognizer, people_items)
        drawn, known = (embed(recognizer, crops) for crops in aligned[side])
        impostors = (drawn @ drawn.T)[np.triu_indices(len(drawn), 1)]
        pairs = (known @ known.T)[upper]
        genuine, others = pairs[is_same & is_other_picture], pairs[~is_same]
        bases = {
            "generated_faces": {fmr: round(threshold_at(impostors, fmr), 4) for fmr in FMRS},
            "photos": dict(zip(FMRS, PUBLISHED[recognizer.name], strict=True)),
        }
        records.append(
            {
                "name": recognizer.name,
                "sha256": sha256,
                "bases": {
                    basis: {
                        str(fmr): {
                            "threshold": threshold,
                            "fnmr": round(float((genuine < threshold).mean()), 4),
                            "fmr_generated_faces": round(float((impostors >= threshold).mean()), 4),
                            "fmr_openpeople": round(float((others >= threshold).mean()), 4),
                        }
                        for fmr, threshold in thresholds.items()
                    }
                    for basis, thresholds in bases.items()
                },
                "mean_similarity": {
                    "genuine": round(float(genuine.mean()), 4),
                    "impostor": round(float(impostors.mean()), 4),
                },
                "num_impostor_pairs": {"generated_faces": len(impostors), "photos": 19_800},
                "num_genuine_pairs": len(genuine),
                "num_openpeople_impostor_pairs": len(others),
            }
        )
    document = {
        "schema_version": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "sources": {
            "photos": "thresholds measured apart on photos of 100 people, another detector",
            "generated_faces": f"random-face 2021.7.21.1, seeds {SEEDS.start} to {SEEDS.stop - 1}, "
            f"truncation {TRUNCATION[0]} to {TRUNCATION[1]}, "
            f"the {len(generated)} pictures with one face",
            "genuine": f"openpeople 0.1.2, {len(people)} faces of {NUM_PEOPLE} synthetic people, pairs from different pictures",
            "detector": "yunet",
        },
        "torch": torch.__version__.split("+")[0],
        "recognizers": records,
    }
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["generate", "measure"])
    parser.add_argument("--generator", type=Path, default=GENERATOR_DIR)
    parser.add_argument("--insightface", type=Path, help="folder with w600k_mbf.onnx, to measure it as well")
    parser.add_argument("--output", type=Path, default=ROOT / "faceprivacy_core" / "faces" / "calibration.json")
    options = parser.parse_args()
    if options.step == "generate":
        generate(options.generator)
    else:
        measure(options.output, options.insightface)


if __name__ == "__main__":
    main()
