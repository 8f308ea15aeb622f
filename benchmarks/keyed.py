"""Keyed faces: what comes back with the right key, with wrong keys, and what the covers give away.

    python -m benchmarks.keyed --out output/keyed [--count 64] [--image-count 64] [--jpeg-count 16] [--modes latent exact]
        [--pairs FOLDER] [--publish] [--report]

Faces drawn from a generator (see `calibrate_recognizers.py`) and the sample photos, shorter side 384
pixels, the largest face of each. For every mode: recovery through a saved 8-bit PNG, beside the
autoencoder alone; keys that are wrong by one bit, and random ones; JPEG; what held-out recognisers
make of the covers; an attack that compares noise magnitudes with a gallery. With `--pairs`, covers and recovered faces
of people are compared with another photograph of them, too, alone and in a search of all. The sign flip takes its published
50 steps, the other modes 20. Goes on where it was stopped; writes a table (Markdown), every figure (JSON lines, each with
model, settings and sources) and sheets to look at (original, cover, recovered); `--publish` puts the table into the
repository, `--report` measures nothing and takes the rows there are. Seconds are those of one processor.
"""

from __future__ import annotations

import argparse
import io
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gallery import describe, find_subjects, look_beside
from benchmarks.kept import draw_sheets, keep
from benchmarks.matches import count_matches
from benchmarks.origin import Origin, RowLog
from benchmarks.pictures import ROOT, SAMPLES, read_picture
from benchmarks.results import publish
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.diffusion.inversion import invert_euler
from faceprivacy_core.errors import FacePrivacyError, WrongKeyError
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
from faceprivacy_core.faces.select import Selection, Which, detect_faces
from faceprivacy_core.keyed.checks import CoverCheck
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.files import read_keyed, write_png
from faceprivacy_core.keyed.fill import remove_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.models import KeyedModel
from faceprivacy_core.keyed.picture import KeyedPicture, region_of
from faceprivacy_core.keyed.regions import claimed_pixels, cut_crop
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr, compute_ssim
from faceprivacy_core.metrics.similarity import compute_similarity, cut_window
from faceprivacy_core.pixels import to_pixels, to_tensor

STEPS, PUBLISHED_STEPS = 20, 50
RAW = bytes(range(32))
PHOTO = SAMPLES / "two_people.jpg"


