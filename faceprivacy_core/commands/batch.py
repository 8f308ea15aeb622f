"""Runs a method over picture files and writes each result with what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..builtin.model import FaceModel, load_face_model
from ..errors import InputError, NoFaceError
from ..faces.detect import load_detector
from ..faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
from ..faces.select import Selection, detect_faces
from ..metrics.perceptual import PerceptualDistance, load_perceptual
from ..metrics.report import compute_report
from ..pixels import to_pixels, to_tensor
from ..protocols import FaceDetector, FaceRecognizer, Progress
from ..recover import invert_faces
from ..types import Faces
from .inversion_options import InversionChoice, write_inversion
from .pictures import read_picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_STEPS_SHOWN = 1000


@dataclass(frozen=True, eq=False)
class Tools:
    """Everything that is loaded once for a run."""

    model: FaceModel
    detector: FaceDetector
    seen: tuple[FaceRecognizer, ...]
    held_out: tuple[FaceRecognizer, ...]
    perceptual: PerceptualDistance


class Protected(Protocol):
    """What is written of a method's result.

    Attributes:
        images: (1, 3, H, W) in [0, 1].
        mask: (1, 1, H, W) where pixels were replaced.
    """

    images: torch.Tensor
    mask: torch.Tensor


Method = Callable[[torch.Tensor, Faces, Tools, Progress], Protected]
"""Receives a picture (1, 3, H, W) in [0, 1] and its faces, returns it with protected faces."""


def list_pictures(inputs: Sequence[Path]) -> list[Path]:
    """Expand folders to the pictures in them.

    Raises:
        InputError: A path does not exist, or there is no picture at all.
    """
    pictures: list[Path] = []
    for path in inputs:
        if path.is_dir():
            pictures += sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
        elif path.is_file():
            pictures.append(path)
        else:
            raise InputError(f"Expected a picture or a folder, found nothing at {path}.")
    if not pictures:
        raise InputError(f"Expected at least one picture ({', '.join(SUFFIXES)}), found none in the given folders.")
    return pictures


def check_outputs(pictures: Sequence[Path], out: Path) -> None:
    """Refuse runs whose results would overwrite each other or the originals."""
    stems = [path.stem for path in pictures]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"Expected pictures with different names, got several called {twice}. Process them apart.")
    for path in pictures:
        if path.resolve() == (out / f"{path.stem}.png").resolve():
            raise InputError(f"Expected another folder than that of the originals, or {path} would be overwritten.")


def load_tools(device: str) -> Tools:
    """Load model, detector and recognisers.

    Raises:
        InputError: The device does not exist.
        ModelFileError: A file is missing.
    """
    check_device(device)
    return Tools(
        load_face_model().to(device), load_detector(), load_ensemble(DEFAULT_SURROGATES, device=device),
        load_ensemble(DEFAULT_HELD_OUT, device=device), load_perceptual(),
    )  # fmt: skip


def check_device(device: str) -> None:
    """Make sure that torch can use a device; InputError otherwise."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"Expected a device torch can use, got {device!r} ({error}).") from error


def protect_file(
    path: Path,
    out: Path,
    tools: Tools,
    method: Method,
    selection: Selection,
    saving: InversionChoice | None = None,
) -> str:
    """Protect one picture and write it with its report; nothing is written on failure.

    Args:
        path: The picture.
        out: Folder for the results.
        tools, method, selection: What to do, and with what.
        saving: How to save what brings the faces back; None does not.

    Returns:
        What to say of it.
    """
    started = time.perf_counter()
    original = read_picture(path)
    faces = detect_faces([original], tools.detector, selection)
    if not faces.items:
        raise NoFaceError("Expected at least one face, found none. If there is one, it may be too small or turned away.")
    with tqdm(total=MAX_STEPS_SHOWN, desc=path.name, leave=False, bar_format="{desc} |{bar}| {percentage:.0f} %") as bar:

        def progress(step: int, total: int, preview: torch.Tensor | None = None) -> None:
            bar.update(MAX_STEPS_SHOWN * step // total - bar.n)

        images = to_tensor(original)
        result = method(images, faces, tools, progress)
    inversion = None if saving is None else invert_faces(images, faces, tools.model, steps=saving.steps)
    protected = to_pixels(result.images)
    report = compute_report(
        original, protected, tools.detector, (*tools.seen, *tools.held_out),
        seen={recognizer.name for recognizer in tools.seen}, mask=result.mask[0, 0].numpy(),
        perceptual=tools.perceptual, faces=faces.items,
    )  # fmt: skip
    written = report.to_json_dict() | {"picture": path.name, "seconds": round(time.perf_counter() - started, 2)}
    if inversion is not None and saving is not None:
        write_inversion(out / path.stem, inversion, saving, protected)
    write_result(out / path.stem, protected, written)
    return summary_line(written)


def write_result(stem: Path, protected: NDArray[np.uint8], report: dict[str, Any]) -> None:
    """Write STEM.png without metadata and STEM.json."""
    Image.fromarray(protected).save(stem.with_name(stem.name + ".png"))
    stem.with_name(stem.name + ".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def summary_line(report: dict[str, Any]) -> str:
    """Say in one line what the held-out recognisers see."""
    held_out = [r for face in report["faces"] for r in face["recognizers"] if r["role"] == "held out"]
    recognised = sum(r["verified_fmr_1e-3"] for r in held_out)
    return (
        f"{len(report['faces'])} faces, {recognised} of {len(held_out)} held-out comparisons still recognise "
        f"the person, {report['seconds']:.0f} s"
    )
