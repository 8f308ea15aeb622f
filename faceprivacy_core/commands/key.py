"""`faceprivacy key`: make, list and describe keys, and never show one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .console import say


def add_parser(commands: Any) -> None:
    """Add `key new`, `key list`, `key show` and `key allow` to the command line."""
    parser = commands.add_parser("key", help="make, list or describe the keys of reversible faces")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a random key in a file that only you can read")
    new.set_defaults(run=run_new)
    listing = actions.add_parser("list", help="list the names of the key files")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="say which key a name stands for and where it is; never the key itself")
    show.set_defaults(run=run_show)
    allow = actions.add_parser("allow", help="say whether a server (ComfyUI) may decrypt with a key")
    allow.set_defaults(run=run_allow)
    for action in (new, allow):
        add_server_argument(action)
    for action in (new, show, allow):
        action.add_argument("name", metavar="NAME", help="1 to 64 letters, digits, '-' and '_'")
    for action in (new, listing, show, allow):
        action.add_argument(
            "--in",
            dest="folder",
            type=Path,
            metavar="DIR",
            help="folder of key files (default: FACEPRIVACY_KEY_DIR, else one among your settings)",
        )


def add_server_argument(parser: Any) -> None:
    """Add --decrypt-in-server, which is asked for at the terminal when it is not given."""
    parser.add_argument(
        "--decrypt-in-server",
        choices=("yes", "no"),
        help="whether a server (ComfyUI) may decrypt with this key: whoever reaches the server then can, too (asked for if "
        "not given; no where nobody can answer)",
    )


def server_use(options: argparse.Namespace) -> bool:
    """Return whether a server may decrypt with a key; nobody's answer is no."""
    if options.decrypt_in_server is not None:
        return options.decrypt_in_server == "yes"
    if not sys.stdin.isatty():
        return False
    say("May a server (ComfyUI) on this machine decrypt with this key? Whoever reaches the server then can, too.")
    return input("yes or no [no]: ").strip().lower() in ("y", "yes")


def run_new(options: argparse.Namespace) -> int:
    """Make a key and say where it is.

    Raises:
        InputError: Not a name, a key of this name exists, or the folder cannot be written.
    """
    from ..keyed import keys  # the cryptography library is loaded only by a command that needs it

    keys.check_name(options.name)
    allowed = server_use(options)
    path = keys.create_key(options.name, options.folder, decrypts_in_server=allowed)
    say(f"{options.name}: written to {path}")
    say(f"A server {'may' if allowed else 'may not'} decrypt with it; change that with: faceprivacy key allow {options.name}")
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
    say(f"decrypt in the server: {'yes' if key.decrypts_in_server else 'no'}")
    return 0


def run_allow(options: argparse.Namespace) -> int:
    """Say in a key file whether a server may decrypt with the key.

    Raises:
        InputError: Not a name, or the folder cannot be written.
        KeyNotFoundError: There is no such key file, or one that cannot be used.
    """
    from ..keyed import keys

    keys.check_name(options.name)
    allowed = server_use(options)
    keys.set_server_use(options.name, allowed, options.folder)
    say(f"{options.name}: a server {'may' if allowed else 'may not'} decrypt with it")
    return 0
