"""How runs scale: pictures a second and peak memory with one and two workers, and a clip beside its frames as pictures.

    python -m benchmarks.scale --pictures 20 --seconds 1 --method solid

Ratios of one run count; on a busy machine nothing else does. People are those of the repository's sample pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "docs" / "samples" / "two_people.jpg"
SIZES = {"720p": (1280, 720), "360p": (640, 360)}
RATE = 25


def frames(count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Return frames in which the two people of the sample drift, turn and grow a little."""
    with Image.open(SAMPLE) as opened:
        sample = opened.convert("RGB")
    for index in range(count):
        scale = size[1] / sample.height * (1.15 + 0.05 * np.sin(index / 9))
        large = sample.resize((round(sample.width * scale), round(sample.height * scale)), Image.Resampling.BICUBIC)
        turned = large.rotate(2.0 * np.sin(index / 11), Image.Resampling.BICUBIC)
        left = (turned.width - size[0]) / 2 + 20 * np.sin(index / 13)
        yield turned.transform(size, Image.Transform.AFFINE, (1, 0, left, 0, 1, (turned.height - size[1]) / 2))


def write_clip(path: Path, count: int, size: tuple[int, int]) -> None:
    """Write frames as a clip."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for picture in frames(count, size):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def measure(*words: object) -> dict[str, float]:
    """Run `faceprivacy anonymize` and return its seconds, and its peak memory with that of its workers in megabytes."""
    command = [sys.executable, "-m", "faceprivacy_core", "anonymize", *map(str, words)]
    started, peak = time.perf_counter(), 0.0
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    over = threading.Event()
    while not over.wait(0.1) and run.poll() is None:
        peak = max(peak, resident_mb(run.pid))
    if run.wait():
        raise SystemExit(f"Expected the run to succeed, it ended with {run.returncode}: {' '.join(command)}")
    return {"seconds": round(time.perf_counter() - started, 2), "peak_mb": round(peak)}


def resident_mb(process: int) -> float:
    """Return the resident memory of a process and its children; 0 where /proc is missing."""
    total = 0.0
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        total += pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split():
            total += resident_mb(int(child))
    except (OSError, IndexError, ValueError):
        return total
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the clip")
    parser.add_argument(
        "--as-pictures", type=int, default=4, metavar="N", help="frames of the clip that are also done as pictures"
    )
    parser.add_argument("--size", choices=SIZES, default="720p")
    parser.add_argument("--method", default="new face")
    options = parser.parse_args()
    size, way = SIZES[options.size], ["--method", options.method]
    result: dict[str, object] = {
        "size": options.size,
        "method": options.method,
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name, count in (("pictures", options.pictures), ("few", options.as_pictures)):
            (base / name).mkdir()
            for index, picture in enumerate(frames(count, size)):
                picture.save(base / name / f"{index:04}.png")
        if options.pictures:
            for workers in (1, 2):
                key = f"{options.pictures} pictures, {workers} workers"
                result[key] = measure(base / "pictures", "--out", base / f"out{workers}", "--workers", workers, *way)
        few = measure(base / "few", "--out", base / "out_few", *way)
        one = base / "one"
        one.mkdir()
        next(frames(1, size)).save(one / "0.png")
        alone = measure(one, "--out", base / "out_one", *way)
        each = (few["seconds"] - alone["seconds"]) / max(1, options.as_pictures - 1)
        count = round(RATE * options.seconds)
        write_clip(base / "clip.mp4", count, size)
        clip = measure(base / "clip.mp4", "--out", base / "out_clip", *way)
        result |= {
            "one picture": alone, f"clip of {count} frames": clip, "a frame as a picture, seconds": round(each, 2),
            "clip over its frames as pictures": round((clip["seconds"] - alone["seconds"] + each) / (each * count), 3),
            "peak over one picture, MB": clip["peak_mb"] - alone["peak_mb"],
        }  # fmt: skip
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
