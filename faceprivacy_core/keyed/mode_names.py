"""Names of the ways in which originals come back, as they stand in files, nodes and commands; loads nothing."""

from __future__ import annotations

from enum import Enum


class RecoveryMode(str, Enum):
    """How the original comes back, the usual way first; `modes` has what each does. Values stand in files: never change one."""

    LATENT = "latent"
    EXACT = "exact"
    IMAGE = "image"
    SIGNFLIP = "signflip"

    @property
    def in_noise(self) -> bool:
        """Whether the original travels in the noise of its cover, so that a wrong key may give a face, too."""
        return self in (RecoveryMode.IMAGE, RecoveryMode.SIGNFLIP)
