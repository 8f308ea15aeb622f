"""Lets `python -m faceprivacy_core` stand for the command `faceprivacy`."""

import sys

from .commands import main

sys.exit(main())
