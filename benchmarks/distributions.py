"""How alike two sets of faces are: pictures as a whole, pairs of people, nearest known face, who is among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from skimage.color import rgb2lab
from torch import Tensor

from faceprivacy_core.faces.detect import YuNetDetector
from faceprivacy_core.faces.recognizers import TorchRecognizer
from faceprivacy_core.metrics.perceptual import PerceptualDistance

CHUNK = 16
FMR = 0.001
"""Measured on pairs of people in photos, and again on pairs of generated faces, which resemble each other more."""
CHEEK = 0.15
"""Side of the patch of skin on each cheek, in distances between the eyes."""


@dataclass(frozen=True, eq=False)
class Judges:
    """Networks that judge pictures."""

    detector: YuNetDetector
    perceptual: PerceptualDistance
    recognizers: Sequence[TorchRecognizer]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the judges see in N pictures, in M of which there is a face.

    Attributes:
        detected: M / N.
        looks: (N, 256) features of the general network.
        embeddings: (M, D) identity vectors by recogniser.
        skin: (M,) see `skin_tone_deg`.
        turn: (M,) see `head_turn`.
    """

    detected: float
    looks: Tensor
    embeddings: Mapping[str, Tensor]
    skin: Tensor
    turn: Tensor


def see_pictures(images: Tensor, judges: Judges) -> Seen:
    """Look at pictures (N, 3, S, S) in [0, 1]; the largest face of each counts."""
    pictures = to_pictures(images)
    found = [max(judges.detector.detect(picture), key=lambda face: face.area, default=None) for picture in pictures]
    rows = [index for index, face in enumerate(found) if face is not None]
    if len(rows) < 2:
        raise SystemExit(f"Expected a face in at least two of {len(pictures)} pictures, found {len(rows)}.")
    landmarks5 = torch.from_numpy(np.stack([found[index].landmarks5 for index in rows]))
    return Seen(
        len(rows) / len(pictures),
        in_chunks(lambda x: general_features(judges.perceptual, x), images),
        {recognizer.name: in_chunks(recognizer.embed, images[rows], landmarks5) for recognizer in judges.recognizers},
        torch.tensor([skin_tone_deg(pictures[index], found[index].landmarks5) for index in rows]),
        torch.tensor([head_turn(found[index].landmarks5) for index in rows]),
    )


def compare(seen: Seen, reference: Seen, training: Seen | None, recognizers: Sequence[TorchRecognizer]) -> dict[str, float]:
    """Compare pictures with those of the generator, and with faces the model was trained on.

    Distances depend on the number of pictures; compare those of equally many only.
    """
    figures = {"face detected": seen.detected, "Fréchet distance, AlexNet": frechet_distance(seen.looks, reference.looks)}
    for name in (recognizer.name for recognizer in recognizers):
        figures[f"Fréchet distance, {name}"] = frechet_distance(seen.embeddings[name], reference.embeddings[name])
    for recognizer in recognizers:
        name = recognizer.name
        pairs, expected = (pair_similarities(one.embeddings[name]) for one in (seen, reference))
        figures[f"similarity of pairs, distance to the generator's, {name}"] = wasserstein_distance(pairs, expected)
        for basis, limits in (("photos", recognizer.thresholds), ("generated faces", recognizer.spare_thresholds)):
            figures[f"pairs taken for one person, threshold of {basis}, {name}"] = float((pairs > limits[FMR]).mean())
            if training is not None:
                nearest = (seen.embeddings[name] @ training.embeddings[name].T).amax(dim=1)
                below = (nearest < limits[FMR]).float().mean()
                figures[f"nearest training face below the threshold of {basis}, {name}"] = float(below)
    for share in (0.1, 0.5, 0.9):
        figures[f"skin tone, degrees, {share:.0%} are darker than"] = float(seen.skin.quantile(share))
    figures["turn of the head, 90% are below"] = float(seen.turn.abs().quantile(0.9))
    return figures


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet distance of the normal distributions fitted to two sets of vectors (N, D) and (M, D).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). With C = A^T A, the trace of the root is the sum of the
    singular values of A1 A2^T, which needs no root of a singular matrix when there are fewer vectors than dimensions.

    Source: Dowson and Landau (1982), The Fréchet distance between multivariate normal distributions; used
        to compare generators since Heusel et al. (2017), arXiv 1706.08500.
    """
    sets = [vectors.double() for vectors in (first, second)]
    one, two = ((vectors - vectors.mean(dim=0)) / (len(vectors) - 1) ** 0.5 for vectors in sets)
    shift = (sets[0].mean(dim=0) - sets[1].mean(dim=0)).square().sum()
    return float(shift + one.square().sum() + two.square().sum() - 2 * torch.linalg.svdvals(one @ two.T).sum())


def pair_similarities(embeddings: Tensor) -> NDArray[np.float32]:
    """Return the cosine similarity of every pair of different faces, (N (N - 1) / 2,)."""
    rows, columns = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
    return (embeddings @ embeddings.T)[rows, columns].numpy()


def general_features(perceptual: PerceptualDistance, images: Tensor) -> Tensor:
    """Return features (B, 256) that know nothing of faces: the last layer of LPIPS' AlexNet, averaged over positions."""
    return perceptual._unit_features(images)[-1].mean(dim=(2, 3))


