"""`faceprivacy decrypt IN... --out DIR --key NAME`: the original faces of keyed pictures."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .devices import add_device_option
from .each_picture import add_run_options, write_each
from .inputs import make_plan
from .key_choice import add_key_arguments, chosen_key
from .model_options import add_model_options, load_model

if TYPE_CHECKING:
    from ..keyed.keys import PrivacyKey
    from ..keyed.models import KeyedModel


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "decrypt",
        help="bring the original faces of keyed pictures back",
        description="Opens every face the key fits and writes DIR/NAME.png. With a wrong key or a changed picture, nothing "
        "is written.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures written by encrypt, or folders of them")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_key_arguments(parser)
    parser.add_argument("--face", type=int, action="append", metavar="N", help="open this face only, from 0; repeatable")
    add_run_options(parser)
    add_device_option(parser)
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when every picture was written.

    Raises:
        InputError: Paths or the device cannot be used; nothing is written.
        KeyNotFoundError: There is no such key.
    """
    from .batch import check_device

    plan = make_plan(args.inputs, args.out, recursive=args.recursive)
    key = chosen_key(args, confirm=False)
    check_device(args.device)
    load = functools.cache(lambda: _load_model(args))  # exact faces need none
    return write_each(plan, args, lambda path, target: _decrypt_file(path, target, args, key, load))


def _load_model(args: argparse.Namespace) -> KeyedModel:
    from ..keyed.models import KeyedModel

    return KeyedModel(load_model(args))


def _decrypt_file(path: Path, target: Path, args: argparse.Namespace, key: PrivacyKey, load: Callable[[], KeyedModel]) -> str:
    import numpy as np

    from ..files import check_free, write_file
    from ..keyed.decrypt import decrypt_faces, needs_model
    from ..keyed.files import read_keyed_file
    from ..keyed.picture import KeyedPicture
    from ..picture_files import png_bytes

    result = target.with_name(f"{target.name}.png")
    if not args.force:
        check_free([result])
    stored = read_keyed_file(path)
    picture = KeyedPicture.from_container(stored.pixels, stored.container)
    opened = decrypt_faces(picture, key, load() if needs_model(picture) else None, which=args.face)
    alpha = stored.pixels[..., 3:]
    write_file(result, png_bytes(np.dstack([opened.pixels, alpha]), stored.look), private=True, replace=args.force)
    sealed = len(picture.faces) - len(opened.opened)
    kept = f". Keep {path.name}: its other {sealed} sealed faces are in no other file" if sealed else ""
    return opened.describe(len(picture.faces)) + kept
