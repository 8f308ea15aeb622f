"""Keep the host running with its real frontend, until Ctrl-C. Runs inside the venv."""

from __future__ import annotations

import sys

from devtools.comfyui import make_base
from devtools.console import DevError, say, step
from devtools.options import host_parser
from devtools.paths import HOST_TREE, shown
from devtools.server import ComfyServer, ended_by_signals


def keep_running(port: int | None) -> None:
    """Start the host, print its address and wait."""
    server = ComfyServer(HOST_TREE, make_base(), port=port)
    try:
        with step("Start the host"):
            server.start()
        say(f"Open {server.url} in a browser. The templates list this pack's workflows.")
        say(f"The log is {shown(server.log_path)}. Ctrl-C stops the host.")
        status = server.wait()
        raise DevError(f"The host ended by itself with status {status}. Its last lines were:\n{server.log_tail()}")
    finally:
        server.stop()


def main() -> int:
    """Run from the command line; the set-up must be done."""
    options = host_parser().parse_args()
    try:
        with ended_by_signals():
            keep_running(options.port)
    except DevError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nThe host was stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
