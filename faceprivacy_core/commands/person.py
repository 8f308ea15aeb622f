"""`faceprivacy person PHOTO... --out FILE`: who is to be found again, for --only and --except."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from .console import say
from .devices import add_device_option


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "person",
        help="save whom --only and --except mean, without keeping the photos",
        description="Writes the identity vectors of every face in some photos to a file, for --only and --except and for the "
        "node Load Person. The file holds no picture and no name. It is biometric data: whoever has it finds the person in "
        "other pictures. Only you may read it; delete it when it is no longer needed.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos; every face in them counts")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write, by custom NAME.fpperson")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        InputError: A photo cannot be read, or the file cannot be written.
        NoFaceError: A photo holds no face.
        ModelFileError: A model file is missing.
    """
    from ..faces.detect import load_detector
    from ..faces.people import learn_people
    from ..faces.people_files import SUFFIX, people_file
    from ..faces.recognizers import DEFAULT_SURROGATES, load_ensemble
    from ..files import check_free, make_folder, write_together
    from .batch import check_device
    from .pictures import read_picture

    if args.out.suffix.lower() != SUFFIX:
        raise InputError(f"Expected a file that ends in {SUFFIX}, got {args.out.name}. Only such files are taken for people.")
    if not args.force:
        check_free([args.out])
    check_device(args.device)
    pictures = [read_picture(photo) for photo in args.photos]
    recognizers = load_ensemble(DEFAULT_SURROGATES, device=args.device)
    people = learn_people(pictures, load_detector(), recognizers, args.photos)
    make_folder(args.out.parent)
    write_together([people_file(args.out, people)], replace=args.force)
    say(f"Written to {args.out}: {len(people)} face(s). Whoever has this file finds them in other pictures.")
    return 0
