"""`faceprivacy key`: make, list and describe keys, and never show one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .console import say


def add_parser(commands: Any) -> None:
    """Add `key new`, `key list` and `key show` to the command line."""
    parser = commands.add_parser("key", help="make, list or describe the keys of reversible faces")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a random key in a file that only you can read")
    new.set_defaults(run=run_new)
    listing = actions.add_parser("list", help="list the names of the key files")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="say which key a name stands for and where it is; never the key itself")
    show.set_defaults(run=run_show)
    for action in (new, show):
        action.add_argument("name", metavar="NAME", help="1 to 64 letters, digits, '-' and '_'")
    for action in (new, listing, show):
        action.add_argument(
            "--in",
            dest="folder",
            type=Path,
            metavar="DIR",
            help="folder of key files (default: FACEPRIVACY_KEY_DIR, else one among your settings)",
        )


def run_new(options: argparse.Namespace) -> int:
    """Make a key and say where it is.

    Raises:
        InputError: Not a name, a key of this name exists, or the folder cannot be written.
    """
    from ..keyed import keys  # the cryptography library is loaded only by a command that needs it

    path = keys.create_key(options.name, options.folder)
    say(f"{options.name}: written to {path}")
    say("Keep a copy in a safe place: without the key, no face that was encrypted with it comes back.")
    return 0


def run_list(options: argparse.Namespace) -> int:
    """Say the name of every key file; those in environment variables are not listed."""
    from ..keyed import keys

    names = keys.list_keys(options.folder)
    for name in names:
        say(name)
    if not names:
        say(f"No keys in {options.folder or keys.key_folder()}. Make one with: faceprivacy key new NAME")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Say kind, public id and place of a key.

    Raises:
        InputError: Not a name.
        KeyNotFoundError: No such key, or one that cannot be used.
    """
    from ..keyed import keys

    key = keys.load_key(options.name, folder=options.folder)
    say(f"{key.name}: {key.kind.value}, id {key.public_id}, from {keys.key_place(options.name, folder=options.folder)}")
    return 0
