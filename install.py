"""Fetch the model files into the host's `models/faceprivacy`; ComfyUI-Manager runs this after requirements.txt.

    python install.py            all files, 157 MB, each checked against its sha256
    python install.py yunet      one file

Arguments are those of `faceprivacy models get`. Files that are there are not fetched again.
"""

from __future__ import annotations

import sys

MISSING = """Face Privacy: {error}.
Install the packages first, with the Python that runs ComfyUI, in this folder:
    {python} -m pip install -r requirements.txt
then run this script again."""


def main() -> int:
    """Fetch what is missing and return the exit status: 0 done, 1 not (the reason is on the error stream)."""
    try:
        from faceprivacy_core.commands import main as faceprivacy
    except ImportError as error:
        sys.stderr.write(MISSING.format(error=error, python=sys.executable) + "\n")
        return 1
    return faceprivacy(["models", "get", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
