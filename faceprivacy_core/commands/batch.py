"""Runs a method over picture files and writes each result with what was measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..diffusion.model import LatentModel
from ..embeddings.inversion import FaceInversion
from ..errors import InputError
from ..faces.detect import load_detector
from ..faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES, load_ensemble
from ..files import NewFile, check_free, write_together
from ..freed import give_back
from ..inversions.files import SUFFIX
from ..metrics.perceptual import PerceptualDistance, load_perceptual
from ..metrics.report import compute_report
from ..phrases.catalogue import ENGLISH, Phrases
from ..picture_files import png_bytes
from ..pixels import as_bytes, to_pixels
from ..protocols import FaceDetector, FaceRecognizer, Progress
from ..recover import invert_faces
from ..small_faces import KEEP_NONE, SmallFaces
from ..types import Faces, Picture
from .choosing import NO_FACE, NO_FACE_SAID, FaceChoice, without_face
from .console import has_bars, showable
from .inputs import check_outputs
from .inversion_options import InversionChoice, inversion_beside
from .pictures import read_opaque

__all__ = ["Method", "Protected", "Tools", "check_device", "check_outputs", "load_tools", "protect_file"]

MAX_STEPS_SHOWN = 1000


@dataclass(frozen=True, eq=False)
class Tools:
    """Everything that is loaded once for a run."""

    model: LatentModel
    detector: FaceDetector
    seen: tuple[FaceRecognizer, ...]
    held_out: tuple[FaceRecognizer, ...]
    perceptual: PerceptualDistance


class Protected(Protocol):
    """What is written of a method's result.

    Attributes:
        images: (1, 3, H, W), values in [0, 1] or bytes.
        mask: (1, 1, H, W) where pixels were replaced.
    """

    images: torch.Tensor
    mask: torch.Tensor


Method = Callable[[torch.Tensor, Faces, Tools, Progress], Protected]
"""Receives a picture (1, 3, H, W) in bytes and its faces, returns it with protected faces."""


def load_tools(device: str, model: LatentModel, detector: FaceDetector | None = None) -> Tools:
    """Load recognisers, and a detector unless one is given, beside a model.

    Raises:
        ModelFileError: A file is missing.
    """
    return Tools(
        model, detector or load_detector(), load_ensemble(DEFAULT_SURROGATES, device=device),
        load_ensemble(DEFAULT_HELD_OUT, device=device), load_perceptual(),
    )  # fmt: skip


def check_device(device: str) -> None:
    """Make sure that torch can use a device; InputError otherwise."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch raises either, and lists its back ends in it
        raise InputError(
            f"Expected a device torch can use, got {device!r}, which is not here. Use cpu, or cuda or mps where there is one."
        ) from None


def protect_file(
    path: Path,
    target: Path,
    tools: Tools,
    method: Method,
    choice: FaceChoice,
    saving: InversionChoice | None = None,
    *,
    small: SmallFaces = KEEP_NONE,
    on_no_face: str = NO_FACE[0],
    replace: bool = False,
    phrases: Phrases = ENGLISH,
) -> str:
    """Protect one picture and write it with its report; nothing is written on failure.

    Args:
        path: The picture.
        target: Path of the results without ending.
        tools, method: What to do, and with what.
        choice: To which faces.
        saving: How to save what brings the faces back; None does not.
        small: What becomes of faces that are too small.
        on_no_face: What becomes of a picture without a chosen face, one of `NO_FACE`.
        replace: Replace results that are there already.
        phrases: The language of what is said.

    Returns:
        What to say of it.
    """
    started = time.perf_counter()
    results = {ending: target.with_name(target.name + ending) for ending in (SUFFIX, ".json", ".png")}
    if not replace:
        check_free(results.values())
    opened = read_opaque(path)
    original = opened.pixels
    faces = choice.find(original, tools.detector)
    ready = original if faces.items else without_face(original, on_no_face)
    with tqdm(
        total=MAX_STEPS_SHOWN,
        desc=showable(path.name, sys.stderr),
        leave=False,
        disable=not has_bars(),
        bar_format="{desc} |{bar}| {percentage:.0f} %",
    ) as bar:

        def progress(step: int, total: int, preview: torch.Tensor | None = None) -> None:
            bar.update(MAX_STEPS_SHOWN * step // total - bar.n)

        large, mask, protected = small.prepare(ready, faces)
        if ready is not original:  # all of it was blurred
            mask = np.ones_like(mask)
        inversion = None
        if large.items:  # the large arrays of the method are gone before anything is measured
            protected, mask, inversion = _run_method(method, protected, mask, large, tools, saving, progress)
            give_back()
    report = compute_report(
        original, protected, tools.detector, (*tools.seen, *tools.held_out),
        seen={recognizer.name for recognizer in tools.seen}, mask=mask,
        perceptual=tools.perceptual, faces=faces.items,
    )  # fmt: skip
    written = report.to_json_dict() | {"picture": path.name, "seconds": round(time.perf_counter() - started, 2)}
    written["model"] = f"{tools.model.name} ({tools.model.family})"
    written["pixelated_faces"] = [index for index, face in enumerate(faces.items) if face not in large.items]
    files = [
        NewFile(results[".json"], (json.dumps(written, indent=2) + "\n").encode("ascii")),
        NewFile(results[".png"], png_bytes(protected, opened.look)),
    ]
    if inversion is not None and saving is not None:
        files.insert(0, inversion_beside(results[SUFFIX], inversion, saving, protected))
    write_together(files, replace=replace)
    return summary_line(written, phrases) if faces.items else phrases(f"0 faces, {NO_FACE_SAID[on_no_face]}")


def _run_method(
    method: Method,
    ready: Picture,
    blurred: NDArray[np.float32],
    faces: Faces,
    tools: Tools,
    saving: InversionChoice | None,
    progress: Progress,
) -> tuple[Picture, NDArray[np.float32], FaceInversion | None]:
    """Protect the large faces; return the picture, where it was changed in all, and what brings the faces back."""
    images = as_bytes(ready)
    result = method(images, faces, tools, progress)
    inversion = None if saving is None else invert_faces(images, faces, tools.model, steps=saving.steps, tokens=saving.tokens)
    return to_pixels(result.images), np.maximum(blurred, result.mask[0, 0].numpy()), inversion


def summary_line(report: dict[str, Any], phrases: Phrases = ENGLISH) -> str:
    """Say in one line what the held-out recognisers see."""
    held_out = [r for face in report["faces"] for r in face["recognizers"] if r["role"] == "held out"]
    recognised, count = sum(r["verified_fmr_1e-3"] for r in held_out), len(report["faces"])
    said = "{known} of {asked} held-out comparisons still recognise the person, {seconds:.0f} s"
    text = f"1 face, {said}" if count == 1 else f"{{faces}} faces, {said}"
    return phrases(text, faces=count, known=recognised, asked=len(held_out), seconds=report["seconds"])
