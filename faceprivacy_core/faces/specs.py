"""Which recognisers there are, and what each wants its faces to look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..align import ARC112_TEMPLATE, estimate_similarity
from ..errors import InputError
from ..types import FloatArray
from .networks.inception_resnet_v1 import InceptionResnetV1
from .networks.mobilefacenet import MobileFaceNet
from .networks.mobilefacenet_relu import MobileFaceNetRelu

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FACENET_TEMPLATE = np.array([[0.3493, 0.3963], [0.6507, 0.3963], [0.5000, 0.5756], [0.3711, 0.7194], [0.6289, 0.7194]])
"""Mean landmarks in a square face box with a margin of 10 %, as fractions of its side.

Measured with the default detector on 385 generated faces, see `align.FFHQ_TEMPLATE`. Crops
that are 15 % tighter or wider separate people no better."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a recogniser wants its faces.

    Attributes:
        size: Side of the aligned crop in pixels.
        template: (5, 2) landmark positions in that crop, pixel centres at integers.
    """

    size: int
    template: FloatArray

    def aligned_to_image(self, landmarks5: FloatArray) -> FloatArray:
        """Return the (2, 3) map from aligned pixels to image pixels of one face."""
        return estimate_similarity(self.template, landmarks5)


ARC112 = Alignment(112, ARC112_TEMPLATE)
FACENET160 = Alignment(160, FACENET_TEMPLATE * 160 - 0.5)


@dataclass(frozen=True, slots=True)
class RecognizerSpec:
    """A recogniser of the table.

    Attributes:
        name: Same as the key of its weights.
        family: Architecture and training lineage; see `protocols.FaceRecognizer`.
        alignment: Crop the network expects.
        mean: Subtracted from each channel of the crop, in [0, 255] units, in RGB order.
        std: Divides each channel after that, in RGB order.
        is_bgr: Whether the network wants blue first.
        build: Makes the empty network; None converts the ONNX file.
    """

    name: str
    family: str
    alignment: Alignment
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_bgr: bool = False
    build: Callable[[], nn.Module] | None = None


def _grey(value: float) -> tuple[float, float, float]:
    return (value, value, value)


SPECS: tuple[RecognizerSpec, ...] = (
    RecognizerSpec("sface", "sface", ARC112, _grey(0.0), _grey(1.0)),
    RecognizerSpec(
        "mobilefacenet-v1",
        "mobilefacenet",
        ARC112,
        _grey(127.5),
        _grey(128.0),
        is_bgr=True,
        build=MobileFaceNet,
    ),
    RecognizerSpec(
        "facenet-casia",
        "inception-resnet",
        FACENET160,
        _grey(127.5),
        _grey(128.0),
        build=InceptionResnetV1,
    ),
    RecognizerSpec(
        "mobilefacenet-masked",
        "mobilefacenet",
        ARC112,
        _grey(127.5),
        _grey(128.0),
        is_bgr=True,
        build=MobileFaceNet,
    ),
    RecognizerSpec(
        "mobilefacenet-foamliu",
        "mobilefacenet",
        ARC112,
        tuple(255 * value for value in IMAGENET_MEAN),
        tuple(255 * value for value in IMAGENET_STD),
        build=MobileFaceNetRelu,
    ),
)

RECOGNIZER_NAMES = tuple(spec.name for spec in SPECS)
DEFAULT_SURROGATES = ("sface", "mobilefacenet-v1")
"""Recognisers the methods compute gradients with, unless told otherwise."""

DEFAULT_HELD_OUT = ("facenet-casia", "mobilefacenet-masked", "mobilefacenet-foamliu")
"""Recognisers the methods never see, so that a report can judge them."""


def find_spec(name: str) -> RecognizerSpec:
    """Look up a recogniser.

    Raises:
        InputError: No recogniser has this name.
    """
    for spec in SPECS:
        if spec.name == name:
            return spec
    raise InputError(f"Expected a recogniser ({', '.join(RECOGNIZER_NAMES)}), got {name!r}.")
