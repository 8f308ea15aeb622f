"""Keyed modes by name, one module each; another mode is a name in `mode_names` and a line here."""

from ..mode_names import RecoveryMode
from .exact import Exact
from .image import Image
from .latent import Latent
from .mode import Mode
from .signflip import SignFlip

MODES: dict[RecoveryMode, Mode] = {mode.name: mode for mode in (Latent(), Exact(), Image(), SignFlip())}
