"""The command `faceprivacy`: protect pictures, measure what was achieved, look after keys and model files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import FacePrivacyError
from . import anonymize, audit, cloak, decrypt, encrypt, hide, inspect, key, models, recover, release, report
from .console import say
from .key_choice import refuse_typed_passphrase


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes them from the process.

    Returns:
        Exit status: 0 done, 1 could not be done (the reason is on the error stream), 130 stopped.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="faceprivacy", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (anonymize, hide, recover, cloak, encrypt, decrypt, release, inspect, key, audit, report, models):
        command.add_parser(commands)
    try:
        refuse_typed_passphrase(words)
        options = parser.parse_args(words)
        return int(options.run(options))
    except FacePrivacyError as error:
        say(str(error), sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped.", sys.stderr)
        return 130
