"""What a node shows of an attack: bar, preview, similarities, plot and report."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import latent_preview
import numpy as np
import torch
from server import PromptServer
from torch import Tensor

from ..faceprivacy_core.adversarial.attack import AttackReport
from ..faceprivacy_core.adversarial.sight import describe_similarities
from ..faceprivacy_core.cloak import Aim, CloakResult
from ..faceprivacy_core.embeddings.curves import Axes, draw_curves
from ..faceprivacy_core.types import Faces
from . import _convert, _host

CANCEL = comfy.model_management.InterruptProcessingException
"""What the host raises when the user pressed cancel."""

MAX_FACES_SHOWN = 6


class AttackView:
    """Shows the attack on the node: bar, latent preview and current similarities; cancels with the host."""

    def __init__(
        self, model: comfy.model_patcher.ModelPatcher, names: Sequence[str], limits: Tensor, node_id: str | None
    ) -> None:
        self._bar = comfy.utils.ProgressBar(1, node_id)
        self._previewer = latent_preview.get_previewer(model.load_device, model.get_model_object("latent_format"))
        self._names, self._limits, self._node_id = names, limits, node_id

    def step(self, step: int, total: int, latents: Tensor | None = None) -> None:
        """Move the bar; the core's `Progress`."""
        _host.check_interrupted()
        preview = None
        if latents is not None and self._previewer is not None:
            preview = self._previewer.decode_latent_to_preview_image("JPEG", latents)
        self._bar.update_absolute(step, total, preview)

    def watch(self, report: AttackReport) -> None:
        """Show the similarities."""
        self._show(attack_text(report, self._names, self._limits))

    def finish(self, result: CloakResult, faces: Faces, aim: Aim) -> str:
        """Show how it ended, the last word says that it did, and return the report."""
        report = report_text(result, self._names, faces, aim)
        self._show(f"{report}\n{'cancelled' if result.cancelled else 'done'}")
        return report

    def _show(self, text: str) -> None:
        server = getattr(PromptServer, "instance", None)
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)


def attack_text(report: AttackReport, names: Sequence[str], limits: Tensor) -> str:
    """Say where the attack is: the similarities of the first faces beside their limits."""
    reached = f"{int(report.is_reached.sum())} of {len(report.is_reached)} faces reached"
    lines = [f"iteration {report.iteration} of {report.total}, {reached}"]
    lines += [
        f"face {face}: {describe_similarities(names, row, limits)}"
        for face, row in enumerate(report.similarities[:MAX_FACES_SHOWN])
    ]
    return "\n".join(lines)


def plot(result: CloakResult, names: Sequence[str]) -> Tensor:
    """Draw the similarities over the iterations as a host IMAGE (1, H, W, 3); they begin at 1, the scale."""
    rows = [torch.ones_like(result.similarities)]
    for row in result.history.similarities.cpu():  # not a number where a face was already done
        rows.append(torch.where(row.isnan(), rows[-1], row))
    picture = draw_curves(torch.stack(rows).transpose(1, 2), Axes("iteration", "similarity, mean over the faces", names))
    return _convert.core_to_image(_convert.uint8_to_image(np.asarray(picture))[None])


def report_text(result: CloakResult, names: Sequence[str], faces: Faces, aim: Aim) -> str:
    """Say how similar every finished face is to the original (to a target, if there is one), beside the limits."""
    word, all_of_them = ("known", "to") if aim == Aim.KEEP else ("protected", "from")
    protected, attempts = result.is_protected.tolist(), len(result.history.starts)
    lines = [
        f"{sum(protected)} of {len(protected)} faces {word} {all_of_them} {', '.join(names)} after at most "
        f"{len(result.history.similarities)} iterations in {attempts} attempt{'s' if attempts > 1 else ''}"
        f"{', cancelled' if result.cancelled else ''}."
    ]
    for face, (item, row, is_protected) in enumerate(zip(faces.items, result.similarities, protected, strict=True)):
        verdict = word if is_protected else f"NOT {word}"
        lines.append(
            f"face {face}, picture {item.image_index}: {describe_similarities(names, row, result.thresholds)}: {verdict}"
        )
    return "\n".join(lines)
