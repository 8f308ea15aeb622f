"""Quality and cost of the built-in face model, or of several model files side by side.

    python -m benchmarks.builtin_model [--model FILE ...] [--compare FILE] [--training-faces FOLDER]
        [--pairs FOLDER] [--faces N] [--steps 50] [--out output/builtin_model]

Pictures: generated faces (`calibrate_recognizers generate` draws them) and the samples in
`docs/samples`. Every face is detected and cut out as the pack does it. Writes a table
(Markdown), the figures (JSON), a grid of pictures to look at, and for each file one of up to 64
uncurated samples. Recognisers are those the methods hold out, so none was a loss in training.
Measure times on a machine that does nothing else.

Samples without a condition are compared with the first N generated faces. Two yardsticks stand
beside them: the next N generated faces (column "generator"), and an older file (--compare). The
general network is the AlexNet of LPIPS, the only one among the pack's files, so its Fréchet distances
compare with each other and not with published FID. A nearest training face is looked for if
--training-faces names a folder of pictures, or of a `faces.npy` that `training data` wrote. Among K
training faces, 1 - (1 - 0.001)^K of all strangers find one that is taken for them at FMR 1e-3 (64 % with
K = 1,000); so read the figure beside the generator's.

Groups of faces: darker and lighter skin (by colour, so light and shade count, too) and turned heads.
There is no model at hand that judges age or glasses.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.distributions import (
    Judges,
    Seen,
    by_group,
    compare,
    in_chunks,
    see_pictures,
    skin_and_pose_groups,
    to_pictures,
)
from benchmarks.photographs import PUBLISHED, compare_photos, read_pairs
from benchmarks.pictures import GENERATED, ROOT, SAMPLES
from faceprivacy_core.builtin.model import DEFAULT_FILE, FaceModel, load_face_model
from faceprivacy_core.diffusion.samplers import Background, sample_euler
from faceprivacy_core.diffusion.schedules import ddim_sigmas
from faceprivacy_core.faces.detect import YuNetDetector, load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, TorchRecognizer, load_ensemble
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.images import crop_faces, crop_landmarks, cut
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr, compute_ssim
from faceprivacy_core.metrics.perceptual import load_perceptual
from faceprivacy_core.regenerate import regeneration_mask
from faceprivacy_core.rng import seeded_noise

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SHOWN = 12
SAMPLES_ACROSS, SAMPLES_SHOWN = 8, 64
UNCONDITIONAL = "unconditional"

Figures = dict[str, dict[str, float]]
"""Figures by topic and name."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Faces cut out for one model.

    Attributes:
        images: (N, 3, S, S) in [0, 1].
        landmarks5: (N, 5, 2) in pixels of the crop.
        masks: (N, 1, S, S), 1 where the pack would paint a new face.
    """

    images: Tensor
    landmarks5: Tensor
    masks: Tensor


def cut_crops(paths: Iterable[Path], detector: YuNetDetector, size: int, which: Which) -> Crops:
    """Detect faces in files and cut them out; with `Which.LARGEST` at most one for each picture."""
    return cut_faces(map(read_rgb, paths), detector, size, which)


def cut_faces(pictures: Iterable[NDArray[np.uint8]], detector: YuNetDetector, size: int, which: Which) -> Crops:
    """Detect faces in pictures (H, W, 3) and cut them out; see `cut_crops`."""
    parts = []
    for picture in pictures:
        faces = detect_faces([picture], detector, Selection(which))
        if faces.items:
            image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255.0
            images, crops = crop_faces(image, faces, size)
            masks = regeneration_mask(cut(draw_masks(faces, MaskSettings())[:, None], crops))
            parts.append((images, crop_landmarks(crops), masks))
    if not parts:
        raise SystemExit("Expected a face in at least one of the pictures, found none.")
    return Crops(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a picture (H, W, 3)."""
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


def read_training_faces(folder: Path) -> Iterable[NDArray[np.uint8]]:
    """Read the pictures in a folder, or the drawn ones of its `faces.npy`."""
    pool, note = folder / "faces.npy", folder / "faces.json"
    if not pool.is_file():
        return map(read_rgb, sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES))
    faces = np.load(pool, mmap_mode="r")
    drawn = json.loads(note.read_text(encoding="utf-8"))["done"] if note.is_file() else len(faces)
    return map(np.array, faces[:drawn])


def decode(model: FaceModel, latents: Tensor) -> Tensor:
    """Decode latents to pictures in [0, 1]."""
    return ((in_chunks(model.autoencoder.decode, latents) + 1) / 2).clamp(0, 1)


