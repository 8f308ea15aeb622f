"""The people that a choice of faces means: their identity vectors, of photos or of a file that was saved before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, NoFaceError
from ..protocols import FaceDetector, FaceRecognizer
from ..types import Face, Picture


@dataclass(frozen=True, eq=False)
class People:
    """Identity vectors of known faces. They are biometric data: whoever has them finds the people in other pictures.

    Attributes:
        vectors: By the recogniser's name, (M, D) float32 with rows of length 1, of the same M faces; never shown.
    """

    vectors: Mapping[str, Tensor] = field(repr=False)

    def __post_init__(self) -> None:
        counts = {len(rows) for rows in self.vectors.values()}
        if len(counts) != 1 or 0 in counts:
            raise InputError(f"Expected vectors of the same faces by each recogniser, got those of {sorted(counts)} faces.")

    def __len__(self) -> int:
        """Return the number of faces M."""
        return len(next(iter(self.vectors.values())))

    def seen_by(self, recognizer: FaceRecognizer) -> Tensor:
        """Return the vectors (M, D) of one recogniser.

        Raises:
            InputError: It has not seen these people.
        """
        if recognizer.name not in self.vectors:
            raise InputError(
                f"Expected a saved person that {recognizer.name} has seen, got one of {', '.join(sorted(self.vectors))}. Save "
                f"the person again with {recognizer.name}, or choose faces with those recognisers."
            )
        return self.vectors[recognizer.name]


def learn_people(
    pictures: Sequence[Picture],
    detector: FaceDetector,
    recognizers: Sequence[FaceRecognizer],
    names: Sequence[object] | None = None,
) -> People:
    """Look at every face of some pictures.

    Args:
        pictures: (H, W, 3) uint8; at least one.
        detector: Finds the faces.
        recognizers: At least one.
        names: What errors call the pictures, such as their paths; None numbers them.

    Raises:
        InputError: There is no picture, or no recogniser.
        NoFaceError: A picture holds no face.
    """
    if not pictures or not recognizers:
        raise InputError("Expected at least one picture of a person and one recogniser, got none. Give both.")
    rows: dict[str, list[Tensor]] = {recognizer.name: [] for recognizer in recognizers}
    called = names or [f"reference picture {number}" for number in range(len(pictures))]
    for name, picture in zip(called, pictures, strict=True):
        faces = detector.detect(picture)
        if not faces:
            raise NoFaceError(f"Expected a face in {name}, found none. Use a clearer picture.")
        for recognizer in recognizers:
            rows[recognizer.name].append(embed_faces(picture, faces, recognizer))
    return People({name: torch.cat(found) for name, found in rows.items()})


def known_vectors(
    references: Sequence[Picture], people: Sequence[People], detector: FaceDetector, recognizers: Sequence[FaceRecognizer]
) -> list[Tensor]:
    """Return whom the reference rules mean, (M, D) for each recogniser.

    Args:
        references: Pictures of them; every face counts.
        people: Those that were saved before; they count as well.
        detector: Finds faces in the pictures.
        recognizers: Who compare.

    Raises:
        InputError: There is neither, or no recogniser, or one that has not seen the saved people.
        NoFaceError: A picture holds no face.
    """
    if not recognizers or not (people or references):
        raise InputError(
            "Expected a reference picture or a saved person, and recognisers, to choose faces by person. Give both, or choose "
            "faces another way."
        )
    known = [*people, *([learn_people(references, detector, recognizers)] if references else [])]
    return [torch.cat([one.seen_by(recognizer) for one in known]) for recognizer in recognizers]


def likeness(found: Tensor, known: Tensor) -> Tensor:
    """Return the similarity (K,) of each found face (K, D) to the most alike of known ones (M, D).

    Raises:
        InputError: The widths differ: the file of the known ones does not hold what it says.
    """
    if found.shape[1] != known.shape[1]:
        raise InputError(
            f"Expected vectors of {found.shape[1]} numbers, the saved person has {known.shape[1]}. Save the person again."
        )
    return (found @ known.to(found).T).max(dim=1).values


def embed_faces(picture: Picture, faces: Sequence[Face], recognizer: FaceRecognizer) -> Tensor:
    """Compute identity vectors (K, D) of K faces of a picture (H, W, 3) uint8."""
    values = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()[None] / 255.0
    landmarks = torch.from_numpy(np.stack([face.landmarks5 for face in faces])).float()
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat([recognizer.embed(values, points[None]) for points in landmarks]).cpu()
