"""Which key a command uses: one by name, or a passphrase typed at the terminal."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..keyed.keys import PrivacyKey


def add_key_arguments(parser: Any) -> None:
    """Add --key and --passphrase, of which one must be given."""
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--key", metavar="NAME", help="name of a key made with `faceprivacy key new`, never the key itself")
    choice.add_argument("--passphrase", action="store_true", help="ask for a passphrase at the terminal")


def refuse_typed_passphrase(words: Sequence[str]) -> None:
    """Refuse a command line with a passphrase on it, without repeating it.

    Args:
        words: Of the command line. `--passphrase` is a switch: what follows it is an option, or a picture that exists.

    Raises:
        InputError: Something else follows it.
    """
    for word, after in zip(words, [*words, "-"][1:], strict=True):
        option, given, _ = word.partition("=")
        if len(option) > len("--") and "--passphrase".startswith(option) and (given or not _may_follow(after)):
            raise InputError(
                "Expected --passphrase alone, got something behind it that is neither an option nor an existing file. A "
                "passphrase is asked for at the terminal. If you typed one, choose another: the shell's history has it."
            )


def _may_follow(word: str) -> bool:
    return word.startswith("-") or Path(word).exists()


def chosen_key(args: argparse.Namespace, *, confirm: bool) -> PrivacyKey:
    """Load the key, or ask for a passphrase without showing it.

    Args:
        args: Parsed arguments.
        confirm: Ask twice; a slip of the finger would lock the faces for ever.

    Raises:
        InputError: Nothing was typed, a passphrase too weak to seal with, or two different ones.
        KeyNotFoundError: There is no such key.
    """
    from ..keyed.keys import PrivacyKey, load_key

    if args.key is not None:
        return load_key(args.key)
    typed = _ask("Passphrase: ")
    if confirm:
        PrivacyKey.from_passphrase(typed).check_can_seal()
    if confirm and _ask("Again: ") != typed:
        raise InputError("Expected the same passphrase twice, got two different ones. Start again.")
    return PrivacyKey.from_passphrase(typed)


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise InputError("Expected a passphrase at the terminal, got none. Use --key NAME where nobody can type.") from None
