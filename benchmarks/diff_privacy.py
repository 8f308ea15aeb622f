"""Diff-Privacy complete: hiding, anonymising with several variants, recovery; on faces of nobody.

    python -m benchmarks.diff_privacy --out output/diff_privacy [--count 64] [--tasks hide anonymise recover] [--part 0/1]
        [--donors-only] [--pairs FOLDER] [--publish] [--report]

Generated faces (see `calibrate_recognizers.py`) and the sample photos, shorter side 384 pixels, the largest
face of each. Looks (LPIPS) are compared on the crop at the model's own size, inside the mask, beside
what the autoencoder alone changes. Recognisers that the methods were guided by and held-out ones are
reported apart. With `--pairs`, results are compared with another photograph of the person, too, alone and in a search of all.
Goes on where it was stopped, several parts can run side by side; writes a table (Markdown), every figure (JSON lines, each
with model, settings and sources) and sheets to look at (the original, then the ways in the order of the table); `--publish`
puts the tables into the repository, `--report` measures nothing and takes the rows there are. Seconds are those of one
processor.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gallery import describe, embed_face, find_subjects
from benchmarks.kept import draw_sheets, keep
from benchmarks.matches import count_matches
from benchmarks.origin import Origin, RowLog
from benchmarks.pictures import ROOT, read_picture
from benchmarks.results import publish
from faceprivacy_core.anonymize import AnonymizeSettings, anonymize_faces
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.embeddings.inversion import FaceInversion
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, TorchRecognizer, load_ensemble
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.hide import HideSettings, hide_faces
from faceprivacy_core.images import crop_faces, cut, paste_faces
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr
from faceprivacy_core.metrics.perceptual import load_perceptual
from faceprivacy_core.metrics.similarity import cut_window
from faceprivacy_core.pixels import to_pixels, to_tensor
from faceprivacy_core.recover import DEFAULT_STEPS, invert_faces, recover_crops
from faceprivacy_core.types import Faces

VARIANTS = 4
Row = dict[str, Any]
Measured = tuple[Row, list[torch.Tensor]]
"""What is known of a face, and the crops to look at."""


class Scene:
    """One picture with its largest face."""

    def __init__(self, bench: Bench, path: Path) -> None:
        pixels = read_picture(path)
        self.faces: Faces = detect_faces([pixels], bench.detector, Selection(Which.LARGEST))
        self.image = to_tensor(pixels)
        self.mask = draw_masks(self.faces, MaskSettings())[:, None]
        self.crop, self.crops = crop_faces(self.image, self.faces, bench.model.resolution)
        self.landmarks = self.faces.items[0].landmarks5

    def pasted(self, crop: torch.Tensor) -> torch.Tensor:
        return paste_faces(self.image, crop, self.crops, self.mask)


class Bench:
    """Everything that is loaded once."""

    def __init__(self) -> None:
        self.detector, self.model, self.perceptual = load_detector(), load_face_model(), load_perceptual()
        self.seen, self.held_out = load_ensemble(DEFAULT_SURROGATES), load_ensemble(DEFAULT_HELD_OUT)
        self.recognizers = (*self.seen, *self.held_out)

    def see(self, scene: Scene, image: torch.Tensor) -> Row:
        """Say what recognisers, the detector and LPIPS make of a picture (1, 3, H, W)."""
        pixels = to_pixels(image)
        centre = scene.landmarks.mean(axis=0)
        near = sorted(
            self.detector.detect(pixels), key=lambda face: float(np.linalg.norm(face.landmarks5.mean(axis=0) - centre))
        )[:1]
        points = near[0].landmarks5 if near else scene.landmarks
        window, size = cut_window(pixels, points), np.linalg.norm(scene.landmarks[:2].mean(0) - scene.landmarks[3:].mean(0))
        changed, mask = (cut(part, scene.crops) for part in (image, scene.mask))
        with torch.no_grad():
            return {
                "detected": bool(near),
                "landmarks": float(np.linalg.norm(points - scene.landmarks, axis=1).mean() / size),
                "lpips": float(self.perceptual.compute_differentiable(changed, scene.crop, mask)[0]),
                "embedding": {r.name: r.embed(window.images, window.landmarks5.float())[0].tolist() for r in self.recognizers},
            }

    def round_trip(self, scene: Scene) -> torch.Tensor:
        """Return the picture with its face as the autoencoder alone gives it back."""
        autoencoder = self.model.autoencoder
        with torch.no_grad():
            decoded = (autoencoder.decode(autoencoder.encode(scene.crop * 2.0 - 1.0)) + 1.0) / 2.0
        return scene.pasted(decoded.clamp(0.0, 1.0))


def hide(bench: Bench, scene: Scene, before: Scene, ways: Mapping[str, HideSettings]) -> Measured:
    """Hide the visual identity in several ways."""
    row = {"original": bench.see(scene, scene.image), "autoencoder": bench.see(scene, bench.round_trip(scene))}
    crops = [scene.crop, cut(bench.round_trip(scene), scene.crops)]
    for name, settings in ways.items():
        started = time.process_time()
        result = hide_faces(
            scene.image, scene.faces, bench.model, bench.seen, settings, detector=bench.detector,
            perceptual=lambda: bench.perceptual,
        )  # fmt: skip
        row[name] = bench.see(scene, result.images) | {"seconds": time.process_time() - started}
        crops.append(cut(result.images, scene.crops))
    return row, crops


def anonymise(bench: Bench, scene: Scene, before: Scene, ways: Mapping[str, AnonymizeSettings]) -> Measured:
    """Draw four variants in several ways."""
    row: Row = {"original": bench.see(scene, scene.image)}
    crops = [scene.crop]
    for name, settings in ways.items():
        started = time.process_time()
        images = anonymize_faces(scene.image, scene.faces, bench.model, bench.seen, settings).images
        row[name] = {
            "variants": [bench.see(scene, image[None]) for image in images],
            "seconds": time.process_time() - started,
        }
        crops += [cut(image[None], scene.crops) for image in images]
    return row, crops


def recover(bench: Bench, scene: Scene, before: Scene, ways: Mapping[str, object]) -> Measured:
    """Recover with the right inversion, with another face's embeddings, and with another's noise."""
    started = time.process_time()
    mine, other = (invert_faces(s.image, s.faces, bench.model) for s in (scene, before))
    row: Row = {"seconds": (time.process_time() - started) / 2, "residual": mine.noise.residual if mine.noise else None}
    inversions = {
        "right": mine,
        "other embeddings": with_parts(mine, stages_of=other),
        "other noise": with_parts(mine, noise_of=other),
        "both other": with_parts(mine, stages_of=other, noise_of=other),
    }
    row["original"], bound = bench.see(scene, scene.image), bench.round_trip(scene)
    inside = scene.mask[0, 0].numpy() > 0.5
    row["autoencoder"] = bench.see(scene, bound) | {"psnr": compute_psnr(to_pixels(scene.image), to_pixels(bound), inside)}
    crops = [scene.crop, cut(bound, scene.crops)]
    for name, inversion in inversions.items():
        image = scene.pasted(recover_crops(inversion, bench.model))
        row[name] = bench.see(scene, image) | {"psnr": compute_psnr(to_pixels(scene.image), to_pixels(image), inside)}
        crops.append(cut(image, scene.crops))
    return row, crops


TASKS: dict[str, Callable[[Bench, Scene, Scene, Mapping[str, Any]], Measured]] = {
    "hide": hide,
    "anonymise": anonymise,
    "recover": recover,
}


def ways_of(task: str, *, donors_only: bool = False) -> dict[str, Any]:
    """Return the ways of a task by name, each with its settings; the published ways to hide take minutes a face."""
    if task == "recover":
        return {"inverted": f"{DEFAULT_STEPS} steps"}
    if task == "anonymise":
        return {
            "diverse": AnonymizeSettings.published(variants=VARIANTS),
            "not diverse": AnonymizeSettings.published(variants=VARIANTS, diversity=0.0),
        }
    donors = {"hidden": HideSettings(), "donor alone": HideSettings(refine=0)}
    published = {"published": HideSettings.published(), "no energy": HideSettings.published(strength=0.0, refine=0)}
    return donors if donors_only else donors | published


def with_parts(
    mine: FaceInversion, *, stages_of: FaceInversion | None = None, noise_of: FaceInversion | None = None
) -> FaceInversion:
    """Exchange the embeddings or the noise map of an inversion."""
    mine = mine if stages_of is None else replace(mine, stages=stages_of.stages, tokens=stages_of.tokens)
    return mine if noise_of is None else replace(mine, noise=noise_of.noise)


def similarities(row: Row, seen: Row, name: str) -> float:
    return float(np.dot(row["original"]["embedding"][name], seen["embedding"][name]))


def summarise(task: str, columns: dict[str, dict[str, str]], faces: int) -> str:
    """Lay the figures of one task out in Markdown."""
    titles = dict.fromkeys(title for cells in columns.values() for title in cells)
    lines = [f"{task}, {faces} faces", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(cells[title] for cells in columns.values()) + " |" for title in titles]
    return "\n".join(lines)


def figures(rows: list[Row], bench: Bench) -> dict[str, dict[str, str]]:
    """Return the figures of one task by way and title."""
    ways = [key for key, value in rows[0].items() if isinstance(value, dict) and key not in ("original", "other")]
    columns: dict[str, dict[str, str]] = {way: {} for way in ways}

    def line(title: str, value: Callable[[list[Row]], str]) -> None:
        for way in ways:
            columns[way][title] = value([pair for row in rows for pair in seen_of(row, way)])

    def seen_of(row: Row, way: str) -> list[Row]:
        results = row[way].get("variants", [row[way]])
        return [result | {"original": row["original"]} for result in results]

    for recognizer in bench.recognizers:
        role = "guided" if recognizer in bench.seen else "held out"

        def alike(results: list[Row], recognizer: TorchRecognizer = recognizer) -> str:
            return count_matches([similarities(result, result, recognizer.name) for result in results], recognizer)

        line(f"{recognizer.name} ({role}): similarity, matches", alike)
    line("LPIPS to the original", lambda r: f"{np.mean([x['lpips'] for x in r]):.3f}")
    line("face detected", lambda r: f"{100 * np.mean([x['detected'] for x in r]):.0f} %")
    line("landmarks moved, of the eye-mouth distance", lambda r: f"{np.mean([x['landmarks'] for x in r]):.3f}")
    if "psnr" in rows[0][ways[0]]:
        line("PSNR", lambda r: f"{np.mean([x['psnr'] for x in r]):.2f} dB")
    if "variants" in rows[0][ways[0]]:
        for recognizer, way in itertools.product(bench.recognizers, ways):
            among = np.mean([pairwise(row[way]["variants"], recognizer.name) for row in rows])
            columns[way][f"{recognizer.name}: similarity among the {VARIANTS}"] = f"{among:.3f}"
    for way in ways:
        seconds = [row[way]["seconds"] for row in rows if "seconds" in row[way]]
        columns[way]["seconds of one processor, a face"] = f"{np.mean(seconds):.1f}" if seconds else "-"
        columns[way] |= describe([beside(row, way) for row in rows], way, bench.held_out)
    return columns


def beside(row: Row, way: str) -> Row:
    """Return the first result of a way and the other photograph of the person as `gallery.describe` wants them."""
    if "other" not in row:
        return {}
    result = row[way].get("variants", [row[way]])[0]
    return {"beside": {way: result["embedding"], "other": row["other"]}}


def pairwise(variants: list[Row], name: str) -> float:
    vectors = [variant["embedding"][name] for variant in variants]
    return float(np.mean([np.dot(a, b) for a, b in itertools.combinations(vectors, 2)]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "diff_privacy")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--part", default="0/1", help="which of several parts, for example 0/2 and 1/2")
    parser.add_argument("--pairs", type=Path, help="folder of PERSON_NUMBER.jpg; the second half of the people is measured")
    parser.add_argument("--donors-only", action="store_true", help="of hiding, leave out the published ways")
    parser.add_argument("--publish", action="store_true", help="put the tables into benchmarks/results")
    parser.add_argument("--report", action="store_true", help="only lay out the rows there are")
    options = parser.parse_args(arguments)
    part, parts = (int(number) for number in options.part.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    subjects = find_subjects(options.count, options.pairs)
    ending = "" if options.pairs is None else "_people"
    bench, tables = Bench(), []
    for task in options.tasks:
        name, ways = f"{task}{ending}", ways_of(task, donors_only=options.donors_only)
        beside_it = tuple(options.out.glob(f"{name}[0-9]*.jsonl"))
        log = RowLog(options.out / f"{name}{part}of{parts}.jsonl", Origin.now(ways), beside_it)
        for index in range(part, len(subjects), parts):
            path, other = subjects[index]
            if path.name not in log and not options.report:
                scene, before = Scene(bench, path), Scene(bench, subjects[index - 1][0])
                row, crops = TASKS[task](bench, scene, before, ways)
                if other is not None:
                    row["other"] = embed_face(read_picture(other), bench.detector, bench.recognizers)
                keep(options.out / name, path.name, crops)
                log.add(path.name, row)
                print(name, path.name, flush=True)  # noqa: T201
        draw_sheets(options.out / name)
        everything = list(log.rows.values())
        columns = figures(everything, bench) if everything else {}
        tables.append(summarise(name, columns, len(everything)))
        if options.publish:
            for way, cells in columns.items():
                publish(name, way, cells, len(everything), log.origin_of_rows)
    text = "\n\n".join(tables)
    (options.out / f"diff_privacy{ending}.md").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
