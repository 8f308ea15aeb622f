"""Measures the thresholds of the recognisers and writes faces/calibration.json.

    python -m benchmarks.calibrate_recognizers --pairs FOLDER [--population TEXT] [--insightface DIR]
    python -m benchmarks.calibrate_recognizers generate   (needs openvino)

FOLDER holds two or more photographs of every person, PERSON_NUMBER.jpg. Thresholds (basis "photos") come from the pairs of
different people in the first half of the people; how often strangers of the second half match at them, which no threshold has
seen, stands beside, and how often pairs of one person do not, in both halves. Intervals are of 95 %, people drawn anew.

Where `generate` has drawn its faces, the basis "generated_faces" is measured again, too: any two of them show different
people, and none of them exists. Where it has not, that basis stays as it was measured. So does a recogniser whose file is
not at hand. Generator: package random-face==2021.7.21.1 (Apache-2.0, MobileStyleGAN trained on FFHQ, whose licence is
non-commercial); unpack its `data` folder and name it with --generator. Pictures stay out of git.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.calibration_statistics import (
    Pairs,
    join,
    misses_at,
    pair_up,
    rate_at,
    rate_interval,
    threshold_at,
    threshold_interval,
)
from benchmarks.pairs import read_people
from benchmarks.pictures import GENERATED, ROOT
from benchmarks.splits import TEST_SEEDS, TUNING_SEEDS, Part, split_people
from faceprivacy_core import weights
from faceprivacy_core.faces.calibration import CALIBRATION_FILE, FMRS
from faceprivacy_core.faces.detect import YuNetDetector, load_detector
from faceprivacy_core.faces.recognizers import SPECS, TorchRecognizer, load_network

GENERATOR_DIR = ROOT / ".cache" / "assets" / "x" / "random_face" / "random_face" / "data"
SEEDS = range(TUNING_SEEDS.start, TEST_SEEDS.stop)
TRUNCATION = (0.6, 1.0)
PHOTOS, DRAWN = "photos", "generated_faces"

Item = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""A picture (H, W, 3) and the landmarks (5, 2) of its face."""


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


def load_faces(paths: Iterable[Path], detector: YuNetDetector) -> dict[Path, Item]:
    """Load pictures with the landmarks of their largest face; those without a face are left out."""
    items = {}
    for path in paths:
        with Image.open(path) as opened:
            pixels = np.array(opened.convert("RGB"))
        faces = detector.detect(pixels)
        if faces:
            items[path] = (pixels, max(faces, key=lambda face: face.area).landmarks5)
    return items


def align(recognizer: TorchRecognizer, items: Iterable[Item]) -> Tensor:
    """Cut the crops a recogniser looks at, (N, 3, S, S)."""
    crops = []
    for pixels, landmarks in items:
        spread = 3 * np.ptp(landmarks, axis=0)
        left, top = np.maximum(landmarks.min(axis=0) - spread, 0).astype(int)
        right, bottom = (landmarks.max(axis=0) + spread).astype(int)
        cut = torch.from_numpy(pixels[top:bottom, left:right].copy()).permute(2, 0, 1)[None]
        points = torch.from_numpy(landmarks - (left, top))[None]
        crops.append(recognizer.align(cut.float() / 255, points))
    return torch.cat(crops)


def embed(recognizer: TorchRecognizer, crops: Tensor) -> NDArray[np.float64]:
    """Compute the identity vectors of aligned crops, (N, D)."""
    with torch.no_grad():
        return torch.cat([recognizer.embed_aligned(part) for part in crops.split(16)]).double().numpy()


def measure_basis(population: str, strangers: Pairs, tuning: Pairs, test: Pairs) -> dict[str, Any]:
    """Choose thresholds on pairs of strangers, and say what they do to photographs.

    Args:
        population: Whose pairs those are.
        strangers: Of any population; its impostor pairs choose.
        tuning, test: The two halves of the people in photographs.

    Returns:
        For each false match rate the threshold and the rates with their intervals, and the counts behind them.
    """
    known = join(tuning, test)
    basis: dict[str, Any] = {
        "population": population, "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "people": strangers.num_people, "impostor_pairs": len(strangers.impostors), "test_people": test.num_people,
        "test_impostor_pairs": len(test.impostors), "genuine_pairs": len(known.genuine),
    }  # fmt: skip
    for fmr in FMRS:
        threshold = round(threshold_at(strangers.impostors, fmr), 4)
        basis[str(fmr)] = {
            "threshold": threshold,
            "threshold_ci95": _rounded(threshold_interval(strangers, fmr)),
            "test_fmr": round(rate_at(test.impostors, threshold), 5),
            "test_fmr_ci95": _rounded(rate_interval(test, threshold, genuine=False)),
            "fnmr": round(misses_at(known.genuine, threshold), 4),
            "fnmr_ci95": _rounded(rate_interval(known, threshold, genuine=True)),
        }
    return basis