def similarities(recognizer: TorchRecognizer, a: Tensor, b: Tensor, landmarks5: Tensor) -> Tensor:
    """Cosine similarity of every pair (N, N): a[i] with b[j], landmarks those of the originals."""
    first, second = (in_chunks(recognizer.embed, images, landmarks5) for images in (a, b))
    return first @ second.T


def measure_round_trip(model: FaceModel, crops: Crops, judges: Judges) -> tuple[dict[str, Tensor], Tensor]:
    """Encode and decode; compare each picture."""
    decoded = decode(model, in_chunks(model.autoencoder.encode, crops.images * 2 - 1))
    pairs = list(zip(to_pictures(crops.images), to_pictures(decoded), strict=True))
    everywhere = np.ones(pairs[0][0].shape[:2], dtype=np.bool_)
    figures = {
        "PSNR, dB": torch.tensor([compute_psnr(*pair, everywhere) for pair in pairs]),
        "SSIM": torch.tensor([compute_ssim(*pair, everywhere) for pair in pairs]),
        "LPIPS": torch.tensor([float(judges.perceptual.compute_map(*pair).mean()) for pair in pairs]),
    }
    for recognizer in judges.recognizers:
        figures[f"cosine {recognizer.name}"] = similarities(
            recognizer, crops.images, decoded, crops.landmarks5
        ).diagonal()  # fmt: skip
    return figures, decoded


def averages(figures: dict[str, Tensor]) -> dict[str, float]:
    """Average figures over the pictures."""
    return {name: float(values.mean()) for name, values in figures.items()}


def detection_rate(images: Tensor, detector: YuNetDetector) -> float:
    """Part of the pictures in which a face is found."""
    return float(np.mean([len(detector.detect(picture)) > 0 for picture in to_pictures(images)]))


def sample_free(model: FaceModel, count: int, steps: int) -> Tensor:
    """Sample without any condition."""
    sigmas = ddim_sigmas(model.denoiser.schedule, steps).float()
    return decode(model, in_chunks(lambda x: sample_euler(model.denoiser, x, sigmas, model.empty_tokens()),
                                   float(sigmas[0]) * latent_noise(model, range(count))))  # fmt: skip


def measure_told(model: FaceModel, crops: Crops, steps: int, judges: Judges) -> tuple[dict[str, float], Tensor]:
    """Sample from noise with each picture's tokens; are the results closer to it than to the others?"""
    sigmas = ddim_sigmas(model.denoiser.schedule, steps).float()
    noise = float(sigmas[0]) * latent_noise(model, range(10_000, 10_000 + len(crops.images)))
    tokens = in_chunks(model.encode_tokens, crops.images)
    images = decode(model, in_chunks(lambda x, cond: sample_euler(model.denoiser, x, sigmas, cond), noise, tokens))
    figures = {}
    for recognizer in judges.recognizers:
        table = similarities(recognizer, crops.images, images, crops.landmarks5)
        others = table[~torch.eye(len(table), dtype=torch.bool)]
        above = (table.diagonal()[:, None] > others[None]).float() + 0.5 * (table.diagonal()[:, None] == others[None]).float()
        figures[f"AUC {recognizer.name}"] = float(above.mean())
    return figures, images


