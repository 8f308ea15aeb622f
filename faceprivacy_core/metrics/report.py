"""The report: for each face, whether the recognisers still find the person, and what changed."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NoFaceError
from ..faces.by_hand import is_guessed
from ..faces.detect import check_picture
from ..protocols import FaceDetector, FaceRecognizer
from ..types import Face
from . import fidelity
from .fidelity import Picture, Region
from .perceptual import PerceptualDistance
from .similarity import FaceWindow, compute_similarity, cut_window

SCHEMA_VERSION = 1
SEEN, HELD_OUT = "seen", "held out"
FALSE_MATCH_RATES = (0.01, 0.001)

SAME_FACE_DISTANCE = 0.5
"""A detection is the face of the original when the noses are nearer than this part of its width."""


@dataclass(frozen=True, slots=True)
class OtherPhoto:
    """How alike one recogniser finds a face and another photo of the person.

    Attributes:
        before: Cosine similarity of the original and the other photo in [-1, 1]: what there was to lose.
        after: That of the protected picture, at the same landmarks as `RecognizerResult.similarity`.
    """

    before: float
    after: float

    def to_json_dict(self, thresholds: dict[float, float]) -> dict[str, Any]:
        sides = {"before": self.before, "after": self.after}
        similarities = {f"similarity_{side}": value for side, value in sides.items()}
        verified = {
            f"verified_{side}_{_fmr_name(fmr)}": value >= thresholds[fmr]
            for side, value in sides.items()
            for fmr in FALSE_MATCH_RATES
        }
        return similarities | verified


@dataclass(frozen=True, slots=True)
class RecognizerResult:
    """What one recogniser says about one face.

    Attributes:
        name: Name of the recogniser.
        family: Its family, see `protocols.FaceRecognizer`.
        role: `seen` when the method used it, else `held out`.
        licence: Licence of its weights.
        similarity: Cosine similarity of the face before and after in [-1, 1]; the larger one of
            those at the landmarks of the original and at those found afterwards.
        thresholds: Similarity from which two pictures count as one person: {0.01: t, 0.001: t}.
        other: Both pictures beside another photo of the person; None when there was none.
    """

    name: str
    family: str
    role: str
    licence: str
    similarity: float
    thresholds: dict[float, float]
    other: OtherPhoto | None = None

    def is_verified(self, fmr: float) -> bool:
        """Tell whether the face counts as the same person at a false match rate, 0.01 or 0.001."""
        return self.similarity >= self.thresholds[fmr]

    def to_json_dict(self) -> dict[str, Any]:
        plain = {key: getattr(self, key) for key in ("name", "family", "role", "licence", "similarity")}
        thresholds = {f"threshold_{_fmr_name(fmr)}": self.thresholds[fmr] for fmr in FALSE_MATCH_RATES}
        verified = {f"verified_{_fmr_name(fmr)}": self.is_verified(fmr) for fmr in FALSE_MATCH_RATES}
        other = {} if self.other is None else {"other": self.other.to_json_dict(self.thresholds)}
        return plain | thresholds | verified | other


@dataclass(frozen=True, slots=True)
class FaceResult:
    """One face of the original.

    Attributes:
        index: Position in the order of the faces, from 0.
        face: The face in the original.
        detected_after: Whether the detector finds a face at this place of the protected picture.
        recognizers: One result per recogniser, in the order they were given.
    """

    index: int
    face: Face
    detected_after: bool
    recognizers: tuple[RecognizerResult, ...]

    def to_json_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "bbox_xyxy": [float(value) for value in self.face.bbox_xyxy],
            "detected_after": self.detected_after,
            "recognizers": [result.to_json_dict() for result in self.recognizers],
        }


@dataclass(frozen=True, slots=True)
class Quality:
    """Change within a region of the picture; every value is None when the region is empty.

    Attributes:
        psnr_db: Decibels; infinity when nothing differs.
        ssim: Mean in [-1, 1]; windows at the rim see beyond the region.
        lpips: Mean LPIPS, at least 0; None too when it was not measured.
        max_abs_difference: Largest change of any 8-bit value, 0 to 255.
    """

    psnr_db: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    max_abs_difference: int | None = None

    def to_json_dict(self) -> dict[str, Any]:
        is_infinite = self.psnr_db is not None and math.isinf(self.psnr_db)
        return asdict(self) | ({"psnr_db": None} if is_infinite else {})


@dataclass(frozen=True, slots=True)
class PrivacyReport:
    """Everything that was measured on one pair of pictures.

    Attributes:
        height: Of both pictures, pixels.
        width: Of both pictures, pixels.
        faces: One result for each face of the original.
        inside: Change where the mask is above 0; without a mask, where the pictures differ.
        outside: Change elsewhere; empty without a mask: pixels chosen for being equal prove nothing.
        is_mask_given: Whether a mask was given.
        seconds: How long measuring took.
        not_compared: Faces painted by hand in which no detector found eyes and mouth: no recogniser can compare them.
    """

    height: int
    width: int
    faces: tuple[FaceResult, ...]
    inside: Quality
    outside: Quality
    is_mask_given: bool
    seconds: float
    not_compared: int = 0

    def to_json_dict(self) -> dict[str, Any]:
        """Return the report as plain values; the infinite PSNR of equal pixels becomes None."""
        inside = self.inside.to_json_dict()
        del inside["max_abs_difference"]
        unknown = {"not_compared": self.not_compared} if self.not_compared else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "image": {"height": self.height, "width": self.width},
            "faces": [face.to_json_dict() for face in self.faces],
            "quality": {
                "region": "mask" if self.is_mask_given else "differences",
                "inside": inside,
                "outside": self.outside.to_json_dict(),
            },
            "seconds": round(self.seconds, 3),
            **unknown,
        }


def compute_report(
    original: Picture,
    protected: Picture,
    detector: FaceDetector,
    recognizers: Sequence[FaceRecognizer],
    *,
    seen: Collection[str],
    mask: NDArray[np.floating] | None,
    perceptual: PerceptualDistance | None,
    faces: Sequence[Face] | None = None,
    other: Picture | None = None,
) -> PrivacyReport:
    """Measure a protected picture against its original, and against another photo of the person.

    Args:
        original: (H, W, 3) uint8 RGB. Not modified.
        protected: (H, W, 3) uint8 RGB. Not modified.
        detector: Searches the protected picture, and the original when `faces` is None.
        recognizers: At least one; each of another name.
        seen: Names of the recognisers the method computed with; the others are held out.
        mask: (H, W) in [0, 1], above 0 where changes were allowed; None when unknown.
        perceptual: Measures LPIPS; None leaves it out.
        faces: Faces of the original that were to be protected, when they are known; none gives a report without
            faces. None detects them.
        other: (H', W', 3) uint8 RGB, another photo of the person, of any size; its largest face is compared with every
            face. Not modified.

    Raises:
        InputError: Sizes differ, a mask or name does not fit, or there is no recogniser.
        NoFaceError: Faces had to be detected and the original has none, or the other photo has none.
        NumericalError: A recogniser computed something that is not a number.

    Laws: equal pictures have similarity 1; untouched pixels outside the mask differ by 0; one result
        per face; no similarity is below that at the landmarks of the original.
    """
    started = time.perf_counter()
    _check_input(original, protected, recognizers, seen)
    inside = fidelity.changed_region(original, protected, mask)
    is_search = faces is None
    faces = detector.detect(original) if faces is None else list(faces)
    if is_search and not faces:
        raise NoFaceError("Expected at least one face in the original, found none. There is nobody to compare.")
    not_compared = sum(is_guessed(face) for face in faces)
    faces = [face for face in faces if not is_guessed(face)]
    third = None if other is None else _largest_face(other, detector)
    found = detector.detect(protected)
    results = []
    for index, face in enumerate(faces):
        places = [other.landmarks5 for other in found if _is_same_place(face, other)]
        before = cut_window(original, face.landmarks5)
        after = [cut_window(protected, landmarks5) for landmarks5 in (face.landmarks5, *places)]
        compared = tuple(_compare(before, after, third, item, SEEN if item.name in seen else HELD_OUT) for item in recognizers)
        results.append(FaceResult(index, face, bool(places), compared))
    outside = ~inside
    ssim = fidelity.compute_ssim_in(original, protected, [inside, outside])
    lpips = (None, None) if perceptual is None else perceptual.compute(original, protected, inside)
    return PrivacyReport(
        height=original.shape[0],
        width=original.shape[1],
        faces=tuple(results),
        inside=_quality(original, protected, inside, ssim[0], lpips[0]),
        outside=Quality() if mask is None else _quality(original, protected, outside, ssim[1], lpips[1]),
        is_mask_given=mask is not None,
        seconds=time.perf_counter() - started,
        not_compared=not_compared,
    )


def _largest_face(picture: Picture, detector: FaceDetector) -> FaceWindow:
    check_picture(picture)
    faces = detector.detect(picture)
    if not faces:
        raise NoFaceError("Expected a face in the other photo of the person, found none. Choose a clear one, or leave it out.")
    return cut_window(picture, max(faces, key=lambda face: face.area).landmarks5)


def _compare(
    before: FaceWindow, after: Sequence[FaceWindow], other: FaceWindow | None, recognizer: FaceRecognizer, role: str
) -> RecognizerResult:
    beside = None
    if other is not None:
        beside = OtherPhoto(compute_similarity(other, [before], recognizer), compute_similarity(other, after, recognizer))
    return RecognizerResult(
        name=recognizer.name,
        family=recognizer.family,
        role=role,
        licence=recognizer.licence,
        similarity=compute_similarity(before, after, recognizer),
        thresholds={fmr: float(recognizer.thresholds[fmr]) for fmr in FALSE_MATCH_RATES},
        other=beside,
    )


def _quality(original: Picture, protected: Picture, region: Region, ssim: float | None, lpips: float | None) -> Quality:
    return Quality(
        psnr_db=fidelity.compute_psnr(original, protected, region),
        ssim=ssim,
        lpips=lpips,
        max_abs_difference=fidelity.compute_max_difference(original, protected, region),
    )


def _is_same_place(face: Face, other: Face) -> bool:
    return bool(np.linalg.norm(face.landmarks5[2] - other.landmarks5[2]) < SAME_FACE_DISTANCE * face.width)


def _check_input(original: Picture, protected: Picture, recognizers: Sequence[FaceRecognizer], seen: Collection[str]) -> None:
    check_picture(original)
    fidelity.check_pair(original, protected, np.broadcast_to(np.True_, original.shape[:2]))
    names = [recognizer.name for recognizer in recognizers]
    if not names or len(set(names)) != len(names):
        raise InputError(f"Expected different recognisers, each as seen or as held out, at least one; got {names}.")
    unknown = sorted(set(seen) - set(names))
    if unknown:
        raise InputError(f"Expected the seen recognisers among {', '.join(names)}, got also {', '.join(unknown)}.")
    for recognizer in recognizers:
        if not set(FALSE_MATCH_RATES) <= set(recognizer.thresholds):
            rates = f"{FALSE_MATCH_RATES}, got {sorted(recognizer.thresholds)}"
            raise InputError(f"Expected thresholds of {recognizer.name} at the rates {rates}. Calibrate it first.")


def _fmr_name(fmr: float) -> str:
    return f"fmr_1e-{round(-math.log10(fmr))}"
