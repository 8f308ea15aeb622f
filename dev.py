#!/usr/bin/env python3
"""One command for everything: set up, show the demo, run the tests, keep the host running.

    python3 dev.py demo     one photo through one workflow, results in output/demo
    python3 dev.py test     all tests
    python3 dev.py host     the host with its real frontend, until Ctrl-C
    python3 dev.py setup    only make the environment and fetch the host
    python3 dev.py thumbnails    pictures of the templates, from running them
    python3 dev.py api      copies of the templates for scripts

Needs Python 3.10 or newer and nothing else; the rest goes into .venv and .host here.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the launcher may meet any Python
    sys.exit("dev.py needs Python 3.10 or newer. Run it with a newer interpreter.")

from devtools import chromium, comfyui, environment, testing
from devtools.commands import run_in_front
from devtools.console import DevError, say
from devtools.options import api_parser, demo_parser, host_parser, thumbnails_parser

INSIDE = {
    "demo": ("devtools.demo", demo_parser),
    "host": ("devtools.hosting", host_parser),
    "thumbnails": ("devtools.thumbnails", thumbnails_parser),
    "api": ("devtools.api_copies", api_parser),
}


NEEDS_MODELS = ("demo", "thumbnails")


def set_up() -> Path:
    """Make the environment and fetch the host; return the environment's Python."""
    python = environment.ensure_environment()
    comfyui.ensure_host(python)
    comfyui.make_base()
    return python


def get_models(python: Path) -> int:
    """Fetch the face models; quick when they are there. Return the exit status."""
    return run_in_front([python, "-m", "faceprivacy_core", "models", "get"])


def run_setup() -> int:
    """Set up and fetch the models."""
    return get_models(set_up())


def run_inside(command: str, arguments: list[str]) -> int:
    """Check the options, set up, then run a command in the environment."""
    module, parser = INSIDE[command]
    parser().parse_args(arguments)
    python = set_up()
    if command in NEEDS_MODELS and get_models(python) != 0:
        raise DevError("The face models could not be fetched; the lines above say why.")
    return run_in_front([python, "-m", module, *arguments])


def run_test(arguments: list[str]) -> int:
    """Set up, then run the tests; return the first status that is not 0."""
    python = set_up()
    models = get_models(python)
    if models != 0:
        say("The face models could not be fetched; tests that need them will fail or be skipped.")
    if not arguments or any("browser" in argument for argument in arguments):
        chromium.ensure_chromium()
    return testing.run_tests(python, arguments) or models


def main() -> int:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["demo", "test", "host", "setup", "thumbnails", "api"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="options of the command")
    options = parser.parse_args()
    # Threads that spin while they wait take five times as long beside another busy program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options.command == "setup":
        return run_setup()
    if options.command == "test":
        return run_test(options.arguments)
    return run_inside(options.command, options.arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DevError as error:
        say(f"\n{error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(130)
