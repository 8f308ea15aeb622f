"""The command `faceprivacy`: protect pictures, measure what was achieved, look after keys and model files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import FacePrivacyError
from ..freed import return_large_blocks
from . import (
    anonymize,
    audit,
    cloak,
    completion,
    decrypt,
    doctor,
    encrypt,
    hide,
    inspect,
    key,
    models,
    person,
    recover,
    release,
    report,
    status,
)
from .console import say
from .devices import AUTO, best_device
from .key_choice import refuse_typed_passphrase
from .version import ShowVersion

COMMANDS = (
    anonymize,
    hide,
    recover,
    cloak,
    encrypt,
    decrypt,
    release,
    inspect,
    key,
    person,
    audit,
    report,
    status,
    models,
    doctor,
    completion,
)
STOPPED = 130
NOBODY_READS = 141
"""Exit status when the reader of the output went away, as `| head` does: that of a program ended by SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes them from the process.

    Returns:
        Exit status: 0 done, 1 could not be done (the reason is on the error stream), 130 stopped, 141 nobody reads on.

    Note:
        Threads wait without spinning (``OMP_WAIT_POLICY``, unless it is set): where another program is busy, spinning ones take
        five times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return_large_blocks()
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="faceprivacy", description=__doc__)
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    try:
        refuse_typed_passphrase(words)
        options = parser.parse_args(words or ["--help"])
        options.words, options.program = words, main
        if "device" in options:
            _say_that_it_loads()
        if getattr(options, "device", None) == AUTO:
            options.device = best_device()
        return int(options.run(options))
    except FacePrivacyError as error:
        say(str(error), sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped.", sys.stderr)
        return STOPPED
    except BrokenPipeError:
        _let_the_rest_go_nowhere()
        return NOBODY_READS


def _say_that_it_loads() -> None:
    if "torch" not in sys.modules:
        say("Loading the networks ...", sys.stderr)


def _let_the_rest_go_nowhere() -> None:
    """Keep the interpreter from failing once more when it flushes at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # not a file, as under a test
        return