class Bench:
    """Everything that is loaded once."""

    def __init__(self) -> None:
        self.detector = load_detector()
        self.seen = load_ensemble(DEFAULT_SURROGATES)
        self.held_out = load_ensemble(DEFAULT_HELD_OUT)
        self.model = KeyedModel(load_face_model())
        self.check = CoverCheck(self.detector, self.seen)
        self.key = PrivacyKey.from_bytes(RAW)

    def similarities(self, before: np.ndarray, after: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
        """Compare a face with what stands in its place, by every recogniser."""
        found = self.detector.detect(after)
        centre = landmarks.mean(axis=0)
        near = sorted(found, key=lambda face: float(np.linalg.norm(face.landmarks5.mean(axis=0) - centre)))[:1]
        windows = [cut_window(after, points) for points in [landmarks, *(face.landmarks5 for face in near)]]
        here = cut_window(before, landmarks)
        return {r.name: compute_similarity(here, windows, r) for r in (*self.seen, *self.held_out)}

    def recovery(self, original: np.ndarray, recovered: np.ndarray, owned: np.ndarray, landmarks: np.ndarray) -> dict[str, Any]:
        """Measure a recovered face, inside its own pixels."""
        psnr = compute_psnr(original, recovered, owned)
        return {
            "psnr": psnr if np.isfinite(psnr) else "exact",
            "ssim": compute_ssim(original, recovered, owned),
            "similarity": self.similarities(original, recovered, landmarks),
        }

    def noise(self, pixels: np.ndarray, picture: KeyedPicture, steps: int) -> np.ndarray:
        """Invert the crop of a picture plainly, as an attacker with the public model does."""
        region = region_of(picture.headers[0])
        latent = self.model.encode(cut_crop(to_tensor(pixels), region))
        inside = torch.from_numpy(region.cells.copy()).expand_as(latent[0])
        noise = self.model.run(lambda d, sigmas: invert_euler(d, latent, sigmas, None, iterations=1).noise, latent, steps)
        return noise[0][inside].numpy()


def settings_of(mode: RecoveryMode) -> EncryptSettings:
    """Return how a mode is measured."""
    return EncryptSettings(mode, steps=PUBLISHED_STEPS if mode is RecoveryMode.SIGNFLIP else STEPS, verify=False)


def measure(bench: Bench, path: Path, other: Path | None, mode: RecoveryMode, *, jpeg: bool, strips: Path) -> dict[str, Any]:
    """Encrypt one picture, save it, read it, try everything on it, and leave a strip to look at."""
    original = read_picture(path)
    faces = detect_faces([original], bench.detector, Selection(Which.LARGEST))
    if not faces.items:
        return {"skipped": "no face found"}
    landmarks = faces.items[0].landmarks5
    mask = draw_masks(faces, MaskSettings(grow=2.0))[:, None]
    settings = settings_of(mode)
    started = time.process_time()
    try:
        result = encrypt_faces(KeyedPicture(original), faces, mask, bench.key, bench.model, settings, check=bench.check)
    except FacePrivacyError as error:
        return {"refused": str(error)}
    row: dict[str, Any] = {"encrypt_s": time.process_time() - started, "attempts": result.reports[0].attempts}
    picture = through_png(result.picture)
    owned = claimed_pixels(picture.claims, *original.shape[:2])
    row["outside"] = int(np.abs(picture.pixels.astype(int) - original)[~owned].max())
    row["container_bytes"] = len(result.picture.container())
    row["bound_psnr"] = result.reports[0].bound_psnr
    row["cover"] = {"psnr": result.reports[0].cover_psnr, "similarity": bench.similarities(original, picture.pixels, landmarks)}
    row["cover"]["detected"] = bench.check(original, picture.pixels, faces.items)[0] != "no face is found in it"
    started = time.process_time()
    recovered = decrypt_faces(picture, bench.key, bench.model).pixels
    row["decrypt_s"] = time.process_time() - started
    row["right"] = bench.recovery(original, recovered, owned, landmarks)
    row["refused_keys"] = refused(bench, picture, path)
    pictures = {"original": original, "cover": picture.pixels, "recovered": recovered}
    row |= look_beside(other, pictures, landmarks, bench.detector, (*bench.seen, *bench.held_out))
    if jpeg:
        row["jpeg"] = jpegs(bench, original, faces, mask, landmarks, owned, mode)
    if mode is not RecoveryMode.EXACT:  # its covers are made as those of latent
        nobody = to_pixels(remove_faces(picture.pixels, picture.claims))
        row["noise"] = [bench.noise(seen, picture, settings.steps).tolist() for seen in (original, picture.pixels, nobody)]
    region = region_of(picture.headers[0])
    keep(strips, path.name, [cut_crop(to_tensor(pixels), region) for pixels in pictures.values()])
    return row


def time_photo(bench: Bench, modes: list[str]) -> str:
    """Encrypt and decrypt the sample photo with two people at its own size, self-check included."""
    with Image.open(PHOTO) as opened:
        original = np.asarray(opened.convert("RGB"))
    faces = detect_faces([original], bench.detector, Selection())
    mask = draw_masks(faces, MaskSettings(grow=2.0))[:, None]
    height, width = original.shape[:2]
    lines = [f"| {width} x {height}, {len(faces)} faces | encrypt, s | decrypt, s | PSNR |", "|---" * 4 + "|"]
    for mode in modes:
        begin = time.perf_counter()
        settings = replace(settings_of(RecoveryMode(mode)), verify=True)
        result = encrypt_faces(KeyedPicture(original), faces, mask, bench.key, bench.model, settings, check=bench.check)
        picture, middle = through_png(result.picture), time.perf_counter()
        recovered = decrypt_faces(picture, bench.key, bench.model).pixels
        end, owned = time.perf_counter(), claimed_pixels(picture.claims, height, width)
        quality = compute_psnr(original, recovered, owned)
        shown = f"{quality:.1f} dB" if np.isfinite(quality) else "every byte"
        lines.append(f"| {mode} | {middle - begin:.1f} | {end - middle:.2f} | {shown} |")
    return "\n".join(lines)


def through_png(picture: KeyedPicture) -> KeyedPicture:
    """Save and load."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keyed.png"
        write_png(path, picture.pixels, picture.container())
        return KeyedPicture.from_container(*read_keyed(path))


def refused(bench: Bench, picture: KeyedPicture, path: Path) -> str:
    """Count refusals of 4 keys that differ in one bit and 16 random ones (the tests try all 256 and 1,000)."""
    places = np.random.default_rng(len(path.stem) + sum(path.stem.encode())).integers(0, 256, 4)
    keys = [flip_bit(int(place)) for place in places] + [secrets.token_bytes(32) for _ in range(16)]
    count = 0
    for raw in keys:
        try:
            decrypt_faces(picture, PrivacyKey.from_bytes(raw), bench.model)
        except WrongKeyError:
            count += 1
    return f"{count}/{len(keys)}"


def flip_bit(place: int) -> bytes:
    changed = bytearray(RAW)
    changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


def jpegs(
    bench: Bench,
    original: np.ndarray,
    faces: Any,
    mask: torch.Tensor,
    landmarks: np.ndarray,
    owned: np.ndarray,
    mode: RecoveryMode,
) -> dict[str, Any]:
    """Recompress an unbound picture; measure recovery, and what a wrong key sees where it is not refused."""
    found: dict[str, Any] = {}
    settings = replace(settings_of(mode), bind_pixels=False)
    result = encrypt_faces(KeyedPicture(original), faces, mask, bench.key, bench.model, settings)
    records = KeyedPicture.from_container(result.picture.pixels, result.picture.container()).faces
    for quality in (90, 75):
        file = io.BytesIO()
        Image.fromarray(result.picture.pixels).save(file, "JPEG", quality=quality, subsampling=0)
        pixels = np.asarray(Image.open(file).convert("RGB"))
        try:
            recovered = decrypt_faces(KeyedPicture(pixels, records), bench.key, bench.model).pixels
            found[str(quality)] = bench.recovery(original, recovered, owned, landmarks)
        except FacePrivacyError as error:
            found[str(quality)] = {"failed": type(error).__name__}
    if mode is RecoveryMode.IMAGE:
        decoy = EncryptSettings(mode, steps=STEPS, decoy=True, verify=False)
        result = encrypt_faces(KeyedPicture(original), faces, mask, bench.key, bench.model, decoy)
        wrong = decrypt_faces(result.picture, PrivacyKey.from_bytes(secrets.token_bytes(32)), bench.model).pixels
        found["decoy_wrong_key"] = bench.recovery(original, wrong, owned, landmarks)
    return found


def summarise(columns: dict[str, dict[str, str]]) -> str:
    """Lay the figures out in Markdown."""
    titles = dict.fromkeys(title for cells in columns.values() for title in cells)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {title} | " + " | ".join(cells.get(title, "-") for cells in columns.values()) + " |" for title in titles]
    return "\n".join(lines)


def figures(rows: list[dict[str, Any]], bench: Bench) -> dict[str, str]:
    """Return the figures of one mode by their titles."""
    cells: dict[str, str] = {}

    def line(title: str, value: Any) -> None:
        cells[title] = value(rows)

    def mean(key: str, digits: int = 1) -> Any:
        return lambda r: f"{np.mean([x[key] for x in r]):.{digits}f}"

    def psnr(values: list[Any]) -> str:
        numbers = [v for v in values if v != "exact"]
        return "exact" if not numbers else f"{np.mean(numbers):.1f} dB"

    def alike(part: Any, held: Any) -> Any:
        def value(r: list[dict[str, Any]]) -> str:
            return "; ".join(count_matches([part(x)[recognizer.name] for x in r], recognizer) for recognizer in held)

        return value

    line("faces", lambda r: str(len(r)))
    line("refused for want of a cover", lambda r: str(r[0]["refused_faces"]))
    line("recovered, PSNR", lambda r: psnr([x["right"]["psnr"] for x in r]))
    line("autoencoder alone, PSNR", lambda r: "-" if r[0]["bound_psnr"] is None else psnr([x["bound_psnr"] for x in r]))
    line("recovered, SSIM", lambda r: f"{np.mean([x['right']['ssim'] for x in r]):.3f}")
    line("recovered, similarity: seen (matches)", alike(lambda x: x["right"]["similarity"], bench.seen))
    for recognizer in bench.held_out:
        line(f"recovered, {recognizer.name}: similarity, matches", alike(lambda x: x["right"]["similarity"], [recognizer]))
    line("cover, similarity: seen (matches)", alike(lambda x: x["cover"]["similarity"], bench.seen))
    for recognizer in bench.held_out:
        line(f"cover, {recognizer.name}: similarity, matches", alike(lambda x: x["cover"]["similarity"], [recognizer]))
    line("face found in the cover", lambda r: f"{100 * np.mean([x['cover']['detected'] for x in r]):.0f} %")
    line("covers drawn for a face", mean("attempts"))
    line("wrong keys refused", lambda r: ratio([x["refused_keys"] for x in r]))
    line("largest change outside", lambda r: str(max(x["outside"] for x in r)))
    line("attack on magnitudes, top-1", lambda r: top1(r, 1))
    line("the same on the picture without any face, top-1", lambda r: top1(r, 2))
    line("container, bytes", mean("container_bytes", 0))
    line("encrypt, seconds of one processor", mean("encrypt_s"))
    line("decrypt, seconds of one processor", mean("decrypt_s", 2))
    for kind, title in (("90", "after JPEG 90"), ("75", "after JPEG 75"), ("decoy_wrong_key", "decoy, wrong key")):
        line(f"{title}: PSNR, held-out similarity (matches)", lambda r, k=kind: after(r, k, bench, psnr, alike))
    for side in ("original", "cover", "recovered"):
        found = describe(rows, side, bench.held_out)
        cells |= {f"{side}, {title}": cell for title, cell in found.items()}
    return cells


def after(r: list[dict[str, Any]], kind: str, bench: Bench, psnr: Any, alike: Any) -> str:
    chosen = [x["jpeg"][kind] for x in r if kind in x.get("jpeg", {})]
    good = [x for x in chosen if "psnr" in x]
    if not chosen:
        return "-"
    if not good:
        return f"fails ({len(chosen)})"
    return f"{psnr([x['psnr'] for x in good])}, {alike(lambda x: x['similarity'], bench.held_out)(good)}"


def ratio(parts: list[str]) -> str:
    sums = np.sum([[int(n) for n in part.split("/")] for part in parts], axis=0)
    return f"{sums[0]} of {sums[1]}"


def top1(rows: list[dict[str, Any]], which: int) -> str:
    """Match noise magnitudes of the published picture (1), or of its surroundings alone (2), against those of all originals."""
    if any(len(row.get("noise", ())) <= which for row in rows):
        return "-"
    hits = 0
    for row in rows:
        published = np.abs(np.array(row["noise"][which]))
        scores = [correlate(published, np.abs(np.array(other["noise"][0]))) for other in rows]
        hits += int(np.argmax(scores) == next(i for i, other in enumerate(rows) if other is row))
    return f"{100 * hits / len(rows):.0f} %"


def correlate(a: np.ndarray, b: np.ndarray) -> float:
    size = min(len(a), len(b))  # masks differ a little from face to face
    return float(np.corrcoef(a[:size], b[:size])[0, 1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "keyed")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--image-count", type=int, default=64, help="faces for the two modes that invert")
    parser.add_argument("--jpeg-count", type=int, default=16)
    parser.add_argument("--photo", action="store_true", help="also time the sample photo of two people, at its own size")
    parser.add_argument("--modes", nargs="+", default=[mode.value for mode in RecoveryMode])
    parser.add_argument("--pairs", type=Path, help="folder of PERSON_NUMBER.jpg; the second half of the people is measured")
    parser.add_argument("--publish", action="store_true", help="put the table into benchmarks/results")
    parser.add_argument("--report", action="store_true", help="only lay out the rows there are")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    bench, columns = Bench(), {}
    name = "keyed" if options.pairs is None else "keyed_people"
    for mode in (RecoveryMode(name) for name in options.modes):
        log = RowLog(options.out / f"{name}_{mode.value}.jsonl", Origin.now(settings_of(mode)))
        many = options.image_count if mode in (RecoveryMode.IMAGE, RecoveryMode.SIGNFLIP) else options.count
        subjects, strips = find_subjects(many, options.pairs), options.out / f"{name}_{mode.value}"
        for number, (path, other) in enumerate(subjects):
            if path.name not in log and not options.report:
                jpeg = number < options.jpeg_count
                log.add(path.name, measure(bench, path, other, mode, jpeg=jpeg, strips=strips))
                print(mode.value, path.name, flush=True)  # noqa: T201
        rows, refused_faces = kept_rows(log, [path.name for path, _ in subjects])
        print(mode.value, len(rows), "measured,", refused_faces, "refused", flush=True)  # noqa: T201
        draw_sheets(strips)
        if rows:
            columns[mode.value] = figures(rows, bench)
            if options.publish:
                publish(name, mode.value, columns[mode.value], len(rows), log.origin_of_rows)
    text = summarise(columns)
    if options.photo:
        text += "\n\n" + time_photo(bench, options.modes)
    (options.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201


def kept_rows(log: RowLog, pictures: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of pictures that were encrypted, and how many were refused; pictures without a row do not count."""
    known = [log.rows[picture] for picture in pictures if picture in log]
    refused_faces = sum("refused" in row for row in known)
    return [row | {"refused_faces": refused_faces} for row in known if "right" in row], refused_faces


if __name__ == "__main__":
    main()
