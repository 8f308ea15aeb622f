"""Cloaking: who is still recognised, what it costs in looks, and the released algorithm beside ours.

    python -m benchmarks.cloak --out output/cloak [--tasks protect released ablation sweep] [--count 64] [--part 0/1]
        [--pairs FOLDER] [--publish]
    python -m benchmarks.cloak --out output/cloak --report

Generated faces (see `calibrate_recognizers.py`), 384 x 384 pixels, the largest face of each; looks are
measured on the face crop at 256 pixels and, apart, inside the mask. Judged are pictures of 8 bits.

protect   ours, one recogniser left out in turn and all others attacked; `shipped` attacks the default ones, and
          `without the UNet` does so through a model whose UNet does nothing: what diffusion has to do with it.
          The rows hold the pictures after JPEG, blur and resize too (`robust`), and pictures for `grid`.
released  the released algorithm beside ours, on crops of the model's size; time and memory of processes of their own.
ablation  schedule, empty condition and depth; how much of a change the model takes away.
sweep     weights of the loss: protection against SSIM.

With --pairs the faces are those of people, and `protect` compares them with another photograph of each, too. Use an --out of
its own for them. Every result is a line in a file at once, so a stopped run goes on, and several parts can run side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.cloak_ablation import measure_purification
from benchmarks.cloak_control import without_unet
from benchmarks.cloak_released import GRID, our_settings
from benchmarks.cloak_report import NOBODY_LEFT_OUT, SHOWN, WITHOUT_UNET, publish_report, write_report
from benchmarks.cloak_rows import read_rows
from benchmarks.cloak_scenes import Judge, Row, Scene, crop_scene, open_scene
from benchmarks.origin import Origin
from benchmarks.pairs import find_pairs
from benchmarks.pictures import GENERATED, ROOT, first_pictures, read_picture
from benchmarks.splits import SURROGATES, VALIDATION, Part
from faceprivacy_core.adversarial.unconditional import EmptyCondition
from faceprivacy_core.builtin.model import DEFAULT_FILE, FaceModel, load_face_model
from faceprivacy_core.cloak import RELEASED, CloakSettings, cloak_faces
from faceprivacy_core.errors import FacePrivacyError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import (
    DEFAULT_SURROGATES,
    RECOGNIZER_NAMES,
    TorchRecognizer,
    load_ensemble,
)
from faceprivacy_core.metrics.draw import draw_report
from faceprivacy_core.metrics.perceptual import load_perceptual
from faceprivacy_core.pixels import to_pixels

TASKS = ("protect", "robust", "released", "ablation", "sweep", "grid")
READ_OFF_PROTECT = ("robust", "grid")
CHOOSING = ("ablation", "sweep")
"""Tasks that choose settings: on tuning faces, judged by surrogates and validation recognisers; see `splits.py`."""

CHUNK = 8
"""Pictures for each process of `released`; loading takes as long as about one of them."""

DEPTHS = (1, 3, 5, 7)
SWEEPS = {
    "attack": (RELEASED, "weights.attack", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
    "fidelity": (CloakSettings(), "fidelity", (28.0, 30.0, 31.0, 32.0, 34.0, 36.0)),
    "perceptual": (CloakSettings(), "weights.perceptual", (0.0, 2.0, 5.0, 10.0, 20.0)),
}
"""Which settings, which of their numbers, and its values beside the default: attack against a structure weight of 1
as released, our limit of the change in decibels, and the weight of the perceptual distance."""


Subject = tuple[Path, Path | None]
"""A picture to cloak, and another photograph of the person where there is one."""


@dataclass(frozen=True)
class Variant:
    """One way to cloak: a name, settings, and the recognisers that are attacked."""

    name: str
    settings: CloakSettings
    seen: tuple[str, ...] = DEFAULT_SURROGATES
    labels: tuple[tuple[str, Any], ...] = ()
    has_unet: bool = True


class Bench:
    """Everything that is loaded once, when it is needed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.iterations = options.out, options.iterations

    @cached_property
    def model(self) -> FaceModel:
        return load_face_model()

    @cached_property
    def recognizers(self) -> tuple[TorchRecognizer, ...]:
        return load_ensemble(RECOGNIZER_NAMES)

    @cached_property
    def judge(self) -> Judge:
        return Judge(load_detector(), self.recognizers, load_perceptual())

    def judge_of(self, task: str) -> Judge:
        """Return who judges the pictures of a task: where a setting is chosen, nobody whom figures are read off."""
        if task not in CHOOSING:
            return self.judge
        allowed = [recognizer for recognizer in self.recognizers if recognizer.name in (*SURROGATES, *VALIDATION)]
        return replace(self.judge, recognizers=allowed)

    def settings(self, base: CloakSettings | None = None) -> CloakSettings:
        return our_settings(self.iterations, base)

    def version(self) -> str:
        """Name settings and model, so that rows of others are told apart."""
        digest = hashlib.sha256(repr((self.settings(), self.settings(RELEASED))).encode())
        digest.update(DEFAULT_FILE.read_bytes())
        return digest.hexdigest()[:12]


