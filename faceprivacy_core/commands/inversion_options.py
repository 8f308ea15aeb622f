"""Saving, beside a protected picture, what brings its faces back: options, and the file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import NewFile
from .console import say
from .key_choice import chosen_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..embeddings.inversion import FaceInversion
    from ..embeddings.persons import TokenSettings
    from ..keyed.keys import PrivacyKey

UNPROTECTED_WARNING = (
    "Warning: the saved inversion is not protected. Whoever has the file has the face. Give --key NAME instead, or keep it as "
    "safe as the original."
)


@dataclass(frozen=True)
class InversionChoice:
    """How inversions are made and saved.

    Attributes:
        key: Seals the file; None writes it unprotected, which the user has chosen.
        steps: Sampling steps to invert.
        tokens: How the faces' tokens are found; None as the model has it.
    """

    key: PrivacyKey | None
    steps: int
    tokens: TokenSettings | None = None


def add_inversion_options(parser: Any) -> None:
    """Add --save-inversion and how the file is protected."""
    options = parser.add_argument_group("saving what brings the faces back")
    options.add_argument(
        "--save-inversion",
        action="store_true",
        help="also write DIR/NAME.fpinv, from which `faceprivacy recover` draws the faces",
    )
    options.add_argument(
        "--inversion-steps", type=int, default=20, metavar="N", help="steps in which faces are drawn again (default: 20)"
    )
    choice = options.add_mutually_exclusive_group()
    choice.add_argument(
        "--key", metavar="NAME", help="seal it with this key, made with `faceprivacy key new`; never the key itself"
    )
    choice.add_argument("--passphrase", action="store_true", help="seal it with a passphrase, asked for at the terminal")
    choice.add_argument("--unprotected", action="store_true", help="do not seal it: whoever has the file has the face")


def chosen_inversion(args: argparse.Namespace) -> InversionChoice | None:
    """Load the key, ask for a passphrase, or warn; call once, before any work.

    Returns:
        None when no inversion is to be saved.

    Raises:
        InputError: An inversion without any protection chosen, or protection without an inversion.
        KeyNotFoundError: There is no such key.
    """
    has_key = args.key is not None or args.passphrase
    if not args.save_inversion:
        if has_key or args.unprotected:
            raise InputError(
                "Expected --save-inversion together with --key, --passphrase or --unprotected, got it not. Add it."
            )
        return None
    if has_key:
        return InversionChoice(chosen_key(args, confirm=True), args.inversion_steps, _tokens(args))
    if not args.unprotected:
        raise InputError(
            "Expected --key NAME or --passphrase with --save-inversion, got neither. Whoever has an unprotected inversion has "
            "the face; if that is meant, say --unprotected."
        )
    say(UNPROTECTED_WARNING, sys.stderr)
    return InversionChoice(None, args.inversion_steps, _tokens(args))


def inversion_beside(path: Path, inversion: FaceInversion, choice: InversionChoice, protected: NDArray[np.uint8]) -> NewFile:
    """Return the file that is written beside a protected picture, bound to its pixels.

    Args:
        path: NAME.fpinv.
        inversion: With tokens, noise map, placement and fingerprints.
        choice: From `chosen_inversion`.
        protected: (H, W, 3) uint8, the protected picture as it is written.

    Raises:
        InputError: The inversion lacks a part.
    """
    from ..inversions.checks import picture_digest
    from ..inversions.files import inversion_file

    digest = picture_digest(protected)
    return inversion_file(path, inversion, choice.key, unprotected=choice.key is None, picture_digest=digest)


def _tokens(args: argparse.Namespace) -> TokenSettings:
    from ..embeddings.persons import TokenSettings

    return TokenSettings(args.learn_steps)
