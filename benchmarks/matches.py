"""How many faces count as the same person, at both measured thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceprivacy_core.faces.recognizers import TorchRecognizer

FMR = 1e-3


def count_matches(similarities: Sequence[float], recognizer: TorchRecognizer) -> str:
    """Lay out similarities as "mean, matches / matches of number".

    First the threshold that reports use, measured on photos; then the one at which 1 in 1,000
    pairs of different generated faces match. Those resemble each other more than people do: at
    the first, about 35 in 1,000 of their pairs match.
    """
    values = np.asarray(similarities)
    photos, generated = (int((values > limits[FMR]).sum()) for limits in (recognizer.thresholds, recognizer.spare_thresholds))
    return f"{values.mean():.2f}, {photos} / {generated} of {len(values)}"
