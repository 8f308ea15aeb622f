"""`faceprivacy release FILE --face N --key NAME --as NEW`: a key that opens one face and no other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from .console import say
from .key import add_server_argument, server_use
from .key_choice import add_key_arguments, chosen_key


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "release",
        help="make a key that opens one face of one picture",
        description="Writes a key file that opens one face of one keyed picture and nothing else, to be given to somebody "
        "who may see that face.",
    )
    parser.add_argument("picture", type=Path, metavar="FILE", help="a keyed picture")
    parser.add_argument("--face", type=int, required=True, metavar="N", help="number of the face, from 0")
    add_key_arguments(parser)
    parser.add_argument("--as", dest="new_name", required=True, metavar="NEW", help="name of the new key file")
    add_server_argument(parser)
    parser.add_argument("--in", dest="folder", type=Path, metavar="DIR", help="folder for it (default: the folder of keys)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        InputError: No such face, or the name is taken.
        WrongKeyError: The key does not open this face.
    """
    from ..keyed.decrypt import face_key_of
    from ..keyed.files import read_keyed
    from ..keyed.keys import save_face_key
    from ..keyed.picture import KeyedPicture

    stored, container = read_keyed(args.picture)
    picture = KeyedPicture.from_container(stored, container)
    if not 0 <= args.face < len(picture.faces):
        raise InputError(f"Expected a face from 0 to {len(picture.faces) - 1}, got {args.face}.")
    face_key = face_key_of(picture, args.face, chosen_key(args, confirm=False))
    header = picture.headers[args.face].to_bytes()
    path = save_face_key(args.new_name, face_key, header, args.folder, decrypts_in_server=server_use(args))
    say(f"Written to {path}. It opens face {args.face} of {args.picture.name} and no other face, and seals nothing.")
    return 0