def protect_variants(bench: Bench, options: argparse.Namespace) -> Iterator[Variant]:
    """Leave one recogniser out in turn; attack the default ones alone, without the UNet, too."""
    for name in options.held_out:
        others = tuple(other for other in RECOGNIZER_NAMES if other != name)
        seen = DEFAULT_SURROGATES if name in NOBODY_LEFT_OUT else others
        yield Variant(name, bench.settings(), seen, has_unet=name != WITHOUT_UNET)


def ablation_variants(bench: Bench, options: argparse.Namespace) -> Iterator[Variant]:
    """Cross schedule, empty condition and depth."""
    sigmas, base = bench.model.denoiser.schedule.sigmas, bench.settings()
    for shift, schedule in enumerate(("aligned", "released")):
        for kind in (EmptyCondition.FIXED, EmptyCondition.LEARNED):
            for depth in DEPTHS:
                levels = tuple(sigmas[list(GRID)[1 : depth + 1]].tolist())
                settings = replace(base, shift=shift, levels=levels, empty=replace(base.empty, kind=kind))
                labels = (("schedule", schedule), ("empty", kind.value), ("depth", depth))
                yield Variant(f"{schedule}, {kind.value}, {depth}", settings, labels=labels)


def sweep_variants(bench: Bench, options: argparse.Namespace) -> Iterator[Variant]:
    """Change one number of the settings at a time."""
    for name, (base, path, values) in SWEEPS.items():
        default = _number(base, path)
        for value in sorted({*values, default}):
            is_default = value == default
            labels = (("sweep", name), ("value", value), ("is_default", is_default))
            yield Variant(f"{name} {value:g}", _with_number(bench.settings(base), path, value), labels=labels)


VARIANTS: dict[str, Callable[[Bench, argparse.Namespace], Iterator[Variant]]] = {
    "protect": protect_variants,
    "ablation": ablation_variants,
    "sweep": sweep_variants,
}


def _number(settings: Any, path: str) -> Any:
    for part in path.split("."):
        settings = getattr(settings, part)
    return settings


def _with_number(settings: Any, path: str, value: float) -> Any:
    """Replace a number of nested settings, named like `weights.change`."""
    head, _, rest = path.partition(".")
    return replace(settings, **{head: _with_number(getattr(settings, head), rest, value) if rest else value})


def measure(
    bench: Bench, scene: Scene, task: str, variant: Variant, other: Path | None = None
) -> tuple[Row, torch.Tensor | None]:
    """Cloak one face in one way and judge it; a refusal is a row too."""
    attacked = [recognizer for recognizer in bench.recognizers if recognizer.name in variant.seen]
    model = bench.model if variant.has_unet else without_unet(bench.model)
    wall, processor = time.perf_counter(), time.process_time()
    try:
        result = cloak_faces(scene.image, scene.faces, model, attacked, variant.settings, perceptual=bench.judge.perceptual)
    except FacePrivacyError as error:
        return {"refused": str(error)}, None
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
    beside = None if other is None else read_picture(other)
    judge = bench.judge_of(task)
    row = {**seconds, **judge.see(scene, result.images, variant.seen, changes=task == "protect", other=beside)}
    if task == "ablation":
        row["purification"] = measure_purification(scene, bench.model, variant.settings, result)
    return row, result.images


def keep_pictures(bench: Bench, scene: Scene, image: torch.Tensor, path: Path, variant: Variant, *, report: bool) -> None:
    """Save original, cloaked, and eight times the difference, side by side; and the pack's report where that is wanted."""
    folder = bench.out / "pictures" / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    before, after = scene.view(scene.image), scene.view(image)
    difference = np.clip(128 + 8 * (after.astype(np.int16) - before), 0, 255).astype(np.uint8)
    Image.fromarray(np.concatenate([before, after, difference], axis=1)).save(folder / f"{path.stem}.png")
    if not report:
        return
    (bench.out / "reports").mkdir(exist_ok=True)
    drawn = draw_report(bench.judge.report(scene, image, variant.seen), scene.pixels, to_pixels(image))
    Image.fromarray(drawn).save(bench.out / "reports" / f"{variant.name}_{path.stem}.png")


class Log:
    """The rows of one task; those of other settings or another model do not count as done."""

    def __init__(self, folder: Path, task: str, part: str, bench: Bench) -> None:
        version = bench.version()
        self.file, self.version = folder / f"{task}{part.replace('/', 'of')}.jsonl", version
        self.origin = Origin.now((bench.settings(), bench.settings(RELEASED)))
        self.done = {(row["picture"], row["variant"]) for row in read_rows(folder, task) if row["version"] == version}

    def add(self, path: Path, variant: str, row: Row) -> None:
        full = {"picture": path.name, "variant": variant, "version": self.version, **vars(self.origin), **row}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(full) + "\n")
        print(self.file.stem, variant, path.name, flush=True)  # noqa: T201


