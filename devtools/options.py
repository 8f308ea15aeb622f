"""The options of the commands, checked before anything is set up."""

from __future__ import annotations

import argparse
from pathlib import Path

from devtools.paths import DEFAULT_WORKFLOW, DEMO_OUTPUT, shown


def demo_parser() -> argparse.ArgumentParser:
    """Return the parser of `dev.py demo`."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description="Send one photo through one workflow on the real host.")
    add = parser.add_argument
    add(
        "--workflow",
        default=DEFAULT_WORKFLOW,
        metavar="NAME",
        help=f"a file of workflows/, or a path (default: {DEFAULT_WORKFLOW})",
    )
    add(
        "--photo",
        type=Path,
        default=None,
        metavar="FILE",
        help="a picture of your own (default: the sample that the workflow names)",
    )
    add(
        "--out",
        type=Path,
        default=DEMO_OUTPUT,
        metavar="DIR",
        help=f"where to save (default: {shown(DEMO_OUTPUT)})",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NODE.WIDGET=VALUE",
        dest="settings",
        help="change a value of the workflow; NODE is a number, a title or a node type",
    )
    return parser


def host_parser() -> argparse.ArgumentParser:
    """Return the parser of `dev.py host`."""
    parser = argparse.ArgumentParser(prog="dev.py host", description="Keep the host running with its frontend, until Ctrl-C.")
    parser.add_argument("--port", type=int, default=None, help="port (default: a free one)")
    return parser


def thumbnails_parser() -> argparse.ArgumentParser:
    """Return the parser of `dev.py thumbnails`."""
    parser = argparse.ArgumentParser(
        prog="dev.py thumbnails", description="Run templates on a fresh host and write their thumbnails from the results."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="templates of workflows/ (default: all)")
    return parser


def api_parser() -> argparse.ArgumentParser:
    """Return the parser of `dev.py api`."""
    return argparse.ArgumentParser(
        prog="dev.py api", description="Write workflows/api: the templates as the host's API takes them."
    )
