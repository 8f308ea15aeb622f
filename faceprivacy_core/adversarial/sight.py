"""Who recognisers take faces for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, NoFaceError
from ..faces.sight import embed_all, embed_originals
from ..protocols import FaceRecognizer
from ..types import Faces

FMR = 0.01
"""False match rate of the thresholds that decide who is protected, as in the paper."""


@dataclass(frozen=True, eq=False)
class Identities:
    """The identity vectors of faces.

    Attributes:
        vectors: One (N, D) tensor of length-1 rows per recogniser; no gradient.
    """

    vectors: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.vectors[0])

    def repeat(self, times: int) -> Identities:
        """Return all of them several times, one after the other."""
        return Identities(tuple(vectors.repeat(times, 1) for vectors in self.vectors))

    def similarities(self, embeddings: Sequence[Tensor], faces: Tensor | None = None) -> Tensor:
        """Compare embeddings, one (n, D) tensor per recogniser, with the identities of `faces` (n,).

        Returns:
            (n, M) cosines for M recognisers. One single identity is compared with all.
        """
        columns = []
        for found, own in zip(embeddings, self.vectors, strict=True):
            chosen = own if faces is None or len(own) == 1 else own[faces.to(own.device)]
            columns.append((found * chosen.to(found)).sum(dim=1))
        return torch.stack(columns, dim=1)


def thresholds(recognizers: Sequence[FaceRecognizer]) -> Tensor:
    """Return the similarity (M,) from which two pictures count as one person at a false match rate of 1 %."""
    return torch.tensor([recognizer.thresholds[FMR] for recognizer in recognizers])


def describe_similarities(names: Sequence[str], similarities: Tensor, limits: Tensor) -> str:
    """Write the similarities (M,) of one face beside their limits (M,)."""
    return ", ".join(
        f"{name} {value:.2f} (limit {limit:.2f})"
        for name, value, limit in zip(names, similarities.tolist(), limits.tolist(), strict=True)
    )


def see_sources(recognizers: Sequence[FaceRecognizer], images: Tensor, landmarks5: Tensor) -> Identities:
    """Find who the faces of crops are, through recognisers that can be attacked; see `embed_originals`."""
    return Identities(embed_originals(recognizers, images, landmarks5))


def see_faces(recognizers: Sequence[FaceRecognizer], images: Tensor, faces: Faces) -> Identities:
    """Find who all faces of whole pictures (B, 3, H, W) in [0, 1] are, for recognisers on any device."""
    rows = []
    with torch.inference_mode(False), torch.no_grad():
        for face in faces.items:
            points = torch.from_numpy(face.landmarks5.copy()).float()[None].to(images.device)
            rows.append(embed_all(recognizers, images[face.image_index][None], points))
        return Identities(tuple(torch.cat(column) for column in zip(*rows, strict=True)))


def see_target(recognizers: Sequence[FaceRecognizer], images: Tensor, faces: Faces) -> Identities:
    """Find who the only face of a target picture (1, 3, H, W) is.

    Raises:
        NoFaceError, InputError: See `check_target_faces`.
    """
    check_target_faces(faces)
    return see_faces(recognizers, images, faces)


def check_target_faces(faces: Faces) -> None:
    """Check that a target picture shows one person.

    Raises:
        NoFaceError: It shows nobody.
        InputError: It shows several, so that it is not said who is meant.
    """
    if len(faces) == 0:
        raise NoFaceError("Expected one face in the target picture, found none. Choose a clear picture of one person.")
    if len(faces) > 1 or faces.num_images != 1:
        raise InputError(
            f"Expected one target picture with one face, got {len(faces)} faces in {faces.num_images} pictures. "
            "Crop the picture to the person that is meant."
        )