def measure_inpainting(model: FaceModel, crops: Crops, steps: int, judges: Judges) -> tuple[dict[str, float], Tensor]:
    """Paint a new face from full noise into the surroundings of the old one, which is blanked first."""
    sigmas = ddim_sigmas(model.denoiser.schedule, steps).float()
    cell = torch.nn.functional.max_pool2d(crops.masks, crops.images.shape[-1] // latent_side(model))
    there = torch.nn.functional.interpolate(cell, crops.images.shape[-2:])
    latents = in_chunks(model.autoencoder.encode, (crops.images * (1 - there) + 0.5 * there) * 2 - 1)
    noise, start = (latent_noise(model, range(first, first + len(latents))) for first in (20_000, 30_000))

    def paint(latent: Tensor, held: Tensor, free: Tensor, mask: Tensor) -> Tensor:
        background = Background(latent, held, mask)
        x = background.restore(sigmas[0] * free, float(sigmas[0]))
        return sample_euler(model.denoiser, x, sigmas, model.empty_tokens(), background=background)

    images = decode(model, in_chunks(paint, latents, noise, start, cell))
    images = there * images + (1 - there) * crops.images
    figures = {"face detected": detection_rate(images, judges.detector)}
    for recognizer in judges.recognizers:
        same = similarities(recognizer, crops.images, images, crops.landmarks5).diagonal()
        figures[f"cosine to the original, {recognizer.name}"] = float(same.mean())
    return figures, images


def latent_side(model: FaceModel) -> int:
    """Side of a latent."""
    return model.denoiser.unet.config.sample_size


def latent_noise(model: FaceModel, seeds: range) -> Tensor:
    """Unit noise, one seed for each item."""
    side = latent_side(model)
    return seeded_noise(seeds, (model.denoiser.unet.config.in_channels, side, side))


def measure_cost(path: Path, model: FaceModel, repeats: int = 25) -> dict[str, float]:
    """Milliseconds of one call with one crop, the fastest of some; the file's size and loading time."""
    image, latent = torch.zeros(1, 3, model.resolution, model.resolution), latent_noise(model, range(1))
    started = time.perf_counter()
    load_face_model(path)
    figures = {"file, MB": path.stat().st_size / 1e6, "load, s": time.perf_counter() - started}
    calls: dict[str, Callable[[], Tensor]] = {
        "encode, ms": lambda: model.autoencoder.encode(image),
        "decode, ms": lambda: model.autoencoder.decode(latent),
        "one denoising step, ms": lambda: model.denoiser(latent, 1.0, model.empty_tokens()),
    }
    for name, call in calls.items():
        times = []
        for _ in range(repeats + 2):
            started = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - started))
        figures[name] = min(times)
    return figures


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """What samples of one size are compared with.

    Attributes:
        reference: Generated faces.
        others: As many further ones.
        training: Faces the model was trained on; None where they are not at hand.
    """

    reference: Seen
    others: Seen
    training: Seen | None


def see_yardsticks(options: argparse.Namespace, judges: Judges, size: int) -> Yardsticks:
    """Cut out and look at all faces that samples of a size are compared with."""
    paths = sorted(options.pictures.glob("*.jpg"))[: 2 * options.faces]
    if len(paths) < 2 * options.faces:
        raise SystemExit(
            f"Expected {2 * options.faces} generated faces in {options.pictures}, half of them for the yardstick, got "
            f"{len(paths)}. Draw more with calibrate_recognizers.py generate, or lower --faces."
        )
    halves = (paths[: options.faces], paths[options.faces :])
    pools = [map(read_rgb, half) for half in halves]
    pools += [] if options.training_faces is None else [read_training_faces(options.training_faces)]
    seen = [see_pictures(cut_faces(pool, judges.detector, size, Which.LARGEST).images, judges) for pool in pools]
    return Yardsticks(seen[0], seen[1], seen[2] if len(seen) > 2 else None)


def measure_free(
    model: FaceModel, options: argparse.Namespace, judges: Judges, yardsticks: Yardsticks
) -> tuple[dict[str, float], Tensor]:
    """Sample without any condition; compare with the generator."""
    images = sample_free(model, options.faces, options.steps)
    return compare(see_pictures(images, judges), yardsticks.reference, yardsticks.training, judges.recognizers), images


def measure(
    path: Path, faces: Sequence[Path], options: argparse.Namespace, judges: Judges, yardsticks: Callable[[int], Yardsticks]
) -> tuple[Figures, dict[str, Tensor]]:
    """Measure one file; return figures by topic and pictures by topic."""
    model = load_face_model(path)
    generated = cut_crops(faces, judges.detector, model.resolution, Which.LARGEST)
    samples = cut_crops(sorted(SAMPLES.glob("*.jpg")), judges.detector, model.resolution, Which.ALL)
    figures, pictures = {}, {"original": generated.images, "original sample": samples.images}
    each, pictures["round trip"] = measure_round_trip(model, generated, judges)
    figures["round trip, generated faces"] = averages(each)
    groups = skin_and_pose_groups(generated.images, generated.landmarks5)
    figures["round trip, groups of generated faces"] = by_group(each, groups)
    each, pictures["sample round trip"] = measure_round_trip(model, samples, judges)
    figures["round trip, samples"] = averages(each)
    if options.pairs is not None:
        pairs = read_pairs(options.pairs, PUBLISHED, judges.detector, model.resolution)
        decoded = decode(model, in_chunks(model.autoencoder.encode, pairs.first * 2 - 1))
        figures[f"round trip, {len(pairs.names)} photographs"] = compare_photos(decoded, pairs, judges)
        pictures["original photograph"], pictures["photograph round trip"] = pairs.first, decoded
    if not options.round_trip_only:
        figures[UNCONDITIONAL], pictures[UNCONDITIONAL] = measure_free(model, options, judges, yardsticks(model.resolution))
        few = Crops(*(getattr(generated, field.name)[: options.told] for field in dataclasses.fields(Crops)))
        figures["from an image's tokens"], pictures["from tokens"] = measure_told(model, few, options.steps, judges)
        figures["inpainting"], pictures["inpainting"] = measure_inpainting(model, few, options.steps, judges)
    figures["cost"] = measure_cost(path, model)
    return figures, pictures


