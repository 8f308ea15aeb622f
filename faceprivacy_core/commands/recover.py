"""`faceprivacy recover FILE... --out DIR`: the original faces, from saved inversions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .devices import add_device_option
from .each_picture import add_run_options, write_each
from .inputs import make_plan
from .key_choice import chosen_key
from .model_options import add_model_options, load_model
from .protecting import REGIONS
from .telling import in_number

if TYPE_CHECKING:
    from ..diffusion.model import LatentModel
    from ..keyed.keys import PrivacyKey


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "recover",
        help="draw the original faces again from a saved inversion",
        description="Draws the faces of a file written with --save-inversion, pastes them into the picture and writes "
        "DIR/NAME.png. The faces come back as well as the model's autoencoder can draw them, not byte by byte.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="protected pictures, or folders of them")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--inversion", type=Path, metavar="FILE", help="saved inversion (default: NAME.fpinv beside the picture)"
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--key", metavar="NAME", help="name of the key the inversion was sealed with, never the key itself")
    choice.add_argument("--passphrase", action="store_true", help="ask for a passphrase at the terminal")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[1], help="what was replaced and is put back")
    parser.add_argument("--any-picture", action="store_true", help="also paste into a changed copy of the picture")
    add_run_options(parser)
    add_device_option(parser)
    add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when every picture was written.

    Raises:
        InputError: Paths or the device cannot be used; nothing is written.
        KeyNotFoundError: There is no such key.
        ModelFileError: A model file is missing.
    """
    from .batch import check_device

    plan = make_plan(args.inputs, args.out, recursive=args.recursive)
    key = chosen_key(args, confirm=False) if args.key is not None or args.passphrase else None
    check_device(args.device)
    model = load_model(args)
    return write_each(plan, args, lambda path, target: _recover_file(path, target, args, key, model))


def _recover_file(path: Path, target: Path, args: argparse.Namespace, key: PrivacyKey | None, model: LatentModel) -> str:
    from ..files import check_free, write_file
    from ..inversions.checks import check_picture
    from ..inversions.files import SUFFIX, read_inversion_file
    from ..masks import MaskSettings, Region
    from ..picture_files import png_bytes
    from ..pixels import to_pixels, to_tensor
    from ..recover import open_inversion, recover_faces
    from .pictures import read_opaque

    result = target.with_name(f"{target.name}.png")
    if not args.force:
        check_free([result])
    stored = read_inversion_file(args.inversion or path.with_suffix(SUFFIX), key)
    opened = read_opaque(path)
    picture = opened.pixels
    if not args.any_picture:
        check_picture(stored.picture_digest, picture)
    inversion = open_inversion(stored, model)
    recovered = recover_faces(to_tensor(picture), inversion, model, MaskSettings(Region(args.region)))
    write_file(result, png_bytes(to_pixels(recovered), opened.look), private=True, replace=args.force)
    return f"{in_number(inversion.num_faces, 'face')} recovered. The result shows real people: it is not protected."