def measure(pairs: Path, population: str, generated: Path, output: Path, insightface_dir: Path | None) -> None:
    """Measure every recogniser whose file is at hand and write the calibration."""
    detector, people = load_detector(), read_people(pairs)
    faces = load_faces((path for paths in people.values() for path in paths), detector)
    drawn = load_faces(sorted(generated.glob("*.jpg")), detector)
    records = {record["name"]: record for record in json.loads(output.read_text(encoding="utf-8"))["recognizers"]}
    photographs = f"{population}; {len(faces)} photographs of {len(people)} people, of whom the first half by name chose"
    for recognizer, sha256 in subjects(insightface_dir):
        known = records.get(recognizer.name, {})
        bases = known["bases"] if known.get("sha256") == sha256 else {}
        vectors = dict(zip(faces, embed(recognizer, align(recognizer, faces.values())), strict=True))
        tuning, test = (_pairs_of([people[name] for name in split_people(list(people), part)], vectors) for part in Part)
        bases[PHOTOS] = measure_basis(photographs, tuning, tuning, test)
        if drawn:
            vectors = embed(recognizer, align(recognizer, drawn.values()))
            nobody = f"random-face 2021.7.21.1, {len(drawn)} faces of nobody, seeds {SEEDS.start} to {SEEDS.stop - 1}"
            bases[DRAWN] = measure_basis(nobody, pair_up(vectors, np.arange(len(vectors))), tuning, test)
        records[recognizer.name] = {"name": recognizer.name, "sha256": sha256, "bases": bases}
        print(recognizer.name, json.dumps(bases[PHOTOS]), flush=True)  # noqa: T201
    write_calibration(output, list(records.values()))


def write_calibration(output: Path, records: list[dict[str, Any]]) -> None:
    """Write the calibration file."""
    versions = {"schema_version": 2, "detector": "yunet", "torch": torch.__version__.split("+")[0]}
    output.write_text(json.dumps(versions | {"recognizers": records}, indent=2) + "\n", encoding="utf-8")


def subjects(insightface_dir: Path | None) -> Iterator[tuple[TorchRecognizer, str]]:
    """Load every recogniser without thresholds, with the sha256 of its file."""
    for spec in SPECS:
        yield TorchRecognizer(spec, load_network(spec, weights.find(spec.name)), "", {}), weights.entry(spec.name).sha256
    if insightface_dir is not None:
        from faceprivacy_core.faces.insightface_models import ARCFACE_SPECS, build_arcface

        for path in (insightface_dir / name for name in ARCFACE_SPECS):
            if path.is_file():
                yield build_arcface(ARCFACE_SPECS[path.name], path, {}), weights.file_sha256(path)


def _pairs_of(people: list[list[Path]], vectors: dict[Path, NDArray[np.float64]]) -> Pairs:
    found = [(vectors[path], number) for number, paths in enumerate(people) for path in paths if path in vectors]
    return pair_up(np.array([vector for vector, _ in found]), np.array([number for _, number in found]))


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(value, 5) for value in interval]


def main() -> None:
    """Read the command line and run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["generate", "measure"], nargs="?", default="measure")
    parser.add_argument("--pairs", type=Path, help="folder with photographs PERSON_NUMBER.jpg, for `measure`")
    parser.add_argument("--population", default="photographs", help="whom and what the folder shows, for the calibration file")
    parser.add_argument("--generator", type=Path, default=GENERATOR_DIR)
    parser.add_argument(
        "--insightface", type=Path, help="folder with w600k_mbf.onnx or w600k_r50.onnx, to measure them as well"
    )
    parser.add_argument("--output", type=Path, default=CALIBRATION_FILE, help="file that is read, and written anew")
    options = parser.parse_args()
    if options.step == "generate":
        generate(options.generator)
    elif options.pairs is None:
        parser.error("expected --pairs FOLDER with two photographs of every person")
    else:
        measure(options.pairs, options.population, GENERATED, options.output, options.insightface)


if __name__ == "__main__":
    main()