def table(results: dict[str, Figures]) -> str:
    """Lay the figures out in Markdown, one column for each file; the first has all topics."""
    lines = ["| | " + " | ".join(results) + " |", "|---" * (1 + len(results)) + "|"]
    for topic, figures in next(iter(results.values())).items():
        lines.append(f"| **{topic}** |" + " |" * len(results))
        for name in figures:
            cells = (f"{r[topic][name]:.4g}" if topic in r else "" for r in results.values())
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_rows(pictures: Tensor, across: int) -> Tensor:
    """Lay pictures (N, 3, S, S) out in rows, (3, rows * S, across * S); what is missing is white."""
    missing = pictures.new_ones((-len(pictures) % across, *pictures.shape[1:]))
    rows = torch.cat([pictures, missing]).split(across)
    return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)


def save_grid(path: Path, pictures: Sequence[dict[str, Tensor]]) -> None:
    """Stack rows: every topic once for each file, the originals once."""
    rows = []
    for topic in pictures[0]:
        files = pictures[:1] if topic.startswith("original") else pictures
        rows += [in_rows(file[topic][:SHOWN], SHOWN) for file in files]
    save(path, torch.cat([row for row in rows if row.shape[-1] == rows[0].shape[-1]], dim=1))


def save(path: Path, picture: Tensor) -> None:
    """Write one picture (3, H, W) in [0, 1]."""
    Image.fromarray(to_pictures(picture[None])[0]).save(path)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", help="model file; give it twice to compare two")
    parser.add_argument("--compare", type=Path, help="model file, such as an older one, of which only samples are measured")
    parser.add_argument("--pictures", type=Path, default=GENERATED, help="folder of generated faces not used in training")
    parser.add_argument("--pairs", type=Path, metavar="FOLDER", help="photographs NNN_0.jpg and NNN_1.jpg of the same people")
    parser.add_argument("--training-faces", type=Path, metavar="FOLDER", help="the faces the model was trained on")
    parser.add_argument("--faces", type=int, default=100, help="generated faces, unconditional samples, and yardstick faces")
    parser.add_argument("--told", type=int, default=50, help="faces for the conditional and the inpainting figures")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--round-trip-only", action="store_true", help="leave the UNet out")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "builtin_model")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        results, pictures = run(options)
    text = table(results)
    (options.out / "builtin_model.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "builtin_model.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    save_grid(options.out / "builtin_model.png", pictures)
    for number, shown in enumerate(pictures, 1):
        if UNCONDITIONAL in shown:
            samples = shown[UNCONDITIONAL][:SAMPLES_SHOWN]  # as they came
            save(options.out / f"samples_{number}.png", in_rows(samples, SAMPLES_ACROSS))
    print(text)  # noqa: T201


def run(options: argparse.Namespace) -> tuple[dict[str, Figures], list[dict[str, Tensor]]]:
    """Measure every file, then the yardsticks; return figures by column and topic, and pictures of every file."""
    judges = Judges(load_detector(), load_perceptual(), load_ensemble(DEFAULT_HELD_OUT))
    yardsticks = functools.cache(functools.partial(see_yardsticks, options, judges))
    faces = sorted(options.pictures.glob("*.jpg"))[: options.faces]
    files = options.model or [DEFAULT_FILE]
    results, pictures = {}, []
    for path in files:
        results[column(path)], shown = measure(path, faces, options, judges, yardsticks)
        pictures.append(shown)
    if not options.round_trip_only:
        if options.compare is not None:
            model = load_face_model(options.compare)
            free, _ = measure_free(model, options, judges, yardsticks(model.resolution))
            results[column(options.compare)] = {UNCONDITIONAL: free}
        known = yardsticks(load_face_model(files[0]).resolution)
        results["generator"] = {UNCONDITIONAL: compare(known.others, known.reference, known.training, judges.recognizers)}
    return results, pictures


def column(path: Path) -> str:
    """Name a file in the table."""
    return f"{path.parent.name}/{path.name}"


if __name__ == "__main__":
    main()
