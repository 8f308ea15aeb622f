"""Find a Chromium for the browser tests, and install one where that takes one command."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from devtools.commands import run_quietly
from devtools.console import DevError, say, step

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INSTALL_LIMIT_S = 900.0
# What a headless browser needs in a container, and what keeps it from calling its maker.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Return the program of an installed Chromium or Chrome, or `None`."""
    places = {
        "Darwin": ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"],
        "Windows": [
            str(Path(os.environ.get(name, "")) / "Google/Chrome/Application/chrome.exe")
            for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        ],
    }
    candidates = [shutil.which(name) for name in NAMES] + places.get(platform.system(), [])
    return next((path for path in candidates if path and Path(path).is_file()), None)


def ensure_chromium() -> bool:
    """Install Chromium where apt can; say what to do elsewhere. Never fails.

    Returns:
        Whether a Chromium is there now.
    """
    if find_chromium():
        return True
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not (is_root and shutil.which("apt-get")):
        say("No Chromium was found, so the browser tests will be skipped. Install Chromium or Chrome to run them.")
        return False
    try:
        with step("Install Chromium for the browser tests"):
            _apt_install()
    except DevError as error:
        say(f"The browser tests will be skipped. {error}")
    return find_chromium() is not None


def _apt_install() -> None:
    quiet = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    failure = "Chromium could not be installed."
    try:
        run_quietly(install, failure=failure, env=quiet, timeout_s=INSTALL_LIMIT_S)
    except DevError:  # most often the package lists are missing or old
        run_quietly(["apt-get", "update"], failure=failure, env=quiet, timeout_s=INSTALL_LIMIT_S)
        run_quietly(install, failure=failure, env=quiet, timeout_s=INSTALL_LIMIT_S)