def run_variants(
    bench: Bench, task: str, subjects: Sequence[Subject], first: Sequence[Subject], options: argparse.Namespace
) -> None:
    """Fill the rows of `protect`, `ablation` or `sweep`."""
    log = Log(options.out, task, options.part, bench)
    for path, other in subjects:
        missing = [v for v in VARIANTS[task](bench, options) if (path.name, v.name) not in log.done]
        scene = open_scene(path, bench.judge.detector) if missing else None
        for variant in missing:
            row, image = measure(bench, scene, task, variant, other)
            if image is not None and task == "protect":
                keep_pictures(bench, scene, image, path, variant, report=(path, other) in first)
            log.add(path, variant.name, {"seen": variant.seen, **dict(variant.labels), **row})


def run_released(bench: Bench, paths: Sequence[Path], target: Path, options: argparse.Namespace) -> None:
    """Fill the rows of `released`, some pictures at a time."""
    log = Log(options.out, "released", options.part, bench)
    missing = [path for path in paths if (path.name, "") not in log.done]
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        made = {way: in_own_process(way, chunk, target, options.iterations) for way in ("released", "ours")}
        for path, released, ours in zip(chunk, made["released"], made["ours"], strict=True):
            scene = crop_scene(open_scene(path, bench.judge.detector), bench.model.resolution)
            with torch.no_grad():
                latent = bench.model.autoencoder.encode(scene.image * 2.0 - 1.0)
                autoencoder = (bench.model.autoencoder.decode(latent) + 1.0) / 2.0
            pasted = scene.image + scene.mask * (released.pop("decoded") - released.pop("reference"))
            images = {"released": released.pop("image"), "ours": ours.pop("image")}
            costs = {"released": released, "ours": ours}
            images |= {"released, change pasted": pasted, "autoencoder alone": autoencoder}
            seen = {way: bench.judge.see(scene, image, DEFAULT_SURROGATES) for way, image in images.items()}
            log.add(path, "", {"ways": {way: {**row, **costs.get(way, {})} for way, row in seen.items()}})


def in_own_process(way: str, pictures: Sequence[Path], target: Path, iterations: int | None) -> list[Row]:
    """Cloak pictures in a process that does nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.pt"
        command = [sys.executable, "-m", "benchmarks.cloak_released", way, *map(str, pictures)]
        command += ["--target", str(target), "--out", str(out)]
        command += [] if iterations is None else ["--iterations", str(iterations)]
        subprocess.run(command, check=True)
        return torch.load(out, weights_only=True)  # plain rows and tensors of our own process


def find_subjects(task: str, options: argparse.Namespace) -> list[Subject]:
    """List the pictures of a task, each with another photograph of the person where there is one."""
    part = Part.TUNING if task in CHOOSING else Part.TEST
    if options.pairs is not None:
        return list(find_pairs(options.pairs, options.count, part))
    return [(path, None) for path in first_pictures(options.pictures, options.count, part)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "cloak")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["protect", "released"])
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--part", default="0/1", help="which of several parts, for example 0/2 and 1/2")
    parser.add_argument(
        "--held-out", nargs="+", choices=(*NOBODY_LEFT_OUT, *RECOGNIZER_NAMES), default=[*NOBODY_LEFT_OUT, *RECOGNIZER_NAMES],
        help="recognisers `protect` leaves out in turn, or a way that leaves out none of the default ones",
    )  # fmt: skip
    parser.add_argument("--pictures", type=Path, default=GENERATED, help="folder; `released` goes toward the last one")
    parser.add_argument("--pairs", type=Path, help="folder of PERSON_NUMBER.jpg: its people instead of --pictures")
    parser.add_argument("--iterations", type=int, help="fewer, to try things out")
    parser.add_argument("--publish", action="store_true", help="put `protect` and `released` into benchmarks/results")
    parser.add_argument("--report", action="store_true", help="only tables and plots of the rows there are")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        part, parts = (int(number) for number in options.part.split("/"))
        bench = Bench(options)
        for task in dict.fromkeys("protect" if name in READ_OFF_PROTECT else name for name in options.tasks):
            subjects = find_subjects(task, options)
            if task == "released":
                paths = [path for path, _ in subjects]
                target = [*paths, *sorted(options.pictures.glob("*.jpg"))][-1]
                run_released(bench, paths[part::parts], target, options)
            else:
                run_variants(bench, task, subjects[part::parts], subjects[:SHOWN], options)
    print(write_report(options.out))  # noqa: T201
    if options.publish:
        publish_report(options.out)


if __name__ == "__main__":
    main()