def skin_tone_deg(picture: NDArray[np.uint8], landmarks5: NDArray[np.float64]) -> float:
    """Return the individual typology angle of both cheeks: the lower, the darker. Light and shade count, too.

    arctan((L - 50) / b) of the median colour in CIE Lab.

    Source: Chardon, Cretois and Hourseau (1991), Skin colour typology and suntanning pathways.
    """
    eyes, nose, mouth = landmarks5[:2], landmarks5[2], landmarks5[3:]
    half = max(1, round(CHEEK * float(np.linalg.norm(eyes[1] - eyes[0])) / 2))
    middles = (eyes + mouth) / 2
    cheeks = middles + 0.2 * (middles - nose)
    patches = []
    for x, y in np.rint(cheeks).astype(int).clip(half, min(picture.shape[:2]) - 1 - half):
        patches.append(picture[y - half : y + half + 1, x - half : x + half + 1].reshape(-1, 3))
    lightness, _, yellow = np.median(rgb2lab(np.concatenate(patches)[None])[0], axis=0)
    return float(np.degrees(np.arctan2(lightness - 50.0, yellow)))


def head_turn(landmarks5: NDArray[np.float64]) -> float:
    """Return how far the nose lies beside the middle of the eyes, in distances between them; 0 looks ahead."""
    axis = landmarks5[1] - landmarks5[0]
    return float((landmarks5[2] - landmarks5[:2].mean(axis=0)) @ axis / (axis @ axis))


def by_group(figures: Mapping[str, Tensor], groups: Mapping[str, Tensor]) -> dict[str, float]:
    """Average figures (N,) over the faces of every group (N,) bool."""
    return {
        f"{name}, {group}": float(values[rows].mean()) for name, values in figures.items() for group, rows in groups.items()
    }


def skin_and_pose_groups(images: Tensor, landmarks5: Tensor) -> dict[str, Tensor]:
    """Return which faces of pictures (N, 3, S, S) have darker or lighter skin and which are turned, a third each."""
    points = landmarks5.numpy()
    skin = torch.tensor([skin_tone_deg(*pair) for pair in zip(to_pictures(images), points, strict=True)])
    turn = torch.tensor([head_turn(one) for one in points]).abs()
    return {
        "darkest third": skin <= skin.quantile(1 / 3), "lightest third": skin >= skin.quantile(2 / 3),
        "most turned third": turn >= turn.quantile(2 / 3),
    }  # fmt: skip


def in_chunks(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function to chunks of a batch."""
    return torch.cat([function(*pieces) for pieces in zip(*(item.split(CHUNK) for item in inputs), strict=True)])


def to_pictures(images: Tensor) -> list[NDArray[np.uint8]]:
    """(N, 3, S, S) in [0, 1] to (S, S, 3) uint8."""
    return list((images * 255).round().byte().permute(0, 2, 3, 1).numpy())
