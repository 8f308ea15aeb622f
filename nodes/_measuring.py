"""What recognisers make of pictures before and after, for the nodes that protect in one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from torch import Tensor

from ..faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, DEFAULT_SURROGATES
from ..faceprivacy_core.metrics.draw import Wish, draw_report, summarize
from ..faceprivacy_core.metrics.perceptual import load_perceptual
from ..faceprivacy_core.metrics.report import compute_report
from ..faceprivacy_core.protocols import FaceDetector
from ..faceprivacy_core.types import Faces
from . import _convert, _host
from ._language import report_phrases
from ._one_step import load_recognizers


def measure(
    originals: Tensor,
    images: Tensor,
    mask: Tensor,
    faces: Faces,
    detector: FaceDetector,
    *,
    is_guided: bool = True,
    wish: Wish = Wish.UNKNOWN,
    extra: Callable[[int], dict[str, object]] = lambda index: {},
) -> tuple[str, Tensor]:
    """Measure what was achieved.

    Args:
        originals, images: (B, 3, H, W) in [0, 1], before and after.
        mask: (B, 1, H, W).
        faces: Those that were protected.
        detector: Looks for the faces again.
        is_guided: Whether the method used the default surrogates; else all recognisers are independent.
        wish: What recognisers shall make of the faces.
        extra: Gives further entries of a picture's report.

    Returns:
        The report as JSON, and as a host IMAGE.
    """
    seen, held_out = load_recognizers(DEFAULT_SURROGATES), load_recognizers(DEFAULT_HELD_OUT)
    perceptual = load_perceptual(_host.model_dirs())
    reports, pictures = [], []
    for index, (before, after) in enumerate(zip(originals, images, strict=True)):
        pair = _convert.image_to_uint8(before), _convert.image_to_uint8(after)
        report = compute_report(
            *pair, detector, (*seen, *held_out), seen=set(DEFAULT_SURROGATES if is_guided else ()),
            mask=mask[index, 0].numpy(), perceptual=perceptual, faces=faces.of_image(index),
        )  # fmt: skip
        reports.append(report.to_json_dict() | {"summary": summarize(report)} | extra(index))
        pictures.append(draw_report(report, *pair, wish, report_phrases()))
        _host.check_interrupted()
    return as_json(reports), _convert.core_to_image(_convert.stack_padded(pictures))


def as_json(entries: Sequence[dict[str, object]]) -> str:
    """Write the reports of one picture, or of several."""
    return json.dumps(entries[0] if len(entries) == 1 else {"pictures": list(entries)}, indent=2)
