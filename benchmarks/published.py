"""What the three papers and their authors' programs state, where that was found, and how far a figure lies from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INCEPTION, ARCFACE = "inception-resnet", "arcface"
"""Families of recognisers, as `protocols.FaceRecognizer` names them, that authors used, too."""

Number = float | tuple[float, float]
"""A number, or the least and the largest of a range."""


@dataclass(frozen=True)
class Paper:
    """What is known of a paper's figures.

    Attributes:
        title: Paper.
        found: Where the numbers are from, and what differs from what is measured here.
        numbers: By title.
        by_family: By title without the recogniser, then by its family.
    """

    title: str
    found: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    by_family: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)

    def number(self, title: str, family: str | None = None) -> Number | None:
        """Return what is stated for a figure, of a recogniser of a family where one is named; None where nothing is known."""
        return self.numbers.get(title) if family is None else self.by_family.get(title, {}).get(family)


PAPERS = {
    "dodging": Paper(
        "Enhancing Facial Privacy Protection via Weakening Diffusion Purification, arXiv 2503.10350",
        "The paper's tables were not at hand: PSNR, SSIM and Fréchet distance are those that later work quotes for its "
        "impersonation, the range of dodging that which it quotes for going toward a person of nobody. Its recognisers are "
        "other networks with thresholds of their own, and its Fréchet distance has Inception's features.",
        {
            "deceived at 1 in 100, another photo, mean, %": (85.0, 90.0),
            "PSNR, dB": 27.72,
            "SSIM": 0.839,
            "Fréchet distance, Inception": 15.32,
        },
    ),
    "hiding": Paper(
        "Diff-Privacy, arXiv 2309.05330",
        "The paper's tables were not at hand and its program measures nothing, so there is nothing to compare with.",
    ),
    "reversible": Paper(
        "Secure and reversible face anonymization with diffusion models, arXiv 2510.01031",
        "Printed by the authors' program (diffusion-signflip-anon), on whole pictures in floating point; here inside the face, "
        "after a PNG of 8 bits. FaceNet is that trained on CASIA, ArcFace the ResNet-50; its Fréchet distances have "
        "Inception's features. Acceptance is that of LFW pairs at 1 in 1,000.",
        {
            "recovered: PSNR, dB": 20.7,
            "recovered: SSIM": 0.857,
            "recovered: mean absolute error, of 2": 0.107,
            "face found in the cover, %": 100.0,
            "face found in the recovered picture, %": 99.9,
            "Fréchet distance of covers, Inception": 55.2,
            "Fréchet distance of recovered pictures, Inception": 33.2,
        },
        {
            "cover: cosine to the original": {INCEPTION: 0.093, ARCFACE: 0.029},
            "recovered: cosine to the original": {INCEPTION: 0.743, ARCFACE: 0.692},
            "original: accepted, another photo, %": {INCEPTION: 91.0, ARCFACE: 99.1},
            "cover: accepted, another photo, %": {INCEPTION: 0.28, ARCFACE: 0.56},
            "recovered: accepted, another photo, %": {INCEPTION: 38.8, ARCFACE: 70.5},
            "cosine of two covers of one face": {ARCFACE: 0.096},
        },
    ),
}


def difference(measured: float, stated: Number) -> float:
    """Return measured minus stated; of a range, minus its nearer end, and 0 inside it."""
    low, high = stated if isinstance(stated, tuple) else (stated, stated)
    return measured - min(max(measured, low), high)


def write_number(number: Number) -> str:
    """Write a number or a range."""
    return " to ".join(f"{value:g}" for value in number) if isinstance(number, tuple) else f"{number:g}"
